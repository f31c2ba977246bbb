"""The explorer's files and a study's records, put into one text that asks for nothing else.

The records are embedded as JSON: a curve for each (preset, initializer, activation, depth, variant),
with the epochs of every seed.  What a variant shares with its whole preset is said once, of the preset.
So are the maps of which networks train, of ``frontier``.
"""

from __future__ import annotations

import html
import json
import math
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any, cast

from empirical.arm import Arm, same, shared_changes
from empirical.presets import PRESETS
from empirical.protocol import COURSE_REPORT, published_accuracy
from theory.devices import project_version
from theory.errors import RequestError, check_whole

if TYPE_CHECKING:
    import pandas as pd

HERE = Path(__file__).parent
SCRIPTS = ("theory.js", "sampler.js", "chart.js", "frontier.js", "explorer.js", "study.js")
MAX_SEED = 2**32 - 1  # of the page's generator
NEEDED = ("initializer", "activation", "depth", "seed", "status", "epoch", "test_accuracy")
# What can be drawn against the epoch, if the table has it.
QUANTITIES = {
    "test_accuracy": "Test accuracy, percent",
    "train_loss": "Mean training loss",
    "average_weight": "Average weight",
}
CURVE = ["preset", "initializer", "activation", "depth", "arm"]
# The report's printed numbers may belong to another fan than its printed one; an engine changes none.
FREE_OF_REPORT = {"engine", "fan", "head_fan"}


def page(
    study: pd.DataFrame | None = None, maps: Sequence[dict[str, Any]] = (), *, seed: int = 0
) -> str:
    """The whole page as HTML.  Arguments and errors: as of ``fragment``."""
    body, css, script = fragment(study, maps, seed=seed)
    return _read("page.html").substitute(
        css=css, html=body, js=script, version=html.escape(project_version())
    )


def fragment(
    study: pd.DataFrame | None = None,
    maps: Sequence[dict[str, Any]] = (),
    *,
    seed: int = 0,
    heading_level: int = 2,
) -> tuple[str, str, str]:
    """(html, css, js) of the explorer for another page: every id and class begins with ``fx``.

    study          a row per cell and epoch with the columns ``NEEDED``, as of ``records.published``;
                   used if there are also ``preset`` (names, separated by spaces),
                   ``QUANTITIES`` and ``Protocol``'s fields.  None, or no row: the page says so
    maps           of which networks train, as of ``frontier.frontier_maps``.  None: likewise
    seed           of the first networks that the reader draws, below 2³²
    heading_level  2 for <h2>, and so on, of the panels' titles

    The script goes behind the html and defines one global name, ``Fanin``; the style follows the
    reader's ``prefers-color-scheme``.  Raises ``RequestError`` for a table that lacks a column or has
    no numbers in one, and for an argument out of range.
    """
    check_whole("the explorer's seed", seed, 0, MAX_SEED)
    check_whole("heading level", heading_level, 1, 5)
    records = None if study is None or study.empty else study_records(study)
    body = _unstretched(_read("explorer.html")).substitute(
        seed=seed,
        level=heading_level,
        sublevel=heading_level + 1,
        data=_embedded(records),
        maps=_embedded(maps or None),
    )
    scripts = "\n".join((HERE / name).read_text(encoding="utf-8") for name in SCRIPTS)
    return body, (HERE / "explorer.css").read_text(encoding="utf-8"), scripts


def study_records(study: pd.DataFrame) -> dict[str, Any]:
    """What study.js reads: the quantities, the presets in the table's order, and the curves."""
    _check(study)
    table = _by_preset(study)
    arms = [Arm.of(row) for row in table.to_dict("records")]
    table = table.assign(arm=cast(Any, arms))
    quantities = {name: words for name, words in QUANTITIES.items() if name in table}
    presets, common = [], {}
    for name, rows in table.groupby("preset", sort=False):
        own = rows["arm"].unique()
        shared = shared_changes(own)
        common[name] = tuple(change for change in own[0].changes if change in shared)
        question = PRESETS[str(name)].question if name in PRESETS else ""
        said = list(Arm("", common[name]).words)
        presets.append({"name": name, "question": question, "common": said})
    curves = []
    for key, rows in table.groupby(CURVE, sort=False):
        curve = _curve(dict(zip(CURVE, key, strict=True)), rows, list(quantities))
        curves.append(curve | {"variant": curve.pop("arm").without(common[curve["preset"]]).variant})
    return {"quantities": quantities, "presets": presets, "curves": curves}


def _check(study: pd.DataFrame) -> None:
    missing = [name for name in NEEDED if name not in study]
    if missing:
        raise RequestError(
            f"the study's table lacks {', '.join(missing)}: it needs a row per cell and epoch with "
            f"{', '.join(NEEDED)}"
        )
    numbers = ["depth", "seed", "epoch", *(name for name in QUANTITIES if name in study)]
    for name in numbers:
        if study[name].dtype.kind not in "iuf":
            raise RequestError(f"the study's table has {name} that are not numbers")
    for name in NEEDED:
        if name not in QUANTITIES and study[name].isna().any():
            raise RequestError(f"the study's table has rows without {name}")


def _by_preset(study: pd.DataFrame) -> pd.DataFrame:
    """A row for each preset that a cell belongs to, in the order in which presets are listed."""
    table = study.copy()
    if "preset" not in table:
        return table.assign(preset="study")
    table["preset"] = table["preset"].fillna("").str.split().map(lambda names: names or ["other"])
    table = table.explode("preset", ignore_index=True)
    known = list(PRESETS)
    place = table["preset"].map(lambda name: known.index(name) if name in known else len(known))
    return table.iloc[place.argsort(kind="stable")]


def _curve(key: dict[str, Any], rows: pd.DataFrame, quantities: list[str]) -> dict[str, Any]:
    """One configuration: its seeds' epochs, and what the course report printed for it."""
    seeds = [
        {
            "seed": seed,
            "status": str(epochs["status"].iloc[-1]),
            "epoch": epochs["epoch"].astype(int).tolist(),
        }
        | {name: [_number(value) for value in epochs[name]] for name in quantities}
        for seed, epochs in rows.sort_values("epoch").groupby("seed")
    ]
    key["depth"] = int(key["depth"])
    published = published_accuracy(str(key["initializer"]), str(key["activation"]), key["depth"])
    return {**key, "published": published if _is_the_reports(rows) else None, "seeds": seeds}


def _is_the_reports(rows: pd.DataFrame) -> bool:
    """Whether the cells follow the course report's protocol, the fan aside."""
    cell = rows.iloc[0]
    report = COURSE_REPORT.shared()
    return all(
        same(cell[name], value)
        for name, value in report.items()
        if name in rows and name not in FREE_OF_REPORT
    )


def _embedded(records: Any) -> str:
    """As JSON that no </script> in it ends early; None as nothing."""
    text = "" if records is None else json.dumps(records, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def _number(value: float) -> float | None:
    """Six digits of a finite number; None of any other."""
    return float(f"{value:.6g}") if math.isfinite(value) else None


def _unstretched(template: Template) -> Template:
    """Parentheses in MathML as high as text: browsers stretch them to the tallest in their row."""
    text = template.template
    for fence in "()[]":
        text = text.replace(f"<mo>{fence}</mo>", f'<mo stretchy="false">{fence}</mo>')
    return Template(text)


def _read(name: str) -> Template:
    return Template((HERE / name).read_text(encoding="utf-8"))
