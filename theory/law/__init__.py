"""On paper: what a law of weights does to signal and gradient, in numpy and scipy alone.

It begins with one activation: ``quadrature`` has its Gaussian moments, ``gains`` what weights must make
up for. ``mean_field``, ``correlation`` and ``phase`` follow signal, correlation and gradient through
infinitely wide layers; ``finite_width`` and ``jacobian`` say what widths of n units change.
``convolution``, ``batch_norm`` and ``recurrence`` are for layers of those kinds, ``stacks`` for whole
networks, and ``cross_entropy`` for the loss before training.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
