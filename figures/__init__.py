"""Theory and practice side by side: tables for the terminal, pictures for the page.

Functions here turn tidy tables into tables that people read (``Sheet``) and matplotlib figures. They
never train. In reading order: ``style`` and ``tables``, the one look of everything, and ``prose``, the
sentences, whose words are in ``templates``; then a room for each kind of thing to show: ``theory``,
``study`` and ``paired``, and the two that hold all of it, ``report`` and ``explorer``. A name is loaded
when it is first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
