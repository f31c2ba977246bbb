"""How a training step is run: several ways that compute the same to rounding, behind one choice.

``choice`` takes the engine that a spec names, or the right one for the device. Nobody outside knows
which one runs.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
