from . import (
    grid as grid,
    events as events,
    costs as costs,
    overview as overview,
    workers as workers,
    cluster as cluster,
    placement as placement,
)
from .grid import (
    load_layers as load_layers,
    load_study as load_study,
    plan as plan,
    results as results,
    run_study as run_study,
)
from .events import (
    CellFinished as CellFinished,
    CellStarted as CellStarted,
    EpochDone as EpochDone,
    StepDone as StepDone,
    StudyPlanned as StudyPlanned,
)
from .costs import training_flops as training_flops, work as work
from .overview import Overview as Overview
from .cluster import run_at as run_at
from .placement import Placement as Placement
