"""What is on disk: one folder per cell, written whole, verified when read.

``locations`` knows where things are, ``folders`` writes and reads a cell, ``provenance`` says which
program made it on what machine. ``published`` packs a study into three small tables, and ``account``
tells how they came about.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
