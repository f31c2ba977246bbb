"""The questions that the course report could not answer, each as a study of its own.

A preset is a set of fields of ``StudySpec``: the grid, the protocol, and the arms that are compared.
Cells that two presets share are one cell: trained once, wherever they are asked for first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from empirical.architectures import BRANCH_SCALES
from empirical.data.catalog import PLAIN, RECURRENT
from empirical.protocol import AUGMENTED
from theory.errors import unknown_name

MANY_SEEDS = 10


@dataclass(frozen=True)
class Preset:
    """A study: the question it answers, in one line, and the fields of ``StudySpec`` that make it."""

    question: str
    fields: Mapping[str, Any] = field(default_factory=dict)

    @property
    def dataset(self) -> str:
        return str(self.fields.get("dataset", "cifar10"))


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


# Beyond the course report: small studies, of minutes, of the same question in other tasks and networks.
SEEDS = {"seeds": (0, 1, 2)}
RELU = SEEDS | {"activations": ("relu",), "initializers": ("he", "xavier")}
DIGITS = RELU | PLAIN | {"dataset": "digits", "filters": 8, "epochs": 5, "pool_every": 6}
ADDING = SEEDS | RECURRENT | {"dataset": "adding", "depths": (30,)}
BEYOND: dict[str, Preset] = {
    "plain": Preset(
        "He's advantage in plain networks, and under dropout and weight decay: is it the same?",
        DIGITS | {"depths": (16,), "arms": ({}, {"dropout": 0.1}, {"weight_decay": 0.1})},
    ),
    "larger": Preset(
        "Does He's advantage carry over to plain networks twice as deep, of 33 times the weights?",
        DIGITS | {"depths": (32,), "filters": 32},
    ),
    "layer-norm": Preset(
        "Does initialization matter where layer norm takes out the scale of the weights?",
        DIGITS | {"depths": (16,), "norm": "layer", "initializers": ("he", "xavier", "normal")},
    ),
    "residual": Preset(
        "Does He's advantage carry over to residual networks, and what do branch scales do to it?",
        DIGITS
        | {"depths": (17,), "network": "residual"}
        | {"arms": tuple({"branch_scale": scale} for scale in BRANCH_SCALES)},
    ),
    "teacher": Preset(
        "Does He's advantage carry over to regression? A random network teaches",
        RELU | PLAIN | {"dataset": "teacher", "depths": (2, 16)},
    ),
    "diabetes": Preset(
        "Does He's advantage carry over to regression on a few hundred patients?",
        RELU | PLAIN | {"dataset": "diabetes", "depths": (2, 16), "batch_size": 16, "epochs": 20},
    ),
    "adding": Preset(
        "Does He's advantage carry over to recurrent ReLU networks, and is identity better?",
        ADDING
        | {"activations": ("relu",), "arms": ({}, {"initializer": "he", "recurrent": "identity"})},
    ),
    "adding-tanh": Preset(
        "Are orthogonal recurrent weights better than Gaussian ones under tanh?",
        ADDING
        | {"initializers": ("xavier",)}
        | {"arms": ({}, {"recurrent": "orthogonal", "gain_slope": 1.0})},
    ),
    "copy": Preset(
        "Does a forget bias of 1 help an LSTM to remember, and does an orthogonal GRU?",
        SEEDS
        | RECURRENT
        | {"dataset": "copy", "depths": (20,), "initializers": ("xavier",), "network": "lstm"}
        | {"filters": 16}
        | {"arms": ({}, {"forget_bias": 1.0}, {"network": "gru"},
                    {"network": "gru", "recurrent": "orthogonal", "gain_slope": 1.0})},
    ),
    "characters": Preset(
        "Does GPT-2's scale of residual branches matter in a small transformer, or any law at all?",
        SEEDS
        | PLAIN
        | {"dataset": "characters", "network": "transformer", "norm": "layer", "depths": (4,)}
        | {"activations": ("gelu",), "initializers": ("he", "xavier", "normal:0.02")}
        | {"arms": ({}, {"branch_scale": "depth"}), "filters": 16, "epochs": 6},
    ),
}  # fmt: skip


def preset(name: str) -> Preset:
    """The preset called ``name``; ``RequestError`` if there is none.

    >>> preset("textbook").fields["fan"]
    'fan_in'
    """
    return _named(PRESETS, name)


def beyond(name: str) -> Preset:
    """That of ``BEYOND``; ``RequestError`` if there is none."""
    return _named(BEYOND, name)


def _named(presets: Mapping[str, Preset], name: str) -> Preset:
    found = presets.get(name.strip().lower())
    if found is None:
        raise unknown_name("preset", name, tuple(presets))
    return found
