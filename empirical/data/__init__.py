"""The images: found or fetched, checked, and held as tensors on the device.

``datasets`` has them and the report's augmentation, whole batches at a time.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
