"""The grid: many cells, planned, run, and gone on with after an interruption.

``grid`` runs a study in this process, ``cluster`` in many processes of this machine or of others, each
of which does what ``workers`` says; ``placement`` chooses between them. ``costs`` says what a cell is
worth in time, and ``events`` is what a running study tells whoever waits for it, which ``overview``
puts together.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
