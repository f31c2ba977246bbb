"""cli → commands → figures → empirical → theory, never the other way, and no circle anywhere.

The laws are numpy and scipy; hooks, prints, exits and run folders have one place each.  Imports inside
functions count; those for type checkers alone do not.
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {
    "theory": set(),
    "empirical": {"theory"},
    "figures": {"theory", "empirical"},
    "commands": {"theory", "empirical", "figures"},
}
OURS = {*MAY_IMPORT, "cli"}
SOURCES = [path for package in MAY_IMPORT for path in sorted((ROOT / package).rglob("*.py"))]


def statements(tree):
    """Every node but those under ``if TYPE_CHECKING``."""
    for node in ast.iter_child_nodes(tree):
        if not (isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"):
            yield node
            yield from statements(node)


def imported(tree):
    """The full names of the modules that are imported, and of what is taken from them."""
    for node in statements(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def tops(tree):
    return {name.partition(".")[0] for name in imported(tree)}


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def circles(graph):
    """The strongly connected parts of more than one module (Tarjan 1972)."""
    index, low, stack, found = {}, {}, [], []

    def visit(name):
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in graph[name]:
            if other not in index:
                visit(other)
            if other in stack:
                low[name] = min(low[name], low[other])
        if low[name] == index[name]:
            part = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(part) > 1:
                found.append(sorted(part))

    for name in graph:
        if name not in index:
            visit(name)
    return found


def calls(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            function = node.func
            yield function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def relative(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_a_package_imports_only_what_lies_below_it(path):
    package = path.relative_to(ROOT).parts[0]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert tops(tree) & OURS <= MAY_IMPORT[package] | {package}


LAWS = [path for path in SOURCES if path.is_relative_to(ROOT / "theory" / "law")]


@pytest.mark.parametrize("path", LAWS, ids=relative)
def test_the_laws_are_numpy_and_scipy(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not tops(tree) & {"torch", "torchvision", "matplotlib", "rich"}
    ours = {name for name in imported(tree) if name.startswith("theory.")}
    assert not {name for name in ours if name.startswith(("theory.draw", "theory.predict"))}


def test_there_is_no_circle():
    trees = {module_name(path): ast.parse(path.read_text(encoding="utf-8")) for path in SOURCES}
    graph = {name: set(imported(tree)) & set(trees) - {name} for name, tree in trees.items()}
    assert circles(graph) == []


RECORDS = {"config.json", "epochs.csv", "result.json", "layers.csv"}


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_only_the_records_open_run_folders(path):
    """By the names of the files in them, as they stand in code that reads or writes."""
    if path.is_relative_to(ROOT / "empirical" / "records"):
        return
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):  # FOLDER / "result.json"
            assert getattr(node.right, "value", None) not in RECORDS, f"line {node.lineno}"


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_hooks_prints_exits_and_global_seeds_stay_out(path):
    called = set(calls(ast.parse(path.read_text(encoding="utf-8"))))
    if path.name != "probe.py":
        assert not {name for name in called if name.startswith("register_") and "hook" in name}
    assert not called & {"print", "exit", "_exit"}
    assert not called & {"seed_all", "manual_seed_all"}
    if path.name != "randomness.py":
        assert "manual_seed" not in called


def test_the_rule_is_seen_to_bite():
    assert tops(ast.parse("from figures.style import thin")) & OURS == {"figures"}
    late = "def f():\n    import torch\nif TYPE_CHECKING:\n    import scipy"
    assert tops(ast.parse(late)) == {"torch"}
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a", "d2"}, "d2": set()}
    assert circles(graph) == [["b", "c"]]
    assert "register_forward_hook" in set(calls(ast.parse("m.register_forward_hook(f)")))
