r"""Plain text as LaTeX: what is maths stands in maths, and everything else is escaped.

Tables, titles and notes are written once, in the notation of the papers as Unicode has it: ``σ_w²``,
``E[φ²] = ½``, ``1.86e-09``, ``x_(l−1)``, ``n̂``.  Here they become ``$\sigma_w^{2}$`` and so on, pure
ASCII that pdflatex sets with amssymb.  A word with a mathematical sign in it is maths, and so are the
numbers and single letters beside it; ``fan_out`` and ``leaky-relu:0.1`` are words.

    E[y²]/E[x²] = n·Var[w]      ->  $\mathrm{E}[y^{2}]/\mathrm{E}[x^{2}] = n\cdot\mathrm{Var}[w]$
    he · relu, 95 % of nets     ->  he $\cdot$ relu, 95 \% of nets
"""

from __future__ import annotations

import re
import unicodedata

SIGNS = {
    "·": r"\cdot ", "×": r"\times ", "±": r"\pm ", "−": "-", "→": r"\to ", "∞": r"\infty ",
    "≤": r"\leq ", "≥": r"\geq ", "≠": r"\neq ", "≈": r"\approx ", "∂": r"\partial ",
    "∫": r"\int ", "Σ": r"\sum ", "Π": r"\prod ", "′": "'", "″": "''", "‖": r"\| ",
    "⋯": r"\cdots ", "½": r"\frac{1}{2}", "¼": r"\frac{1}{4}", "✓": r"\checkmark ", "✗": r"\times ",
    "α": r"\alpha ", "β": r"\beta ", "γ": r"\gamma ", "δ": r"\delta ", "ε": r"\varepsilon ",
    "η": r"\eta ", "θ": r"\theta ", "κ": r"\kappa ", "λ": r"\lambda ", "μ": r"\mu ", "ν": r"\nu ",
    "ξ": r"\xi ", "π": r"\pi ", "ρ": r"\rho ", "σ": r"\sigma ", "τ": r"\tau ", "φ": r"\varphi ",
    "χ": r"\chi ", "ψ": r"\psi ", "ω": r"\omega ", "Γ": r"\Gamma ", "Δ": r"\Delta ", "Φ": r"\Phi ",
    "Ω": r"\Omega ",
}  # fmt: skip
# Signs that words have as well, as they are within maths.
ORDINARY = {
    "%": r"\%", "#": r"\#", "&": r"\&", "$": r"\$", "{": r"\{", "}": r"\}", "~": r"\sim ",
    "\\": r"\backslash ", "…": r"\ldots ", "–": "-", "§": r"\S ",
    "“": r"\mbox{``}", "”": r"\mbox{''}", "’": r"\mbox{'}", "`": r"\mbox{`}", '"': r"\mbox{''}",
}  # fmt: skip
BREAKABLE = 20  # a longer word, such as a module's name, may be broken at its dots
TEXT = {
    "%": r"\%", "#": r"\#", "&": r"\&", "$": r"\$", "{": r"\{", "}": r"\}", "_": r"\_",
    "~": r"\textasciitilde{}", "\\": r"\textbackslash{}", "–": "--", "…": r"\ldots{}", "§": r"\S{}",
    "“": "``", "”": "''", '"': "''", "’": "'",
}  # fmt: skip
UPPER = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿᵀ", "0123456789+-nT", strict=True))
LOWER = dict(zip("₀₁₂₃₄₅₆₇₈₉₊₋", "0123456789+-", strict=True))
ACCENTS = {
    "\u0300": r"\grave", "\u0301": r"\acute", "\u0302": r"\hat", "\u0303": r"\tilde",
    "\u0304": r"\bar", "\u0308": r"\ddot",
}  # fmt: skip
TEXT_ACCENTS = {"\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0308": '"'}

_MATHS = set(SIGNS) | set(UPPER) | set(LOWER) | set("√^|<>=+") | {"\u0302"}
_NUMBER = re.compile(r"((?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?)(?:e([+-]?\d+))?")
_SIGNED = re.compile(r"[+−-]\d[\d,.]*(?:e[+-]?\d+)?|\d[\d,.]*e[+-]?\d+")
_SUBSCRIPT = re.compile(r"(?<![^\W_])[^\W\d_]\u0302?_(?:[^\W_](?![^\W_])|\d+|\()")  # x_l, not fan_out
_LETTER = r"[^\W\d_][\u0300-\u036f]?"
_BESIDE = re.compile(
    rf"(?:[()\[\]/,]|\d[\d.]*|[A-Za-z]{{2,4}}(?=[(\[])|ln(?![^\W_])|{_LETTER}(?![^\W_]))+"
)
_WORD = re.compile(rf"[A-Za-z]{{2,}}(?![\u0300-\u036f])|{_LETTER}")
_JOINS = "=<>+−±×→≤≥≠≈/|,ΠΣ"
_ARGUMENT = re.compile(rf"\d+(?:\.\d+)?|{_LETTER}|[^\W\d_]+")
_NEEDLESS = re.compile(r"(?<=[A-Za-z]) (?=[_^/\\,')\]\[(|]|$)")


def latex(text: str) -> str:
    r"""``text`` as LaTeX source for text mode, on one line; maths in dollars.

    >>> latex("95 % of nets, fan_out")
    '95 \\% of nets, fan\\_out'
    >>> latex("1.86e-09"), latex("c₀ = 0.5"), latex("σ_w²")
    ('$1.86\\times 10^{-9}$', '$c_{0} = 0.5$', '$\\sigma_{w}^{2}$')
    """
    pieces: list[str] = []
    run: list[str] = []  # words that are maths, or may be beside maths

    def close() -> None:
        # letters and numbers alone are no maths
        if any(map(_is_maths, run)):
            pieces.append(f"${formula(' '.join(run))}$")
        else:
            pieces.extend(map(_escaped, run))
        run.clear()

    for word in unicodedata.normalize("NFD", text).split():
        if word == "·" and not _open(run):  # between two names, and no product
            close()
            pieces.append(r"$\cdot$")
            continue
        quote = "“" if word[0] == "“" and len(word) > 1 else ""
        body = word.removeprefix(quote)
        body = body if _open([*run, body]) else body.rstrip(",;:.”") or body
        if not (_is_maths(body) or _BESIDE.fullmatch(body)):
            close()
            pieces.append(_escaped(word))
            continue
        if quote or (run and not _joined(run[-1], body)):
            close()
            pieces += map(_escaped, quote)
        run.append(body)
        if after := word[len(quote + body) :]:
            close()
            pieces[-1] += _escaped(after)
    close()
    return " ".join(pieces).replace("`` ", "``")


def _is_maths(word: str) -> bool:
    signed = _SIGNED.fullmatch(word.strip("()[]"))
    return bool(signed or _SUBSCRIPT.search(word)) or not _MATHS.isdisjoint(word)


def _joined(left: str, right: str) -> bool:
    """Whether two words are one formula: "a = 0.25" is, and "a σ_b²" has an article before it."""
    return left[-1] in _JOINS + "([" or right[0] in _JOINS + ")]" or left.endswith("ln")


def _open(words: list[str]) -> bool:
    """Whether a bracket is still open: the comma in E[max(0, z)] does not end a formula."""
    text = "".join(words)
    return sum(map(text.count, "([")) > sum(map(text.count, ")]"))


def _escaped(word: str) -> str:
    """A word in text mode, pure ASCII where LaTeX has a name for what is not."""
    found: list[str] = []
    for sign in word:
        if sign in TEXT_ACCENTS and found:
            found[-1] = f"\\{TEXT_ACCENTS[sign]}{{{found[-1]}}}"
        elif sign in TEXT:
            found.append(TEXT[sign])
        else:
            found.append(f"${SIGNS[sign].strip()}$" if sign in SIGNS else sign)
        if sign in "._:/" and len(word) > BREAKABLE:
            found[-1] += r"\allowbreak{}"
    return "".join(found)


def formula(text: str) -> str:
    r"""``text``, all of it maths, as LaTeX source for maths mode, without the dollars.

    >>> formula("Var[x_(l−1)] = ½·n̂·√(2/n)^(L−1)")
    '\\mathrm{Var}[x_{l-1}] = \\frac{1}{2}\\cdot\\hat{n}\\cdot\\sqrt{2/n}^{L-1}'
    """
    source, place = unicodedata.normalize("NFD", text), 0
    found: list[str] = []
    scripts = last = ""  # what the last letter has: TeX gives it one of a kind
    while place < len(source):
        piece, place = _atom(source, place)
        kind = piece[:1] if piece[:1] in ("^", "_", "'") else ""
        again = kind in scripts if kind == "_" else "^" in scripts or ("'" in scripts and last != "'")
        if kind and again:
            found.append("{}")
            scripts = ""
        scripts = scripts + kind if kind or piece.isspace() else ""
        found.append(piece)
        last = piece
    return _NEEDLESS.sub("", re.sub(" +", " ", "".join(found)).strip())


def _atom(source: str, place: int) -> tuple[str, int]:
    """One sign, number, word, script or root of a formula, and where the next one begins."""
    sign = source[place]
    for table, mark in ((UPPER, "^"), (LOWER, "_")):
        if sign in table:
            return _run(source, place, table, mark)
    if sign in "^_":
        minus = "-" if source[place + 1 : place + 2] in ("−", "-") else ""
        content, after = _argument(source, place + 1 + len(minus), bare=not minus)
        return f"{sign}{{{minus}{content}}}", after
    if sign == "√":
        content, after = _argument(source, place + 1, bare=True)
        return f"\\sqrt{{{content}}}" if content else r"\surd ", after
    if sign.isdigit():
        found = _NUMBER.match(source, place)
        if found:
            power = f"\\times 10^{{{int(found[2])}}}" if found[2] else ""
            return found[1].replace(",", "{,}") + power, found.end()
    if word := _WORD.match(source, place):
        return _word(word[0], source[word.end() : word.end() + 1]), word.end()
    return (SIGNS | ORDINARY).get(sign, sign), place + 1


def _run(source: str, place: int, table: dict[str, str], mark: str) -> tuple[str, int]:
    end = place
    while end < len(source) and source[end] in table:
        end += 1
    return f"{mark}{{{''.join(table[sign] for sign in source[place:end])}}}", end


def _argument(source: str, place: int, *, bare: bool) -> tuple[str, int]:
    """What a script or a root applies to: a group (without its parentheses if ``bare``), or a word."""
    if source[place : place + 1] == "(":
        depth = 0
        for end in range(place, len(source)):
            depth += {"(": 1, ")": -1}.get(source[end], 0)
            if not depth:
                inside = formula(source[place + 1 : end])
                return inside if bare else f"({inside})", end + 1
    found = _ARGUMENT.match(source, place)
    if not found:
        return "", place
    return formula(found[0]), found.end()


def _word(word: str, after: str) -> str:
    """A letter in italics, with its hat; a word or the name of an operator upright."""
    for accent, command in ACCENTS.items():
        if word.endswith(accent):
            return f"{command}{{{word[:-1]}}}"
    if len(word) == 1:
        upright = (word, after) in (("E", "["), ("P", "("))
        return f"\\mathrm{{{word}}}" if upright else SIGNS.get(word, word)
    return rf"\{word} " if word in ("ln", "exp", "max", "min") else f"\\mathrm{{{word}}}"
