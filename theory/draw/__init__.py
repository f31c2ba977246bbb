"""In simulation: networks are drawn, a signal is sent through, and the theory is laid beside it.

``stacks``, ``convolution_stacks`` and ``batch_norm_stacks`` draw networks as real modules, many at
once; ``sampler`` draws what such networks would give, without their weights. ``moments`` keeps the
statistics of the draws. ``simulate`` makes the table of ``variance``, ``correlation`` the one of
pairs of inputs.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
