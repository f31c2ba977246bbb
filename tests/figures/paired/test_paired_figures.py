"""The study's pictures: they hold the tables' numbers, name what is missing, and nothing overlaps."""

import itertools
import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from synthetic_study import accuracy, cells_of, initial_loss, signal, study_of

import cli
from commands.study import cifar
from empirical.arm import Arm
from empirical.judgment.selection import arm as spec_arm
from empirical.judgment.selection import select, with_arms
from empirical.judgment.statistics import INSUFFICIENT
from empirical.presets import PRESETS
from empirical.protocol import TrainSpec, published_accuracy
from empirical.records.published import read, spec_of
from figures import paired, style
from figures.paired.accuracy_map import MARKS, SINGLE, cell_table, comparison_marks, relative_step
from figures.paired.relative_steps import relative_steps
from figures.paired.report_figures import REPORT, course_report_figures
from figures.paired.signal import first_look
from figures.paired.weights import learned_slopes
from figures.prose import name_of
from figures.study.gallery import find_figures, gallery, how_to_complete, index_table
from theory.lessons.paper import LEARNED_SLOPES

ALL = find_figures()
FIGURES = REPORT | ALL


AT_FULL_SIZE = "protocol-agreement"  # has no cell of a study of a few epochs


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    return study_of(cells_of(), tmp_path_factory.mktemp("everything"))


@pytest.fixture(scope="module")
def drawn(everything):
    """Every figure, once."""
    return {name: figure.figure(everything) for name, figure in FIGURES.items()}


def labels(figure):
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def lines_of(axes, color):
    """The lines of this color that are curves (predictions and learning curves)."""
    return [line for line in axes.lines if same_color(line, color) and len(line.get_xdata()) > 1]


def same_color(line, color):
    return to_hex(line.get_color()) == to_hex(color)


# ------------------------------------------------------------------------------- what they show


NEW = """
from figures import style
from figures.paired.paired import Paired

def draw(records, published):
    with style.canvas(3.0) as figure:
        figure.subplots().plot(records.cells["final_test_accuracy"])
    return figure

FIGURES = {"all-accuracies": Paired("Accuracies", "report", draw, lambda *_: "In order.", place=45)}
"""


def test_a_file_is_all_that_a_new_picture_needs(everything, monkeypatch, tmp_path):
    (tmp_path / "a_new_picture.py").write_text(NEW, encoding="utf-8")
    monkeypatch.setattr(paired, "__path__", [*paired.__path__, str(tmp_path)])
    found = find_figures()
    names = list(found)
    assert set(names) - set(ALL) == {"all-accuracies"}
    assert names.index("training-loss") < names.index("all-accuracies") < names.index("weight-change")
    new = found["all-accuracies"]
    assert new.caption(everything) == "In order." and new.figure(everything).axes


def test_the_registry_is_the_report_and_the_paired_figures():
    assert len(REPORT) == 8 and len(ALL) == 15
    kinds = {"average-weight", "test-accuracy"}
    assert set(REPORT) == {f"{kind}-{law}-{activation}" for kind in kinds
                           for law in ("he", "normal") for activation in ("relu", "prelu")}  # fmt: skip


@pytest.mark.parametrize("depth", (2, 5, 10, 12))
def test_signal_and_gradient_are_predicted_and_measured_by_layer(drawn, depth):
    figure = drawn["signal-relu"]
    row = (2, 5, 10, 12).index(depth)
    panels = np.array(figure.axes).reshape(4, 3)[row]
    layers = np.arange(1, depth + 2)
    for law, look in style.initializer_looks(["he", "normal"]).items():
        cell = TrainSpec(initializer=law, depth=depth)
        moments = np.array([signal(cell, number) for number in layers])
        for axes, values, measured in zip(panels[:2], moments.T, (1.2, 1.3), strict=True):
            predicted, seen = lines_of(axes, look.color)
            np.testing.assert_array_equal(predicted.get_xdata(), layers)
            np.testing.assert_allclose(predicted.get_ydata(), np.log10(values), atol=1e-4)
            assert seen.get_linestyle() == "None" and seen.get_marker() == look.marker
            np.testing.assert_allclose(seen.get_ydata(), np.log10(measured * values), atol=1e-4)
        (curve,) = lines_of(panels[2], look.color)
        assert curve.get_ydata()[-1] == pytest.approx(10 + (accuracy(cell) - 10) * (1 - 0.5**10))
    assert panels[0].get_ylabel() == f"{depth} layers"
    assert len({axes.get_ylim() for axes in np.array(figure.axes).reshape(4, 3)[:, 0]}) == 1


def test_the_stall_shows_losses_and_that_of_having_learned_nothing(drawn, everything):
    panels = np.array(drawn["stall"].axes).reshape(2, 3)
    assert [axes.get_ylabel() for axes in panels[:, 0]] == ["22 layers", "30 layers"]
    for axes in panels[:, 2]:
        assert any(np.allclose(line.get_ydata(), math.log(10)) for line in axes.lines)
    caption = ALL["stall"].caption(everything)
    gradient = math.log10(signal(TrainSpec(initializer="xavier", depth=30), 1)[1])
    assert f"Xavier 10^{gradient:.1f} predicted" in caption and "ln 10 = 2.303" in caption
    assert "SGD, learning rate 0.01" in caption


def test_initial_losses_lie_where_the_table_says(drawn, everything):
    left, right = drawn["initial-loss"].axes
    points = {tuple(np.round(point, 6)) for line in left.lines for point in line.get_xydata()}
    outcomes = {tuple(np.round(point, 6)) for line in right.lines for point in line.get_xydata()}
    for cell in cells_of("report", "head", "effective-lr"):
        x = math.log10(float(f"{initial_loss(cell):.9g}"))
        y = math.log10(1.1 * initial_loss(cell))
        assert (round(x, 6), round(y, 6)) in points
        assert (round(x, 6), round(10 + (accuracy(cell) - 10) * (1 - 0.5**10), 6)) in outcomes
    assert left.get_xlim() == left.get_ylim() == right.get_xlim()
    assert "×1.10 in the median" in ALL["initial-loss"].caption(everything)


def test_the_relative_step_is_the_learning_rate_over_the_laws_std():
    he = math.sqrt(2 / ((1 + 0.01**2) * 9 * 32))  # fan_out of 32 filters, gain at slope 0.01
    assert relative_step(TrainSpec(depth=5)) == pytest.approx(1e-3 / he, rel=1e-12)
    assert relative_step(TrainSpec(depth=5, initializer="normal")) == 1e-3
    rescaled = TrainSpec(depth=5, initializer="normal", learning_rate_reference="he")
    assert relative_step(rescaled) == pytest.approx(1e-3 / he, rel=1e-12)
    assert math.isnan(relative_step(TrainSpec(depth=5, norm="none")))
    assert math.isnan(relative_step(TrainSpec(depth=5, optimizer="sgd")))


def test_rescaled_steps_are_hes_in_every_layer(everything):
    steps = relative_steps(select(everything, "effective-lr").own)
    steps["arm"] = steps["arm"].map(str)
    by_arm = steps.pivot_table(index=["depth", "number"], columns="arm", values="predicted")
    np.testing.assert_allclose(by_arm["normal, head he, he's relative steps"], by_arm["he"], rtol=1e-12)
    assert (by_arm["normal"] == 1e-3).all()
    last = by_arm["he"].groupby("depth").last()
    np.testing.assert_allclose(last, 1e-3 / math.sqrt(2 / (1.0001 * 10)), rtol=1e-12)


def test_of_sgd_the_relative_step_goes_with_the_variance(tmp_path):
    cell = TrainSpec(depth=2, optimizer="sgd", learning_rate=0.1, norm="none")
    steps = relative_steps(with_arms(study_of([cell], tmp_path)))
    variances = [2 / (1.0001 * 288), 2 / (1.0001 * 288), 2 / (1.0001 * 10)]
    assert steps["predicted"].tolist() == pytest.approx([0.1 / variance for variance in variances])


def test_the_last_layer_stands_beside_the_printed_numbers(drawn, everything):
    figure = drawn["last-layer-prelu"]
    right = figure.subfigs[0].axes[1]
    (stars,) = (line for line in right.lines if line.get_marker() == "*")
    printed = [published_accuracy("he", "prelu", depth) for depth in (2, 5, 10, 12)]
    assert list(stars.get_ydata()) == printed and list(stars.get_xdata()) == [2, 5, 10, 12]
    assert labels(figure) == [
        "He as printed",
        "He, head fan_in",
        "He, fan_in",
        "course report (one run)",
        "ln 10: guessing",
    ]
    reached = [10 + (60 + depth + 1 - 10) * (1 - 0.5**10) for depth in (2, 5, 10, 12)]
    away = np.mean(np.abs(np.array(reached) - printed))
    assert f"He as printed {away:.1f};" in ALL["last-layer-prelu"].caption(everything)


def test_slopes_stand_beside_the_papers_table(drawn):
    paper, *laws = drawn["slopes"].axes
    assert (LEARNED_SLOPES[0], LEARNED_SLOPES[-1]) == (("conv1", 0.681, 0.596), ("fc2", 0.031, 0.075))
    assert [line.get_ydata()[0] for line in paper.lines[:2]] == [0.681, 0.596]
    assert len(LEARNED_SLOPES) == 13  # the parameters of the shared version, as the paper counts them
    assert len(laws) == 3
    for axes in laws:
        curves = [line for line in axes.lines if line.get_marker() != "None"]
        assert [len(line.get_xdata()) for line in curves] == [2, 5, 10, 12]
        np.testing.assert_allclose(curves[3].get_ydata(), 0.25 + 0.4 / np.arange(1, 13), rtol=1e-4)
        assert axes.get_legend().get_texts()[0].get_text() == "2 layers"


def test_the_map_holds_accuracies_and_marks(drawn, everything):
    figure = drawn["accuracy-map"]
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert all("step" in name and name.count("\n") <= 1 for name in names)  # three lines would touch
    theory, practice = figure.axes[0], figure.axes[1]
    assert practice.collections[0].get_array()[0, 3] == pytest.approx(10 + (72 - 10) * (1 - 0.5**10))
    assert theory.collections[0].get_array()[0, 0] == pytest.approx(initial_loss(TrainSpec()), rel=1e-8)
    texts = {text.get_text() for text in practice.texts}
    of_he = {f"{10 + (accuracy(TrainSpec(depth=d)) - 10) * (1 - 0.5**10):.1f}" for d in (2, 5, 10, 12)}
    assert {text for text in texts if not text.endswith(SINGLE)} == of_he
    assert "single run" in figure.get_supxlabel()


@pytest.mark.parametrize("seeds, mark", [(1, SINGLE), (3, INSUFFICIENT), (8, "first higher")])
def test_marks_follow_the_seeds(tmp_path, seeds, mark):
    cells = cells_of("report", activations=("relu",), depths=(2, 5), seeds=tuple(range(seeds)))
    tables = with_arms(study_of(cells, tmp_path))
    found = comparison_marks(tables.study, "relu")
    assert found == {(Arm("normal"), depth): MARKS.get(mark, mark) for depth in (2, 5)}


def test_a_diverged_cell_is_named_and_never_averaged_in(tmp_path):
    cells = cells_of("no-norm", activations=("relu",))
    (lost,) = (cell for cell in cells if (cell.initializer, cell.depth) == ("normal", 12))
    tables = study_of(cells, tmp_path, {lost.cell_id: 0})
    figure = ALL["signal-no-norm-relu"].figure(tables)
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert texts == ["N(0, 1) diverges in epoch 1"]
    row = cell_table(with_arms(tables)).set_index("cell").loc[lost.cell_id]
    assert row["status"] == "diverged" and math.isnan(row["final_test_accuracy"])


def test_slopes_of_diverged_cells_are_out(tmp_path):
    cells = cells_of("report", activations=("prelu",), depths=(2,))
    tables = study_of(cells, tmp_path, {cells[0].cell_id: 1})
    assert set(learned_slopes(tables)["cell"]) == {cells[1].cell_id}


def test_a_moment_that_is_zero_or_unknown_is_no_point(tmp_path):
    tables = study_of(cells_of("report", activations=("relu",), depths=(2,)), tmp_path)
    tables.layers.loc[0, ["second_moment", "second_moment_predicted"]] = (0.0, math.nan)
    looked = first_look(tables)
    assert looked.loc[0, ["second_moment", "second_moment_predicted"]].isna().all()
    assert looked["second_moment"].notna().sum() == len(looked) - 1


def test_a_band_spans_the_seeds_around_their_mean(tmp_path):
    cells = cells_of("report", activations=("relu",), depths=(2,), seeds=(0, 1, 2))
    records = study_of(cells, tmp_path)
    axes = REPORT["test-accuracy-he-relu"].figure(records).axes[0]
    (mean,) = (line for line in axes.lines if line.get_marker() != "*")
    (band,) = axes.collections
    he = records.study[records.study["initializer"] == "he"]
    by_epoch = he.groupby("epoch")["test_accuracy"]
    np.testing.assert_allclose(mean.get_ydata(), by_epoch.mean())
    corners = band.get_paths()[0].vertices
    for epoch, values in by_epoch:
        drawn = corners[corners[:, 0] == epoch, 1]
        assert (drawn.min(), drawn.max()) == pytest.approx((values.min(), values.max()))


# ------------------------------------------------------------------------------- one thing each


def test_the_answer_is_theory_above_practice_in_three_conditions(drawn, everything):
    grid = np.array(drawn["answer"].axes).reshape(2, 3)
    titles = [axes.get_title() for axes in grid[0]]
    assert titles == ["batch norm, 12 layers", "no batch norm, 12 layers", "no batch norm, 30 layers"]
    for axes, depth, laws in zip(grid[0], (12, 12, 30), (3, 3, 2), strict=True):
        assert len(axes.lines) == laws
        for law, look in style.initializer_looks(["he", "xavier", "normal"][:laws]).items():
            (curve,) = lines_of(axes, look.color)
            cell = TrainSpec(initializer=law, depth=depth)
            expected = [math.log10(signal(cell, number)[0]) for number in range(1, depth + 2)]
            np.testing.assert_allclose(curve.get_ydata(), expected, atol=1e-4)
    reached = 10 + (accuracy(TrainSpec(initializer="xavier", depth=30)) - 10) * (1 - 0.5**10)
    assert f"{reached:.1f}" in {text.get_text() for text in grid[1, 2].texts}
    assert len({axes.get_ylim() for axes in grid[1]}) == 1
    beyond = [cell for cell in everything.cells["cell"] if "no-such" not in cell]
    layers = everything.layers.copy()
    layers["second_moment_predicted"] *= 1e20
    far = ALL["answer"].figure(replace(everything.of(beyond), layers=layers))
    assert any("↑ to" in text.get_text() for text in far.axes[0].texts)


def test_captions_say_what_holds_n01_back_from_every_arm(everything):
    cells = everything.cells
    (head,) = (
        cell for cell in cells_of("effective-lr", depths=(2,))
        if cell.head_initializer == "he" and cell.learning_rate_reference is None
    )  # fmt: skip
    changed = cells.assign(
        final_test_accuracy=cells["final_test_accuracy"].where(cells["cell"] != head.cell_id, 44.95)
    )
    for name in ("answer", "relative-steps"):
        caption = ALL[name].caption(replace(everything, cells=changed))
        assert "N(0, 1) as printed 41.97 %; N(0, 1), head He 44.95 %;" in caption
        assert (
            "N(0, 1), He's relative steps 41.97 %; N(0, 1), head He, He's relative steps 41.97 %."
            in caption
        )
    only = everything.of(cells.loc[cells["initializer"] == "xavier", "cell"])
    assert "holds N(0, 1) back" not in ALL["answer"].caption(only)


def test_pictures_of_a_kind_have_the_same_axes(everything, drawn):
    for kind in ("average-weight", "test-accuracy"):
        limits = {drawn[f"{kind}-{law}-{activation}"].axes[0].get_ylim()
                  for law in ("he", "normal") for activation in ("relu", "prelu")}  # fmt: skip
        assert len(limits) == 1


@pytest.mark.parametrize("law", ["he", "normal"])
def test_printed_accuracies_are_stars(drawn, law):
    axes = drawn[f"test-accuracy-{law}-prelu"].axes[0]
    stars = [line for line in axes.lines if line.get_marker() == "*"]
    printed = [published_accuracy(law, "prelu", depth) for depth in (2, 5, 10, 12)]
    assert [line.get_ydata()[0] for line in stars] == printed
    assert min(line.get_xdata()[0] for line in stars) > 10
    assert "printed in\nthe course report" in labels(drawn[f"test-accuracy-{law}-prelu"])
    assert not [line for line in drawn[f"average-weight-{law}-prelu"].axes[0].lines
                if line.get_marker() == "*"]  # fmt: skip


def test_the_average_weight_begins_as_drawn(drawn):
    for line in drawn["average-weight-he-relu"].axes[0].lines:
        assert (line.get_xdata()[0], line.get_ydata()[0]) == (0, 0.1)
    assert drawn["test-accuracy-he-relu"].axes[0].lines[0].get_xdata()[0] == 1


def test_no_line_runs_through_a_depth_that_was_not_run(everything):
    gone = {cell.cell_id for cell in cells_of("head", depths=(5, 10)) if cell.head_fan == "fan_in"}
    figure = ALL["last-layer-relu"].figure(everything.of(set(everything.cells["cell"]) - gone))
    look = style.arm_looks([Arm("he"), Arm("he", (("head_fan", "fan_in"),))])
    color = look[Arm("he", (("head_fan", "fan_in"),))].color
    for axes in figure.subfigs[0].axes:
        for line in lines_of(axes, color):
            assert np.isnan(line.get_ydata()).tolist() == [False, True, True, False]


def test_bright_is_good_at_the_same_end_of_both_scales(drawn):
    bars = drawn["accuracy-map"].axes[-2:]
    loss, accuracies = (axes.get_xlim() for axes in bars)
    assert loss[0] > loss[1] and accuracies[0] < accuracies[1]
    assert all(axes.get_xlabel().endswith("better →") for axes in bars)


def test_measured_markers_of_arms_that_coincide_stand_side_by_side(drawn):
    axes = drawn["relative-steps"].axes[0]
    first = [line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == "None"]
    assert len(first) == len(set(np.round(first, 6))) == 5


def test_legends_say_what_bands_and_thin_lines_are(tmp_path):
    cells = cells_of("report", activations=("relu",), depths=(2,), seeds=(0, 1, 2))
    lost = {cells[0].cell_id: 3}
    records = study_of(cells, tmp_path, lost)
    for name in ("test-accuracy-he-relu", "signal-relu", "training-loss"):
        said = labels(FIGURES[name].figure(records))
        assert {"least to\ngreatest seed", "a seed until\nit diverged"} <= set(said), name


def test_the_losses_of_all_sixteen_networks_share_their_axes(drawn):
    grid = np.array(drawn["training-loss"].axes).reshape(2, 2)
    assert [axes.get_title() for axes in grid.flat] == [
        "He, ReLU", "N(0, 1), ReLU", "He, PReLU", "N(0, 1), PReLU",
    ]  # fmt: skip
    curves = [line for axes in grid.flat for line in axes.lines if line.get_marker() != "None"]
    assert len(curves) == 16 and len({axes.get_ylim() for axes in grid.flat}) == 1
    expected = math.log10(initial_loss(TrainSpec(initializer="normal", depth=12)) / 11)
    deepest = grid[0, 1].lines[3]
    assert deepest.get_ydata()[-1] == pytest.approx(expected, abs=1e-6)


def test_the_change_of_weights_is_by_layer_and_epoch(drawn, everything):
    grid = np.array(drawn["weight-change"].axes).reshape(2, 4)
    (line,) = grid[1, 3].lines  # the made-up study has one later epoch
    np.testing.assert_allclose(line.get_ydata(), np.log10(0.1 * 10), atol=1e-9)
    assert list(line.get_xdata()) == list(range(1, 14))
    assert "He 1, N(0, 1) 1" in ALL["weight-change"].caption(everything)


# ------------------------------------------------------------------------------- how they look


def boxes(figure):
    """Where legends, note and axes with their labels lie, in pixels; and the whole figure."""
    with style.styled():
        renderer = FigureCanvasAgg(figure).get_renderer()
        figure.draw_without_rendering()
        found = {f"axes {i}": axes.get_tightbbox(renderer) for i, axes in enumerate(figure.axes)}
        found |= {
            f"legend {i}": one.get_window_extent(renderer) for i, one in enumerate(figure.legends)
        }
        note = figure._supxlabel
        if note is not None:
            found["note"] = note.get_window_extent(renderer)
    return found, figure.bbox


@pytest.mark.parametrize(
    "name",
    [
        "average-weight-he-relu",
        "test-accuracy-normal-prelu",
        *(one for one in ALL if one != AT_FULL_SIZE),
    ],
)
def test_nothing_overlaps_and_nothing_is_cut_off(everything, name):
    kept = [cell for cell in everything.cells["cell"] if "d12" not in cell and "d30" not in cell]
    found, whole = boxes(FIGURES[name].figure(everything.of(kept)))
    for what, box in found.items():
        assert box.x0 > -1 and box.y0 > -1, what
        assert box.x1 < whole.x1 + 1 and box.y1 < whole.y1 + 1, what
    for (one, first), (two, second) in itertools.combinations(found.items(), 2):
        width = min(first.x1, second.x1) - max(first.x0, second.x0)
        height = min(first.y1, second.y1) - max(first.y0, second.y0)
        assert min(width, height) < 2, f"{one} and {two} overlap"


def test_a_thing_has_one_color_in_every_figure(drawn):
    blue, green = style.BLUE, style.GREEN
    assert lines_of(drawn["signal-relu"].axes[0], blue) and lines_of(drawn["stall"].axes[0], blue)
    keys = {text.get_text(): handle.get_color() for legend in drawn["relative-steps"].legends
            for text, handle in zip(legend.get_texts(), legend.get_lines(), strict=True)}  # fmt: skip
    assert (to_hex(keys["He"]), to_hex(keys["N(0, 1)"])) == (blue.lower(), green.lower())
    for law, color in (("he", blue), ("normal", green)):
        axes = drawn[f"test-accuracy-{law}-relu"].axes[0]
        expected = {look.color for look in style.depth_shades((2, 5, 10, 12), color).values()}
        assert {to_hex(line.get_color()) for line in axes.lines} == expected and len(expected) == 4


def test_arms_differ_in_grey_and_in_marker():
    arms = [spec_arm(cell) for name in ("head", "effective-lr") for cell in cells_of(name)]
    looks = style.arm_looks(arms)
    assert len({look.color for look in looks.values()}) == len(looks) == 7
    assert len({look.marker for look in looks.values()}) == len(looks)
    assert looks[Arm("he")] == style.initializer_looks(["he"])["he"]


def test_names_are_written_as_people_write_them():
    law = {"head_initializer": "he", "learning_rate_reference": "he"}
    assert name_of(Arm("normal", tuple(law.items()))) == "N(0, 1), head He, He's relative steps"
    head = Arm("he", (("head_fan", "fan_in"),))
    assert [name_of(one) for one in (head, "prelu", "tanh")] == ["He, head fan_in", "PReLU", "tanh"]


def test_files_are_the_same_bytes_from_tables_and_every_time(everything, tmp_path):
    for stem in ("a", "b"):
        style.save_figure(ALL["last-layer-relu"].figure(everything), tmp_path / stem)
    for suffix in ("png", "pdf"):
        assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()
    assert b"/FontFile2" in (tmp_path / "a.pdf").read_bytes()  # text, not outlines


# ------------------------------------------------------------------------------- what is missing


def test_a_complete_study_has_every_figure_and_a_caption(everything):
    found = gallery(everything)
    assert list(found.figures) == [name for name in FIGURES if name != AT_FULL_SIZE]
    assert (found.index["missing"] == 0).all() and (found.index["command"] == "").all()
    assert how_to_complete(found.index) is None
    for row in found.index[found.index["figure"] != AT_FULL_SIZE].to_dict("records"):
        assert row["caption"].endswith(".") and "nan" not in row["caption"]
        assert row["cells"] == len(FIGURES[row["figure"]].used(everything).cells) > 0


def test_what_is_missing_is_named_with_the_command_that_makes_it(everything, tmp_path):
    gone = [cell for cell in everything.cells["cell"]
            if spec_of(everything.cells.set_index("cell", drop=False).loc[cell]).norm == "none"
            or ("d12" in cell and "-relu" in cell and "xavier" not in cell)]  # fmt: skip
    left = everything.of(set(everything.cells["cell"]) - set(gone))
    found = gallery(left, [tmp_path])
    rows = found.index.set_index("figure")
    assert not rows.loc[["stall", "signal-no-norm-relu", "signal-no-norm-prelu"], "drawn"].any()
    assert rows.loc["test-accuracy-he-relu", ["missing", "lacks"]].tolist() == [
        1,
        "He · ReLU 12 layers",
    ]
    assert rows.loc["last-layer-prelu", "missing"] == 0
    made = set()
    for command in set(rows["command"]) - {""}:
        words = command.split()
        assert words[:3] == ["python", "cli.py", "cifar"]
        arguments = cli.build_parser().parse_args(words[2:])
        preset = PRESETS[arguments.preset].fields if arguments.preset else {}
        made |= {cell.cell_id for cell in cifar.study_spec(arguments, Path("x"), preset).cells()}
    assert set(gone) <= made
    lacking = REPORT["test-accuracy-he-relu"]
    assert lacking.caption(left).endswith(" No records: He · ReLU 12 layers.")
    assert lacking.figure(left).get_supxlabel() == ""  # the caption says it, not the canvas
    assert ALL["stall"].used(left).cells.empty and ALL["stall"].caption(left) == ""
    shown = index_table(found.index)
    assert any("not drawn: stall" in note for note in shown.notes)


def test_protocols_are_not_mixed_in_the_reports_figures(everything):
    head = select(everything, "head").own.study
    figures = course_report_figures(head)
    assert set(figures) == {
        f"{kind}-he-{activation}{arm}"
        for kind in ("average-weight", "test-accuracy")
        for activation in ("relu", "prelu")
        for arm in ("", "-head-fan-in", "-fan-in")
    }
    title = figures["test-accuracy-he-relu-head-fan-in"].axes[0].get_title()
    assert title == "He initialization, ReLU\nhead fan_in"


# ------------------------------------------------------------------------------- the command


def run(*argv):
    return cli.main(["figures", *map(str, argv)])


@pytest.fixture
def records(everything, tmp_path):
    from empirical.records.published import write

    kept = [cell for cell in everything.cells["cell"] if "relu-d02" in cell or "relu-d05" in cell]
    write(everything.of(kept), tmp_path / "records")
    return tmp_path / "records"


@pytest.fixture
def saved(monkeypatch):
    """The stems of the figures that would be written, without the time that it takes."""
    stems = []
    monkeypatch.setattr("figures.save_figure", lambda figure, stem: stems.append(stem.name) or [])
    monkeypatch.setattr("figures.paired.paired.Paired.figure", lambda figure, published: Figure())
    return stems


def test_the_command_writes_what_can_be_drawn_and_lists_the_rest(records, saved, tmp_path, capsys):
    assert run("--records", records, "--out", tmp_path / "out") == 0
    captured = capsys.readouterr()
    assert set(saved) == set(FIGURES) - {"stall", AT_FULL_SIZE}
    words = " ".join(captured.out.split())
    assert "Missing of he2015: He · ReLU 22, 30 layers; Xavier · ReLU 22, 30" in words
    assert "not drawn: stall" in words
    assert "\n  python cli.py cifar --preset he2015\n" in captured.out
    assert captured.err == ""
    assert (tmp_path / "out" / "figures.csv").exists()


def test_the_json_document_has_a_row_per_figure(few, saved, tmp_path, capsys):
    assert run("--records", few, "--out", tmp_path, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert list(document) == ["command", "spec", "environment", "figures"]
    assert [row["figure"] for row in document["figures"]] == list(FIGURES)
    assert document["spec"]["records"] == [str(few)]


@pytest.fixture
def few(tmp_path):
    cells = cells_of("report", activations=("prelu",), depths=(2,), initializers=("normal",))
    study_of(cells, tmp_path / "few")
    return tmp_path / "few"


def test_real_files_are_written_from_few_records(few, tmp_path):
    assert run("--records", few, "--out", tmp_path / "out", "--quiet") == 0
    for stem in ("average-weight-normal-prelu", "signal-prelu", "slopes", "accuracy-map"):
        for suffix in ("png", "pdf"):
            assert (tmp_path / "out" / f"{stem}.{suffix}").stat().st_size > 5000
    assert not list((tmp_path / "out").glob("*-he-*")) and not list((tmp_path / "out").glob(".*"))


def test_publishing_writes_tables_that_are_the_records(records, tmp_path, capsys):
    assert run("--records", records, "--publish", tmp_path / "new") == 0
    assert "Published" in capsys.readouterr().out
    for name in ("cells.csv", "study.csv", "layers.csv", "ABOUT.md"):
        assert (tmp_path / "new" / name).read_bytes() == (records / name).read_bytes()
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "prepare, says",
    [
        (lambda path: None, "is no folder"),
        (lambda path: path.mkdir(), "holds no records"),
        (lambda path: (path / "cells").mkdir(parents=True), "no finished cell in"),
        (lambda path: path.write_text("a file"), "is no folder"),
    ],
)
def test_bad_records_are_one_line_and_exit_2(prepare, says, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    prepare(tmp_path / "records")
    assert run("--records", tmp_path / "records") == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("error: ") and captured.err.count("\n") == 1
    assert says in captured.err


def test_an_unwritable_place_is_exit_2(records, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    assert run("--records", records, "--out", tmp_path / "file") == 2
    assert run("--records", records, "--publish", tmp_path / "file") == 2
    assert capsys.readouterr().err.count("error: cannot write to") == 2


def test_a_copy_without_a_published_study_says_so(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("commands.options.PUBLISHED", tmp_path / "data")
    assert run() == 2
    assert "no published study" in capsys.readouterr().err


@pytest.mark.parametrize("argv, code", [(["--help"], 0), (["--records", "no/such"], 2)])
def test_help_and_a_wrong_request_need_no_heavy_library(argv, code, tmp_path):
    program = (
        "import sys, cli\n"
        "try:\n    code = cli.main(['figures', *sys.argv[1:]])\n"
        "except SystemExit as stop:\n    code = stop.code or 0\n"
        "heavy = {'torch', 'numpy', 'pandas', 'scipy', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(99 if heavy else code)"
    )
    root = Path(__file__).parent.parent.parent.parent
    done = subprocess.run([sys.executable, "-c", program, *argv], cwd=root, capture_output=True)
    assert done.returncode == code, done.stderr


def test_figures_of_a_run_folder_are_those_of_its_tables(tmp_path):
    import torch
    from cifar_format import tiny_dataset

    from empirical.protocol import StudySpec
    from empirical.records import published
    from empirical.study.grid import run_study

    torch.set_num_threads(1)
    small = {"filters": 4, "epochs": 1, "batch_size": 32, "engine": "eager", "device": "cpu"}
    spec = StudySpec(**small, activations=("prelu",), depths=(2,), out=tmp_path / "run")
    run_study(spec, dataset=tiny_dataset())
    of_run = read(tmp_path / "run")
    published.write(of_run, tmp_path / "tables")
    for stem, tables in (("run", of_run), ("tables", read(tmp_path / "tables"))):
        style.save_figure(ALL["signal-prelu"].figure(tables), tmp_path / stem)
    assert (tmp_path / "run.png").read_bytes() == (tmp_path / "tables.png").read_bytes()
