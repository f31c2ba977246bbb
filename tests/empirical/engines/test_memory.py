"""The C library's settings, in a process of their own: they are the process's and stay."""

import subprocess
import sys

import pytest

FAULTS = """
import ctypes, resource, sys
from empirical.engines.memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory() and keep_freed_memory()
library = ctypes.CDLL(None)
library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
library.free.argtypes = [ctypes.c_void_p]
def fill():
    block = library.malloc(64 << 20)
    ctypes.memset(block, 1, 64 << 20)
    library.free(block)
fill()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
fill()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a setting of Linux's C library")
def test_freed_memory_is_there_again_without_a_page_fault():
    found = {}
    for how in ("keep", "plain"):
        done = subprocess.run(
            [sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True
        )
        found[how] = int(done.stdout)
    assert found["keep"] <= 4 < found["plain"]  # at least one for every 2 MB, if not for every 4 KB


def test_only_the_command_and_its_workers_change_the_process(monkeypatch, tmp_path):
    from cifar_format import tiny_dataset

    from empirical.engines import memory
    from empirical.protocol import StudySpec
    from empirical.study import grid

    def fail(*_):
        raise AssertionError("the C library's settings were changed")

    monkeypatch.setattr(memory.ctypes, "CDLL", fail)
    small = {"initializers": ("he",), "activations": ("relu",), "depths": (2,), "filters": 3}
    spec = StudySpec(**small, epochs=1, batch_size=32, device="cpu", out=tmp_path)
    assert len(grid.plan(spec)) == 1
    assert len(grid.run_study(spec, dataset=tiny_dataset())) == 1
    with pytest.raises(AssertionError, match="settings"):
        memory.keep_freed_memory()
