from . import networks as networks, optimizers as optimizers, instruments as instruments, loop as loop
from .networks import build_network as build_network
from .optimizers import build_optimizer as build_optimizer
from .instruments import Instruments as Instruments, average_weight as average_weight
from .loop import CellTraining as CellTraining, train_cell as train_cell
