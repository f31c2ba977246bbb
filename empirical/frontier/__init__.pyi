from . import (
    spec as spec,
    networks as networks,
    table as table,
)
from .spec import FrontierSpec as FrontierSpec
from .networks import Networks as Networks
from .table import (
    agreement as agreement,
    planned as planned,
    run_frontier as run_frontier,
)
