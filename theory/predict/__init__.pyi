from . import rules as rules, prediction as prediction
from .rules import Factor as Factor, Gradient as Gradient, Signal as Signal, rule_of as rule_of
from .prediction import (
    Layer as Layer,
    WeightLaw as WeightLaw,
    calibrate as calibrate,
    compare as compare,
    measure as measure,
    predict as predict,
)
