"""The study: its accuracies, its statistics, its claims, and the index of its pictures.

``progress`` is for whoever waits. ``study_tables``, ``statistics`` and ``claims`` are the tables,
``protocol_agreement`` what made the printed numbers; ``gallery`` is the index of the pictures, which
are in ``figures.paired``.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
