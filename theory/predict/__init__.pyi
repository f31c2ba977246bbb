from . import (
    points as points,
    nonlinearities as nonlinearities,
    layers as layers,
    readings as readings,
    tape as tape,
    moments as moments,
    rules as rules,
    recurrent as recurrent,
    network as network,
    chain as chain,
    prediction as prediction,
)
from .points import (
    Points as Points,
)
from .nonlinearities import (
    Rectifier as Rectifier,
    Integrated as Integrated,
    Pointwise as Pointwise,
)
from .layers import (
    held_weights as held_weights,
    is_weighted as is_weighted,
    Weights as Weights,
    weights_of as weights_of,
)
from .chain import (
    Factor as Factor,
    Gradient as Gradient,
    Signal as Signal,
    rule_of as rule_of,
)
from .prediction import (
    Layer as Layer,
    WeightLaw as WeightLaw,
    calibrate as calibrate,
    compare as compare,
    measure as measure,
    predict as predict,
)
from .tape import (
    Operation as Operation,
    Slot as Slot,
    Tape as Tape,
    Value as Value,
    record as record,
)
from .moments import (
    Moment as Moment,
)
from .rules import (
    Call as Call,
)
from .network import (
    FOLLOWED_COLUMNS as FOLLOWED_COLUMNS,
    follow as follow,
)
