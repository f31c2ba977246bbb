"""Does the audit find the mistakes that shipped, and is it quiet about what only looks like one?

    uv run benchmarks/audit_known_mistakes.py [--zoo] [--limit N]

Every case of ``tests/known_mistakes.py``, as it shipped and as it was fixed: hits, misses, false
alarms.  ``--zoo`` audits every classification network of torchvision with random weights on small
inputs instead: whether it runs, how long it takes, how much of it is predicted and how well, and each
alarm.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import known_mistakes  # noqa: E402
from known_mistakes import Case  # noqa: E402

from theory.audit import Audit, audit  # noqa: E402

CLOSE = np.log(1.15)  # of a prediction
SIZES = {"inception_v3": 299}  # what does not run on 64 pixels
LARGEST = 120_000_000  # weights


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--zoo", action="store_true")
    parser.add_argument("--limit", type=int, help="only the first N networks of the zoo")
    options = parser.parse_args()
    console = Console(width=160)
    if options.zoo:
        rows = []
        for row in zoo(options.limit):
            rows.append(row)
            print(*row.values(), sep="  ", file=sys.stderr, flush=True)  # it takes many minutes
        console.print(table("torchvision.models, weights=None", rows))
        return
    for name in ("FOUND", "UNSEEN", "LOOKS_WRONG", "CHOICES"):
        rows = [judged(case) for case in getattr(known_mistakes, name)]
        console.print(table(name, rows))


def judged(case: Case) -> dict[str, str]:
    """A case as it shipped and, where it was, fixed."""
    start = time.perf_counter()
    torch.manual_seed(0)
    shipped = audit(case.broken(), case.inputs())
    seconds = time.perf_counter() - start
    row = {"where": case.where, "what": case.what, "verdict": shipped.verdict}
    if not case.codes:
        return row | {"result": "quiet" if shipped.verdict == "healthy" else "FALSE ALARM",
                      "said": codes_of(shipped), "seconds": f"{seconds:.1f}"}  # fmt: skip
    missed = known_mistakes.missed(case, shipped)
    row |= {"result": f"MISSED {', '.join(missed)}" if missed else "hit", "said": codes_of(shipped)}
    if case.fixed is not None:
        torch.manual_seed(0)
        mended = audit(case.fixed(), case.inputs())
        left = {one.code for one in mended.findings} & set(case.codes)
        row["fixed"] = f"STILL {', '.join(left)}" if left else f"free, {mended.verdict}"
    return row | {"seconds": f"{seconds:.1f}"}


def codes_of(result: Audit) -> str:
    """Each finding as ``code(severity's first letter)``."""
    return " ".join(
        f"{one.code}({one.severity[0]})" for one in result.findings if one.code != "not-predicted"
    )


def zoo(limit: int | None) -> Iterator[dict[str, str]]:
    """A row for each classification network of torchvision."""
    names = torchvision.models.list_models(torchvision.models)[:limit]
    for name in names:
        torch.manual_seed(0)
        start = time.perf_counter()
        size = SIZES.get(name, 224 if name.startswith(("vit", "maxvit")) else 64)
        weights = torchvision.models.get_model_weights(name).DEFAULT.meta[
            "num_params"
        ]  # a table's entry
        if weights > LARGEST:
            yield {"network": name, "verdict": f"left out: {weights:,} weights"}
            continue
        try:
            model = torchvision.models.get_model(name, weights=None, num_classes=10)
            result = audit(model, torch.randn(4, 3, size, size), try_fixes=False)
        except Exception as error:  # a zoo is there to find out
            yield {"network": name, "verdict": f"{type(error).__name__}: {str(error)[:60]}"}
            continue
        yield {
            "network": name,
            "layers": str(len(result.layers)),
            "seconds": f"{time.perf_counter() - start:.1f}",
            "forward ≤ 15 %": share(result, "forward", CLOSE),
            "backward ≤ 50 %": share(result, "backward", np.log(1.5)),
            "verdict": result.verdict,
            "said": codes_of(result),
        }


def share(result: Audit, way: str, within: float) -> str:
    """The share of layers that are predicted, and of all, those within the factor of one network."""
    predicted, measured = (result.layers[f"{way}_{what}"] for what in ("predicted", "measured"))
    off = np.abs(np.log(predicted / measured))
    return f"{predicted.notna().mean():.0%} / {(off <= within).mean():.0%}"


def table(title: str, rows: Any) -> Table:
    rows = list(rows)
    columns: Sequence[str] = list(dict.fromkeys(key for row in rows for key in row))
    result = Table(*columns, title=title)
    for row in rows:
        result.add_row(*(row.get(column, "") for column in columns))
    return result


if __name__ == "__main__":
    main()
