"""The explorer: one page whose sliders move the exact law of a random network.

``page`` is the page by itself, ``fragment`` its parts for another document. The theory is computed by
JavaScript in the reader's browser (theory.js, sampler.js; tested against ``theory`` to 1e-9), drawn
by chart.js, explorer.js, frontier.js and study.js; this package puts the files, a study's records and
the maps of which networks train into one text.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
