"""Sentences from templates: strict about names, one paragraph each, and none that nothing says."""

import re
from pathlib import Path

import pytest
from jinja2 import UndefinedError

from figures import prose

ROOT = Path(prose.__file__).parent


def test_a_sentence_is_one_paragraph_and_lacks_no_value():
    found = [(2, 1, [("He", " as printed", 49.64)]), (12, 3, [("He", "", 78.0), ("N(0, 1)", "", 56.0)])]
    assert prose.said("captions", "handicap", found=found) == (
        "What holds N(0, 1) back under batch norm? At 2 layers (1 seed): He as printed 49.64 %. "
        "At 12 layers (3 seeds): He 78.00 %; N(0, 1) 56.00 %."
    )
    with pytest.raises(UndefinedError, match="found"):
        prose.said("captions", "handicap")


def test_every_template_is_said_somewhere():
    sources = (*ROOT.rglob("*.py"), ROOT / "answers.toml")
    code = "".join(path.read_text(encoding="utf-8") for path in sources)
    for path in (ROOT / "templates").glob("*.md"):
        text = path.read_text(encoding="utf-8")
        blocks = set(re.findall(r"block (\w+) %", text))
        assert len(blocks) > 2
        for block in blocks:
            assert f'"{block}"' in code or f"self.{block}()" in text, f"{path.name}: {block}"
