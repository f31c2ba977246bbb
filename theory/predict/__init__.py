"""For a network that someone hands in: its signal and gradient, before it is trained.

``rules`` says what each kind of layer does to second moments. ``prediction`` follows the network and
chains them (``predict``), reads the same numbers off the network itself (``measure``), and lays the
two side by side (``compare``).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
