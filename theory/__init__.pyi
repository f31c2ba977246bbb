from . import (
    law as law,
    draw as draw,
    predict as predict,
    audit as audit,
    lessons as lessons,
    exercises as exercises,
)
from .initializers import (
    Initializer as Initializer,
    Law as Law,
    INITIALIZERS as INITIALIZERS,
    FANS as FANS,
    parse_initializer as parse_initializer,
    fans as fans,
    he_gain as he_gain,
)
from .activations import (
    Activation as Activation,
    ACTIVATIONS as ACTIVATIONS,
    parse_activation as parse_activation,
)
from .errors import RequestError as RequestError, WorkError as WorkError
from .devices import (
    resolve_device as resolve_device,
    environment as environment,
    project_version as project_version,
    float64_device as float64_device,
)
from .windows import forward_power as forward_power, backward_power as backward_power
from .specs import (
    VarianceSpec as VarianceSpec,
    ConvSpec as ConvSpec,
    BatchNormSpec as BatchNormSpec,
    CorrelationSpec as CorrelationSpec,
    JacobianSpec as JacobianSpec,
    GainsSpec as GainsSpec,
    PhaseSpec as PhaseSpec,
    DerivationSpec as DerivationSpec,
)
from .law.gains import gain as gain
from .lessons.torch_gains import gains as gains
from .draw.jacobian import jacobian as jacobian, singular_values as singular_values
from .draw.variance import variance as variance, growth as growth, histograms as histograms
from .draw.correlation import correlation as correlation
from .probe import Probe as Probe
from .lessons.derivation import derivation as derivation
from .lessons.paper import paper as paper
from .exercises.questions import EXERCISES as EXERCISES, check_exercise as check_exercise
from .exercises.broken import broken_network as broken_network
