"""The explorer: one page whose sliders move the exact law of a random network.

``page`` is the page by itself, ``fragment`` its parts for another document.  The theory is computed by
JavaScript in the reader's browser (theory.js, sampler.js; tested against ``theory`` to 1e-9), drawn by
chart.js, explorer.js and study.js; this package puts the files and a study's records into one text.
"""

from figures.explorer.build import fragment, page

__all__ = ["fragment", "page"]
