from . import theory as theory, study as study, paired as paired, beyond as beyond
from . import report as report
from . import explorer as explorer, book as book
from . import answers as answers
from .style import save_figure as save_figure
from .beyond.published import published_beyond as published_beyond
from .beyond.frontier import (
    frontier_caption as frontier_caption,
    frontier_figure as frontier_figure,
    frontier_table as frontier_table,
)
from .tables import Sheet as Sheet
from .theory.variance import (
    drift_note as drift_note,
    growth_table as growth_table,
    variance_figure as variance_figure,
    variance_table as variance_table,
    weight_gradient_figure as weight_gradient_figure,
)
from .theory.histograms import histogram_figure as histogram_figure
from .book.animation import signal_animation as signal_animation
from .theory.convolution import border_figure as border_figure, border_note as border_note
from .theory.batch_norm import (
    norm_growth_figure as norm_growth_figure,
    norm_growth_table as norm_growth_table,
)
from .theory.correlation import (
    correlation_figure as correlation_figure,
    correlation_table as correlation_table,
)
from .theory.gains import (
    gains_figure as gains_figure,
    gains_notes as gains_notes,
    gains_table as gains_table,
)
from .theory.phase import (
    critical_table as critical_table,
    phase_figure as phase_figure,
    phase_table as phase_table,
)
from .theory.jacobian import jacobian_figure as jacobian_figure, jacobian_table as jacobian_table
from .theory.derivation import (
    derivation_figure as derivation_figure,
    derivation_table as derivation_table,
)
from .theory.paper import paper_figure as paper_figure, paper_table as paper_table
from .theory.audit import (
    audit_figure as audit_figure,
    findings_table as findings_table,
    fixes_text as fixes_text,
    initialized_table as initialized_table,
    layers_table as layers_table,
)
from .study.study_tables import (
    accuracy_table as accuracy_table,
    plan_table as plan_table,
    presets_table as presets_table,
)
from .study.statistics import statistics_tables as statistics_tables
from .paired.report_figures import course_report_figures as course_report_figures
from .study.gallery import (
    gallery as gallery,
    index_table as index_table,
    published_table as published_table,
)
from .study.claims import claims_table as claims_table, measures_table as measures_table
from .answers import answers_table as answers_table, conditions_table as conditions_table
from .study.protocol_agreement import agreement_table as agreement_table
from .report.report import Report as Report
from .explorer.build import page as page
