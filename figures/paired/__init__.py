"""Theory beside practice: a picture a file, each with its caption and its place among the others.

``paired`` says what a picture is, ``curves`` what they share.  All others are pictures, each with its
``FIGURES``: ``report_figures`` the course report's own, ``answer`` (should He be the default?),
``signal``, ``first_loss`` and so on.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
