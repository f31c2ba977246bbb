"""The questions that the course report could not answer, each as a study of its own.

A preset is a set of fields of ``StudySpec``: the grid, the protocol, and the arms that are compared.
Cells that two presets share are one cell: trained once, wherever they are asked for first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from empirical.protocol import AUGMENTED
from theory.errors import unknown_name

MANY_SEEDS = 10


@dataclass(frozen=True)
class Preset:
    """A study: the question it answers, in one line, and the fields of ``StudySpec`` that make it."""

    question: str
    fields: Mapping[str, Any] = field(default_factory=dict)


REPORT = {"initializers": ("he", "normal")}
PRESETS: dict[str, Preset] = {
    "report": Preset("The course report as printed: fan_out in every layer", REPORT),
    "textbook": Preset(
        "Does He by fan_in, as in textbooks, agree better with the report's numbers?",
        {"initializers": ("he",), "fan": "fan_in"},
    ),
    "head": Preset(
        "How much of the depth effect is the last linear layer, with fan_in 32768 against fan_out 10?",
        {"initializers": ("he",), "arms": ({}, {"head_fan": "fan_in"}, {"fan": "fan_in"})},
    ),
    "xavier": Preset(
        "Is Xavier any worse than He where batch norm hides the scale of the weights?",
        {"initializers": ("he", "xavier")},
    ),
    "no-norm": Preset(
        "What does initialization decide when no batch norm hides its scale?",
        {"initializers": ("he", "xavier", "normal"), "norm": "none", "fan": "fan_in"},
    ),
    "he2015": Preset(
        "Plain 22- and 30-layer nets: does Xavier stall where He trains (He et al. 2015, Fig. 2, 3)?",
        {
            "initializers": ("he", "xavier"),
            "activations": ("relu",),
            "depths": (22, 30),
            "norm": "none",
            "fan": "fan_in",
            "gain_slope": 0.0,
            "filters": 16,
            "pool_every": 10,
            "optimizer": "sgd",
            "learning_rate": 0.01,
        },
    ),
    "effective-lr": Preset(
        "Is N(0, 1) only a smaller learning rate? Its steps made as large, beside the weight, as He's",
        {
            "initializers": ("he",),
            "activations": ("relu",),
            "arms": (
                {},
                {"initializer": "normal"},
                {"initializer": "normal", "head_initializer": "he"},
                {"initializer": "normal", "head_initializer": "he", "learning_rate_reference": "he"},
                *(
                    {"initializer": "normal", "learning_rate_reference": "he", "depth": depth}
                    for depth in (2, 12)  # where head and steps are told apart
                ),
            ),
        },
    ),
    "augmentation": Preset(
        "Which augmentation and fan mode made the report's numbers? A first look, ReLU",
        {
            "initializers": ("he",),
            "activations": ("relu",),
            "depths": (2, 12),
            "arms": tuple(
                {"augment": augment} | changes
                for augment in AUGMENTED
                for changes in ({}, {"fan": "fan_in"}, {"initializer": "normal"})
            ),
        },
    ),
    "no-crops": Preset(
        "Do flips alone make the report's sixteen numbers?", REPORT | {"augment": "flip"}
    ),
    "no-augmentation": Preset(
        "Does training without augmentation make the report's sixteen numbers?",
        REPORT | {"augment": "none"},
    ),
    "seeds": Preset(
        f"Which of the report's differences are real? Its grid with {MANY_SEEDS} seeds",
        REPORT | {"seeds": tuple(range(MANY_SEEDS))},
    ),
}


def preset(name: str) -> Preset:
    """The preset called ``name``; ``RequestError`` if there is none.

    >>> preset("textbook").fields["fan"]
    'fan_in'
    """
    found = PRESETS.get(name.strip().lower())
    if found is None:
        raise unknown_name("preset", name, tuple(PRESETS))
    return found
