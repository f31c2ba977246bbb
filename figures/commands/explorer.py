"""``explorer``: a page whose sliders move the exact law of a random network, and a study's results."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from figures.commands.answer import Answer, Session
from theory.errors import RequestError

if TYPE_CHECKING:
    import pandas as pd

PURPOSE = "One HTML page to explore the theory with sliders, and the study's results beside it."
EXAMPLES = ("explorer", "explorer --records runs/cifar", "explorer --seed 7 --out site")
PUBLISHED = Path(__file__).parent.parent / "data"
STUDY = "study.csv"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--records",
        type=Path,
        metavar="DIR",
        help=f"the folder that holds a study's {STUDY}, as cifar --out (default: the published study)",
    )


def run(arguments: argparse.Namespace, session: Session) -> Answer:
    path = find_study(arguments.records)
    from figures.explorer import page
    from figures.explorer.build import MAX_SEED
    from theory.errors import check_whole

    check_whole("seed", arguments.seed, 0, MAX_SEED)
    study = None if path is None else read_study(path)
    text = page(study, seed=arguments.seed)
    session.prepare_out()
    target = session.out / "explorer.html"
    partial = target.with_name(f".{target.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(target)
    cells = 0 if study is None else len(study[["initializer", "activation", "depth"]].drop_duplicates())
    records = "no records" if path is None else f"the records of {path}"
    return Answer(
        spec={"records": None if path is None else str(path), "seed": arguments.seed},
        device=arguments.device,
        document={"explorer": str(target), "bytes": len(text.encode()), "configurations": cells},
        show=[f"The page holds {records}. Open it in any browser; it asks the network for nothing."],
        paths=[target],
    )


def find_study(folder: Path | None) -> Path | None:
    """The table in ``folder``; None: that of the published study, or None where there is none yet."""
    path = (PUBLISHED if folder is None else folder) / STUDY
    if folder is not None and folder.is_file():
        path = folder
    if path.is_file():
        return path
    if folder is None:
        return None
    raise RequestError(
        f"no {STUDY} in --records {folder}: name the --out folder of a finished cifar run"
    )


def read_study(path: Path) -> pd.DataFrame:
    """The table at ``path``; ``RequestError`` if it cannot be read as CSV."""
    import pandas as pd

    try:
        return pd.read_csv(path)
    except (OSError, ValueError) as error:  # pandas' parser errors are ValueErrors
        raise RequestError(f"cannot read {path}: {' '.join(str(error).split())}") from None
