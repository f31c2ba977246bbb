from . import derivation as derivation, paper as paper
from .derivation import Line as Line, lines as lines
from .paper import Statement as Statement, he_std as he_std, vgg_gradient as vgg_gradient
