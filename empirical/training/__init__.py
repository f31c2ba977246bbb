"""A cell: from its spec to one row of measurements per epoch.

``families`` builds the network and draws its weights, ``optimizers`` what moves them, ``instruments``
read the network without changing how it trains, and ``loop`` trains, epoch after epoch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
