from . import (
    networks as networks,
    families as families,
    objectives as objectives,
    optimizers as optimizers,
    look as look,
    instruments as instruments,
    taped as taped,
    loop as loop,
)
from .families import build_network as build_network
from .objectives import OBJECTIVES as OBJECTIVES, objective_of as objective_of
from .optimizers import build_optimizer as build_optimizer
from .instruments import Instruments as Instruments, average_weight as average_weight
from .taped import TapedInstruments as TapedInstruments
from .loop import CellTraining as CellTraining, train_cell as train_cell
