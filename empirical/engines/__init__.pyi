from . import (
    choice as choice,
    memory as memory,
    graphs as graphs,
    stacked as stacked,
    groups as groups,
    fused as fused,
)
from .choice import Engine as Engine, build_engine as build_engine, engine_for as engine_for
from .memory import keep_freed_memory as keep_freed_memory
from .graphs import Captured as Captured
from .stacked import Stack as Stack
from .groups import groups_of as groups_of, train_group as train_group
from .fused import fused_layers as fused_layers
