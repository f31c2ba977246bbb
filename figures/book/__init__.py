"""The textbook: its lessons, which are notebooks kept as text, run, as slides, and what moves in them.

The texts are docs/lessons in the repository; in an installed copy they lie beside this file.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
