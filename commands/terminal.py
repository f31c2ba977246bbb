"""What the process is given by whoever starts it: streams that may be closed, or know few letters."""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import sys
import unicodedata

# Signs of our tables that Unicode does not take apart into ASCII by itself.
SIGNS = {
    "−": "-",
    "–": "-",
    "—": "-",
    "×": "x",
    "·": "*",
    "→": "->",
    "≈": "~",
    "≤": "<=",
    "≥": ">=",
    "√": "sqrt ",
    "∞": "inf",
    "✓": "yes",
    "✗": "no",
    "∂": "d",
    "“": '"',
    "”": '"',
    "’": "'",
}


def prepare() -> None:
    """Make the standard streams usable, and pictures independent of a window system.

    A closed stream is opened on nothing, so that no file of ours gets its number.  A stream whose
    encoding lacks a letter gets ASCII in its place.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            nothing = os.open(os.devnull, os.O_RDWR)
            if nothing != number:
                os.dup2(nothing, number)
                os.close(nothing)
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))
    codecs.register_error("ascii-instead", _ascii_instead)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and not stream.encoding.lower().startswith("utf"):
            stream.reconfigure(errors="ascii-instead")
    os.environ["MPLBACKEND"] = "agg"  # pictures are drawn into files; another name may be unknown


def settle() -> None:
    """Write out what is left, or drop it: Python would end with code 120 over a full stream."""
    for number, stream in ((1, sys.stdout), (2, sys.stderr)):
        try:
            stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), number)


def ascii_of(text: str) -> str:
    """``text`` in ASCII, as readable as that can be.

    >>> ascii_of("σ_w² = 2.00 × χ₁ − 1 …")
    'sigma_w2 = 2.00 x chi1 - 1 ...'
    """
    letters = []
    for letter in unicodedata.normalize("NFKD", text):
        if letter.isascii() or letter in SIGNS:
            letters.append(SIGNS.get(letter, letter))
        elif not unicodedata.combining(letter):
            letters.append(_greek(letter) or "?")
    return "".join(letters)


def _greek(letter: str) -> str:
    """The name of a Greek letter, capitalized as the letter is; nothing for another."""
    words = unicodedata.name(letter, "").split()
    if len(words) < 4 or words[0] != "GREEK" or words[2] != "LETTER":
        return ""
    return words[3].capitalize() if words[1] == "CAPITAL" else words[3].lower()


def _ascii_instead(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return ascii_of(error.object[error.start : error.end]), error.end
