from . import (
    paired as paired,
    curves as curves,
    report_figures as report_figures,
    answer as answer,
    signal as signal,
    first_loss as first_loss,
    last_layer as last_layer,
    relative_steps as relative_steps,
    weights as weights,
    accuracy_map as accuracy_map,
    protocol_agreement as protocol_agreement,
)
from .paired import Paired as Paired
from .report_figures import course_report_figures as course_report_figures
from .signal import signal_figure as signal_figure
from .weights import slopes_figure as slopes_figure
