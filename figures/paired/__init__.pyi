from . import paired as paired, curves as curves
from .paired import Paired as Paired
from .report_figures import course_report_figures as course_report_figures
from .signal import signal_figure as signal_figure
from .weights import slopes_figure as slopes_figure
