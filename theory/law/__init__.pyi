from . import (
    quadrature as quadrature,
    gains as gains,
    mean_field as mean_field,
    correlation as correlation,
    phase as phase,
    finite_width as finite_width,
    jacobian as jacobian,
    convolution as convolution,
    batch_norm as batch_norm,
    recurrence as recurrence,
    stacks as stacks,
    cross_entropy as cross_entropy,
)
from .quadrature import (
    expectation as expectation,
    second_moment as second_moment,
    derivative_second_moment as derivative_second_moment,
    covariance as covariance,
)
from .gains import (
    gain as gain,
    backward_gain as backward_gain,
)
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
from .correlation import (
    first_order as first_order,
)
from .phase import (
    contours as contours,
    critical_line as critical_line,
    depth_scales as depth_scales,
    marks as marks,
    residual_growth as residual_growth,
)
from .finite_width import (
    SignalLaw as SignalLaw,
    dead_probability as dead_probability,
    spread_coefficient as spread_coefficient,
)
from .jacobian import (
    SpectralMoments as SpectralMoments,
    limit_density as limit_density,
    spectral_moments as spectral_moments,
)
from .batch_norm import (
    gradient_growth as gradient_growth,
    effective_learning_rate as effective_learning_rate,
    equivalent_learning_rate as equivalent_learning_rate,
)
from .stacks import (
    forward_theory as forward_theory,
    backward_theory as backward_theory,
    verdict as verdict,
)
from .cross_entropy import (
    initial_cross_entropy as initial_cross_entropy,
    softmax_second_moment as softmax_second_moment,
    softmax_concentration as softmax_concentration,
)
