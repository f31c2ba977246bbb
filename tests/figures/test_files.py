"""Files that are whole or not there."""

import pytest

from figures.files import write_text, written_whole


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
