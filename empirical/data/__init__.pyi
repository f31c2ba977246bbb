from . import datasets as datasets
from .datasets import (
    Dataset as Dataset,
    augment as augment,
    load_dataset as load_dataset,
    normalize as normalize,
    read_cifar10 as read_cifar10,
)
