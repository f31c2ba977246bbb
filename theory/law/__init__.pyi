from . import (
    nonlinearities as nonlinearities,
    quadrature as quadrature,
    gains as gains,
    mean_field as mean_field,
    kernels as kernels,
    phase as phase,
    finite_width as finite_width,
    jacobian as jacobian,
    convolution as convolution,
    batch_norm as batch_norm,
    cross_entropy as cross_entropy,
    scores as scores,
)
from .nonlinearities import Rectifier as Rectifier, Smooth as Smooth
from .quadrature import (
    expectation as expectation,
    second_moment as second_moment,
    derivative_second_moment as derivative_second_moment,
    covariance as covariance,
)
from .gains import gain as gain, backward_gain as backward_gain, torch_gain as torch_gain
from .mean_field import (
    FixedPoints as FixedPoints,
    chi_1 as chi_1,
    correlation_step as correlation_step,
    correlations as correlations,
    critical_point as critical_point,
    critical_scale as critical_scale,
    depth_scale as depth_scale,
    fixed_points as fixed_points,
)
from .kernels import Points as Points
from .phase import contours as contours, critical_line as critical_line, marks as marks
from .finite_width import (
    SignalLaw as SignalLaw,
    dead_probability as dead_probability,
    spread_coefficient as spread_coefficient,
)
from .jacobian import (
    SpectralMoments as SpectralMoments,
    limit_density as limit_density,
    singular_values as singular_values,
    spectral_moments as spectral_moments,
)
from .convolution import backward_power as backward_power, forward_power as forward_power
from .batch_norm import (
    effective_learning_rate as effective_learning_rate,
    equivalent_learning_rate as equivalent_learning_rate,
    gradient_growth as gradient_growth,
)
from .cross_entropy import (
    initial_cross_entropy as initial_cross_entropy,
    softmax_second_moment as softmax_second_moment,
)
from .scores import normal_score as normal_score
