from . import (
    locations as locations,
    schema as schema,
    cell as cell,
    folders as folders,
    provenance as provenance,
    published as published,
    account as account,
)
from .locations import (
    cell_folder as cell_folder,
    needs_data as needs_data,
)
from .cell import CellState as CellState
from .folders import (
    DamagedRecord as DamagedRecord,
    Finished as Finished,
    read_all as read_all,
    read_finished as read_finished,
)
from .provenance import code_digest as code_digest
from .published import (
    Published as Published,
    collect as collect,
    gather as gather,
    read as read,
    write as write,
)
from .account import options as options
