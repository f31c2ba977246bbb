"""A cell's engine: a fixed rule, the same until its end, and what is said of those that are gone."""

import pytest
import torch
from cifar_format import tiny_dataset

import cli
from empirical.engines.choice import EAGER, STACKED, engine_for, engine_name
from empirical.protocol import ENGINES, PAST_ENGINES, TrainSpec
from empirical.study.events import CellFinished, EpochDone
from empirical.study.grid import run_study
from empirical.training import loop
from empirical.training.loop import CellTraining, train_cell
from theory.errors import RequestError
from theory.probe import Probe

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")


def test_auto_is_a_rule_of_the_device_and_never_a_stopwatch(monkeypatch):
    monkeypatch.setattr("time.perf_counter", None)
    assert [engine_name("auto", kind) for kind in ("cpu", "mps", "cuda")] == [
        *("eager", "eager", "stacked")
    ]
    for asked in ("eager", "stacked"):
        assert {engine_name(asked, kind) for kind in ("cpu", "mps", "cuda")} == {asked}


def test_every_engine_can_be_asked_for_and_no_other():
    assert set(ENGINES) == {"auto", EAGER, STACKED}
    with pytest.raises(RequestError, match="engine"):
        TrainSpec(engine="steam")
    for name, engine in (("auto", EAGER), ("eager", EAGER), ("stacked", STACKED)):
        training = CellTraining(TrainSpec(filters=4, batch_size=32, engine=name), tiny_dataset(), CPU)
        assert training.engine == engine and training.notes == []


@pytest.mark.parametrize("name", PAST_ENGINES)
def test_an_engine_of_an_earlier_version_is_refused_in_one_line(name, capsys, tmp_path):
    assert cli.main(["cifar", "--engine", name, "--out", str(tmp_path / "out")]) == 2
    said = (
        f"error: --engine {name} is gone: eager gives the same to rounding; use --engine eager or auto"
    )
    assert capsys.readouterr().err == f"{said}\n"
    assert not (tmp_path / "out").exists()
    spec = TrainSpec(engine=name)  # as a record has it
    assert spec.cell_id == TrainSpec().cell_id
    with pytest.raises(RequestError, match=f"the engine {name} is gone"):
        engine_for(spec, "cpu")


def test_instruments_see_the_same_whatever_the_engine():
    shared = {"depth": 5, "activation": "prelu", "filters": 8, "epochs": 1, "batch_size": 32}
    eager, stacked = (TrainSpec(engine=name, **shared) for name in ("eager", "stacked"))
    state = train_cell(stacked, tiny_dataset(), CPU)
    assert state.engine == "stacked"
    drawn = CellTraining(eager, tiny_dataset(), CPU)
    drawn.look(0)
    assert drawn.initial == state.initial
    state.engine = "eager"  # the same network after its epoch, now looked at by the other
    learned = CellTraining(eager, tiny_dataset(), CPU, state)
    learned.look(1)
    rows = learned.layers[len(state.layers) :]
    assert len(rows) == len(drawn.layers) == len(state.layers) / 2 > 10
    for one, two in zip(drawn.layers + rows, state.layers, strict=True):
        assert {name: repr(value) for name, value in one.items()} == {
            name: repr(value) for name, value in two.items()
        }


def test_a_probe_reads_norms_while_a_cell_is_trained_by_a_stack():
    training = CellTraining(TrainSpec(depth=3, filters=4, engine="stacked"), tiny_dataset(), CPU)
    training.run_epoch()
    with Probe(training.network, ["norm02", "norm03"], backward=True) as probe:
        training.forward(torch.randn(8, 3, 32, 32)).sum().backward()
    assert [reading.module for reading in probe.readings] == ["norm02", "norm03"]
    assert all(reading.backward is not None for reading in probe.readings)


def test_the_engine_of_a_cell_is_fixed_when_it_begins():
    spec = TrainSpec(filters=4, batch_size=32, engine="eager")
    state = CellTraining(spec, tiny_dataset(), CPU).state()
    assert state.engine == "eager"
    asked = TrainSpec(filters=4, batch_size=32, engine="stacked")
    assert asked.cell_id == spec.cell_id
    assert CellTraining(asked, tiny_dataset(), CPU, state).state().engine == "eager"


@pytest.mark.parametrize("name", PAST_ENGINES)
def test_a_run_that_was_interrupted_under_an_engine_that_is_gone_goes_on(tmp_path, monkeypatch, name):
    from trainings import tiny_study

    begin = loop.engine_for
    as_then = lambda *about, **more: (name, begin(*about, **more)[1])  # noqa: E731
    monkeypatch.setattr(loop, "engine_for", as_then)  # as the earlier version would have written it
    spec = tiny_study(tmp_path, engine="auto", initializers=("he",))

    def stop(event):
        if isinstance(event, EpochDone):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study(spec, stop, dataset=tiny_dataset(29, 8))
    monkeypatch.undo()
    events = []
    table = run_study(spec, events.append, dataset=tiny_dataset(29, 8))
    assert table["epoch"].tolist() == [1, 2] and set(table["engine"]) == {"eager"}
    (result,) = [event.result for event in events if isinstance(event, CellFinished)]
    assert any(
        note.startswith(f"begun with the engine {name}, which is gone") for note in result["notes"]
    )
