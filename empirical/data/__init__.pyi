from . import (
    catalog as catalog,
    cifar10 as cifar10,
    datasets as datasets,
)
from .catalog import (
    DATASETS as DATASETS,
    ImageSet as ImageSet,
    image_set as image_set,
    load_dataset as load_dataset,
)
from .cifar10 import (
    find_cifar10 as find_cifar10,
    cache_folder as cache_folder,
    read_cifar10 as read_cifar10,
    fetch_cifar10 as fetch_cifar10,
)
from .datasets import (
    Dataset as Dataset,
    augment_with as augment_with,
    normalize as normalize,
)
