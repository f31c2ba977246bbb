from . import (
    spec as spec,
    networks as networks,
    prediction as prediction,
    table as table,
)
from .spec import FrontierSpec as FrontierSpec
from .networks import Networks as Networks
from .table import (
    agreement as agreement,
    planned as planned,
    run_frontier as run_frontier,
    run_maps as run_maps,
)
