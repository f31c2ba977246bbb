"""The commands audit and init as their user meets them: JSON, files, exit codes, one error line."""

import json

import pytest

import cli

SOURCE = """
from torch import nn
print("loud")
def deep(depth=20):
    return nn.Sequential(*[p for _ in range(depth) for p in (nn.Linear(32, 32), nn.ReLU())])
def words():
    return nn.Sequential(nn.Embedding(50, 16), nn.LayerNorm(16), nn.Linear(16, 50))
def three():
    return 3
"""
LAYER = {
    "module", "call", "kind", "shape", "fan_in", "fan_out", "groups", "law", "forward_predicted",
    "forward_measured", "forward_band", "backward_predicted", "backward_measured", "basis", "findings",
}  # fmt: skip


@pytest.fixture
def run(tmp_path, capsys):
    (tmp_path / "net.py").write_text(SOURCE, encoding="utf-8")

    def run(command, name, *argv):
        target = f"{tmp_path / 'net.py'}:{name}" if ":" not in name else name
        code = cli.main([command, target, *argv, "--out", str(tmp_path / "out")])
        return code, capsys.readouterr()

    return run


def test_json_is_the_contracts(run):
    code, said = run("audit", "deep", "--input", "32,32", "--json", "--draws", "4")
    document = json.loads(said.out)
    assert code == 0 and document["command"] == "audit" and document["verdict"] == "broken"
    assert LAYER <= set(document["layers"][0])
    assert (
        document["layers"][0]["law"] | {"name": "pytorch", "fan": "fan_in"}
        == document["layers"][0]["law"]
    )
    low, high = document["layers"][0]["forward_band"]
    assert low < document["layers"][0]["forward_measured"] * 1.2 and high > low
    assert (
        document["spec"]["target"].endswith("net.py:deep")
        and document["environment"]["device"] == "cpu"
    )
    first = document["findings"][0]
    assert first["severity"] == "error" and set(first) == {
        "code", "severity", "modules", "message", "evidence", "fix",
    }  # fmt: skip
    assert "loud" not in said.out


def test_tokens_and_a_loss(run):
    _, said = run("audit", "words", "--tokens", "4,12", "--json")
    loss = json.loads(said.out)["loss"]
    assert set(loss) == {"predicted", "measured", "guessing"} and 3.9 < loss["guessing"] < 3.92


def test_fail_on_sets_the_exit_code(run):
    assert run("audit", "deep", "--input", "32,32", "--fail-on", "error")[0] == 3
    shallow = ("--input", "32,32", "--arguments", '{"depth": 1}', "--fail-on", "warning")
    assert run("audit", "deep", *shallow)[0] == 0


def test_tables_and_pictures_are_written(run, tmp_path):
    _, said = run("audit", "deep", "--input", "32,32")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {
        "audit.png",
        "audit.pdf",
        "audit-layers.csv",
        "audit-layers.md",
        "audit-findings.md",
    } <= names
    assert "vanishing-signal" in said.out and "broken" in said.out


def test_init_mends(run):
    code, said = run("init", "deep", "--input", "32,32", "--json")
    document = json.loads(said.out)
    assert code == 0 and document["audit"]["verdict"] == "healthy"
    assert {"parameter", "law", "std", "why"} <= set(document["parameters"][0])


def test_the_factories_of_a_package_are_named(run):
    code, said = run("audit", "torchvision.models:resnet_18")
    assert code == 2 and "did you mean resnet18" in said.err
    assert said.err.endswith(" more\n") and "_Weights" not in said.err


@pytest.mark.parametrize(
    "name, argv, says",
    [
        ("nope", (), "unknown factory"),
        ("three", (), "not an nn.Module"),
        ("deep", ("--input", "32,31"), "does not run on these inputs"),
        ("deep", ("--input", "a,b"), "no list of sizes"),
        ("deep", ("--input", "8,32", "--tokens", "4,4"), "not both"),
        ("deep", ("--tokens", "4,4"), "no nn.Embedding"),
        ("deep", ("--input", "8,32", "--draws", "1"), "--draws"),
        ("deep", ("--input", "8,32", "--classes", "1"), "--classes"),
        ("deep", ("--input", "8,32", "--dtype", "int8"), "unknown dtype"),
        ("deep", ("--arguments", "depth=3"), "not JSON"),
        ("deep", ("--arguments", '{"width": 3}'), "--arguments"),
        ("no.module:net", (), "no module"),
        ("missing.py:net", (), "no file"),
    ],
)
@pytest.mark.parametrize("command", ["audit", "init"])
def test_a_wrong_request_is_one_line(run, command, name, argv, says, tmp_path):
    if command == "init" and "--draws" in argv:
        pytest.skip("init draws no band")
    code, said = run(command, name, *argv)
    assert code == 2 and said.out == ""
    assert said.err.startswith("error: ") and said.err.count("\n") == 1 and says in said.err
    assert not list((tmp_path).rglob("*.csv"))
