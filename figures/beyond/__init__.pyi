from . import scores as scores, verdicts as verdicts
from .scores import scores_figure as scores_figure
from .verdicts import verdicts_table as verdicts_table
