"""What is learned from: a row per data set, and images as tensors on the device.

catalog    ``DATASETS``: a row per data set: shape, classes, statistics, where it is and its loader
files      the official files: where they are, reading, checksums, download
generated  what no file is needed for: a teacher's answers, sequences, the Zen of Python
datasets   ``Dataset`` on a device; flips, crops and normalization in whole batches
sequences  ``prepared``: from what is loaded to inputs and targets
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
