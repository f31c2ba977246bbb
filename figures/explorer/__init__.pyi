from . import build as build
from .build import MAX_SEED as MAX_SEED, fragment as fragment, page as page
