"""What a cell is called: a name that outlives the program's next option.

A cell's id is readable, and ends in a hash of its grid values and of *what in its protocol differs
from* ``DEFAULTS``.  A new field whose default means "as before" therefore changes no id, and what is
recorded stays the record of the same cell.  Two kinds of field are in no hash: ``engine``, which says
how a step is computed and not what, and whatever equals its default.

Identity version 1 is ``DEFAULTS``.  Its first lines are the course report's protocol as the first
records knew it, the later ones are one per field that came after, each with the value that cells had
before there was a choice.  No line is ever edited or removed, not even where ``Protocol`` changes a
default.

Before version 1 an id hashed every field there was.  Records under such an id are read as they are
(``former_id``); cells of today are never written under one unless they were begun under it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

GRID = ("initializer", "activation", "depth", "seed")
NO_PART = ("engine",)

FIRST: Mapping[str, Any] = {
    "norm": "batch",
    "fan": "fan_out",
    "head_fan": None,
    "head_initializer": None,
    "gain_slope": 0.01,
    "filters": 32,
    "pool_every": 2,
    "epochs": 10,
    "batch_size": 64,
    "optimizer": "adam",
    "learning_rate": 1e-3,
    "learning_rate_reference": None,
    "dataset": "cifar10",
    "precision": "fp32",
    "limit_train": None,
    "limit_test": None,
}
LATER: Mapping[str, Any] = {
    "augment": "flip+crop",
    "network": "plain",
    "branch_scale": "none",
    "dropout": 0.0,
    "weight_decay": 0.0,
    "recurrent": None,
    "forget_bias": 0.0,
}
DEFAULTS: Mapping[str, Any] = {**FIRST, **LATER}


def cell_id(config: Mapping[str, Any], defaults: Mapping[str, Any] = DEFAULTS) -> str:
    """The id of the cell with these fields; ``defaults`` may know more fields than version 1.

    >>> cell_id({"initializer": "he", "activation": "relu", "depth": 2, "seed": 0} | DEFAULTS)
    'he-relu-d02-s0-d6b194ce'
    """
    differs = {name: config[name] for name in GRID} | {
        name: value
        for name, value in config.items()
        if name not in NO_PART and (name not in defaults or value != defaults[name])
    }
    return _named(config, differs)


def former_id(config: Mapping[str, Any]) -> str | None:
    """The id that the cell had before version 1; None for one that could not be asked for then.

    >>> former_id({"initializer": "he", "activation": "relu", "depth": 2, "seed": 0} | DEFAULTS)
    'he-relu-d02-s0-8d77a18d'
    """
    then = {*GRID, *FIRST}
    new = [name for name in config if name not in then and name not in NO_PART]
    if any(config[name] != DEFAULTS.get(name, config[name]) for name in new):
        return None
    return _named(config, {name: config[name] for name in then})


def _named(config: Mapping[str, Any], hashed: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(hashed, sort_keys=True).encode()).hexdigest()[:8]
    names = f"{config['initializer']}-{config['activation']}".replace(":", "")
    return f"{names}-d{config['depth']:02d}-s{config['seed']}-{digest}"
