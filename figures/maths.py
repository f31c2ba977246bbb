r"""Maths, written once as LaTeX between dollars, for every place in which it is read.

Titles, headers, notes and formulas of tables are text with maths in it: ``the $\sigma_w^2$ of a law``.
A terminal gets Unicode (``the σ_w² of a law``), by pylatexenc; a document keeps the LaTeX, which pandoc
sets.  Words that come from data are plain text: of them only an index (``y_l``) and a power of ten
(``1.86e-09``) are taken for maths.  In text a dollar that is one is written ``\$``.
"""

from __future__ import annotations

import re
from functools import cache

from pylatexenc.latex2text import LatexNodes2Text
from pylatexenc.latexencode import (
    RULE_DICT,
    UnicodeToLatexConversionRule,
    UnicodeToLatexEncoder,
    unicode_to_latex,
)

BAR = r"{\vert}"  # a bare one would end a cell of a table
UPPER, LOWER = "⁰¹²³⁴⁵⁶⁷⁸⁹", "₀₁₂₃₄₅₆₇₈₉"
_SCRIPTS = str.maketrans(UPPER + LOWER, 2 * "0123456789")
_FORMULA = re.compile(r"(?<!\\)\$([^$]+)\$")
_SPACED = re.compile(
    r"\\(?:ln|times|sim|pm|leftarrow|approx|[a-z]+(?= =))(?= )"
)  # a space after it counts
_NUMBER = r"(?<![\w.])-?\d(?:\.\d+)?e[+-]\d+(?!\w)"
_INDEXED = r"(?<![^\W_])[^\W\d_]\u0302?_(?:\([^()]+\)|[^\W\d_](?![^\W_²])|\d+)²?"
_PLAIN_MATHS = re.compile(f"({_NUMBER})|({_INDEXED})")
_HYPHEN = re.compile(r"(?<![^\s(\[…–])-(?=\d)(?![\d.]+e)")  # of a number: a minus
_MARKUP = re.compile(
    r"[\\`*{}<>~^|$#&@]|(?<![^\W_])_|_(?![^\W_])|\](?=[(\[{:])|^[-+](?=\s)|(?<=^\d)[.)](?=\s)"
)
_SPECIAL = {  # where pylatexenc has no sign or one that only text, or only maths, can take
    **{ord(sign): rf"\ensuremath{{^{number}}}" for number, sign in enumerate(UPPER)},
    **{ord(sign): rf"\ensuremath{{_{number}}}" for number, sign in enumerate(LOWER)},
    **{ord(sign): rf"\ensuremath{{{name}}}" for sign, name in {
        "½": r"\tfrac{1}{2}", "¼": r"\tfrac{1}{4}", "·": r"\cdot ", "×": r"\times ", "±": r"\pm ",
        "−": "-", "→": r"\to ", "✓": r"\checkmark ", "✗": r"\times ", "▲": r"\blacktriangle ",
        "▼": r"\blacktriangledown ", "′": "'", "‖": r"\|", "√": r"\surd ", "⁻": "^{-}",
    }.items()},
    0x0302: r"\textasciicircum{}",
}  # fmt: skip
_ENCODER = UnicodeToLatexEncoder(
    non_ascii_only=True,
    conversion_rules=[UnicodeToLatexConversionRule(RULE_DICT, _SPECIAL), "defaults"],
    unknown_char_policy=lambda sign: f"[U+{ord(sign):04X}]",
    unknown_char_warning=False,
)


def pieces(text: str) -> list[str]:
    r"""Words and formulas by turns, the words first.

    >>> pieces(r"the $\chi_1$ of \$2")
    ['the ', '\\chi_1', ' of $2']
    """
    found = _FORMULA.split(text)
    return [piece if place % 2 else piece.replace(r"\$", "$") for place, piece in enumerate(found)]


def terminal(text: str) -> str:
    r"""Text with maths in Unicode.

    >>> terminal(r"the $\sigma_w^2$ at $\chi_1 = 1$")
    'the σ_w² at χ₁ = 1'
    """
    return "".join(unicode(one) if place % 2 else one for place, one in enumerate(pieces(text)))


@cache
def unicode(formula: str) -> str:
    r"""A formula in Unicode, as a terminal and a label of a picture show it.

    >>> unicode(r"\operatorname{Var}[y_{l-1}] = (1 + a^2)^{L-1} \cdot \tfrac12\hat{n}_l")
    'Var[y_(l−1)] = (1 + a²)^(L−1)·½n̂_l'
    >>> unicode(r"\ln \tfrac{q}{2} \;\approx\; \tfrac{1}{2} \sigma = 2 \times 3")
    'ln q/2 ≈ ½ σ = 2 × 3'
    >>> unicode(r"\frac{1}{2\pi}")
    '1/(2π)'
    """
    text = re.sub(r"\\tfrac(12|\{1\}\{2\})", "½", formula).replace(r"\tfrac", r"\frac")
    text = text.replace("-", "−").replace("^*", "*")
    text = re.sub(r"(?<=\})\{(\d+\\?[a-z][^{}]*)\}", r"{(\1)}", _SPACED.sub(r"\g<0>{}", text))
    text = re.sub(r"\s*\\cdot\s*", "·", text).replace(r"\leq ", "≤ ")
    text = re.sub(r"(?<=[_^])\{([^{}]+)\}", r"(\1)", text)
    text = re.sub(r"\^(\d)", lambda found: UPPER[int(found[1])], text)
    text = re.sub(r"_(\d)(?!\d)", lambda found: LOWER[int(found[1])], text)
    found = str(LatexNodes2Text(math_mode="text").latex_to_text(text)).replace("∏", "Π ")
    return " ".join(found.split())


def marked(text: str) -> str:
    r"""Text, in whose words indices and powers of ten become maths between dollars.

    >>> marked("n̂_l at 1.86e-09, \\$2")
    '$\\hat{n}_{l}$ at $1.86 \\times 10^{-9}$, \\$2'
    >>> marked("-1.2 to -0.3 by flip-2")
    '−1.2 to −0.3 by flip-2'
    """
    parts = _FORMULA.split(text)
    parts[::2] = (_PLAIN_MATHS.sub(_as_formula, _HYPHEN.sub("−", part)) for part in parts[::2])
    return "".join(f"${part}$" if place % 2 else part for place, part in enumerate(parts))


def _as_formula(found: re.Match[str]) -> str:
    if found[1]:
        mantissa, _, exponent = found[1].partition("e")
        return rf"${mantissa} \times 10^{{{int(exponent)}}}$"
    letter, _, index = found[2].partition("_")
    power = "^{2}" if index.endswith("²") else ""
    index = index.rstrip(UPPER).strip("()").translate(_SCRIPTS)
    letter = rf"\hat{{{letter[0]}}}" if letter[1:] else letter
    return f"${letter}_{{{index}}}{power}$"


def markdown(text: str) -> str:
    r"""Text with maths as Markdown, in which nothing else is markup.

    >>> markdown(r"max $|z|$, c* < fan_out")
    'max ${\\vert}z{\\vert}$, c\\* \\< fan_out'
    """
    return "".join(
        f"${one.replace('|', BAR)}$"
        if place % 2
        else _MARKUP.sub(r"\\\g<0>", " ".join(f"·{one}·".split())[1:-1])
        for place, one in enumerate(pieces(text))
    )


def latex(text: str) -> str:
    r"""Text with maths as LaTeX, in ASCII.

    >>> latex(r"95 % of nets at $\sigma_w$ × 2")
    '95 \\% of nets at $\\sigma_w$ \\ensuremath{\\times } 2'
    """
    return "".join(
        f"${ascii_latex(one)}$" if place % 2 else ascii_latex(_escaped(one))
        for place, one in enumerate(pieces(text))
    )


def _escaped(text: str) -> str:
    return "".join(str(unicode_to_latex(one)) if one.isascii() else one for one in text)


def ascii_latex(source: str) -> str:
    """LaTeX in ASCII, as pdflatex sets it with amssymb; a sign without a name as its number."""
    hats = re.sub("([A-Za-z])\u0302", r"\\ensuremath{\\hat{\1}}", source)
    return str(_ENCODER.unicode_to_latex(hats))
