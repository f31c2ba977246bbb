"""The doors: every name they offer is there, no module hides one, and none loads anything early."""

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import fanin
from theory.errors import RequestError
from theory.specs import VarianceSpec

ROOT = Path(__file__).parent.parent
DOORS = sorted(
    ".".join(path.parent.relative_to(ROOT).parts)
    for package in ("theory", "empirical", "figures")
    for path in (ROOT / package).rglob("__init__.pyi")
)
HEAVY = "{'torch', 'numpy', 'pandas', 'scipy', 'matplotlib'}"


def offered(door):
    """(the module, the name) of everything in the stub of ``door``; the module is None for modules."""
    stub = ROOT.joinpath(*door.split("."), "__init__.pyi")
    for node in ast.parse(stub.read_text(encoding="utf-8")).body:
        assert isinstance(node, ast.ImportFrom) and node.level == 1
        for alias in node.names:
            assert alias.asname == alias.name, f"{door}: {alias.name} is not offered under its own name"
            yield node.module, alias.name


def test_every_folder_of_modules_has_a_door():
    folders = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for package in ("theory", "empirical", "figures")
        for path in (ROOT / package).rglob("*.py")
    }
    assert set(DOORS) == folders


@pytest.mark.parametrize("door", DOORS)
def test_every_name_of_a_door_is_what_its_module_defines(door):
    package = importlib.import_module(door)
    wrong = []
    for module, name in offered(door):
        try:
            source = importlib.import_module(f"{door}.{module or name}")
            known = source if module is None else getattr(source, name)
        except (ImportError, AttributeError) as error:
            wrong.append(f"{name}: {error}")
            continue
        assert getattr(package, name) is known, f"{door}.{name}"
    assert not wrong


@pytest.mark.parametrize("door", DOORS)
def test_no_name_of_a_door_is_also_the_name_of_another_module(door):
    """Whoever imports such a module would change what the name means."""
    package = importlib.import_module(door)
    modules = {module.name for module in pkgutil.iter_modules(package.__path__)}
    assert not modules & {name for module, name in offered(door) if module is not None}


@pytest.mark.parametrize("door", [door for door in DOORS if "." in door])
def test_a_room_names_all_its_modules(door):
    """But for pictures, which the gallery finds, so that one more is one file more."""
    package = importlib.import_module(door)
    modules = {module.name for module in pkgutil.iter_modules(package.__path__)}
    if door == "figures.paired":
        pictures = {f"{door}.{name}": name for name in modules}
        modules -= {
            name for path, name in pictures.items() if hasattr(importlib.import_module(path), "FIGURES")
        }
    assert modules == {name for module, name in offered(door) if module is None}


def test_a_name_that_is_not_offered_is_an_attribute_error():
    for module in (fanin, *(importlib.import_module(door) for door in DOORS)):
        with pytest.raises(AttributeError, match="no_such_name"):
            module.no_such_name  # noqa: B018


@pytest.mark.parametrize("door", ["fanin", *DOORS])
def test_a_door_loads_nothing_heavy(door):
    program = f"import sys, {door}; sys.exit(', '.join({HEAVY} & set(sys.modules)) or 0)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_face_has_every_name_of_the_doors_and_nothing_of_its_own():
    names = {
        name
        for door in ("theory", "theory.predict", "theory.audit", "empirical")
        for _, name in offered(door)
    }
    assert set(fanin.__all__) == names | {"theory", "empirical", "figures"} == set(dir(fanin))
    for name in fanin.__all__:
        assert getattr(fanin, name) is not None
    tree = ast.parse((ROOT / "fanin.py").read_text(encoding="utf-8"))
    defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert defined == {"__getattr__", "__dir__"}


def test_the_face_has_what_a_notebook_asks_for():
    from theory.predict import prediction

    assert fanin.predict is prediction.predict and fanin.measure is prediction.measure
    assert fanin.compare is prediction.compare
    assert callable(fanin.run_study) and isinstance(fanin.Probe, type)
    assert callable(fanin.figures.variance_figure)


def test_a_question_takes_its_spec_or_the_fields_of_it():
    small = {"depth": 2, "width": 8, "draws": 3, "initializers": ("he",), "device": "cpu"}
    seen = []
    by_keywords = fanin.variance(**small, on_progress=lambda done, total: seen.append(done))
    assert by_keywords.equals(fanin.variance(VarianceSpec(**small)))
    assert seen[-1] == small["draws"]
    assert fanin.gains(activations=("relu",))["activation"].tolist() == ["relu"]


def test_an_unknown_field_is_refused_with_the_nearest():
    with pytest.raises(RequestError, match="keyword of variance 'dept': did you mean depth"):
        fanin.variance(dept=3)
    with pytest.raises(RequestError, match="depth must be"):
        fanin.variance(depth=0)
    with pytest.raises(RequestError, match="did you mean digits"):  # a field, and an option's name too
        fanin.run_study(dataset="digitz")
    one = fanin.variance(depth=3, width=8, draws=4, initializers="he", activations="relu", device="cpu")
    assert set(one["initializer"]) == {"he"} and len(one) == 3
    with pytest.raises(RequestError, match=r"variance takes a VarianceSpec, or .*depth=…\), not 30"):
        fanin.variance(30)
