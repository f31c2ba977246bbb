"""The audit as people read it: the text of made-up rows, and a picture that holds every layer."""

import io
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from figures.theory.audit import audit_figure, findings_table, layers_table
from theory.audit.examination import COLUMNS, STREAM_COLUMNS, Audit
from theory.audit.findings import Finding, Loss


def made_up(layers=4):
    """An audit of a chain with a branch whose third layer is at fault."""
    row = dict.fromkeys(COLUMNS, math.nan) | {
        "call": 0, "kind": "Linear", "shape": [8, 8], "groups": 1, "fan_in": 8, "fan_out": 8.0,
        "law": "he, fan_in", "basis": "exact", "hidden": False,
    }  # fmt: skip
    table = pd.DataFrame(
        [
            row | {
                "module": f"net.{i}", "parameter": f"net.{i}.weight", "forward_predicted": 2.0 / 2**i,
                "forward_measured": 2.1 / 2**i, "backward_predicted": 0.5, "backward_measured": 0.4,
                "spread": 1.0, "branch": i in (1, 2), "verdict": "warning" if i == 2 else "ok",
                "findings": ["branch-scale"] if i == 2 else [],
            }
            for i in range(layers)
        ]
    )[list(COLUMNS)]  # fmt: skip
    stream = pd.DataFrame([(0, 1, 2.0, 0.5), (0, 3, 4.0, 0.4)], columns=list(STREAM_COLUMNS))
    finding = Finding("branch-scale", "warning", ("net.2",), "It is 16× too large.", {"x": 16}, "fix()")
    return Audit(table, stream, Loss(2.4, 2.5, math.log(10), 10, 0.3), (finding,), "check", {})


def test_the_tables_read_as_they_did(golden):
    console = Console(width=100, file=io.StringIO())
    console.print(layers_table(made_up()), findings_table(made_up()))
    golden("audit", console.file.getvalue())


def test_a_finding_without_a_fix_has_a_dash():
    made = made_up()
    note = Finding("zero-weights", "note", ("net.3",), "A head at zero.", {"x": 0})
    sheet = findings_table(replace(made, findings=(*made.findings, note)))
    fixes = [str(sheet.columns[-1].cell(row)) for row in sheet.rows]
    assert fixes == ["1", "–"]


def test_a_long_network_is_thinned_and_its_faults_stay():
    sheet = layers_table(made_up(200))
    assert len(sheet.rows) < 60 and len(sheet.data) == 200
    assert any(row["verdict"] == "warning" for row in sheet.rows)
    assert "more layers are in the CSV" in sheet.notes[0]


@pytest.mark.parametrize("way", [0, 1])
def test_the_picture_holds_every_layer_apart_from_its_branch(way):
    figure = audit_figure(made_up())
    axes = figure.axes[way]
    filled = {tuple(line.get_xdata()) for line in axes.lines if line.get_marker() == "o"}
    assert filled == {(1, 4), (2, 3)}
    measured = np.log10([2.1, 2.1 / 8]) if way == 0 else np.log10([0.4, 0.4])
    main = next(line for line in axes.lines if tuple(line.get_xdata()) == (1, 4))
    np.testing.assert_allclose(main.get_ydata(), measured)
    assert figure.axes[0].get_title(loc="left") == "branch-scale"
