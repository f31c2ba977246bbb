"""The report: everything rebuilt from records and theory, in four kinds of file, without training.

``Report.read(folder)`` has its tables and figures by name, ``write`` the files. One document model
(``model``) is filled in from templates (``build``, ``facts``) and rendered by four small back ends.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
