from . import (
    choice as choice,
    memory as memory,
    graphs as graphs,
    stacked as stacked,
    groups as groups,
)
from .choice import (
    engine_for as engine_for,
    engine_name as engine_name,
)
from .memory import (
    keep_freed_memory as keep_freed_memory,
)
from .graphs import (
    Captured as Captured,
)
from .stacked import (
    Stack as Stack,
)
from .groups import (
    groups_of as groups_of,
    train_group as train_group,
)
