from . import (
    catalog as catalog,
    files as files,
    datasets as datasets,
    generated as generated,
    sequences as sequences,
)
from .catalog import (
    DATASETS as DATASETS,
    TASKS as TASKS,
    DataSet as DataSet,
    ImageSet as ImageSet,
    Sequences as Sequences,
    Vectors as Vectors,
    data_set as data_set,
    image_set as image_set,
    of_task as of_task,
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
from .sequences import prepared as prepared
