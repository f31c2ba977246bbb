"""Which of the cells at hand answer a question, and which are missing.

A preset names cells by their whole configuration.  Records of a smaller run of the same question (fewer
epochs, filters or images) answer it too, in small: so a preset's cells are those that agree with it in
everything but ``SIZE``, and all of one size: the preset's own if there is any, else the one with the
most configurations.  Seeds are whatever there is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from empirical.arm import Arm
from empirical.identity import GRID
from empirical.presets import preset
from empirical.protocol import TrainSpec
from empirical.records.account import options
from empirical.records.published import Published, spec_of

SIZE = ("filters", "epochs", "batch_size", "precision", "limit_train", "limit_test")


@dataclass(frozen=True)
class Selection:
    """The cells at hand for a preset; ``missing`` are its configurations without any, at seed 0.

    ``records`` holds, beside the preset's, the cells of the same protocols with another initializer,
    activation or depth; the ids of the preset's own are ``asked``.  Its ``cells`` and ``study`` have a
    column more, ``arm``: the ``Arm``, whatever its size.
    """

    preset: str
    records: Published
    asked: frozenset[str]
    missing: tuple[TrainSpec, ...]
    size: Mapping[str, Any] = field(default_factory=dict)

    @property
    def own(self) -> Published:
        """The preset's cells alone."""
        return self.records.of(self.asked)

    @property
    def command(self) -> str:
        """The command that makes the missing cells, with the cells at hand, at their size."""
        spec = preset(self.preset).study
        differs = {name: value for name, value in self.size.items() if value != getattr(spec, name)}
        return " ".join(["cifar", "--preset", self.preset, *options(differs, against=spec)])


@lru_cache(maxsize=100)
def select(published: Published, name: str) -> Selection:
    """The cells of the preset ``name`` among the published ones; ``RequestError`` if there is none."""
    expected = preset(name).study.cells()
    by_key = {_key(cell): cell for cell in expected}
    protocols = {_protocol(cell) for cell in expected}
    found = [(str(row["cell"]), spec_of(row)) for row in published.cells.to_dict("records")]
    near = [(cell, spec) for cell, spec in found if _protocol(spec) in protocols]
    size = size_of_most((spec for _, spec in near), expected)
    chosen = {cell: spec for cell, spec in near if _size(spec) == tuple(size.values())}
    asked = {cell: spec for cell, spec in chosen.items() if _key(spec) in by_key}
    there = {_key(spec) for spec in asked.values()}
    return Selection(
        preset=name,
        records=with_arms(published.of(chosen)),
        asked=frozenset(asked),
        missing=tuple(cell for key, cell in by_key.items() if key not in there),
        size=size,
    )


def same_size(published: Published, size: Mapping[str, Any]) -> Published:
    """The published cells of this ``SIZE``, with the column ``arm``."""
    wanted = tuple(size[name] for name in SIZE)
    rows = published.cells.to_dict("records")
    return with_arms(published.of(row["cell"] for row in rows if _size(spec_of(row)) == wanted))


def with_arms(published: Published) -> Published:
    """The same tables with the column ``arm`` in ``cells`` and ``study``."""
    arms = {str(row["cell"]): arm(spec_of(row)) for row in published.cells.to_dict("records")}
    cells, study = (
        table.assign(arm=table["cell"].map(arms).astype(object))
        for table in (published.cells, published.study)
    )
    return Published(study, published.layers, cells)


@lru_cache(maxsize=10_000)
def arm(spec: TrainSpec) -> Arm:
    """What is compared: the arm of ``spec``, whatever its size.

    >>> arm(TrainSpec(initializer="normal", head_initializer="he", epochs=3)).label
    'normal, head he'
    """
    return Arm.of(spec.config(), ignoring=SIZE)


def _size(spec: TrainSpec) -> tuple[Any, ...]:
    return tuple(getattr(spec, name) for name in SIZE)


@lru_cache(maxsize=10_000)
def _key(spec: TrainSpec) -> tuple[Any, ...]:
    """The configuration but for its size and seed."""
    return spec.key("seed", *SIZE)


@lru_cache(maxsize=10_000)
def _protocol(spec: TrainSpec) -> tuple[Any, ...]:
    return spec.key(*GRID, *SIZE)


def size_of_most(found: Iterable[TrainSpec], expected: Sequence[TrainSpec]) -> dict[str, Any]:
    """``SIZE`` of the cells ``found`` that are ``expected`` but for it: as expected if any is of that,
    else that of the most configurations."""
    own, keys = _size(expected[0]), set(map(_key, expected))
    sized = {(_key(spec), _size(spec)) for spec in found if _key(spec) in keys}
    counts = Counter(size for _, size in sized)
    best = own if own in counts or not counts else max(counts, key=lambda one: (counts[one], repr(one)))
    return dict(zip(SIZE, best, strict=True))
