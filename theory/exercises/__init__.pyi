from . import (
    answers as answers,
    broken as broken,
    questions as questions,
    solutions as solutions,
)
from .answers import Checked as Checked, Exercise as Exercise, Slip as Slip
from .broken import BUGS as BUGS, Bug as Bug, broken_network as broken_network
from .questions import EXERCISES as EXERCISES, check_exercise as check_exercise
