from . import build as build, frontier as frontier
from .build import MAX_SEED as MAX_SEED, fragment as fragment, page as page
from .frontier import frontier_maps as frontier_maps
