"""Generated records and tables, correctly checksummed, before every command that reads them.

Any JSON may stand in a result or a configuration, any text in a table.  The commands run in this
process: what they raise, the test sees.  Each ends with 0, 1 or 2, says one line if not 0, and no
record that it could not read keeps it from the others.

The settings come from hypothesis, without a stored database and derandomized: a run in CI repeats.
What once failed stands as an example.
"""

import contextlib
import csv
import hashlib
import io
import json
import shutil
from types import SimpleNamespace

import pytest
from cifar_format import tiny_dataset
from hypothesis import example, given
from hypothesis import strategies as st
from often import often

import cli
import figures
from empirical.protocol import StudySpec
from empirical.records import published
from empirical.study import grid

pytestmark = pytest.mark.usefixtures("one_thread")

RECORDS, RESUMED, FIELDS_OF_TABLES, OTHER_TABLES = 70, 30, 40, 30
SMALL = {
    "activations": ("relu", "prelu"), "depths": (2,), "initializers": ("he",), "filters": 2,
    "epochs": 1, "batch_size": 32, "device": "cpu", "engine": "eager",
}  # fmt: skip
AGAIN = ("cifar --init he --activation relu prelu --depths 2 --filters 2 --epochs 1 --batch-size 32 "
         "--device cpu --engine eager --tables csv --quiet").split()  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def quick():
    """The data in memory, and nothing drawn: what is read is under test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grid, "load_dataset", lambda *_, **__: tiny_dataset(32, 8))
        patch.setattr("empirical.needs_data", lambda spec: False, raising=False)
        patch.setattr(cli.Session, "write_figure", lambda *_: None)
        nothing = SimpleNamespace(paths=[], figures=0, tables=0, gaps=[])
        patch.setattr(figures.report, "write", lambda *_, **__: nothing, raising=False)
        yield


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Two finished cells of one epoch."""
    out = tmp_path_factory.mktemp("study") / "run"
    grid.run_study(StudySpec(**SMALL, out=out), dataset=tiny_dataset(32, 8))
    return out


@pytest.fixture(scope="module")
def tables(study):
    """The same as published tables."""
    published.write(published.collect(study), study.with_name("tables"))
    return study.with_name("tables")


def run(*argv):
    """The exit code and what was said; nothing is raised."""
    said = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
        code = cli.main(list(map(str, argv)))
    errors = [line for line in said.getvalue().splitlines() if line.startswith("error: ")]
    assert code in (0, 1, 2) and len(errors) == (code != 0), (argv, code, said.getvalue())
    return code, said.getvalue()


def read_everywhere(folder, out):
    """What the commands that read records make of ``folder``: the code that all of them end with.

    Where nothing was refused or left out, every value has come through the door: the long ones, too.
    """
    readers = [["explorer"], ["report"]]
    code, said = ends = run("explorer", "--records", folder, "--out", out)
    if code == 0 and "damaged" not in said:
        readers += [["claims", "--tables", "csv"], ["figures", "--tables", "csv"]]
        readers += [["figures", "--publish", out / "published"]]
    for words in readers[1:]:
        assert run(*words, "--records", folder, "--out", out)[0] == code, (words, said)
    return ends


# ------------------------------------------------------------------------------- records

DELETED = "(deleted)"
numbers = st.integers() | st.floats() | st.sampled_from([2**63, -1, 10**400, 1e308, True])
texts = st.text(max_size=8) | st.sampled_from(["", "\ud800", "[/]", "\n", "$\\frac$", "he", "0", "inf"])
scalars = st.none() | st.booleans() | numbers | texts
documents = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
changed = st.just(DELETED) | documents
results = st.dictionaries(
    st.sampled_from(
        "cell status final_test_accuracy train_loss average_weight test_accuracy seconds initial "
        "initial.loss initial.loss_predicted initial.average_weight engine notes notes.0 code "
        "environment environment.threads environment.hardware environment.version depth augment "
        "train_loss.0 test_accuracy.0 seconds.0 more".split()
    ),
    changed,
    min_size=1,
    max_size=3,
)
configs = st.dictionaries(
    st.sampled_from([*StudySpec(**SMALL).cells()[0].config(), "cell", "more"]),
    changed,
    min_size=1,
    max_size=2,
)


def edited(content, changes):
    """``content`` with the values of ``changes`` in the places that their dotted names are."""
    content = json.loads(json.dumps(content))
    for place, value in changes.items():
        *above, name = place.split(".")
        inside = content
        for part in above:
            inside = inside.get(part) if isinstance(inside, dict) else None
        if isinstance(inside, list):
            inside[:1] = [] if value == DELETED else [value]
        elif isinstance(inside, dict):
            inside[name] = value
            if value == DELETED:
                del inside[name]
    return content


def sealed(content):
    """``content`` as a result whose own checksum fits, as far as it can have one."""
    if isinstance(content, dict) and isinstance(content.get("sha256"), dict):
        sums = content.pop("sha256")
        digest = hashlib.sha256((json.dumps(content, indent=2) + "\n").encode()).hexdigest()
        content["sha256"] = sums | {"result.json": digest}
    return json.dumps(content)


@contextlib.contextmanager
def standing_in(path, text):
    """``text`` in the place of the file ``path``."""
    before = path.read_bytes()
    path.write_bytes(text if isinstance(text, bytes) else text.encode(errors="surrogatepass"))
    try:
        yield
    finally:
        path.write_bytes(before)


def first_cell(out):
    return sorted((out / "cells").iterdir())[0]


@often(max_examples=RECORDS)
@example({"initial": DELETED}, {})
@example({"environment": ["cpu"]}, {})
@example({"notes": 5}, {})
@example({"seconds": ["1.0"]}, {})
@example({"environment.hardware": "[/]"}, {})
@example({"notes": ["[/]\n"]}, {})
@example({}, {"initializer": ["he"]})
@given(results | st.just({}), configs | st.just({}))
def test_any_result_and_config_are_read_or_left_out(study, tmp_path, result, config):
    folder = first_cell(study)
    before = {name: json.loads((folder / name).read_text()) for name in ("result.json", "config.json")}
    with (
        standing_in(folder / "result.json", sealed(edited(before["result.json"], result))),
        standing_in(folder / "config.json", json.dumps(edited(before["config.json"], config))),
    ):
        code, said = read_everywhere(study, tmp_path)
    assert code == 0  # the other cell is there
    assert all(folder.name in line for line in said.splitlines() if "damaged" in line)


@often(max_examples=RESUMED)
@example({"initial": DELETED}, {})
@example({"final_test_accuracy": None}, {})
@given(results | documents, configs | documents)
def test_any_result_and_config_are_resumed_from(study, tmp_path, result, config):
    out = tmp_path / "again"
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(study, out)
    folder = first_cell(out)
    for name, change in (("result.json", result), ("config.json", config)):
        content = json.loads((folder / name).read_text())
        content = edited(content, change) if isinstance(change, dict) else change
        (folder / name).write_text(sealed(content))
    assert run(*AGAIN, "--out", out)[0] == 0
    good, bad = grid.records.read_all(out)
    assert len(good) == 2 and not bad


# ------------------------------------------------------------------------------- tables

COLUMNS = {
    "cells.csv": published.CELL_COLUMNS,
    "study.csv": published.STUDY_COLUMNS,
    "layers.csv": published.LAYER_COLUMNS,
}
FIELDS = (
    *("", "inf", "-inf", "nan", "-5", "500", "1e308", "-1e308", "1e-320", "0", "1", "2", "1.5"),
    *("running", "diverged", "completed", "he", "xavier", "prelu", "[/]", "a\nb", "\ufeff"),
    *("9" * 5000, str(2**63)),
)
fields = st.sampled_from(FIELDS) | st.text(max_size=6)
any_table = st.lists(st.lists(fields, max_size=4), max_size=4)


@st.composite
def changes(draw):
    """A table's name, and up to three of its fields, each as column, row and text."""
    name = draw(st.sampled_from(list(COLUMNS)))
    one = st.tuples(st.sampled_from(COLUMNS[name]), st.integers(0, 30), fields)
    return name, draw(st.lists(one, min_size=1, max_size=3))


def as_csv(rows):
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


@often(max_examples=FIELDS_OF_TABLES)
@example(("layers.csv", [("weight_std", 0, "inf"), ("second_moment", 0, "1e308")]))
@example(("layers.csv", [("second_moment", 0, "0"), ("second_moment_predicted", 0, "inf")]))
@example(("cells.csv", [("initial_loss", 0, "")]))
@example(("cells.csv", [("hardware", 0, "[/]"), ("notes", 0, "a\nb")]))
@example(("cells.csv", [("seed", 0, str(2**63))]))
@example(("study.csv", [("test_accuracy", 0, "1e308")]))
@example(("cells.csv", [("network", 0, "")]))
@example(("cells.csv", [("network", 0, "lstm")]))
@example(("study.csv", [("status", 0, "diverged")]))
@given(changes())
def test_any_field_of_a_table_is_read_or_refused(tables, tmp_path, change):
    name, edits = change
    header, *rows = csv.reader(io.StringIO((tables / name).read_text(), newline=""))
    for column, row, text in edits:
        if column not in header:  # a field in which no cell here differs from the first protocol
            header, rows = [*header, column], [[*known, ""] for known in rows]
        rows[row % len(rows)][header.index(column)] = text
    with standing_in(tables / name, as_csv([header, *rows])):
        read_everywhere(tables, tmp_path)


@often(max_examples=OTHER_TABLES)
@example("cells.csv", [])
@example("layers.csv", [["cell"]])
@example("layers.csv", list(published.LAYER_COLUMNS))
@given(st.sampled_from(list(COLUMNS)), any_table | st.binary(max_size=40))
def test_any_table_in_the_place_of_ours_is_refused(tables, tmp_path, name, content):
    with standing_in(tables / name, content if isinstance(content, bytes) else as_csv(content)):
        assert read_everywhere(tables, tmp_path)[0] == 2
