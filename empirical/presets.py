"""The questions that the course report could not answer, each a study of its own: ``presets.toml``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from empirical.data.files import tables
from empirical.protocol import StudySpec
from theory.errors import unknown_name

FIRST_SEEDS = 5  # of every cell of the course report's grid, before any has more
MANY_SEEDS = 10  # of the preset seeds
SEEDS = {"seeds": (0, 1, 2)}  # of those in ``BEYOND``


@dataclass(frozen=True)
class Preset:
    """A study: the question it answers, in one line, and the fields of ``StudySpec`` that make it."""

    question: str
    fields: Mapping[str, Any]

    @property
    def study(self) -> StudySpec:
        return StudySpec(**self.fields)

    @property
    def dataset(self) -> str:
        return str(self.fields.get("dataset", "cifar10"))


def _read(part: str) -> dict[str, Preset]:
    found = tables(Path(__file__).with_suffix(".toml"))[part]
    return {name: Preset(row.pop("question"), row) for name, row in found.items()}


PRESETS = _read("presets")
BEYOND = _read("beyond")


def preset(name: str, among: Mapping[str, Preset] = PRESETS) -> Preset:
    """The preset called ``name``; ``RequestError`` if there is none.

    >>> preset("textbook").fields["fan"]
    'fan_in'
    """
    found = among.get(name.strip().lower())
    if found is None:
        raise unknown_name("preset", name, tuple(among))
    return found
