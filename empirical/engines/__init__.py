"""How a step is run.  Engines compute the same to rounding and differ in time.

    choice    ``engine_for``: the engine of a cell, by a fixed rule
    stacked   many networks of one shape as one
    groups    cells trained at once as one stack: which, how many, and their epochs
    graphs    on a GPU, a stack's whole step captured once and replayed
    memory    settings of the process that trains, and what is said when memory ends

``empirical.training.loop`` and ``empirical.study`` come in here; nobody else knows which engine runs.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
