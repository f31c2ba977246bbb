"""For a network that someone hands in: its signal and gradient, before it is trained.

``tape`` records one run of any network, ``rules`` says what each operation does to second moments,
and ``network`` lets the rules run along the tape (``follow``).  For a network that is a chain of
layers, ``prediction`` runs the rules of ``chain``, unit by unit and under any law (``predict``),
reads the same numbers off the network (``measure``), and lays the two side by side (``compare``).
``moments`` names what a prediction rests on.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
