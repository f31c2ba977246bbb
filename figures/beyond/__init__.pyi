from . import scores as scores, verdicts as verdicts, frontier as frontier, published as published
from .published import Beyond as Beyond
from .scores import scores_caption as scores_caption, scores_figure as scores_figure
from .verdicts import verdicts_table as verdicts_table
