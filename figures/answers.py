"""Should He be the default?  The answers in words, made from the tables of ``judgment.conditions``.

``told`` gives every condition its question and its answer; the command line, the report and README take
theirs from here.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd
from rich.text import Text

from empirical.arm import in_words
from empirical.judgment.claim_theory import TIE, WITHIN, score
from empirical.judgment.claims import POINTS
from empirical.judgment.statistics import (
    EQUIVALENT,
    INSUFFICIENT,
    LEVEL,
    MARGIN,
    MINIMUM_SEEDS,
    TOO_CLOSE,
)
from empirical.judgment.truth import AGREES, DISAGREES, NO, NO_RECORDS, OPEN, YES, in_unit
from empirical.presets import MANY_SEEDS
from empirical.protocol import CLASSES
from figures.prose import name_of, note, notes, parts, said
from figures.tables import Column, Row, Sheet, number, words

STYLES = {"confirmed": "green", YES: "green", "refuted": "red", NO: "red"}
QUESTIONS: dict[str, dict[str, str]] = tomllib.loads(
    Path(__file__).with_suffix(".toml").read_text(encoding="utf-8")
)
PERCENT = f"{100 * (1 - LEVEL):g} %"
MARKS = {"right": "✓", "wrong": "✗", "right so far": "(✓)", "wrong so far": "(✗)", "": "–"}
FIVE = 5  # the conditions that come first, ``conditions.ANSWERS``
SO_FAR = {AGREES: YES, DISAGREES: NO}


def told(conditions: pd.DataFrame, contrasts: pd.DataFrame) -> pd.DataFrame:
    """The table of conditions with the columns ``question`` and ``answer``, in whole sentences."""
    answers = []
    for row in conditions.to_dict("records"):
        if row["id"] == "default":
            answers.append(_together(row["facts"]))
            continue
        own = contrasts[contrasts["id"] == row["id"]].to_dict("records")
        own = own if row["id"] != "effective-lr" else []  # ``factors_table`` has them
        size = ", ".join(f"{n.replace('_', ' ')} {v}" for n, v in row["facts"].get("size", {}).items())
        texts = [f"in small ({size})" * bool(size), *map(ends, own), *_facts(row)]
        answers.append(f"{_sentence([verdict_words(row)])} {_sentence(texts)}")
    questions = [QUESTIONS[str(name)]["whole"] for name in conditions["id"]]
    return conditions.assign(question=questions, answer=[answer.strip() for answer in answers])


def verdict_words(row: Row) -> str:
    """The verdict of a condition or claim; of an open one, what would decide it and what it looks like.

    >>> verdict_words({"verdict": "not enough seeds", "needed": 4, "direction": "agrees"})
    'not enough seeds (4 would do), so far yes'
    """
    verdict = str(row["verdict"])
    if verdict == INSUFFICIENT:
        few = row["needed"] <= MANY_SEEDS
        verdict += f" ({row['needed']} would do)" if few else f" ({MANY_SEEDS} will not do)"
    open_ = verdict not in (YES, NO, EQUIVALENT) and row["direction"]
    return f"{verdict}, so far {SO_FAR[row['direction']]}" if open_ else verdict


def _together(found: Mapping[str, list[str]]) -> str:
    """Which conditions have each answer: "Yes: very deep and plain. Open, so far no: …"."""
    so_far = {f"{OPEN} {word}": f"{OPEN}, so far {word}" for word in (YES, NO)}
    named = {
        answer: "; ".join(QUESTIONS[name]["few"] for name in names) for answer, names in found.items()
    }
    return " ".join(_sentence([f"{so_far.get(one, one)}: {names}"]) for one, names in named.items())


def ends(row: Row) -> str:
    """How far an arm ends from another, with the interval and the number of seeds; "" if not of two."""
    if not isinstance(row["first"], str):
        return ""
    return said("answers", "ends", row=row, percent=PERCENT)


def _sentence(texts: Iterable[str]) -> str:
    """The texts that say something as one sentence, each said once."""
    text = "; ".join(dict.fromkeys(filter(None, texts)))
    return f"{text[0].upper()}{text[1:]}." if text else ""


def _facts(row: Row) -> list[str]:
    """What else the records say of a condition."""
    block = QUESTIONS[str(row["id"])].get("facts")
    causes, chance = ("He's last layer", "He's steps"), math.log(CLASSES)
    known = {"causes": causes, "chance": chance, "in_words": in_words}
    return parts("answers", block, **row["facts"], **known) if block else []


# -------------------------------------------------------------------------------------- tables


def answer_lines(conditions: pd.DataFrame) -> list[str]:
    """The rows of ``answers_table`` as text: a line for each of the five."""
    shown = {"percent": PERCENT, "points": points, "interval": interval}
    return [
        said("answers", "line", name=_few(row), row=row, answer=_answer(row), **shown)
        for row in conditions.head(FIVE).to_dict("records")
    ]


def _few(row: Row) -> str:
    return QUESTIONS[str(row["id"])]["few"]


def answers_table(conditions: pd.DataFrame) -> Sheet:
    """The answer to the question in five lines, each by the comparison that decides it."""
    settings = [
        (_few(row), settings_words(row["settings"]))
        for row in conditions.head(FIVE).to_dict("records")
        if row["settings"]
    ]
    return Sheet(
        name="answers",
        title="Should He be the default?",
        data=conditions.head(FIVE).drop(columns="facts"),
        columns=(
            words("", _few),
            words("answer", _answer),
            words("by", "part"),
            Column("points", "value", points),
            Column(PERCENT, interval),
            Column("seeds", "seeds"),
            words("theory", "theory_right", form=MARKS.get, folds=False),
        ),
        notes=notes("answers", settings=settings),
    )


def settings_words(settings: Sequence[tuple[str, int]]) -> str:
    """The settings of a comparison, in few words.

    >>> settings_words([("relu", 2), ("prelu", 12), ("relu", 12)])
    'ReLU 2, 12, PReLU 12'
    """
    depths: dict[str, list[str]] = {}
    for activation, depth in settings:
        depths.setdefault(name_of(activation), []).append(str(depth))
    return ", ".join(f"{name} {', '.join(own)}" for name, own in depths.items())


def points(value: float) -> str:
    """A mean in points; a dash for none."""
    return "–" if math.isnan(value) else in_unit(value)


def _answer(row: Row) -> Text:
    verdict = str(row["verdict"])
    if verdict not in (*STYLES, EQUIVALENT, TOO_CLOSE):
        verdict = f"so far {SO_FAR[row['direction']]}" if row["direction"] else NO_RECORDS
    return Text(verdict.removesuffix(" to call"), style=STYLES.get(verdict, "yellow"))


def verdict_text(row: Row) -> Text:
    """The verdict; of too few seeds, how many would do."""
    verdict = str(row["verdict"])
    if verdict == EQUIVALENT:
        return Text(f"alike (±{MARGIN:g})", style="yellow")
    if verdict == TOO_CLOSE:
        return Text("too close", style="yellow")
    if "seeds" in verdict:
        needed = f"{row['needed']}" if row["needed"] <= MANY_SEEDS else f"{MANY_SEEDS}+"
        return Text(f"needs {needed}", style="yellow")
    return Text(verdict, style=STYLES.get(verdict, "yellow"))


def interval(row: Row) -> str:
    """How far the value's t interval, which is even, reaches to either side."""
    if math.isnan(row["low"]):
        return "–"
    half = (row["high"] - row["low"]) / 2
    return f"±{in_unit(half, row.get('unit', POINTS) == POINTS)[1:]}"


def conditions_table(conditions: pd.DataFrame) -> Sheet:
    """Every condition with its answer in whole sentences; ``conditions`` as ``told`` makes them."""
    return Sheet(
        name="conditions",
        title="Should He be the default, and under which conditions?",
        data=conditions.drop(columns="facts"),
        columns=(
            words("condition", _question),
            words("answer", "answer"),
            words("theory", lambda row: theory_words(row) if row["theory"] else ""),
        ),
        notes=(note("conditions", tie=TIE),),
        spaced=True,
    )


def _question(row: Row) -> Text:
    return Text(str(row["question"]), style="" if row["parts"] else "bold")


def theory_words(row: Row) -> str:
    """What theory foretold of a claim or condition, in numbers, and whether it was right."""
    if not row["theory"]:
        return "silent"
    value, unit = row["theory_value"], " e-folds" if row.get("unit", "points") == "points" else ""
    size = f"{value:+.2g}{unit}" if value else f"below {TIE:g}{unit}"
    part = "" if row["theory_part"] == row["id"] else f"{row['theory_part']} "
    right = f": {row['theory_right']}" if row["theory_right"] else ""
    return f"{row['theory']} ({part}{size}){right}"


def factors_table(contrasts: pd.DataFrame) -> Sheet:
    """Head and steps, the two things that tell N(0, 1) from He, each with and without the other."""
    own = contrasts[(contrasts["id"] == "effective-lr") & ~contrasts["judged"].astype(bool)]
    return Sheet(
        name="factors",
        title="N(0, 1) with He's last layer, with He's relative steps, and with both",
        data=own,
        section=lambda row: f"{row['at'][1]} layers",
        columns=(
            words("", "{first} − {second}".format_map),
            Column("points", "mean", points),
            Column(PERCENT, interval),
            Column("seeds", "seeds"),
            Column("foretold (e-folds)", "theory", number("+.2f")),
        ),
        notes=(f"ReLU, with batch norm; –: not recorded, or fewer than {MINIMUM_SEEDS} seeds.",),
    )


def theory_score(claims: pd.DataFrame, conditions: pd.DataFrame, sizes: pd.DataFrame) -> str:
    """How often theory was right, in one line."""
    found, cells = score(claims, conditions), sizes[["what", "right", "cells"]].to_numpy().tolist()
    return said("answers", "score", found=found, sizes=cells, within=WITHIN, margin=MARGIN, tie=TIE)
