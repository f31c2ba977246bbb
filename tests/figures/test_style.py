import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb

from figures import style
from figures.paired.report_figures import course_report_figures
from figures.prose import name_of
from figures.theory.correlation import correlation_figure
from figures.theory.histograms import histogram_figure
from figures.theory.variance import variance_figure, weight_gradient_figure
from theory.draw.correlation import correlation
from theory.draw.variance import histograms, variance
from theory.specs import CorrelationSpec, VarianceSpec


@pytest.fixture(scope="module")
def table():
    spec = VarianceSpec(depth=25, width=16, draws=10, activations=("relu", "tanh"), device="cpu")
    return variance(spec)


def test_the_variance_picture_shows_what_the_table_holds(table):
    figure = variance_figure(table)
    assert len(figure.axes) == 4
    upper = figure.axes[0]
    relu = table[table["activation"] == "relu"]
    lines = [line for line in upper.lines if line.get_marker() == "None"]
    points = [line for line in upper.lines if line.get_marker() != "None"]
    for line, dots, (_, curve) in zip(
        lines, points, relu.groupby("initializer", sort=False), strict=True
    ):
        np.testing.assert_array_equal(line.get_ydata(), curve["log10_theory"])
        shown = curve.set_index("layer").loc[dots.get_xdata(), "log10_measured"]
        np.testing.assert_array_equal(dots.get_ydata(), shown)
        assert dots.get_xdata()[0] == 1
    assert len(upper.collections) == 3  # a band for each curve
    assert not figure.axes[3].collections  # tanh has no exact law, and no band is made up
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "95 % of single networks" in labels and any(label.startswith("Xavier") for label in labels)


@pytest.fixture
def study():
    rows = [
        {"initializer": "he", "activation": activation, "depth": depth, "seed": seed, "epoch": epoch}
        | {"average_weight": 0.1 / epoch, "test_accuracy": 50.0 + depth + seed, "status": "completed"}
        | {"dataset": "cifar10"}
        for activation in ("relu", "prelu")
        for depth in (2, 12)
        for seed in (0, 1)
        for epoch in (1, 2, 3)
    ]
    return pd.DataFrame(rows)


def test_the_report_has_two_figures_per_experiment_and_a_line_per_depth(study):
    figures = course_report_figures(study)
    assert sorted(figures) == [
        "average-weight-he-prelu",
        "average-weight-he-relu",
        "test-accuracy-he-prelu",
        "test-accuracy-he-relu",
    ]
    axes = figures["test-accuracy-he-relu"].axes[0]
    means = {
        line.get_label(): line.get_ydata()[0]
        for line in axes.lines
        if line.get_marker() not in ("None", "*")
    }
    assert means == {"2": 52.5, "12": 62.5}


def test_experiments_of_different_protocols_are_not_averaged(study):
    other = study.assign(epochs=3, fan="fan_in", test_accuracy=study["test_accuracy"] - 30)
    printed = study.assign(epochs=3, fan="fan_out")
    figures = course_report_figures(pd.concat([printed, other], ignore_index=True))
    assert len(figures) == 8
    for stem, first in (("test-accuracy-he-relu", 52.5), ("test-accuracy-he-relu-fan-in", 22.5)):
        axes = figures[stem].axes[0]
        means = {line.get_label(): line.get_ydata()[0] for line in axes.lines}
        assert means["2"] == first
    assert figures["test-accuracy-he-relu-fan-in"].axes[0].get_title().endswith("\nfan_in")


def test_a_figure_can_be_saved_twice_and_keeps_its_layout_engine(table, tmp_path):
    figure = variance_figure(table)
    engine = figure.get_layout_engine()
    style.save_figure(figure, tmp_path / "a")
    assert figure.get_layout_engine() is engine
    assert len(style.save_figure(figure, tmp_path / "a")) == 2


def test_a_depth_has_one_shade_and_marker_whatever_stands_beside_it():
    both, alone = style.depth_shades((2, 12), style.BLUE), style.depth_shades((12,), style.BLUE)
    assert both[12] == alone[12] and both[2].marker != both[12].marker
    grey = {depth: np.dot(to_rgb(look.color), (0.299, 0.587, 0.114))
            for depth, look in style.depth_shades((2, 5, 10, 12), style.GREEN).items()}  # fmt: skip
    assert min(-np.diff([grey[depth] for depth in (2, 5, 10, 12)])) > 0.04
    assert len({look.color for look in style.depth_shades((3, 4, 7), style.BLUE).values()}) == 3


def test_a_cell_that_diverged_is_named_in_the_legend(study):
    study.loc[study["depth"] == 12, "status"] = "diverged"
    axes = course_report_figures(study)["average-weight-he-relu"].axes[0]
    assert any("12 (diverged\nin epoch 4)" in str(line.get_label()) for line in axes.lines)


def test_files_are_the_same_bytes_every_time(table, tmp_path):
    first = style.save_figure(variance_figure(table), tmp_path / "a")
    second = style.save_figure(variance_figure(table), tmp_path / "b")
    assert [path.suffix for path in first] == [".png", ".pdf"]
    for one, two in zip(first, second, strict=True):
        assert one.read_bytes() == two.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.pdf", "a.png", "b.pdf", "b.png"]


def test_pdf_text_stays_text(table, tmp_path):
    _, pdf = style.save_figure(variance_figure(table), tmp_path / "a")
    assert b"/FontFile2" in pdf.read_bytes()  # TrueType, not outlines


def test_colours_differ_in_grey_and_in_marker():
    looks = list(style.initializer_looks(["he", "xavier", "normal"]).values())
    assert len({look.marker for look in looks}) == len({str(look.dash) for look in looks}) == 3
    assert len({look.color for look in looks}) == 3
    grey = sorted(np.dot(to_rgb(look.color), (0.299, 0.587, 0.114)) for look in looks)
    assert min(np.diff(grey)) > 0.02


@pytest.mark.parametrize("layers, most", [(5, 7), (30, 7), (31, 7), (1000, 7), (8, 7), (99, 12)])
def test_thinning_keeps_both_ends(layers, most):
    shown = style.thin(layers, most)
    assert shown[0] == 1 and shown[-1] == layers and len(shown) <= most + 2
    assert shown == sorted(set(shown))


@pytest.mark.parametrize("activations", [("relu",), ("relu", "prelu")])
@pytest.mark.parametrize("laws", [("he",), ("xavier-uniform", "he-truncated", "normal:0.0123")])
def test_no_legend_sticks_out_of_its_figure(laws, activations):
    names = {"initializers": laws, "activations": activations}
    small = {"depth": 3, "width": 4, "draws": 10, "device": "cpu"}
    table = variance(VarianceSpec(**small, **names, direction="both"))
    pairs = correlation(CorrelationSpec(**small, **names))
    with style.styled():
        for figure in (
            variance_figure(table),
            weight_gradient_figure(table),
            correlation_figure(pairs),
        ):
            canvas = FigureCanvasAgg(figure)
            canvas.draw()
            legend = figure.legends[0].get_window_extent(canvas.get_renderer())
            assert figure.bbox.x0 <= legend.x0 and legend.x1 <= figure.bbox.x1


def test_a_curve_that_explodes_does_not_hide_one_that_vanishes():
    table = variance(VarianceSpec(depth=30, width=32, draws=4, device="cpu", direction="both"))
    figure = variance_figure(table)
    for upper in (figure.axes[0], figure.axes[4]):
        low, high = upper.get_ylim()
        lines = [line.get_ydata() for line in upper.lines if line.get_marker() == "None"]
        xavier, normal = np.array(lines[1]), np.array(lines[2])
        assert np.ptp(xavier) > 0.4 * (high - low) and low < xavier.min() < xavier.max() < high
        assert normal.max() > high  # the whole of it is in the inset
        (inset,) = upper.child_axes
        assert inset.get_ylim()[1] > normal.max()
    alone = table[table["initializer"] != "xavier"]
    assert not variance_figure(alone).axes[0].child_axes  # nothing is hidden


def test_residuals_of_laws_that_coincide_stand_side_by_side(table):
    lower = variance_figure(table).axes[2]
    first = [line.get_xdata()[0] for line in lower.lines if line.get_linestyle() == "None"]
    assert len(first) == 3 and min(np.diff(sorted(first))) > 0.1


def test_histograms_show_every_layer_of_a_law(tmp_path):
    table = histograms(VarianceSpec(depth=9, width=32, draws=4, activations=("relu",), device="cpu"))
    figure = histogram_figure(table, "relu")
    assert len(figure.axes) == 6
    for axes, law in zip(figure.axes, ("he", "xavier", "normal"), strict=False):
        assert axes.get_title() == f"{name_of(law)}, ReLU" and len(axes.lines) == 5
        assert np.ptp(axes.get_xlim()) >= 7.99
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == [f"layer {layer}" for layer in (1, 3, 5, 7, 9)]
    assert len(style.save_figure(figure, tmp_path / "a")) == 2
