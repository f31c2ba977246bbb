from . import (
    data as data,
    training as training,
    engines as engines,
    records as records,
    study as study,
    judgment as judgment,
    frontier as frontier,
)
from .protocol import (
    Protocol as Protocol,
    TrainSpec as TrainSpec,
    StudySpec as StudySpec,
    COURSE_REPORT as COURSE_REPORT,
    published_accuracy as published_accuracy,
)
from .architectures import ARCHITECTURES as ARCHITECTURES
from .presets import BEYOND as BEYOND, PRESETS as PRESETS, Preset as Preset, preset as preset
from .arm import Arm as Arm
from .data.catalog import DATASETS as DATASETS, load_dataset as load_dataset
from .data.datasets import Dataset as Dataset
from .training.families import build_network as build_network
from .training.loop import train_cell as train_cell
from .engines.memory import keep_freed_memory as keep_freed_memory
from .records.locations import needs_data as needs_data
from .records.published import Published as Published, gather as gather
from .study.grid import (
    run_study as run_study,
    load_layers as load_layers,
    load_study as load_study,
    compare_with_report as compare_with_report,
    results as results,
    plan as plan,
)
from .study.placement import Placement as Placement
from .study.cluster import run_at as run_at
from .judgment.statistics import cell_statistics as cell_statistics, pair_statistics as pair_statistics
from .judgment.evidence import Evidence as Evidence
from .judgment.beyond import judge_beyond as judge_beyond
from .judgment.claims import judge_claims as judge_claims, missing_commands as missing_commands
from .judgment.conditions import judge_conditions as judge_conditions
from .judgment.protocol_agreement import (
    protocol_agreement as protocol_agreement,
    protocol_cells as protocol_cells,
    protocol_pairs as protocol_pairs,
)
