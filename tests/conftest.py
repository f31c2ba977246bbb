import os
from pathlib import Path

import pytest


def pytest_addoption(parser):
    parser.addoption("--update-golden", action="store_true", help="rewrite tests/golden/*.txt")


@pytest.fixture
def golden(request):
    """Compare text with tests/golden/NAME.txt; with --update-golden, write it instead."""

    def check(name, text):
        path = Path(__file__).parent / "golden" / f"{name}.txt"
        text = "\n".join(line.rstrip() for line in text.splitlines()) + "\n"
        if request.config.getoption("--update-golden"):
            path.write_text(text, encoding="utf-8")
        assert text == path.read_text(encoding="utf-8")

    return check


@pytest.fixture(scope="session")
def cifar10_dir():
    """The real CIFAR-10, where CIFAR10_DIR names it."""
    folder = os.environ.get("CIFAR10_DIR")
    if not folder:
        pytest.skip("CIFAR10_DIR is not set: the real CIFAR-10 is not here")
    return Path(folder)
