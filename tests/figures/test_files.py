"""Files that are whole or not there."""

import subprocess
import sys
from pathlib import Path

import pytest

from figures.files import write_text, written_whole

ROOT = Path(__file__).parent.parent.parent


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    target = tmp_path / "table.csv"
    with written_whole(target) as first:
        first.write_text("one")
        with written_whole(target) as second:
            assert first != second and first.suffix == second.suffix == ".csv"
            second.write_text("two")
        assert target.read_text() == "two"
    assert target.read_text() == "one"
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]


def test_an_error_leaves_what_was_there(tmp_path):
    target = tmp_path / "report.md"
    write_text(target, "before\n")
    with pytest.raises(OSError, match="disk"), written_whole(target) as partial:
        partial.write_text("half of")
        raise OSError("the disk is full")
    assert target.read_bytes() == b"before\n"
    assert [path.name for path in tmp_path.iterdir()] == ["report.md"]


def test_a_disk_that_fills_up_under_a_pdf_is_an_os_error(tmp_path):
    """In a process that may write 6 kB: the picture's PNG has 3, its PDF 11."""
    pytest.importorskip("resource")
    program = (
        "import errno, pathlib, resource, sys\n"
        "from matplotlib.figure import Figure\n"
        "from figures.style import save_figure\n"
        "figure = Figure(figsize=(1, 1))\n"
        "figure.add_axes((0, 0, 1, 1)).text(0.1, 0.5, 'σ abcdef')\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))\n"
        "try:\n"
        "    save_figure(figure, pathlib.Path(sys.argv[1]) / 'picture')\n"
        "except OSError as error:\n"
        "    sys.exit(0 if error.errno == errno.EFBIG else 2)\n"
        "sys.exit(3)\n"
    )
    argv = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["picture.png"]
