"""The report, made of records and theory: tables and figures by name, and the document of them all.

A ``Report`` works out each table once, when it is first asked for.  What the records do not allow is a
``Gap`` that names what is missing and the command that makes it; nothing is trained here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
from matplotlib.figure import Figure

from empirical import protocol
from empirical.judgment.claims import FANS, judge_claims
from empirical.judgment.conditions import judge_conditions
from empirical.judgment.evidence import CURVE_NOTE, QUANTITIES, Evidence
from empirical.judgment.fan_agreement import fan_agreement, nearest_fan
from empirical.protocol import COURSE_REPORT
from empirical.records import account
from empirical.records.published import Published, gather, spec_of
from empirical.study.events import OnEvent
from figures.report import environment, facts, tables
from figures.report.environment import Marked
from figures.report.model import (
    Block,
    Document,
    Explorer,
    Gap,
    Picture,
    Pictures,
    Section,
    Table,
    escaped,
    line,
    parse,
)
from figures.study.claims import agreement_table
from figures.study.gallery import SECTIONS as GALLERY
from figures.study.gallery import gallery
from figures.tables import Sheet
from figures.theory.derivation import derivation_figure, derivation_table
from figures.theory.variance import variance_figure
from theory.devices import project_version
from theory.draw.variance import variance
from theory.errors import RequestError
from theory.law.stacks import BAND as QUANTILES
from theory.lessons.derivation import derivation
from theory.specs import DerivationSpec, VarianceSpec

TITLE = "Should He initialization be the default?"
SUBTITLE = "Theory beside practice: a course report, rebuilt and tested"
SECTIONS = {  # the name of its template, which is its anchor -> its title
    "question": "The question",
    "theory": "What theory says",
    "protocol": "What was done",
    "results": "What came of it",
    "paired": "Theory beside practice",
    "claims": "The report's claims",
    "default": "Should He be the default?",
    "limits": "Limits",
    "reproduce": "How to reproduce this",
    "explorer": "Explore it",
    "references": "Literature",
}
BAND = round(100 * (QUANTILES[-1] - QUANTILES[0]))  # percent of single networks inside the band
DATA = Path(__file__).parents[1] / "data"  # the published study
REFERENCES = {
    "he": "ICCV 2015, arXiv:1502.01852.",
    "glorot": "AISTATS 2010.",
    "hanin": "Communications in Mathematical Physics 376, 2020, arXiv:1812.05994.",
    "yang": "ICLR 2019, arXiv:1902.08129.",
    "efron": "Journal of the American Statistical Association 82, 1987.",
    "holm": "Scandinavian Journal of Statistics 6, 1979.",
    "westfall": "Wiley, 1993.",
}
DERIVE = (
    "Measured over predicted for every line of the derivation, with bars of two standard errors. Each "
    "true line lies on one; the slip lies where the variance of a rectified signal is."
)
STACK = (
    "Signal through a deep stack. Above: the mean second moment of the pre-activations, exact (line) "
    "and of simulated networks (marker). Below: the same over its expectation, with the band that "
    f"holds {BAND} % of single networks and the median network; both are exact at this width."
)


class Report:
    """Everything the report shows, from ``records``.

    folders     where the records come from, as they are named in commands; none: the published study
    derive, stack   what the theory's own measurements draw
    """

    open: ClassVar[dict[tuple[Path, ...], Report]] = {}  # by folder, while a notebook is being run

    def __init__(
        self,
        records: Published,
        folders: Sequence[Path] = (),
        *,
        derive: DerivationSpec | None = None,
        stack: VarianceSpec | None = None,
    ) -> None:
        if records.cells.empty:
            raise RequestError("there is no finished cell to report on: cifar trains them, and resumes")
        self.records, self.folders = records, tuple(folders)
        self.derive = derive or DerivationSpec(device="cpu")
        self.stack = stack or VarianceSpec(depth=30, engine="law", device="cpu")
        self.images: dict[str, bytes] = {}  # PNG of the figures that are drawn already

    @classmethod
    def read(cls, *folders: str | Path, on_event: OnEvent | None = None, **options: Any) -> Report:
        """The report on the records of ``folders``, run folders or published tables; none: ours."""
        paths = [Path(folder) for folder in folders]
        key = tuple(path.resolve() for path in paths)
        if not options and key in cls.open:
            return cls.open[key]
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
    def conditions(self) -> pd.DataFrame:
        return judge_conditions(self.evidence)[0]

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
    def accuracies(self) -> pd.DataFrame:
        return facts.accuracies(self.records)

    @cached_property
    def he_normal(self) -> pd.DataFrame | None:
        return facts.compared(self.records, "initializer", "he", "normal")

    @cached_property
    def prelu_relu(self) -> pd.DataFrame | None:
        return facts.compared(self.records, "activation", "prelu", "relu")

    @cached_property
    def nearest_fan(self) -> str:
        return nearest_fan(self.evidence)

    @cached_property
    def gallery(self) -> dict[str, Any]:
        """The figures of the study: name -> its row in the index, with what draws it as ``draw``."""
        found = gallery(self.records, self.folders)
        rows = {row["figure"]: row for row in found.index.to_dict("records")}
        for name, paired in found.figures.items():
            rows[name]["draw"] = partial(paired.figure, self.records)
        return rows

    # ------------------------------------------------------------------------- by name

    def sheets(self) -> dict[str, Callable[[], Sheet | None]]:
        """Every table's name, and what makes it; None where the records do not allow it."""
        he_normal = ("he-normal", "Test accuracy, He minus N(0, 1)", "He", "N(0, 1)")
        prelu_relu = ("prelu-relu", "Test accuracy, PReLU minus ReLU", "PReLU", "ReLU")
        return {
            "derive": lambda: derivation_table(self.derivation),
            "protocol": lambda: tables.protocol(COURSE_REPORT),
            "coverage": lambda: tables.coverage(self.coverage),
            "accuracy": lambda: _if_rows(self.accuracies, tables.accuracy),
            "fan-agreement": lambda: agreement_table(fan_agreement(self.evidence)),
            "he-normal": lambda: _compared(self.he_normal, *he_normal),
            "prelu-relu": lambda: _compared(self.prelu_relu, *prelu_relu),
            "claims": lambda: tables.claims(self.claims),
            "conditions": lambda: tables.conditions(self.conditions),
            "machines": lambda: tables.machines(facts.machines(self.records.cells)),
        }

    def table(self, name: str) -> Sheet | None:
        """The table called ``name``; None where the records do not allow it."""
        known = self.sheets()
        if name not in known:
            raise RequestError(f"the report has no table {name}: it has {', '.join(known)}")
        sheet = known[name]()
        return None if sheet is None else tables.in_color(sheet)

    def picture(self, name: str) -> Picture | None:
        """The figure called ``name``; None where the records do not allow it."""
        own: dict[str, tuple[str, Callable[[], Figure]]] = {
            "derive": ("The derivation, measured", lambda: derivation_figure(self.derivation)),
            "variance": ("Signal by layer", lambda: variance_figure(self.stack_table)),
        }
        image = self.images.get(name)
        if name in own:
            return Picture(name, *own[name], image)
        if name not in self.gallery:
            known = ", ".join((*own, *self.gallery))
            raise RequestError(f"the report has no figure {name}: it has {known}")
        row = self.gallery[name]
        return Picture(name, row["shows"], row["draw"], image) if row["drawn"] else None

    def caption(self, name: str) -> str:
        """How a figure is read."""
        own = {"derive": DERIVE, "variance": STACK}
        return own[name] if name in own else str(self.gallery[name]["caption"])

    # ------------------------------------------------------------------------- the document

    def document(self) -> Document:
        """The whole report."""
        values = self._values()
        prose = environment.prose()

        def blocks(name: str) -> tuple[Block, ...]:
            return parse(prose.get_template(f"{name}.md").render(values), self._resolve)

        return Document(
            title=TITLE,
            subtitle=SUBTITLE,
            summary=blocks("summary"),
            sections=tuple(Section(name, title, blocks(name)) for name, title in SECTIONS.items()),
            footer=f"Made by fanin {project_version()} with {self.rebuild}",
        )

    @property
    def rebuild(self) -> str:
        """The command that makes this report again."""
        named = [str(folder) for folder in self.folders]
        return " ".join(["python cli.py report", *(["--records", *named] if named else [])])

    def _values(self) -> dict[str, Any]:
        """What the templates are filled in with."""
        course, conditions = GALLERY["The course report's figures"], self.conditions.to_dict("records")
        specs = [spec_of(row) for row in self.records.cells.to_dict("records")]
        coverage = self.coverage.to_dict("records")
        return {
            "source": _source(),
            "protocol": facts.protocol(),
            "theory": facts.theory(self.derivation, self.stack_table),
            "derivation": self.derive.as_dict(),
            "stack": {"width": self.stack.width, "confidence": BAND},
            "study": facts.study(self.records),
            "coverage": coverage,
            "missing": [row for row in coverage if row["configurations"] < row["of"]],
            "distance": facts.distance(self.accuracies),
            "he_normal": facts.gap(self.he_normal),
            "prelu_relu": facts.gap(self.prelu_relu),
            "nearest_fan": self.nearest_fan,
            "counts": facts.counts(self.claims, FANS[0]),
            "measured": facts.measured(self.claims),
            "quantities": list(QUANTITIES.values()),
            "curve_note": CURVE_NOTE,
            "default": conditions[-1],
            "conditions": conditions[:-1],
            "course_pairs": list(zip(list(course)[::2], list(course)[1::2], strict=True)),
            "paired": list(GALLERY["Theory beside practice"]),
            "titles": {name: row["shows"] for name, row in self.gallery.items()},
            "commands": account.commands(self.records.cells, specs),
            "rebuild": self.rebuild,
            "version": project_version(),
            "refs": {name: Marked(escaped(text)) for name, text in REFERENCES.items()},
        }

    def _resolve(self, directive: str, names: Sequence[str]) -> list[Block]:
        """What a line of a template that begins with @ stands for."""
        if directive == "table":
            sheet = self.table(names[0])
            return [Table(sheet)] if sheet is not None else [Gap(line(NO_TABLE[names[0]]))]
        if directive == "figure":
            return self._figures(names)
        if directive == "explorer":
            return [Explorer()]
        raise ValueError(f"a template asks for @{directive}, which is unknown")

    def _figures(self, names: Sequence[str]) -> list[Block]:
        """One block of the figures that can be drawn, and a gap for each other."""
        drawn = {name: picture for name in names if (picture := self.picture(name)) is not None}
        blocks: list[Block] = []
        if drawn:
            sides = ("Left: ", "Right: ") if len(drawn) == 2 else ("",) * len(drawn)
            captions = (side + self.caption(name) for side, name in zip(sides, drawn, strict=True))
            caption = line(escaped(" ".join(captions)))
            blocks.append(Pictures("-".join(drawn), tuple(drawn.values()), caption))
        gaps: dict[tuple[str, str], list[str]] = {}
        for row in (self.gallery[name] for name in names if name not in drawn):
            gaps.setdefault((row["lacks"], row["command"]), []).append(row["shows"])
        for (lacks, command), shows in gaps.items():
            text = f"Not drawn, since there is no record of {escaped(lacks)}: "
            text += " and ".join(f"*{escaped(words)}*" for words in shows)
            blocks.append(Gap(line(f"{text}. `{escaped(command)}` makes them.")))
        return blocks


NO_TABLE = {
    "accuracy": "No accuracies to show: no cell of the report's grid is recorded, by either fan mode. "
    "`python cli.py cifar --preset report` makes them.",
    "he-normal": "He and N(0, 1) share no setting in the records: there is nothing to compare. "
    "`python cli.py cifar --preset report` makes both.",
    "prelu-relu": "PReLU and ReLU share no setting in the records: there is nothing to compare. "
    "`python cli.py cifar --preset report` makes both.",
}


def _if_rows(table: pd.DataFrame, make: Callable[[pd.DataFrame], Sheet]) -> Sheet | None:
    return None if table.empty else make(table)


def _compared(table: pd.DataFrame | None, name: str, title: str, *arms: str) -> Sheet | None:
    return None if table is None else tables.comparison(table, name, title, *arms)


def _source() -> str:
    """The course report, as it is cited."""
    path = Path(protocol.__file__).with_name("course_report.json")
    return str(json.loads(path.read_text(encoding="utf-8"))["source"])
