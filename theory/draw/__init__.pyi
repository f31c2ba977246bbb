from . import (
    stacks as stacks,
    convolution_stacks as convolution_stacks,
    sampler as sampler,
    moments as moments,
    scores as scores,
    ensemble as ensemble,
    dense as dense,
    convolution as convolution,
    batch_norm as batch_norm,
    variance as variance,
    correlation as correlation,
    jacobian as jacobian,
)
from .stacks import (
    build_stack as build_stack,
    Ensemble as Ensemble,
)
from .convolution_stacks import (
    ConvEnsemble as ConvEnsemble,
)
from .sampler import (
    active_units as active_units,
)
from .moments import (
    Moments as Moments,
    LogMoments as LogMoments,
)
from .scores import (
    normal_score as normal_score,
    agreement as agreement,
)
from .ensemble import (
    Simulation as Simulation,
    groups as groups,
)
from .dense import (
    DenseSimulation as DenseSimulation,
)
from .convolution import (
    ConvSimulation as ConvSimulation,
)
from .batch_norm import (
    NormStack as NormStack,
    NormSimulation as NormSimulation,
)
from .variance import (
    measure as measure,
    growth as growth,
    histograms as histograms,
)
from .jacobian import (
    jacobian_of as jacobian_of,
    singular_values as singular_values,
)
