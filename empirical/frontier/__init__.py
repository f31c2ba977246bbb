"""Which networks train at all: a map of weight variance and depth, and theory's line on it.

In reading order: ``spec`` says what is trained, ``prediction`` what theory says of it, ``networks``
trains many small networks as one, and ``table`` is the map: theory's prediction first, then what was
found, and how the two agree.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
