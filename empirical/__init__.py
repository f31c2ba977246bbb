"""What does happen to a network, given how its weights are drawn: training, measured.

A cell is one configuration and seed (``TrainSpec``); a study is a grid of cells (``StudySpec``,
``run_study``). In reading order: ``protocol`` and ``presets`` write down what is trained before
anything runs; ``data`` holds the data sets, ``training`` makes a cell's spec into its records,
``engines`` run a step; ``records`` are what is on disk, ``study`` is the grid, and ``judgment`` goes
from seeds to verdicts.

A spec goes in, records on disk and a tidy table come out. Nothing here prints. A name is loaded when
it is first used: ``protocol`` imports no torch, so that a wrong request costs no time.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
