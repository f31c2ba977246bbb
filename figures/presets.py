"""The studies that ``cifar --preset`` knows."""

from __future__ import annotations

from typing import Any

from rich.table import Table
from rich.text import Text

from figures.tables import new_table


def presets_table(presets: list[dict[str, Any]]) -> Table:
    """One row per preset: ``preset`` its name, ``cells`` how many, ``question`` what it answers."""
    result = new_table("Presets", caption="Run one with cifar --preset NAME; other options change it.")
    result.add_column("preset", no_wrap=True)
    result.add_column("cells", justify="right", no_wrap=True)
    result.add_column("question")
    for row in presets:
        result.add_row(Text(row["preset"], style="bold"), f"{row['cells']}", row["question"])
    return result
