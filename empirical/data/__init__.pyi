from . import (
    catalog as catalog,
    files as files,
    datasets as datasets,
)
from .catalog import (
    DATASETS as DATASETS,
    ImageSet as ImageSet,
    image_set as image_set,
    load_dataset as load_dataset,
)
from .files import (
    Source as Source,
    cache_folder as cache_folder,
)
from .datasets import (
    Dataset as Dataset,
    augment_with as augment_with,
    normalize as normalize,
)
