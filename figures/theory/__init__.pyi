from . import (
    variance as variance,
    histograms as histograms,
    convolution as convolution,
    batch_norm as batch_norm,
    correlation as correlation,
    gains as gains,
    phase as phase,
    jacobian as jacobian,
    derivation as derivation,
    paper as paper,
    audit as audit,
)
from .variance import (
    drift_note as drift_note,
    growth_table as growth_table,
    variance_figure as variance_figure,
    variance_table as variance_table,
    weight_gradient_figure as weight_gradient_figure,
)
from .convolution import border_figure as border_figure, border_note as border_note
from .batch_norm import norm_growth_figure as norm_growth_figure, norm_growth_table as norm_growth_table
from .correlation import (
    correlation_figure as correlation_figure,
    correlation_table as correlation_table,
)
from .gains import gains_figure as gains_figure, gains_notes as gains_notes, gains_table as gains_table
from .phase import (
    critical_table as critical_table,
    phase_figure as phase_figure,
    phase_table as phase_table,
)
from .jacobian import jacobian_figure as jacobian_figure, jacobian_table as jacobian_table
from .derivation import derivation_figure as derivation_figure, derivation_table as derivation_table
from .paper import paper_figure as paper_figure, paper_table as paper_table
from .audit import (
    audit_figure as audit_figure,
    findings_table as findings_table,
    fixes_text as fixes_text,
    initialized_table as initialized_table,
    layers_table as layers_table,
)
