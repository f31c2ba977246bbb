"""Sentences from templates: strict about names, one paragraph each, and none that nothing says."""

import re
from pathlib import Path

import pytest
from jinja2 import UndefinedError

from figures import prose

ROOT = Path(prose.__file__).parent


def test_a_sentence_is_one_paragraph_and_lacks_no_value():
    values = {"depth": 2, "seeds": 1, "found": [("He", " as printed", 49.64)]}
    assert prose.said("captions", "handicap", **values) == (
        "What holds N(0, 1) back under batch norm, at 2 layers (1 seed): He as printed 49.64 %."
    )
    with pytest.raises(UndefinedError, match="found"):
        prose.said("captions", "handicap", depth=2, seeds=2)


def test_every_template_is_said_somewhere():
    sources = (*ROOT.rglob("*.py"), ROOT / "answers.toml")
    code = "".join(path.read_text(encoding="utf-8") for path in sources)
    for path in (ROOT / "templates").glob("*.md"):
        text = path.read_text(encoding="utf-8")
        blocks = set(re.findall(r"block (\w+) %", text))
        assert len(blocks) > 2
        for block in blocks:
            assert f'"{block}"' in code or f"self.{block}()" in text, f"{path.name}: {block}"
