"""Is this network drawn well, and if not, which line mends it?

``recognition`` tells the law of each tensor from its values; ``network`` reads the tape of one run, and
``stuck`` whether zeros and constants can be left.  ``findings`` are what is said, each with a number
behind it; their rules are in ``effects``, what was measured, in ``laws`` and ``causes``, what layers
have in common, and in ``tensors``.  ``fixes`` are the lines that mend, tried on a copy; ``examination``
puts all together into an audit; ``initialization`` draws a network as theory asks; ``loading`` gets
someone's network from a command line.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
