"""cli → commands → figures → empirical → theory, never the other way; hooks and prints in one place."""

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


def imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module.partition(".")[0]


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
    assert set(imported(tree)) & OURS <= MAY_IMPORT[package] | {package}


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
    assert set(imported(ast.parse("from figures.style import thin"))) & OURS == {"figures"}
    assert "register_forward_hook" in set(calls(ast.parse("m.register_forward_hook(f)")))
