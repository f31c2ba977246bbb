"""How honest the tests behind the verdicts are, on simulated seeds and on the recorded ones.

    uv run benchmarks/false_alarms.py [--records DIR] [--runs N]

Prints the share of false alarms at a nominal 5 % for every shape of seeds (``calibration``), with the
p-value of the recorded cells' being of that shape, and the same by resampling from the recorded cells;
how normal those are; how often both tests say the same of them; the share where seeds are added until
there is a false alarm; and how many of the claims 3 to 40 seeds would decide.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from empirical.judgment import calibration
from empirical.judgment.claims import claims
from empirical.judgment.evidence import Evidence
from empirical.judgment.statistics import LEVEL
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
    for title, found in (("Simulated seeds", simulated), ("Resampled from the records", drawn)):
        print(f"{title}: false alarms in percent, by the test that is used (plain t)")
        shares = (100 * found[["used", "t"]]).apply(lambda row: "{:.1f} ({:.1f})".format(*row), axis=1)
        alike = found["shape"].map({name: f"{p:.3f}" for name, p in like.items()}.get).fillna("–")
        table = found.assign(share=shares, **{"recorded alike? (p)": alike})
        index = ["shape", "recorded alike? (p)", "design"]
        print(table.set_index([*index, "seeds"])["share"].unstack(sort=False).to_string())
        exact = found.dropna(subset="exact")
        print(f"exact test, {calibration.EXACT_RUNS} runs each: {100 * exact['exact'].mean():.1f} %")
    print(calibration.normality(evidence).round(3).to_string(index=False))
    same, pairs = calibration.agreement(evidence)
    print(f"both tests agree on {same} of {pairs} differences of recorded cells")
    for family in (1, len(claims())):
        share = 100 * calibration.stopped(LEVEL / family, runs=options.runs)
        print(f"stopping at the first alarm of 3 to 10 seeds: {share:.1f} %, in a family of {family}")
    for seeds in (3, 5, 10, 20, 40):
        counts = calibration.decided(evidence, seeds)
        print(
            f"{seeds} seeds would decide {np.mean(counts):.1f} claims ({min(counts)} to {max(counts)})"
        )


if __name__ == "__main__":
    main()
