from . import (
    progress as progress,
    study_tables as study_tables,
    statistics as statistics,
    claims as claims,
    report_figures as report_figures,
    paired as paired,
    paired_signal as paired_signal,
    paired_accuracy as paired_accuracy,
    paired_effects as paired_effects,
    captions as captions,
    gallery as gallery,
    protocol_agreement as protocol_agreement,
)
from .progress import (
    announcement as announcement,
    pace as pace,
    position as position,
    warning as warning,
)
from .study_tables import (
    accuracy_table as accuracy_table,
    plan_table as plan_table,
    presets_table as presets_table,
)
from .statistics import statistics_tables as statistics_tables
from .claims import (
    claims_table as claims_table,
    measures_table as measures_table,
)
from .report_figures import course_report_figures as course_report_figures
from .paired import Paired as Paired
from .paired_signal import signal_figure as signal_figure
from .paired_accuracy import accuracy_map as accuracy_map
from .paired_effects import slopes_figure as slopes_figure
from .gallery import Gallery as Gallery, index_table as index_table, published_table as published_table
