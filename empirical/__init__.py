"""What does happen to a network, given how its weights are drawn: training, measured.

A cell is one configuration and seed (``protocol.TrainSpec``); a study is a grid of cells
(``protocol.StudySpec``, ``study.run_study``).  A spec goes in, records on disk and a tidy table come
out.  Nothing here prints.  ``protocol`` imports no torch, so that a wrong request costs no time.
"""
