"""Theory: what each theory command shows, a table and a picture of it in one module.

``variance`` first: exact lines, simulated points, one network as a band. ``convolution`` and
``batch_norm`` add what is special about such stacks. ``correlation``, ``gains``, ``phase`` and
``jacobian`` look at the same signal from other sides; ``derivation`` and ``paper`` are lessons.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
