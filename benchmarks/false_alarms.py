"""How honest the tests behind the verdicts are, on simulated seeds and on the recorded ones.

    uv run benchmarks/false_alarms.py [--records DIR] [--runs N]

Prints the share of false alarms at a nominal 5 % for every shape of seeds (``calibration``), with the
p-value of the recorded cells' being of that shape, and the same by resampling from the recorded cells;
how normal those are; how often both tests say the same of them; and how many of the claims 3, 5 and 10
seeds would decide.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from empirical.judgment import calibration
from empirical.judgment.evidence import Evidence
from empirical.records.published import gather

DATA = Path(__file__).parent.parent / "figures" / "data"


def main() -> None:
    parser = argparse.ArgumentParser(description="False alarms of the tests behind the verdicts.")
    parser.add_argument("--records", nargs="+", type=Path, default=[DATA])
    parser.add_argument("--runs", type=int, default=100_000)
    options = parser.parse_args()
    records = gather(options.records)
    evidence = Evidence(records.study, records.cells, records.layers)
    like = calibration.resemblance(evidence)
    simulated = calibration.false_alarms(runs=options.runs)
    drawn = calibration.resampled(evidence, runs=options.runs)
    console = Console()
    for title, found in (("Simulated seeds", simulated), ("Resampled from the records", drawn)):
        table = Table(title=f"{title}: false alarms in percent, by the test that is used (plain t)")
        for column in (
            "shape",
            "recorded alike? (p)",
            "design",
            *map(str, sorted(found["seeds"].unique())),
        ):
            table.add_column(column)
        for (shape, design), rows in found.groupby(["shape", "design"], sort=False):
            shares = [
                f"{100 * one:.1f} ({100 * t:.1f})"
                for one, t in zip(rows["used"], rows["t"], strict=True)
            ]
            table.add_row(shape, f"{like[shape]:.3f}" if shape in like else "–", design, *shares)
        console.print(table)
        exact = found.dropna(subset="exact")
        console.print(
            f"exact test, {calibration.EXACT_RUNS} runs each: {100 * exact['exact'].mean():.1f} %"
        )
    console.print(calibration.normality(evidence).round(3).to_string(index=False))
    same, pairs = calibration.agreement(evidence)
    console.print(f"both tests agree on {same} of {pairs} differences of recorded cells")
    for seeds in (3, 5, 10):
        counts = calibration.decided(evidence, seeds)
        console.print(
            f"{seeds} seeds would decide {np.mean(counts):.1f} claims ({min(counts)} to {max(counts)})"
        )


if __name__ == "__main__":
    main()
