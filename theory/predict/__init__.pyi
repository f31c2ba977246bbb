from . import (
    points as points,
    nonlinearities as nonlinearities,
    layers as layers,
    rules as rules,
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
)
from .rules import (
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
