import os
from pathlib import Path

import pytest
import torch


def pytest_addoption(parser):
    parser.addoption("--update-golden", action="store_true", help="rewrite tests/golden/*.txt")


def pytest_configure(config):
    """Share the cores among the processes of ``pytest -n``: torch would give each one all of them.

    And so would the programs and notebook kernels that tests start.
    """
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if workers > 1:
        threads = max(torch.get_num_threads() // workers, 1)
        torch.set_num_threads(threads)
        os.environ["OMP_NUM_THREADS"] = str(threads)


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


@pytest.fixture(scope="module")
def one_thread():
    """torch with one thread: how sums are divided, and with that the last bits, hangs on their number.

    Of a module, and so set before the module's other fixtures: ``usefixtures("one_thread")``.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
