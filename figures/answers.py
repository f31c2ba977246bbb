"""Should He be the default?  The answers in words, made from the tables of ``judgment.conditions``.

``told`` gives every condition its question and its answer; the command line, the report and README take
theirs from here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pandas as pd
from rich.text import Text

from empirical.judgment.claim_theory import TIE, WITHIN, score
from empirical.judgment.claims import in_unit
from empirical.judgment.statistics import EQUIVALENT, INSUFFICIENT, LEVEL, MARGIN, TOO_CLOSE
from empirical.judgment.truth import AGREES, DISAGREES, NO, NO_RECORDS, OPEN, YES
from empirical.presets import MANY_SEEDS
from empirical.protocol import CLASSES
from figures.study.report_figures import name_of
from figures.tables import Column, Row, Sheet, words

STYLES = {"confirmed": "green", YES: "green", "refuted": "red", NO: "red"}
QUESTIONS = {  # in a few words; and whole
    "printed": ("with batch norm, as printed", "With batch norm, by fan_out as printed: should He be "
                "the default?"),
    "no-norm": ("without batch norm", "Without batch norm, by fan_in: should He be the default?"),
    "very-deep": ("very deep and plain", "Very deep plain nets: should He be the default?"),
    "fan": ("fan_in against fan_out", "Should He go by fan_in instead of fan_out?"),
    "prelu": ("PReLU against ReLU", "Should PReLU take ReLU's place, with He?"),
    "fan-in": ("with batch norm, by fan_in", "With batch norm, by fan_in: should He be the default?"),
    "last-layer": ("the last layer", "Is part of the depth effect the last linear layer's fan alone?"),
    "effective-lr": ("head and steps", "Is N(0, 1)'s only handicap, under batch norm, its effective "
                     "learning rate?"),
    "default": ("", "Should He be the default?"),
}  # fmt: skip
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
        more: Iterable[str] = FACTS.get(str(row["id"]), lambda facts: ())(row["facts"])
        size = ", ".join(f"{n.replace('_', ' ')} {v}" for n, v in row["facts"].get("size", {}).items())
        texts = [f"in small ({size})" * bool(size), *map(ends, own), *more]
        answers.append(f"{verdict_words(row)[:1].upper()}{verdict_words(row)[1:]}. {_sentence(texts)}")
    questions = [QUESTIONS[str(name)][1] for name in conditions["id"]]
    return conditions.assign(question=questions, answer=[answer.strip() for answer in answers])


def verdict_words(row: Row) -> str:
    """The verdict of a condition or claim; of an open one, what would decide it and what it looks like.

    >>> verdict_words({"verdict": "not enough seeds", "needed": 4, "direction": "agrees"})
    'not enough seeds (4 would do), so far yes'
    """
    verdict = str(row["verdict"])
    if verdict == INSUFFICIENT:
        verdict += f" ({needed_words(row)})"
    open_ = verdict not in (YES, NO, EQUIVALENT) and row["direction"]
    return f"{verdict}, so far {SO_FAR[row['direction']]}" if open_ else verdict


def verdict_text(row: Row) -> Text:
    """The verdict; of too few seeds, how many would do."""
    verdict = str(row["verdict"])
    if verdict == EQUIVALENT:
        return Text(f"alike (±{MARGIN:g} point)", style="yellow")
    if "seeds" in verdict:
        needed = f"{row['needed']}" if row["needed"] <= MANY_SEEDS else f"{MANY_SEEDS}+"
        return Text(f"needs {needed} seeds", style="yellow")
    return Text(verdict, style=STYLES.get(verdict, "yellow"))


def needed_words(row: Row) -> str:
    return f"{row['needed']} would do" if row["needed"] <= MANY_SEEDS else f"{MANY_SEEDS} will not do"


def _together(found: Mapping[str, list[str]]) -> str:
    """Which conditions have each answer: "Yes: very deep and plain. Open, so far no: …"."""
    words_of = {f"{OPEN} {YES}": f"open, so far {YES}", f"{OPEN} {NO}": f"open, so far {NO}"}
    lines = [
        f"{words_of.get(answer, answer)}: {'; '.join(QUESTIONS[name][0] for name in names)}"
        for answer, names in found.items()
    ]
    return " ".join(f"{line[0].upper()}{line[1:]}." for line in lines)


def ends(row: Row) -> str:
    """How far an arm ends from another, with the interval and the number of seeds; "" if not of two."""
    if not isinstance(row["first"], str):
        return ""
    if not row["seeds"]:
        return f"{row['first']} against {row['second']}: no records"
    settings = int(row["settings"])
    where = f"{settings} settings" if settings > 1 else "1 setting"
    if isinstance(row["at"], list) and all(row["at"]):
        where = f"{name_of(row['at'][0])}, {row['at'][1]} layers"
    sign = -1 if row["mean"] < 0 else 1
    low, high = sorted((sign * row["low"], sign * row["high"]))
    interval = "" if math.isnan(low) else f", {_percent()} {low:.2f} to {high:.2f}"
    return (
        f"{row['first']} ends {abs(row['mean']):.2f} points {'below' if sign < 0 else 'above'} "
        f"{row['second']} ({where}, {_seeds(row['seeds'])}{interval})"
    )


def _percent() -> str:
    return f"{100 * (1 - LEVEL):g} %"


def _seeds(count: int) -> str:
    return f"{count} seed{'s' * (count != 1)}"


def _sentence(texts: Iterable[str]) -> str:
    """The texts that say something as one sentence, each said once."""
    text = "; ".join(dict.fromkeys(filter(None, texts)))
    return f"{text[0].upper()}{text[1:]}." if text else ""


# ------------------------------------------------------------------- what else the records say


def _diverged(facts: Mapping[str, Any]) -> list[str]:
    return [f"{name} diverged in {n} of {of} runs" for name, (n, of) in facts["diverged"].items()]


def _deep(facts: Mapping[str, Any]) -> list[str]:
    lines = []
    for depth, levels in facts["levels"].items():
        found = [
            f"{name} diverged" if level["accuracy"] is None
            else f"{name} ends at {level['accuracy']:.2f} %"
            + " (it stalls: no better than guessing)" * level["stalls"]
            for name, level in levels.items() if level
        ]  # fmt: skip
        lines.append(f"at {depth} layers {' and '.join(found)}" if found else "")
    he, xavier = facts["signal"]["He"], facts["signal"]["Xavier"]
    if math.isfinite(he) and math.isfinite(xavier):
        lines.append(
            f"of these networks as drawn theory predicts a second moment of {xavier:.3g} "
            "at the last layer "
            f"under Xavier and {he:.3g} under He (without biases Xavier's signal would be "
            f"{facts['strength_without_biases']:.2e} as strong; biases put in signal of their own)"
        )
    return lines


def _head(facts: Mapping[str, Any]) -> list[str]:
    (printed, head), lines = facts["rises"], []
    if math.isfinite(printed) and math.isfinite(head):
        share = f", {100 * (1 - head / printed):.0f} % less" if printed > max(head, 0) else ""
        lines.append(
            f"from {facts['low']} to {facts['high']} layers accuracy changes by "
            f"{printed:+.2f} points as "
            f"printed and by {head:+.2f} with that one layer changed{share}"
        )
    losses = [
        f"{measured:.2f} {title} (predicted {predicted:.2f})"
        for title, (predicted, measured) in facts["first_loss"].items()
        if math.isfinite(measured)
    ]
    if losses:
        lines.append(
            f"the first loss at {facts['low']} layers is {' and '.join(losses)}; guessing is "
            f"{math.log(CLASSES):.2f}"
        )
    return lines


def _rate(facts: Mapping[str, Any]) -> list[str]:
    lines = [f"N(0, 1)'s learning rate between batch norms is {facts['rate_ratio']:.1f} times smaller"]
    for depth, means in facts["means"].items():
        gap = means.get("both", math.nan) - means.get("N(0, 1)", math.nan)
        if gap > 0:
            shares = [
                f"{name} alone {100 * (means[name] - means['N(0, 1)']) / gap:.0f} %"
                for name in ("He's last layer", "He's steps")
                if name in means
            ]
            lacks = [name for name in ("He's last layer", "He's steps") if name not in means]
            missing = (
                f" (not recorded: {' and '.join(f'{name} alone' for name in lacks)})" if lacks else ""
            )
            what = " and ".join(shares) or "together all of it"
            lines.append(f"of the {gap:.2f} points at {depth} layers {what}{missing}")
    if math.isfinite(facts["loss_gap"]):
        lines.append(
            "with both, its training losses and He's differ by at most "
            f"{100 * facts['loss_gap']:.2g} % in "
            "any epoch"
        )
    return lines


FACTS: dict[str, Callable[[Mapping[str, Any]], list[str]]] = {
    "printed": _diverged,
    "no-norm": _diverged,
    "fan-in": _diverged,
    "very-deep": _deep,
    "last-layer": _head,
    "effective-lr": _rate,
}


# -------------------------------------------------------------------------------------- tables


def answer_lines(conditions: pd.DataFrame) -> list[str]:
    """The rows of ``answers_table`` as text: a line for each of the five."""
    lines = []
    for row in _five(conditions).to_dict("records"):
        text = f"{QUESTIONS[str(row['id'])][0]}: {_answer(row).plain}"
        if not math.isnan(row["value"]):
            known = "" if math.isnan(row["low"]) else f", {_percent()} {interval(row)}"
            by = f"{row['part']} {in_unit(row['value'])} points{known}"
            text += f" ({by}, {_seeds(row['seeds']) if row['seeds'] else 'not all recorded'})"
        lines.append(f"{text}.")
    return lines


def _five(conditions: pd.DataFrame) -> pd.DataFrame:
    return conditions.head(FIVE)


def answers_table(conditions: pd.DataFrame) -> Sheet:
    """The answer to the question in five lines, each by the comparison that decides it."""
    return Sheet(
        name="answers",
        title="Should He be the default?",
        data=_five(conditions).drop(columns="facts"),
        columns=(
            words("", lambda row: QUESTIONS[str(row["id"])][0]),
            words("answer", _answer),
            words("by", "part"),
            Column("points", "value", lambda value: "–" if math.isnan(value) else in_unit(value)),
            Column(_percent(), interval),
            Column("seeds", "seeds"),
            words("theory", "theory_right"),
        ),
        notes=(
            "Points of final test accuracy, mean over the settings (activation × depth) "
            "that both have; "
            "of the comparison that says yes least. So far: what the runs there are say, where they do "
            "not decide.",
        ),
    )


def _answer(row: Row) -> Text:
    verdict = str(row["verdict"])
    if verdict in STYLES or verdict == EQUIVALENT:
        return Text(verdict, style=STYLES.get(verdict, "yellow"))
    far = f"so far {SO_FAR[row['direction']]}" if row["direction"] else ""
    if verdict == TOO_CLOSE:
        return Text(verdict, style="yellow")
    return Text(far or NO_RECORDS, style="yellow")


def interval(row: Row) -> str:
    """Of the value of a claim or a condition: points, or average weight."""
    if math.isnan(row["low"]):
        return "–"
    points = row.get("unit", "points") == "points"
    return f"{in_unit(row['low'], points)} to {in_unit(row['high'], points)}"


def conditions_table(conditions: pd.DataFrame) -> Sheet:
    """Every condition with its answer in whole sentences; ``conditions`` as ``told`` makes them."""
    return Sheet(
        name="conditions",
        title="Should He be the default, and under which conditions?",
        data=conditions.drop(columns="facts"),
        columns=(words("condition", _question), words("answer", "answer"), words("theory", _theory)),
        notes=(
            "Points are of final test accuracy, mean over the settings (activation × depth) that both "
            f"arms have. Theory: by the e-folds from an even start, ties below {TIE:g}.",
        ),
        spaced=True,
    )


def _question(row: Row) -> Text:
    return Text(str(row["question"]), style="" if row["parts"] else "bold")


def _theory(row: Row) -> str:
    return theory_words(row) if row["theory"] else ""


def theory_words(row: Row) -> str:
    """What theory foretold of a claim or condition, in numbers, and whether it was right."""
    if not row["theory"]:
        return "silent"
    value, unit = row["theory_value"], " e-folds" if row.get("unit", "points") == "points" else ""
    right = f": {row['theory_right']}" if row["theory_right"] else ""
    return f"{row['theory']} ({row['theory_part']} {value:+.2g}{unit}){right}"


def factors_table(contrasts: pd.DataFrame) -> Sheet:
    """Head and steps, the two things that tell N(0, 1) from He, each with and without the other."""
    own = contrasts[(contrasts["id"] == "effective-lr") & ~contrasts["judged"].astype(bool)]
    return Sheet(
        name="factors",
        title="N(0, 1) with He's last layer, with He's relative steps, and with both",
        data=own,
        section=lambda row: f"{row['at'][1]} layers",
        columns=(
            words("", lambda row: f"{row['first']} − {row['second']}"),
            Column("points", "mean", lambda value: "–" if math.isnan(value) else in_unit(value)),
            Column(_percent(), interval),
            Column("seeds", "seeds"),
            Column("foretold (e-folds)", "theory", lambda v: "–" if math.isnan(v) else f"{v:+.2f}"),
        ),
        notes=("ReLU, with batch norm; – is not recorded.",),
    )


def theory_score(claims: pd.DataFrame, conditions: pd.DataFrame, sizes: pd.DataFrame) -> str:
    """How often theory was right, in one line."""
    found = score(claims, conditions)
    told_, far = found["right"] + found["wrong"], found["right so far"] + found["wrong so far"]
    texts = [
        f"{row['what']} in {row['right']} of {row['cells']} cells" for row in sizes.to_dict("records")
    ]
    return (
        "Theory, before training: of the claims and conditions of which it speaks, the direction was "
        f"right in {found['right']} of {told_} decided and so far in {found['right so far']} of {far} "
        f"open ones; the size ({100 * WITHIN:g} %, of an average weight two standard "
        f"deviations) was right of the {' and of the '.join(texts)}. No difference: within {MARGIN:g} "
        f"point, or {TIE:g} e-folds foretold."
    )
