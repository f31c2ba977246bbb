"""The report: everything rebuilt from records and theory, in four kinds of file, without training.

``Report.read(folder)`` has its tables and figures by name.  One text in Markdown (source.py, from
templates/) is filled in from them, and pandoc makes the four documents of it (output.py).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
