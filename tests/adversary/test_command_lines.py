"""Generated command lines: every option of every command with odd values, and bytes that mean nothing.

Each ends with an exit code of ours and, if it is refused, with one line that says why.  The work
behind is not done: whatever passes all checks is stopped where the output folder would be made.

The lines come from hypothesis, without a stored database and derandomized: a run in CI repeats.
What once failed stands as an example.
"""

import io
import os
from functools import cache

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from often import often

import cli
import empirical
from commands.parser import command_parsers, find_commands
from empirical.data.catalog import TASKS
from theory.errors import RequestError

OF_COMMANDS, OF_BYTES = 400, 150
CODES = {0, 1, 2, 3, 130}
REACHED = "every check is passed"


def reached(*_, **__):
    raise RequestError(REACHED)


@pytest.fixture(autouse=True)
def no_work(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CIFAR10_DIR", raising=False)
    monkeypatch.setattr(cli.Session, "prepare_out", reached)
    for name in ("gather", "plan"):  # what a command does without an output folder
        monkeypatch.setattr(empirical, name, reached, raising=False)


def run(argv, monkeypatch):
    """The exit code, and what was said to a stream that knows every letter as the real one does."""
    shown, said = (io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace") for _ in range(2))
    with monkeypatch.context() as streams:
        streams.setattr("sys.stdout", shown)
        streams.setattr("sys.stderr", said)
        try:
            code = cli.main(argv)
        except SystemExit as end:  # of --help
            code = end.code or 0
    said.seek(0)
    return code, said.read()


def check(argv, monkeypatch):
    code, said = run(argv, monkeypatch)
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert code in CODES and len(errors) == (code != 0), (argv, code, said)
    assert "Traceback" not in said
    return code, said


TARGETS = (
    "torch.nn:Identity",
    "torch.nn:Linear",
    "math:nan",
    "no:thing",
    "no.py:net",
    "torch.nn:",
    *TASKS,
)
WHOLE = {name: [TARGETS[0], "--input", "2,3"] for name in ("audit", "init")}  # what must be given
WHOLE["study"] = ["regression"]
WHOLE["learn"] = ["1"]  # or may be


@cache
def options():
    """Of every command, its options, and what each is: its choices, and how many values it has."""
    return {
        name: {
            option: (tuple(action.choices or ()), action.nargs)
            for action in parser._actions
            for option in action.option_strings
            if option.startswith("--")
        }
        for name, parser in command_parsers().items()
    }


ODD = (
    *(
        "",
        " ",
        "-",
        "--",
        "-1",
        "0",
        "1",
        "2",
        "3.5",
        "1e3",
        "1e400",
        "-0.0",
        "nan",
        "inf",
        "-inf",
        "٣",
    ),
    *("1_000", "0x10", "True", "None", ",", "1,", ",,", "2,3", "9" * 30, "9" * 5000, "1" + "0" * 18),
    *("he", "HE", "he,xavier", "normal:", "normal:0", "normal:nan", "normal:1e-320", "normal:1e300"),
    *("prelu:", "prelu:1e308", "leaky-relu:nan", "leaky-relu:-1", "tanh", "gelu", "orthogonal", "[/]"),
    *("auto", "cpu", "cuda", "mps", "local:2", "tcp://", "report"),
    *(".", "..", "/", "/dev/null", "no/such", "~", "%s", "{}", "@file", "\udcff", "\n", "=", "fused"),
)
whole = st.integers(-3, 2**70).map(str)
real = st.floats(width=64).map(str)
values = (
    st.sampled_from(ODD) | whole | real | st.text(max_size=6) | st.binary(max_size=6).map(os.fsdecode)
)


@st.composite
def command_lines(draw):
    """A command with up to four of its options, mostly with as many values as they take."""
    name = draw(st.sampled_from(list(options())))
    words = [name, *([draw(values | st.sampled_from(TARGETS))] if name in WHOLE else [])]
    for option in draw(st.lists(st.sampled_from(list(options()[name])), max_size=4)):
        choices, count = options()[name][option]
        value = values | st.sampled_from(choices) if choices else values
        size = {0: (0, 0), None: (1, 1)}.get(count, (1, 3)) if draw(st.integers(0, 9)) else (0, 2)
        words += [option, *draw(st.lists(value, min_size=size[0], max_size=size[1]))]
    return [word.replace("\0", "") for word in words]


@often(max_examples=OF_COMMANDS)
@example(["cifar", "--dask", "local:2"])
@example(["cifar", "--workers", "9" * 5000])
@example(["variance", "--init", "normal:1e-320"])
@given(command_lines())
def test_any_options_are_done_or_refused_in_one_line(monkeypatch, argv):
    check(argv, monkeypatch)


@often(max_examples=OF_BYTES)
@example(["\udcff"])
@example(["variance", "\udcff\n"])
@given(st.lists(st.binary(max_size=12).map(os.fsdecode) | st.sampled_from(ODD), max_size=4))
def test_any_bytes_are_done_or_refused_in_one_line(monkeypatch, words):
    check([word.replace("\0", "") for word in words], monkeypatch)


@pytest.mark.parametrize("name", find_commands())
def test_the_examples_of_every_command_pass_its_checks(monkeypatch, name):
    """So that what stands in the place of the work is seen to be reached, and by every command."""
    code, said = check([name, *WHOLE.get(name, [])], monkeypatch)
    assert code == 2 and (REACHED in said or "published study" in said)
