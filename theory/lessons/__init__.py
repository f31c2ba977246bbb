"""To learn from: the derivation and the paper, line by line, each line computed.

``derivation`` takes He et al.'s §2.2 apart and checks every line on drawn networks, one wrong line
included; ``paper`` recomputes the statements on initialization that the paper prints.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
