"""The numbers that the report's text is filled in with: from the records, the protocol and the theory.

Nothing here draws or writes; each function returns a tidy table or plain values.
"""

from __future__ import annotations

import math
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from empirical.judgment import statistics
from empirical.judgment.claim_theory import first_loss, head_fan_in, rate_ratio
from empirical.judgment.evidence import Evidence
from empirical.judgment.protocol_agreement import AS_PRINTED, protocol_cells
from empirical.judgment.selection import SIZE, select
from empirical.judgment.truth import AGREES, CONFIRMED, DISAGREES, REFUTED
from empirical.presets import PRESETS
from empirical.protocol import CLASSES, COURSE_REPORT, TEST_IMAGES, TRAIN_IMAGES, TrainSpec
from empirical.records.published import Published
from figures.prose import name_of
from theory.activations import parse_activation
from theory.errors import RequestError
from theory.law import mean_field
from theory.law.batch_norm import gradient_growth
from theory.lessons.paper import xavier_over_he

TEXTS: dict[str, Any] = tomllib.loads(
    Path(__file__).with_name("report.toml").read_text(encoding="utf-8")
)

# ------------------------------------------------------------------------------------ records


def coverage(published: Published) -> pd.DataFrame:
    """What is recorded of each study, one row each.

    Columns: study, question, configurations (recorded), of (how many), seeds_least, seeds_most,
    diverged, size (in words, where the records are of another than the study asks for), command (makes
    the rest).
    """
    rows = []
    for name, preset in PRESETS.items():
        if name == "seeds":  # the report's grid again; its seeds are counted there
            continue
        chosen, spec = select(published, name), preset.study
        cells, expected = chosen.own.cells, len(spec.cells())
        seeds = cells.groupby(["arm", "activation", "depth"])["seed"].nunique()
        changed = [(one, chosen.size[one]) for one in SIZE if chosen.size[one] != getattr(spec, one)]
        smaller = ", ".join(f"{one.replace('_', ' ')} {value}" for one, value in changed)
        rows.append({
            "study": name,
            "question": preset.question,
            "configurations": expected - len(chosen.missing),
            "of": expected,
            "seeds_least": seeds.min() if len(seeds) else 0,
            "seeds_most": seeds.max() if len(seeds) else 0,
            "diverged": int((cells["status"] == "diverged").sum()),
            "size": f"run in small, with {smaller}" if smaller and len(cells) else "",
            "command": f"python cli.py {chosen.command}" if chosen.missing else "",
        })  # fmt: skip
    return pd.DataFrame(rows)


def compared(published: Published, column: str, first: Any, second: Any) -> pd.DataFrame | None:
    """``compare`` of two arms on the grid as printed; None where they share no setting."""
    study = select(published, "report").own.study
    if study.empty:
        return None
    try:
        return statistics.compare(study, column, first, second).assign(compared=column)
    except RequestError:
        return None


def gap(table: pd.DataFrame | None) -> dict[str, Any]:
    """The differences of a comparison, their seeds and how many are decided; empty without any."""
    if table is None or table["difference"].isna().all():
        return {}
    rows = table[table["difference"].notna()].sort_values("difference", kind="stable")
    return {
        "differences": rows["difference"],
        "seeds": rows["seeds"],
        "smallest_at": _setting(rows.iloc[0]),
        "largest_at": _setting(rows.iloc[-1]),
        "verdicts": Counter(rows["verdict"]),
        "tested": int(rows["p_holm"].notna().sum()),
    }


def _setting(row: pd.Series[Any]) -> str:
    """What a comparison's two arms share: "ReLU and 5 layers"."""
    shared = next(row[name] for name in ("activation", "arm") if name in row)
    return f"{name_of(shared)} and {row['depth']} layers"


def distance(evidence: Evidence) -> dict[str, Any]:
    """How far the accuracies as printed are from the course report's, in points and in deviations.

    A deviation is the standard deviation of one more seed about our mean (``protocol_agreement``).
    """
    cells = protocol_cells(evidence)
    rows = cells[(cells["augment"] == AS_PRINTED[0]) & (cells["fan"] == AS_PRINTED[1])]
    if rows.empty:
        return {}
    off = rows["mean"] - rows["printed"]
    deviations = off / (rows["spread"] * np.sqrt(1 + 1 / rows["seeds"]))
    worst = int(off.abs().to_numpy().argmax())
    return {
        "off": off,
        "deviations": deviations,
        "worst": rows.assign(off=off).iloc[worst].to_dict(),
        "spread": float(np.sqrt(np.square(rows["spread"]).mean())),
        "beyond": int((deviations.abs() > BEYOND).sum()),
        "bound": BEYOND,
    }


BEYOND = 2  # standard deviations: one number in twenty lies farther out by chance


def seeds(published: Published) -> list[int]:
    """How many seeds each recorded configuration has."""
    config = ["initializer", "activation", "depth", "variant"]
    return published.cells.groupby(config)["seed"].nunique().to_list()


# ------------------------------------------------------------------------------------- theory


def protocol() -> dict[str, Any]:
    """The course report's protocol and what its networks are."""
    depths, cells = COURSE_REPORT.depths, COURSE_REPORT.cells()
    return {
        "protocol": COURSE_REPORT,
        "shallow": TrainSpec(depth=min(depths)),
        "deep": TrainSpec(depth=max(depths)),
        "parameters": [cell.parameters for cell in cells],
        "images": {"train": TRAIN_IMAGES, "test": TEST_IMAGES},
        "classes": CLASSES,
        "relu": parse_activation("relu"),
        "prelu": parse_activation("prelu"),
        "head_fan_in": head_fan_in,
        "statistics": statistics,
    }


def theory(derivation: pd.DataFrame, stack: pd.DataFrame) -> dict[str, Any]:
    """What the theory says in numbers; ``derivation`` and ``stack`` are the tables beside the text."""
    relu = parse_activation("relu")
    slip = derivation[derivation["known_slip"]].iloc[0].to_dict()
    true = derivation[~derivation["known_slip"]]
    fan = 9 * COURSE_REPORT.filters
    depths = PRESETS["he2015"].fields["depths"]
    law = {mode: TrainSpec(depth=min(COURSE_REPORT.depths), fan=mode) for mode in ("fan_out", "fan_in")}
    return {
        "slip": slip,
        "lines": len(true),
        "hold": int((true["verdict"] == "holds").sum()),
        "fail": list(true.loc[true["verdict"] == "fails", "equation"]),
        "undecided": list(derivation.loc[~derivation["verdict"].isin(("holds", "fails")), "equation"]),
        "largest_z": float(np.abs(true["z"]).max()),
        "stall": [(depth, xavier_over_he(depth)) for depth in depths],
        "normal_factor": mean_field.chi_1(relu, fan),
        "fan": fan,
        "growth": gradient_growth(relu),
        "rate_ratio": rate_ratio(),
        "first_loss": {mode: first_loss(spec) for mode, spec in law.items()},
        "equal_logits": math.log(CLASSES),
    } | _single_network(stack)  # fmt: skip


def _single_network(stack: pd.DataFrame) -> dict[str, Any]:
    """Median and band of one network at the last layer of He's ReLU stack, over the mean."""
    rows = stack[(stack["initializer"] == "he") & (stack["activation"] == "relu")]
    last = rows[rows["layer"] == rows["layer"].max()].iloc[0]
    names = ("log10_median_theory", "log10_band_low", "log10_band_high")
    median, low, high = (10 ** float(last[name] - last["log10_theory"]) for name in names)
    return {"layers": int(last["layer"]), "median": median, "band": (low, high)}


def counts(table: pd.DataFrame, fan: str) -> dict[str, int]:
    """How many claims, of one fan mode, have each verdict, and what the runs say of the open ones."""
    rows = table[table["fan"] == fan]
    decided = rows["verdict"].isin((CONFIRMED, REFUTED, statistics.EQUIVALENT))
    verdicts, directions = Counter(rows["verdict"]), Counter(rows.loc[~decided, "direction"])
    return {
        CONFIRMED: verdicts[CONFIRMED],
        REFUTED: verdicts[REFUTED],
        "alike": verdicts[statistics.EQUIVALENT],
        "few": verdicts[statistics.INSUFFICIENT],
        "close": verdicts[statistics.TOO_CLOSE],
        "open": int((~decided).sum()),
        "all": len(rows),
        "agree": directions[AGREES],
        "disagree": directions[DISAGREES],
    }
