"""The exercises of the textbook's lessons: what is asked, checks that say what is off, solutions.

In reading order: ``answers`` compares a student's answer with the right one and knows the usual slips,
``questions`` is the list, ``broken`` has networks with one bug each, and ``solutions`` an answer to
every exercise, as a student may write it.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
