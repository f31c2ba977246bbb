"""Theory beside practice: a picture a file, each with its caption and its place among the others.

``paired`` says what a picture is, ``curves`` what they share.  ``report_figures`` are the course
report's own, redrawn; then ``answer`` (should He be the default?), ``signal``, ``first_loss``,
``last_layer``, ``relative_steps``, ``weights``, ``accuracy_map`` and ``protocol_agreement``.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
