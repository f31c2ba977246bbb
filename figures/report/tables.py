"""The report's tables: each a described ``Sheet`` of a tidy table that ``empirical`` has made."""

from __future__ import annotations

import pandas as pd

from empirical.protocol import StudySpec
from figures.prose import name_of, note, span
from figures.report.facts import TEXTS
from figures.tables import Column, Row, Sheet, fixed, words


def protocol(spec: StudySpec) -> Sheet:
    """The fields of the report's protocol, and its grid."""
    shared = spec.shared()
    rows = [("initializers", ", ".join(map(name_of, spec.initializers)))]
    rows.append(("activations", ", ".join(map(name_of, spec.activations))))
    rows.append(("depths: weight layers before the linear one", ", ".join(map(str, spec.depths))))
    rows += [(text, _setting(shared[name])) for name, text in TEXTS["protocol_words"].items()]
    return Sheet(
        name="protocol",
        title="The course report's protocol, as printed",
        data=pd.DataFrame(rows, columns=["setting", "value"]),
        columns=(words("setting", "setting"), words("value", "value", folds=False)),
    )


def _setting(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(TEXTS["settings"].get(str(value), value))


def coverage(table: pd.DataFrame) -> Sheet:
    """``facts.coverage``: how much of each study is recorded."""
    return Sheet(
        name="coverage",
        title="The studies and their records",
        data=table,
        columns=(
            words("study", "study", folds=False),
            words("question", "question"),
            Column("cells", lambda row: f"{row['configurations']} of {row['of']}"),
            Column("seeds", _seeds),
            Column("diverged", "diverged"),
        ),
        notes=(
            note("coverage"),
            *(f"{row['study']}: {row['size']}." for row in table.to_dict("records") if row["size"]),
        ),
    )


SOFTWARE = "fanin {version} (code {code}), engine {engine}, torch {torch}, Python {python}, {platform}"


def _seeds(row: Row) -> str:
    return span(row["seeds_least"], row["seeds_most"]) if row["seeds_most"] else "–"


def machines(table: pd.DataFrame) -> Sheet:
    """``account.machines``: what the cells ran on."""
    return Sheet(
        name="machines",
        title="What the records were made on",
        data=table,
        columns=(
            words("hardware", _hardware),
            words("software", SOFTWARE.format_map),
            Column("cells", "cells"),
            Column("epochs", "epochs"),
            Column("hours", "hours", fixed(2)),
        ),
        notes=("Code: a digest that changes with this project's source.",),
    )


def _hardware(row: Row) -> str:
    threads = row["threads"]
    return f"{row['hardware']}, {row['device']}, {threads} thread{'s' * (threads != 1)}"
