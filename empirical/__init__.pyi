from . import (
    data as data,
    training as training,
    engines as engines,
    records as records,
    study as study,
    judgment as judgment,
)
from .protocol import (
    Protocol as Protocol,
    TrainSpec as TrainSpec,
    StudySpec as StudySpec,
    COURSE_REPORT as COURSE_REPORT,
    published_accuracy as published_accuracy,
)
from .presets import PRESETS as PRESETS, Preset as Preset, preset as preset
from .data.datasets import Dataset as Dataset, load_dataset as load_dataset
from .training.networks import build_network as build_network
from .training.loop import train_cell as train_cell
from .records.locations import find_cifar10 as find_cifar10, needs_data as needs_data
from .records.published import Published as Published, gather as gather
from .study.grid import (
    run_study as run_study,
    finished_table as finished_table,
    load_layers as load_layers,
    load_study as load_study,
    compare_with_report as compare_with_report,
    results as results,
    plan as plan,
)
from .study.placement import Placement as Placement
from .judgment.statistics import cell_statistics as cell_statistics, pair_statistics as pair_statistics
from .judgment.evidence import Evidence as Evidence
from .judgment.claims import judge_claims as judge_claims, missing_commands as missing_commands
from .judgment.conditions import judge_conditions as judge_conditions
from .judgment.fan_agreement import fan_agreement as fan_agreement, nearest_fan as nearest_fan
