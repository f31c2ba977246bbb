"""The report, made of records and theory: tables and figures by name, and what fills in its text.

A ``Report`` works out each table once, when it is first asked for.  What the records do not allow is a
gap that names what is missing and the command that makes it; nothing is trained here.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from empirical import protocol
from empirical.arm import Arm
from empirical.judgment.claim_theory import foretold_sizes, score
from empirical.judgment.claims import FANS, judge_claims
from empirical.judgment.conditions import judge_conditions
from empirical.judgment.evidence import CURVE_NOTE, QUANTITIES, Evidence
from empirical.judgment.protocol_agreement import protocol_agreement, protocol_pairs
from empirical.protocol import COURSE_REPORT
from empirical.records import account
from empirical.records.published import Published, gather, spec_of
from empirical.study.events import OnEvent
from figures import answers, style
from figures.accuracies import accuracy_results
from figures.beyond.frontier import frontier_table
from figures.beyond.published import PICTURES, Beyond, published_beyond
from figures.beyond.verdicts import verdicts_table
from figures.prose import note
from figures.report import facts, tables
from figures.study.claims import claims_table
from figures.study.gallery import SECTIONS as GALLERY
from figures.study.gallery import gallery
from figures.study.protocol_agreement import agreement_table, most_likely
from figures.study.statistics import pairs_table
from figures.tables import Sheet
from figures.theory.derivation import derivation_figure, derivation_table
from figures.theory.variance import variance_figure
from theory.devices import project_version
from theory.draw.variance import variance
from theory.errors import RequestError
from theory.law.stacks import BAND as QUANTILES
from theory.lessons.derivation import derivation
from theory.specs import DerivationSpec, VarianceSpec

BAND = round(100 * (QUANTILES[-1] - QUANTILES[0]))  # percent of single networks inside the band
DATA = Path(__file__).parents[1] / "data"  # the published study
COMPARED: dict[str, tuple[str, str, Any, Any]] = {  # a table's name: its title, column and two arms
    "he-normal": ("Test accuracy, He minus N(0, 1)", "arm", Arm("he"), Arm("normal")),
    "prelu-relu": ("Test accuracy, PReLU minus ReLU", "activation", "prelu", "relu"),
}


@dataclass(frozen=True, repr=False)
class Picture:
    """One figure: the stem of its files, what it shows, how it is read, and what draws it.

    ``drawn`` is a folder that may have it as PNG.
    """

    name: str
    title: str
    caption: str
    draw: Callable[[], Figure]
    drawn: Path | None = None

    def __repr__(self) -> str:
        return self.title

    def _repr_png_(self) -> bytes:
        """How a notebook shows it."""
        if self.drawn and (file := self.drawn / f"{self.name}.png").is_file():
            return file.read_bytes()
        buffer = io.BytesIO()
        with style.styled():
            self.draw().savefig(buffer, format="png", metadata={"Software": None})
        return buffer.getvalue()


class Report:
    """Everything the report shows, from ``records``.

    folders     where the records come from, as they are named in commands; none: the published study
    derive, stack   what the theory's own measurements draw
    drawn       a folder with the figures of these records as PNG, which are then not drawn again
    """

    def __init__(
        self,
        records: Published,
        folders: Sequence[Path] = (),
        *,
        derive: DerivationSpec | None = None,
        stack: VarianceSpec | None = None,
        drawn: Path | None = None,
    ) -> None:
        if records.cells.empty:
            raise RequestError("there is no finished cell to report on: cifar trains them, and resumes")
        self.records: Published = records
        self.folders = tuple(folders)
        self.derive = derive or DerivationSpec(device="cpu")
        self.stack = stack or VarianceSpec(depth=30, engine="law", device="cpu")
        self.drawn = drawn

    @classmethod
    def read(cls, *folders: str | Path, on_event: OnEvent | None = None, **options: Any) -> Report:
        """The report on the records of ``folders``, run folders or published tables; none: ours."""
        paths = [Path(folder) for folder in folders]
        records = gather(paths or [DATA], *([on_event] if on_event else []))
        return cls(records, paths, **options)

    # ------------------------------------------------------------------------- worked out once

    @cached_property
    def evidence(self) -> Evidence:
        return Evidence(self.records.study, self.records.cells, self.records.layers)

    @cached_property
    def claims(self) -> pd.DataFrame:
        return judge_claims(self.evidence)[0]

    @cached_property
    def contrasts(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The conditions' tables."""
        return judge_conditions(self.evidence)

    @cached_property
    def conditions(self) -> pd.DataFrame:
        """With their questions and answers in words."""
        return answers.told(*self.contrasts)

    @cached_property
    def derivation(self) -> pd.DataFrame:
        return derivation(self.derive)

    @cached_property
    def stack_table(self) -> pd.DataFrame:
        return variance(self.stack)

    @cached_property
    def coverage(self) -> pd.DataFrame:
        return facts.coverage(self.records)

    @cached_property
    def comparisons(self) -> dict[str, pd.DataFrame | None]:
        """Of each of ``COMPARED``; None where its two arms share no setting."""
        return {name: facts.compared(self.records, *arms) for name, (_, *arms) in COMPARED.items()}

    @cached_property
    def protocols(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """How well each protocol makes the printed numbers, and every two of them compared."""
        return protocol_agreement(self.evidence), protocol_pairs(self.evidence)

    @cached_property
    def gallery(self) -> dict[str, Any]:
        """The figures of the study: name -> its row in the index, with what draws it as ``draw``."""
        found = gallery(self.records, self.folders)
        rows = {row["figure"]: row for row in found.index.to_dict("records")}
        for name, paired in found.figures.items():
            rows[name]["draw"] = partial(paired.figure, self.records)
        return rows

    @cached_property
    def beyond(self) -> Beyond | None:
        """What is beyond the course report; None in a copy without its records."""
        return published_beyond()

    # ------------------------------------------------------------------------- by name

    def sheets(self) -> dict[str, Callable[[], Sheet | None]]:
        """Every table's name, and what makes it; None where the records do not allow it."""
        return {
            "derive": lambda: derivation_table(self.derivation),
            "protocol": lambda: tables.protocol(COURSE_REPORT),
            "coverage": lambda: tables.coverage(self.coverage),
            "accuracy": lambda: accuracy_results(self.records),
            "protocol-agreement": lambda: agreement_table(*self.protocols, alone=False),
            **{name: partial(self._compared, name) for name in COMPARED},
            "claims": lambda: claims_table(self.claims),
            "answers": lambda: answers.answers_table(self.conditions),
            "conditions": lambda: answers.conditions_table(self.conditions),
            "factors": lambda: answers.factors_table(self.contrasts[1]),
            "beyond": lambda: verdicts_table(self.beyond.claims) if self.beyond else None,
            "frontier": lambda: frontier_table(self.beyond.agreement) if self.beyond else None,
            "machines": lambda: tables.machines(account.machines(self.records.cells)),
        }

    def _compared(self, name: str) -> Sheet | None:
        table = self.comparisons[name]
        return None if table is None else pairs_table(table, name, COMPARED[name][0])

    def table(self, name: str) -> Sheet | str:
        """The table called ``name``; where the records do not allow it, what is missing, in words."""
        known = self.sheets()
        if name not in known:
            raise RequestError(f"the report has no table {name}: it has {', '.join(known)}")
        sheet = known[name]()
        return str(facts.TEXTS["no_table"][name]) if sheet is None else sheet

    @cached_property
    def pictures(self) -> dict[str, Picture | None]:
        """Every figure by name; None where the records do not allow it."""
        shown: dict[str, tuple[str, str, Callable[[], Figure]] | None] = {
            "derive": (
                "The derivation, measured",
                note("derive_figure"),
                lambda: derivation_figure(self.derivation),
            ),
            "variance": (
                "Signal by layer",
                note("variance_figure", band=BAND),
                lambda: variance_figure(self.stack_table),
            ),
            **dict.fromkeys(PICTURES),
        }
        if self.beyond is not None:
            shown |= {
                name: (*self.beyond.words(name), partial(self.beyond.figure, name)) for name in PICTURES
            }
        for name, row in self.gallery.items():
            shown[name] = (row["shows"], row["caption"], row["draw"]) if row["drawn"] else None
        return {name: one and Picture(name, *one, self.drawn) for name, one in shown.items()}

    def picture(self, name: str) -> Picture | None:
        """The figure called ``name``; None where the records do not allow it."""
        if name not in self.pictures:
            raise RequestError(f"the report has no figure {name}: it has {', '.join(self.pictures)}")
        return self.pictures[name]

    def undrawn(self, names: Sequence[str]) -> list[str]:
        """What is said in the place of those figures that the records do not allow."""
        gaps: dict[tuple[str, str], list[str]] = {}
        for name in names:
            if self.picture(name) is None:
                row = self.gallery[name]
                gaps.setdefault((row["lacks"], row["command"]), []).append(row["shows"])
        return [
            f"Not drawn, since there is no record of {lacks}: {' and '.join(shows)}. "
            f"`{command}` makes them."
            for (lacks, command), shows in gaps.items()
        ]

    @property
    def rebuild(self) -> str:
        """The command that makes this report again."""
        named = [str(folder) for folder in self.folders]
        return " ".join(["python cli.py report", *(["--records", *named] if named else [])])

    @cached_property
    def values(self) -> dict[str, Any]:
        """What the templates are filled in with."""
        *conditions, default = self.conditions.to_dict("records")
        cells, coverage = self.records.cells.to_dict("records"), self.coverage.to_dict("records")
        course, paired = GALLERY.values()
        sizes = foretold_sizes(self.evidence)
        return facts.TEXTS | facts.protocol() | {
            "report": self,
            "score": score,
            "source": _source(),
            "theory": facts.theory(self.derivation, self.stack_table),
            "band": BAND,
            "cells": cells,
            "seeds": facts.seeds(self.records),
            "coverage": coverage,
            "missing": [row for row in coverage if row["configurations"] < row["of"]],
            "distance": facts.distance(self.evidence),
            "theory_score": answers.theory_score(self.claims, self.contrasts[0], sizes),
            "he_normal": facts.gap(self.comparisons["he-normal"]),
            "prelu_relu": facts.gap(self.comparisons["prelu-relu"]),
            "most_likely": most_likely(*self.protocols),
            "counts": facts.counts(self.claims, FANS[0]),
            "measured": [rows.to_dict("records") for _, rows in self.claims.groupby("id", sort=False)],
            "theory_words": answers.theory_words,
            "quantities": QUANTITIES.values(),
            "curve_note": CURVE_NOTE,
            "default": default,
            "answers": answers.answer_lines(self.conditions),
            "conditions": conditions,
            "course": course,
            "paired": paired,
            "commands": account.commands(self.records.cells, list(map(spec_of, cells))),
            "version": project_version(),
        }  # fmt: skip


def _source() -> str:
    """The course report, as it is cited."""
    path = Path(protocol.__file__).with_name("course_report.json")
    return str(json.loads(path.read_text(encoding="utf-8"))["source"])
