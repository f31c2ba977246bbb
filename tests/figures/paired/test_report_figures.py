"""What people see of a study: the comparison with the report, its figures, and the progress."""

import io
import math

import pandas as pd
import pytest
from rich.console import Console

from empirical.protocol import COURSE_REPORT, Protocol, TrainSpec
from empirical.study.events import CellFinished, EpochDone, StepDone
from empirical.study.grid import compare_with_report
from figures.paired.report_figures import course_report_figures
from figures.study import progress
from figures.study.study_tables import accuracy_table


def cell(depth, seed, accuracies, status="completed"):
    """The rows of one cell in a study's table."""
    identity = {"cell": f"{depth}-{seed}", "initializer": "he", "activation": "relu", "variant": ""}
    identity |= {"dataset": "cifar10", "depth": depth, "seed": seed, "status": status}
    rows = [
        identity | {"epoch": epoch, "test_accuracy": accuracy, "average_weight": 0.1 * epoch}
        for epoch, accuracy in enumerate(accuracies, start=1)
    ]
    return rows or [identity | {"epoch": 0, "test_accuracy": math.nan, "average_weight": math.nan}]


def text(renderable, width=80):
    stream = io.StringIO()
    Console(file=stream, width=width).print(renderable)
    return stream.getvalue()


def words(renderable):
    return " ".join(text(renderable).split())


MIXED = pd.DataFrame(
    [
        *cell(2, 0, [50.0, 60.0]),
        *cell(2, 1, [50.0, 62.0]),
        *cell(5, 0, [50.0, 70.0]),
        *cell(5, 1, [10.0], "diverged"),
        *cell(5, 2, [], "diverged"),
        *cell(12, 0, [10.0], "diverged"),
        *cell(12, 1, [], "diverged"),
    ]
)


def test_a_diverged_cell_is_never_averaged():
    compared = compare_with_report(MIXED).set_index("depth")
    assert compared["test_accuracy"].tolist()[:2] == [61.0, 70.0]
    assert math.isnan(compared.loc[12, "test_accuracy"])
    assert compared["seeds"].tolist() == [2, 3, 2] and compared["diverged"].tolist() == [0, 2, 2]
    assert compared["status"].tolist() == ["completed", "completed", "diverged"]
    assert compared.loc[5, "difference"] == 70.0 - compared.loc[5, "published"]


def test_the_table_says_how_many_seeds_and_how_many_diverged():
    shown = text(accuracy_table(compare_with_report(MIXED)))
    for part in ("(mean of 2)", "(2 of 3 diverged)", "all 2 diverged", "61.00", "70.00"):
        assert part in shown
    assert max(map(len, shown.splitlines())) <= 80
    single = text(accuracy_table(compare_with_report(MIXED[MIXED["cell"] == "2-0"])))
    assert "mean" not in single


def test_the_reports_own_protocol_is_not_said_to_differ():
    assert "differs" not in text(accuracy_table(compare_with_report(MIXED), COURSE_REPORT))


def test_of_other_images_the_course_report_is_not_mentioned():
    other = compare_with_report(MIXED.assign(dataset="digits"))
    assert "course report" in text(accuracy_table(compare_with_report(MIXED)))
    assert "course report" not in text(accuracy_table(other)) and "–" not in text(accuracy_table(other))


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"filters": 8}, "filters 32 (here 8)"),
        ({"norm": "none"}, "norm batch (here none)"),
        ({"fan": "fan_in"}, "fan fan_out (here fan_in)"),
        ({"learning_rate": 0.01}, "learning rate 0.001 (here 0.01)"),
        ({"batch_size": 128}, "batch size 64 (here 128)"),
        ({"precision": "bf16"}, "precision fp32 (here bf16)"),
        ({"limit_train": 500}, "training images all (here 500)"),
        ({"limit_test": 2000}, "test images all (here 2,000)"),
        ({"epochs": 1}, "epochs 10 (here 1)"),
        ({"gain_slope": 0.25}, "slope in He's gain 0.01 (here 0.25)"),
    ],
    ids=str,
)
def test_every_difference_from_the_reports_protocol_is_said(changes, said):
    shown = words(accuracy_table(compare_with_report(MIXED), Protocol(**changes)))
    assert f"The course report's protocol differs: {said}." in shown
    both = Protocol(**({"filters": 4} | changes))
    assert said in words(accuracy_table(compare_with_report(MIXED), both))


def test_with_one_depth_the_words_do_not_wrap_to_the_table():
    shown = text(accuracy_table(compare_with_report(MIXED[MIXED["depth"] == 2])))
    assert shown.splitlines()[0] == "Final test accuracy in percent"
    assert max(map(len, shown.splitlines())) > 70


def legend(figure):
    return [entry.get_text() for entry in figure.legends[0].get_texts()]


def test_a_figure_without_a_single_measurement_says_so():
    figures = course_report_figures(MIXED[MIXED["cell"] == "12-1"])
    assert len(figures) == 2
    for figure in figures.values():
        figure.canvas.draw()  # a warning would be an error
        assert legend(figure)[0] == "12 (diverged\nin epoch 1)"
        assert "every cell diverged in epoch 1" in [note.get_text() for note in figure.axes[0].texts]


def test_the_legend_says_who_diverged_and_the_mean_is_of_the_others():
    figure = course_report_figures(MIXED)["test-accuracy-he-relu"]
    assert legend(figure) == [
        "2",
        "5 (2 of 3 diverged\nin epochs 1–2)",
        "12 (diverged\nin epochs 1–2)",
        "least to\ngreatest seed",
        "a seed until\nit diverged",
        "printed in\nthe course report",
    ]
    means = {line.get_label(): line.get_ydata().tolist() for line in figure.axes[0].lines}
    assert means["2"] == [50.0, 61.0]
    assert means["5 (2 of 3 diverged\nin epochs 1–2)"] == [50.0, 70.0]
    assert not figure.axes[0].texts


def test_the_progress_tells_accuracy_speed_and_time_left():
    spec = TrainSpec(depth=5)
    step = StepDone(spec, 1, 8, 2, 640, 50_000, 1.234, 2345.6, 200.0, 55.13)
    assert progress.pace(step) == "loss 1.234 · accuracy 55.1 % · 2,346 images/s · 3 min 20 s left"
    first = StepDone(spec, 1, 8, 1, 640, 50_000, 1.234, 2345.6, None)
    assert progress.pace(first) == "loss 1.234 · 2,346 images/s"
    row = {"epoch": 2, "train_loss": 1.2345, "test_accuracy": 55.13, "seconds": 21.3}
    line = progress.announcement(EpochDone(spec, 1, 8, row, 2345.6, 8000.0))
    assert line == "  epoch  2/10  loss 1.2345  accuracy 55.13 %  2,346 images/s  2 h 13 min left"
    assert len(line) < 80
    last = progress.announcement(EpochDone(spec, 8, 8, row, 2345.6, 0.0))
    assert last.endswith("images/s")


def test_a_diverged_cell_is_still_a_warning():
    event = CellFinished(TrainSpec(), 1, 1, {"status": "diverged"}, False)
    assert "diverged" in progress.announcement(event)


def test_arms_are_rows_of_their_own_and_named():
    changed = {"cell": "t", "variant": "fan_in", "fan": "fan_in"}
    textbook = pd.DataFrame([row | changed for row in cell(2, 0, [67.5])])
    printed = pd.DataFrame(cell(2, 0, [50.0])).assign(fan="fan_out")
    compared = compare_with_report(pd.concat([printed, textbook]))
    assert compared["variant"].tolist() == ["", "fan_in"]
    assert compared["test_accuracy"].tolist() == [50.0, 67.5]
    shown = text(accuracy_table(compared))
    assert "as printed" in shown and "fan_in" in shown


def test_a_regression_is_scored_by_what_it_explains():
    """Neither table nor progress calls it an accuracy; what all rows share is said once."""
    spec = TrainSpec(dataset="diabetes", norm="none", fan="fan_in", augment="none", epochs=2)
    rows = [
        row | spec.config() | {"cell": init, "variant": words_, "initializer": init}
        for init, words_ in (("he", "no batch norm, fan_in"), ("xavier", "no batch norm"))
        for row in cell(2, 0, [30.0])
    ]
    shown = text(accuracy_table(compare_with_report(pd.DataFrame(rows)), spec))
    assert "Final test explained variance in percent" in shown and "accuracy" not in shown
    assert shown.count("no batch norm") == 1 and shown.count("\n   fan_in") == 1
    drawn = course_report_figures(pd.DataFrame(rows))["test-accuracy-xavier-relu"]
    assert drawn.axes[0].get_ylabel() == "test explained variance (percent)"
    row = {"epoch": 2, "train_loss": 1.2, "test_accuracy": 30.0, "seconds": 1.0}
    line = progress.announcement(EpochDone(spec, 1, 8, row, 234.0))
    assert line == "  epoch  2/2  loss 1.2000  explained variance 30.00 %  234 examples/s"
    pace = progress.pace(StepDone(spec, 1, 8, 2, 64, 500, 1.2, 234.0, None, 30.0))
    assert pace == "loss 1.200 · explained variance 30.0 % · 234 examples/s"
