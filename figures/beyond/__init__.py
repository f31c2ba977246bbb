"""Beyond the course report: other tasks and networks, theory's numbers beside the scores.

``scores`` draws, of every arm, how far theory saw it from an even start and where it ended;
``verdicts`` is the table of what was claimed of them, ``frontier`` the map of which plain networks
train, and ``published`` has the published records.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
