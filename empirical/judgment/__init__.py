"""From seeds to verdicts: what the records say about a claim, and what they cannot say yet.

``statistics`` has the exact tests and intervals; ``evidence`` asks the tables for one number per cell
and seed. ``truth`` judges a sentence by them: the course report's ``claims`` (with ``claim_theory``
beside), the ``conditions`` under which He should be the default, and the protocol that most
likely made the printed numbers (``protocol_agreement``). ``selection`` finds the cells that answer
a question, ``arms`` compares two arms of a study.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
