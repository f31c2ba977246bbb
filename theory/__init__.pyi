from . import law as law, draw as draw, predict as predict, lessons as lessons
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
)
from .precision import float64_device as float64_device
from .specs import VarianceSpec as VarianceSpec
from .convolution_spec import ConvSpec as ConvSpec
from .batch_norm_spec import BatchNormSpec as BatchNormSpec
from .mean_field_specs import (
    CorrelationSpec as CorrelationSpec,
    GainsSpec as GainsSpec,
    PhaseSpec as PhaseSpec,
)
from .jacobian_spec import JacobianSpec as JacobianSpec
from .derivation_spec import DerivationSpec as DerivationSpec
from .law.gains import gain as gain, gains as gains
from .law.jacobian import jacobian as jacobian, singular_values as singular_values
from .draw.simulate import variance as variance, growth as growth
from .draw.correlation import correlation as correlation
from .probe import Probe as Probe
from .lessons.derivation import derivation as derivation
from .lessons.paper import paper as paper
