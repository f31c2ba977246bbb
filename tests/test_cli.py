"""The program as its user meets it: exit codes, one error line, JSON, files."""

import argparse
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import cli
from commands.parser import build_parser, command_parsers, find_commands
from commands.terminal import ascii_of
from figures.tables import Column, Sheet, to_train

ROOT = Path(__file__).parent.parent
SMALL = ["--depth", "4", "--width", "16", "--draws", "20", "--device", "cpu"]


def run(*argv):
    return cli.main([str(part) for part in argv])


def one_error_line(captured):
    assert captured.out == ""
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1
    assert "Traceback" not in captured.err
    return captured.err


@pytest.mark.parametrize(
    "argv, says",
    [
        (["variance", "--init", "hee"], "did you mean he"),
        (["variance", "--activation", "rellu"], "did you mean relu"),
        (["variance", "--depth", "0"], "depth must be"),
        (["variance", "--depth", "-3"], "depth must be"),
        (["variance", "--depth", "1000000000"], "depth must be"),
        (["variance", "--depth", "many"], "--depth: must be a whole number, not 'many'"),
        (["variance", "--width", "0"], "width must be"),
        (["variance", "--draws", "1"], "draws must be"),
        (["variance", "--init", "normal:nan"], "finite"),
        (["variance", "--init", "normal:-2"], "above 0"),
        (["variance", "--input-second-moment", "nan"], "second moment"),
        (["variance", "--seed", "-1"], "seed must be"),
        (["variance", "--init", "xavier", "--fan", "fan_in"], "fan of its own"),
        (["variance", "--device", "tpu"], "invalid choice: 'tpu'"),
        (["variance", "--histograms", "--norm", "batch"], "--histograms is there for plain dense"),
        (["variance", "--histograms", "--engine", "law"], "--histograms is there for plain dense"),
        (["variance", "--nonsense"], "unrecognized arguments: --nonsense"),
        (["variance", "--dept", "3"], "unrecognized arguments: --dept 3; did you mean --depth?"),
        (["variance", "--dept", "3"], "cli.py variance --help"),
        (["varience"], "did you mean variance?"),
        (["variance", "--init", "kaiming"], "did you mean he?"),
        (["variance", "--init", "glorot_uniform"], "did you mean xavier-uniform?"),
        (["gains", "--activation", "swish"], "did you mean silu?"),
        (["cifar", "--preset", "txtbook"], "did you mean textbook?"),
        (["cifar", "--norm", "bach"], "did you mean batch?"),
        (["cifar", "--depths", "2,0"], "depth must be"),
        (["cifar", "--depths", "2,x"], "--depths: must be a whole number, not '2,x'"),
        *(([name, "--seed", "-1"], "seed must be a whole number") for name in find_commands()),
        (["paper", "--seed", "1e3"], "seed must be a whole number"),
        ([], "name a command"),
        (["cifar", "--init", "hee"], "did you mean he"),
        (["cifar", "--depths", "0"], "depth must be"),
        (["cifar", "--epochs", "0"], "epochs must be"),
        (["cifar", "--seeds", "0"], "--seeds must be"),
        (["cifar", "--seeds", "100000000"], "--seeds must be at most 100,000"),
        (["cifar", "--init", "he", "--seeds", "100000"], "number of cells"),
        (["cifar", "--seeds", "2", "--seed-list", "1"], "not allowed with"),
        (["cifar", "--seed", "2", "--seed-list", "1"], "contradict"),
        (["cifar", "--learning-rate", "nan"], "learning rate"),
        (["cifar", "--data-dir", "no/such/folder"], "no/such/folder"),
        (["cifar", "--depths", "2", "2"], "more than once"),
    ],
)
def test_a_wrong_request_is_one_line_and_exit_2(argv, says, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(*argv) == 2
    captured = capsys.readouterr()
    if argv:
        one_error_line(captured)
    assert says in captured.err
    assert not list(tmp_path.rglob("*.csv"))


def test_cuda_without_cuda_is_a_wrong_request(capsys, tmp_path):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    for command in ("variance", "cifar"):
        assert run(command, "--device", "cuda", "--out", tmp_path) == 2
        assert "no cuda device" in one_error_line(capsys.readouterr())


def test_an_unwritable_out_is_found_before_the_work(capsys, tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    monkeypatch.setattr("theory.draw.measure", None, raising=False)  # the work must not be reached
    assert run("variance", *SMALL, "--out", blocked) == 2
    assert "cannot write to --out" in one_error_line(capsys.readouterr())


def test_a_disk_that_fills_up_is_exit_1(capsys, tmp_path, monkeypatch):
    import errno

    def full(self, *args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("pandas.DataFrame.to_csv", full)
    assert run("variance", *SMALL, "--out", tmp_path) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ") and "No space left" in captured.err
    assert "he · relu" in captured.out  # what was found out is still shown


def test_out_of_memory_is_exit_1(capsys, tmp_path, monkeypatch):
    def explode(*args):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes")

    monkeypatch.setattr("theory.draw.dense.DenseSimulation._modules", explode)
    assert run("variance", *SMALL, "--out", tmp_path) == 1
    assert "out of memory at width 16" in one_error_line(capsys.readouterr())


def test_an_interruption_is_130_and_names_the_command(capsys, tmp_path, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("theory.draw.measure", interrupt, raising=False)
    assert run("variance", *SMALL, "--out", tmp_path) == 130
    assert f"variance --depth 4 --width 16 --draws 20 --device cpu --out {tmp_path}" in (
        capsys.readouterr().err
    )


def test_variance_json_is_one_document_as_in_the_contract(capsys, tmp_path):
    assert run("variance", *SMALL, "--json", "--out", tmp_path) == 0
    document = json.loads(capsys.readouterr().out)
    assert list(document) == ["command", "spec", "environment", "curves"]
    assert document["spec"]["depth"] == 4 and document["environment"]["device"] == "cpu"
    assert {"torch", "version"} <= set(document["environment"])
    assert len(document["curves"]) == 6
    curve = document["curves"][0]
    assert (curve["initializer"], curve["activation"], curve["negative_slope"]) == ("he", "relu", 0.0)
    assert (curve["direction"], curve["engine"], curve["verdict"]) == ("forward", "modules", "stable")
    assert set(curve["log10_growth_per_layer"]) >= {"measured", "theory"}
    assert [layer["layer"] for layer in curve["layers"]] == [1, 2, 3, 4]
    names = "log10_measured log10_theory log_mean log_mean_theory log_variance log_variance_theory z"
    for layer in curve["layers"]:
        assert all(math.isfinite(layer[name]) for name in names.split())
        assert layer["log10_band"][0] < layer["log10_band"][1]
        assert layer["log10_theory"] == pytest.approx(math.log10(2))
    assert curve["layers"][0]["log_variance_theory"] == pytest.approx(0.133, abs=0.001)  # ψ'(8)


def test_variance_prints_tables_and_lists_what_it_wrote(capsys, tmp_path):
    assert run("variance", *SMALL, "--out", tmp_path / "new" / "folder") == 0
    captured = capsys.readouterr()
    assert "he · relu" in captured.out and "vanishing" in captured.out
    for name in ("variance.csv", "variance.png", "variance.pdf"):
        assert (tmp_path / "new" / "folder" / name).stat().st_size > 1000
        assert name in captured.out
    assert captured.err == ""


def test_quiet_leaves_the_results_only(capsys, tmp_path):
    assert run("variance", *SMALL, "--quiet", "--out", tmp_path) == 0
    captured = capsys.readouterr()
    assert "Written" not in captured.out and "he · relu" in captured.out and captured.err == ""


@pytest.mark.parametrize(
    "argv", [["--help"], ["variance", "--help"], ["cifar", "--help"], ["--version"]]
)
def test_help_needs_no_torch(argv):
    assert_light(argv, code=0, says="fanin" if argv == ["--version"] else "Usage: python cli.py")


@pytest.mark.parametrize(
    "argv", [["variance", "--init", "hee"], ["cifar", "--depths", "0"], ["variance", "--depth", "x"]]
)
def test_a_usage_error_needs_no_torch(argv):
    assert_light(argv, code=2, says="error: ")


def assert_light(argv, code, says):
    """In a process of its own: none of the heavy libraries is imported."""
    program = (
        "import sys, cli\n"
        "try:\n    code = cli.main(sys.argv[1:])\n"
        "except SystemExit as stop:\n    code = stop.code or 0\n"
        "heavy = {'torch', 'numpy', 'pandas', 'scipy', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(99 if heavy else code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *argv], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stderr
    assert says in done.stdout + done.stderr


@pytest.mark.parametrize("command", ["audit", "init", "frontier", "cifar"])
def test_help_shows_what_was_written(command):
    """Brackets are no markup, and colons no emoji: not [w] lost, nor :FACTORY: a picture of one."""
    parser = command_parsers()[command]
    shown = "".join(parser.format_help().split())
    texts = [one.help for one in parser._actions if one.help not in (None, argparse.SUPPRESS)]
    assert texts and all("".join(text.split()) in shown for text in texts)


def test_tables_show_what_was_written(capsys):
    """So do titles, notes and lines on the terminal."""
    said = "layers[0] of net.py:FACTORY: [bold]"
    session = cli.Session(build_parser().parse_args(["phase"]))
    data = pd.DataFrame({said: [said]})
    sheet = Sheet(name="one", title=said, data=data, columns=(Column(said, said),), notes=(said,))
    session.show([sheet, said])
    assert capsys.readouterr().out.count(said) == 5


def test_commands_to_copy_are_not_wrapped(capsys):
    session = cli.Session(build_parser().parse_args(["phase"]))
    command = "cli.py cifar " + " ".join(f"--option-{number}" for number in range(30))
    session.show([to_train([command])])
    assert capsys.readouterr().out == f"To train what is missing:\n  {command}\n"


def test_help_shows_examples():
    parser = build_parser()
    for command in ("variance", "cifar"):
        text = subprocess.run(
            [sys.executable, str(ROOT / "cli.py"), command, "--help"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert "examples:" in text and f"cli.py {command}" in text
    assert "variance" in parser.format_help()


def test_a_closed_pipe_is_no_error_and_loses_no_file(tmp_path):
    """The reader closes the pipe after one line of a table that is longer than the pipe's buffer."""
    argv = ["variance", "--depth", "400", "--width", "4", "--draws", "5", "--all-layers"]
    program = subprocess.Popen(
        [sys.executable, str(ROOT / "cli.py"), *argv, "--out", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert "Second moment" in program.stdout.readline()
    program.stdout.close()
    assert program.wait(60) == 0 and program.stderr.read() == ""
    program.stderr.close()
    names = {f"variance.{suffix}" for suffix in ("csv", "tex", "md", "png", "pdf")}
    names |= {f"growth.{suffix}" for suffix in ("csv", "tex", "md")}
    assert {path.name for path in tmp_path.iterdir()} == names


def test_pipes_and_no_color_are_plain(tmp_path):
    done = subprocess.run(
        [sys.executable, str(ROOT / "cli.py"), "variance", *SMALL, "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"NO_COLOR": "1", "COLUMNS": "70"},
    )
    assert "\x1b" not in done.stdout
    assert max(map(len, done.stdout.split("Written")[0].splitlines())) <= 70


def start(*command, **options):
    """The program as a process of its own."""
    environment = {"OMP_NUM_THREADS": "1", **options.pop("env", {})}
    return subprocess.run(
        [str(part) for part in command],
        cwd=options.pop("cwd", ROOT),
        env={name: value for name, value in (os.environ | environment).items() if value is not None},
        capture_output=True,
        check=False,
        **options,
    )


def test_commas_separate_as_spaces_do():
    parse = build_parser().parse_args
    one = parse(["cifar", "--depths", "2,5", "12", "--init", "he,xavier", "--seed-list", "1,2,"])
    assert one.depths == [2, 5, 12] and one.init == ["he", "xavier"] and one.seed_list == [1, 2]
    two = parse(["correlation", "--correlations", "0,0.5", "--tables", "csv", "latex"])
    assert two.correlations == [0.0, 0.5] and two.tables == ["csv", "latex"]


def test_a_command_is_a_file(tmp_path, monkeypatch, capsys):
    """A new file is enough; one without a purpose is no command."""
    import commands.study

    (tmp_path / "new_one.py").write_text(
        "from commands.answer import Answer\n"
        "PURPOSE = 'A command that did not exist.'\n"
        "EXAMPLES = ('new-one',)\n"
        "def add_arguments(parser): parser.add_argument('--times', type=int, default=1)\n"
        "def run(arguments, session):\n"
        "    return Answer(spec={}, device='cpu', document={'times': arguments.times}, show=[])\n",
        encoding="utf-8",
    )
    (tmp_path / "helper.py").write_text("", encoding="utf-8")
    monkeypatch.setattr(commands.study, "__path__", [*commands.study.__path__, str(tmp_path)])
    assert list(find_commands())[:2] == ["variance", "cifar"]
    assert "new-one" in find_commands() and "helper" not in find_commands()
    assert run("new-one", "--times", 3, "--json") == 0
    assert json.loads(capsys.readouterr().out)["times"] == 3


UV = {"UV_RUN_RECURSION_DEPTH": "1"}
NO_UV = {"UV_RUN_RECURSION_DEPTH": None}


@pytest.mark.parametrize(
    "started, environment, says",
    [
        (["cli.py"], NO_UV, f"{sys.executable} cli.py paper --help"),
        (["cli.py"], UV, "uv run cli.py paper --help"),
        (["-m", "cli"], NO_UV, f"{sys.executable} -m cli paper --help"),
        (["-m", "cli"], UV, "uv run python -m cli paper --help"),
    ],
)
def test_hints_name_the_form_in_which_the_program_was_started(started, environment, says):
    done = start(sys.executable, *started, "paper", "--nonsense", env=environment, text=True)
    assert done.returncode == 2 and f"(see {says})" in done.stderr
    said = start(
        sys.executable, *started, "paper", "--help", env=environment | {"COLUMNS": "200"}, text=True
    )
    assert f"  {says.removesuffix(' --help')}\n" in said.stdout  # the example


def test_the_console_script_is_named_where_it_is_found(tmp_path):
    script = tmp_path / "fanin"
    script.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\n"
        "import cli\ncli.console()\n",
        encoding="utf-8",
    )
    script.chmod(0o755)
    found = NO_UV | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    for environment, name in ((NO_UV, str(script)), (found, "fanin"), (UV, "uv run fanin")):
        done = start(script, "paper", "--nonsense", env=environment, text=True, cwd=tmp_path)
        assert done.returncode == 2 and f"(see {name} paper --help)" in done.stderr


def test_without_its_packages_it_says_what_to_do():
    done = start(sys.executable, "-S", "cli.py", "variance", text=True)  # -S: no site-packages
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: the package ") and done.stderr.count("\n") == 1
    assert "uv run cli.py" in done.stderr and "pip install -e ." in done.stderr


@pytest.mark.parametrize(
    "environment, encoding",
    [
        ({"PYTHONIOENCODING": "latin-1"}, "latin-1"),
        ({"PYTHONIOENCODING": "cp1252"}, "cp1252"),
        ({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, "ascii"),
    ],
)
def test_a_terminal_that_knows_few_letters_gets_readable_ascii(environment, encoding, tmp_path):
    argv = ["phase", "--activation", "tanh", "--out", tmp_path, "--device", "cpu"]
    done = start(sys.executable, "cli.py", *argv, env=environment)
    assert done.returncode == 0, done.stderr
    text = done.stdout.decode(encoding)
    assert "sigma" in text and "chi" in text and "?" not in text
    assert b"Traceback" not in done.stderr


def test_ascii_is_as_readable_as_it_can_be():
    assert ascii_of("he · relu → Δ ≤ 10⁻³ é 漢") == "he * relu -> Delta <= 10-3 e ?"


def test_an_unknown_backend_of_matplotlib_does_not_matter(tmp_path):
    done = start(
        sys.executable, "cli.py", "variance", *SMALL, "--out", tmp_path, env={"MPLBACKEND": "foo"}
    )
    assert done.returncode == 0 and (tmp_path / "variance.png").exists(), done.stderr


@pytest.mark.skipif(os.name == "nt", reason="a shell's redirections")
@pytest.mark.parametrize(
    "streams, code",
    [
        (">&-", 0),
        (">&- 2>&-", 0),
        ("<&- >&- 2>&-", 0),
        (">/dev/full", 1),
        ("2>/dev/full", 0),
        (">/dev/full 2>/dev/full", 1),
    ],
)
def test_streams_that_are_closed_or_full_end_with_the_right_code(streams, code, tmp_path):
    if "/dev/full" in streams and not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    line = f'"$@" {streams}'
    argv = [sys.executable, "cli.py", "variance", *SMALL, "--out", tmp_path]
    done = start("sh", "-c", line, "sh", *argv, text=True)
    assert done.returncode == code and "Traceback" not in done.stderr and "Exception" not in done.stderr
    csv = (tmp_path / "variance.csv").read_text(encoding="utf-8")
    assert csv.startswith("initializer,") and csv.endswith("\n")  # no word of another stream in it
    assert (tmp_path / "variance.pdf").exists()


def test_a_full_stdout_is_one_error_line():
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    line = '"$@" >/dev/full'
    for argv in (["--help"], ["--version"], ["cifar", "--list-presets"]):
        done = start("sh", "-c", line, "sh", sys.executable, "cli.py", *argv, text=True)
        assert done.returncode == 1
        assert done.stderr == "error: No space left on device\n"


@pytest.mark.parametrize("environment", [{"COLUMNS": "1"}, {"TERM": "dumb"}, {"HOME": None}])
def test_poor_surroundings_are_no_error(environment, tmp_path):
    done = start(sys.executable, "cli.py", "variance", *SMALL, "--out", tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    assert start(sys.executable, "cli.py", "variance", "--help", env=environment).returncode == 0


def test_long_work_is_not_silent_where_nobody_can_see_a_bar(capsys, tmp_path, monkeypatch):
    words = ["variance", "--depth", "3", "--width", "16", "--draws", "20", "--out", str(tmp_path)]
    assert cli.main(words) == 0 and capsys.readouterr().err == ""
    monkeypatch.setattr(cli, "SILENT_SECONDS", 0.0)
    assert cli.main(words) == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines and all(line.startswith("drawing networks: ") for line in lines)
    done, total = lines[-1].removeprefix("drawing networks: ").split(" of ")
    assert done == total
    assert cli.main([*words, "--quiet"]) == 0 and capsys.readouterr().err == ""
