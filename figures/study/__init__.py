"""The study: its accuracies, its statistics, its claims, and theory beside practice.

``progress`` is for whoever waits. ``study_tables``, ``statistics`` and ``claims`` are the tables,
``protocol_agreement`` what made the printed numbers, ``report_figures`` the course report's pictures
redrawn; ``paired`` are the pictures that hold theory beside practice, with their ``captions``, and
``gallery`` is the index of them all.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
