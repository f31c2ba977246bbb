"""The explorer's JavaScript theory against the Python theory, and its sampler against both."""

import itertools
import json
import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from browser import run_javascript
from drawn import squared_ratio
from explorer_theory import BASE, LN10, python_theory
from scipy import special, stats

import cli
from empirical.protocol import TrainSpec
from empirical.records import published
from figures.explorer import fragment, page
from figures.explorer.build import study_records
from theory.activations import parse_activation
from theory.draw.correlation import correlation
from theory.errors import RequestError
from theory.law.finite_width import SignalLaw, binomial_half, log_factor
from theory.specs import CorrelationSpec

ROOT = Path(__file__).parent.parent.parent.parent
SOURCES = [
    (ROOT / "figures" / "explorer" / name).read_text(encoding="utf-8")
    for name in ("theory.js", "sampler.js")
]
RELATIVE = 1e-9


def javascript(expression):
    """``expression``, with T and S for the theory and the sampler."""
    program = f"(() => {{ const T = Fanin.theory, S = Fanin.sampler; return {expression}; }})()"
    value = run_javascript(SOURCES, program)
    if value is None:
        pytest.skip("neither Node nor a Chromium is installed: no JavaScript to compare")
    return value


def settings(**lists):
    """BASE with every combination of ``lists``."""
    rows = itertools.product(*lists.values())
    return [BASE | dict(zip(lists, row, strict=True)) for row in rows]


# Every initializer, fan and direction at one size; shapes and slopes where the law changes its formula.
SCALES = [
    *settings(
        initializer=["he", "he-relu", "lecun", "custom"],
        fan=["fan_in", "fan_out", "fan_avg"],
        direction=["forward", "backward"],
        depth=[6],
        width=[40],
        taper=[0.5],
        slope=[0.25],
        scale=[1.3],
    ),
    *settings(
        initializer=["xavier", "normal", "pytorch"],
        direction=["forward", "backward"],
        depth=[6],
        width=[40],
        taper=[2],
        slope=[0.25],
    ),
]
SHAPES = [
    *settings(
        depth=[1, 2, 7], width=[1, 2, 5, 64, 65], slope=[0, 0.25, 1], direction=["forward", "backward"]
    ),
    *settings(depth=[30], width=[16, 512], slope=[0, 0.01, 0.9], direction=["forward", "backward"]),
    *settings(depth=[30], width=[4096], slope=[0, 0.3]),
    *settings(depth=[400], width=[3, 100], slope=[0, 0.5]),
    *settings(depth=[12], width=[24, 128], taper=[0.25, 3], slope=[0, 0.25, 1], fan=["fan_out"]),
]


@pytest.fixture(scope="module")
def from_javascript():
    """(setting, the page's curves, the Python theory's) for every setting of the grid."""
    grid = [*SCALES, *SHAPES]
    curves = javascript(f"{json.dumps(grid)}.map((s) => [T.widths(s), T.curves(s)])")
    return [
        (setting, result, python_theory(setting | {"widths": widths}))
        for setting, (widths, result) in zip(grid, curves, strict=True)
    ]


@pytest.mark.parametrize("which", ["scales", "shapes"])
def test_every_curve_is_the_python_theorys(from_javascript, which):
    """Relative to the number, or to one where it is a logarithm near its zero."""
    part = from_javascript[: len(SCALES)] if which == "scales" else from_javascript[len(SCALES) :]
    for setting, result, theory in part:
        for name, expected in theory.items():
            got = np.array(result[name])
            off = np.abs(got - expected) / np.maximum(np.abs(expected), 1.0)
            if name == "logVariance":  # never near zero by cancellation: strictly relative
                off = np.abs(got - expected) / np.where(expected > 0, expected, 1.0)
            assert off.max() < RELATIVE, (name, setting, got, expected)


def test_a_band_is_as_exact_as_its_own_width(from_javascript):
    """The band's half width is compared to itself: a wide net's band is far narrower than one."""
    for setting, result, expected in from_javascript:
        for name in ("low", "high"):
            reach = expected[name] - expected["median"]
            got = np.array(result[name]) - np.array(result["median"])
            assert got == pytest.approx(reach, rel=RELATIVE, abs=1e-12), (name, setting)


def test_ln_q_has_the_digamma_and_trigamma_sums_over_the_binomial():
    """Straight from scipy's functions, without the Python theory in between."""
    sizes = [1, 2, 3, 17, 64, 65, 300, 4096]
    got = javascript(
        f"{sizes}.map((n) => [T.logFactor(n, 0, true), T.logFactor(n, 0.4, false)]"
        ".map((factor) => [factor.mean, factor.variance]))"
    )
    for n, ((relu_mean, relu_variance), (length_mean, length_variance)) in zip(sizes, got, strict=True):
        k = np.arange(1, n + 1)
        weight = stats.binom.pmf(k, n, 0.5) / (1 - 0.5**n)
        log = special.digamma(k / 2) + math.log(2 / n)
        mean = weight @ log
        variance = weight @ (special.polygamma(1, k / 2) + (log - mean) ** 2)
        assert relu_mean == pytest.approx(mean, rel=RELATIVE, abs=1e-12)
        assert relu_variance == pytest.approx(variance, rel=RELATIVE)
        assert length_mean == pytest.approx(special.digamma(n / 2) + math.log(2 / n), rel=RELATIVE)
        assert length_variance == pytest.approx(special.polygamma(1, n / 2), rel=RELATIVE)


def test_the_special_functions_are_scipys():
    points = [0.5, 1.0, 1.5, 2.0, 7.25, 11.5, 12.0, 40.0, 2048.5]
    omegas = [0.01, 0.7, 5.0, 30.0, 500.0]
    got = javascript(
        f"{points}.map((x) => [T.digamma(x), T.trigamma(x), T.logGamma(x), "
        f"{omegas}.map((w) => T.logGammaRatio(x, w))])"
    )
    for x, (digamma, trigamma, log_gamma, ratios) in zip(points, got, strict=True):
        assert digamma == pytest.approx(special.digamma(x), rel=1e-13)
        assert trigamma == pytest.approx(special.polygamma(1, x), rel=1e-13)
        assert log_gamma == pytest.approx(special.gammaln(x), rel=1e-13, abs=1e-14)
        for omega, (real, imaginary) in zip(omegas, ratios, strict=True):
            expected = special.loggamma(x + 1j * omega) - special.gammaln(x)
            assert complex(real, imaginary) == pytest.approx(expected, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("n, slope", [(1, 0.3), (5, 0.0), (64, 0.25), (65, 0.0), (300, 0.9)])
def test_characteristic_functions_are_the_python_theorys(n, slope):
    omega = [0.01, 0.5, 2.0, 11.0, 40.0]
    got = javascript(
        f"((f) => [[...f.re], [...f.im]])(T.logFactor({n}, {slope}, true)"
        f".characteristic({omega}, {len(omega)}))"
    )
    expected = log_factor(n, slope, True, False).characteristic(np.array(omega))
    size = len(got[0])
    assert np.abs(expected[size:]).max(initial=0) < 1e-16  # what the page leaves out is nothing
    assert np.array(got[0]) + 1j * np.array(got[1]) == pytest.approx(expected[:size], abs=1e-12)


def test_the_binomials_window_and_weights_are_the_python_theorys():
    for n, got in zip(
        (1, 64, 65, 1000), javascript("[1, 64, 65, 1000].map(T.binomialHalf)"), strict=True
    ):
        active, weight = binomial_half(n)
        assert got["active"] == list(active)
        assert got["weight"] == pytest.approx(list(weight), rel=1e-11)


def test_the_second_moments_spread_is_exact():
    got = javascript(
        "[[0, false], [0.25, true], [1, false]].map(([a, gated]) =>"
        " T.signalLaw([4, 9, 30], a, gated).squaredRatio)"
    )
    for (slope, gated), ratio in zip([(0, False), (0.25, True), (1, False)], got, strict=True):
        assert ratio == pytest.approx(squared_ratio(SignalLaw((4, 9, 30), slope, gated)), rel=RELATIVE)
    assert javascript("[T.spreadCoefficient(0), T.spreadCoefficient(1)]") == [5, 2]


@pytest.mark.parametrize("slope", [0, 0.25, 0.9, 1])
def test_the_correlation_map_and_its_iterates(slope):
    phi = parse_activation({0: "relu", 1: "linear"}.get(slope, f"leaky-relu:{slope}"))
    points = np.linspace(-1, 1, 41)
    got = javascript(f"{points.tolist()}.map((c) => T.correlationMap({slope}, c))")
    assert got == pytest.approx(phi.correlation_map(points).tolist(), rel=RELATIVE, abs=1e-15)
    for start in (-1.0, 0.0, 0.9):
        c, expected = start, [start]
        for _ in range(299):
            c = float(phi.correlation_map(c))
            expected.append(c)
        iterates = javascript(f"T.correlations({slope}, {start}, 300)")
        assert iterates == pytest.approx(expected, rel=RELATIVE)
        # what the page plots is 1 − c, whose own digits count: both sides lose some near one
        assert 1 - np.array(iterates) == pytest.approx(1 - np.array(expected), rel=1e-8, abs=1e-12)


def test_published_correlations_and_their_limit():
    """facts: c_1, c_2, c_10 of ReLU from 0; 1 − c_l → 9π²/(2κ²l²)."""
    c = javascript("T.correlations(0, 0, 11)")  # layer 1 has c_0
    assert [c[1], c[2], c[10]] == pytest.approx([0.318310, 0.493731, 0.871536], abs=5e-7)
    far, limit = javascript(
        "[1 - T.correlations(0.25, 0, 20000).at(-1), T.correlationAsymptote(0.25, 20000)]"
    )
    assert far == pytest.approx(limit, rel=0.01)
    assert javascript("T.correlationAsymptote(1, 5) === Infinity")


def test_a_layer_is_the_commands_layer():
    """Layer 30 of the page is the row of layer 30 in the table of ``correlation``."""
    spec = CorrelationSpec(depth=30, width=4, draws=10, activations=("relu",), correlations=(0.0,))
    table = correlation(spec)
    assert javascript("T.correlations(0, 0, 30)") == pytest.approx(
        table["theory"].tolist(), rel=RELATIVE
    )


def test_pytorchs_biases_in_the_mean():
    got = javascript(
        "[[7, 20, 1], [40, 30, 0.5]].map(([depth, width, taper]) => { const s ="
        f"{{...{json.dumps(BASE)}, depth, width, taper, slope: 0.25, initializer: 'pytorch'}};"
        " return [T.widths(s), T.logExpectationWithBiases(s)]; })"
    )
    for widths, mean in got:
        q, expected = 1 / parse_activation("prelu").second_moment, []
        for fan_in in widths[:-1]:  # Var[w] = Var[b] = 1/(3·fan_in)
            q = fan_in * (1 / (3 * fan_in)) * (1 + 0.25**2) / 2 * q + 1 / (3 * fan_in)
            expected.append(math.log10(q))
        assert mean == pytest.approx(expected, rel=RELATIVE)


def test_no_depth_leaves_the_numbers_range():
    deep = BASE | {"depth": 100_000, "initializer": "normal"}
    got = javascript(f"T.logExpectation({json.dumps(deep)}).slice(-1)")
    assert got == pytest.approx([math.log10(512) + 99_999 * math.log10(256)], rel=RELATIVE)


# --------------------------------------------------------------------------- the sampler


def xoshiro128(state):
    """The published algorithm (Blackman & Vigna 2018, xoshiro128starstar.c), in whole numbers."""
    s, mask = list(state), 2**32 - 1

    def rotate(word, by):
        return (word << by | word >> (32 - by)) & mask

    while True:
        yield rotate(s[1] * 5 & mask, 7) * 9 & mask
        shifted = s[1] << 9 & mask
        s[2] ^= s[0]
        s[3] ^= s[1]
        s[1] ^= s[2]
        s[0] ^= s[3]
        s[2] ^= shifted
        s[3] = rotate(s[3], 11)


def test_the_generator_is_xoshiro128starstar():
    state = [1, 2, 3, 4]
    got = javascript(f"((g) => Array.from({{length: 200}}, g.bits))(S.fromState({state}))")
    assert got == list(itertools.islice(xoshiro128(state), 200))
    assert got[:4] == [11520, 0, 5927040, 70819200]


def test_a_seed_gives_the_same_networks_and_another_seed_others():
    program = "((g) => S.network({}, g))(S.generator({}))"
    base = json.dumps(BASE)
    one, again, other = (javascript(program.format(base, seed)) for seed in (7, 7, 8))
    assert one == again and one != other


@pytest.mark.parametrize("n", [1, 2, 31, 32, 33, 512])
def test_gates_are_fair_coins(n):
    draws = 20_000
    counts = javascript(
        f"((g) => Array.from({{length: {draws}}}, () => g.binomialHalf({n})))(S.generator({n}))"
    )
    low, high = max(0, n // 2 - 90), min(n, n // 2 + 90)
    expected = draws * stats.binom.pmf(np.arange(low, high + 1), n, 0.5)
    observed = np.array([counts.count(k) for k in range(low, high + 1)])
    assert observed.sum() == draws
    usable = expected >= 5
    pooled = [*zip(observed[usable], expected[usable], strict=True)]
    chi = sum((o - e) ** 2 / e for o, e in pooled)
    assert chi < stats.chi2.ppf(1 - 1e-4, len(pooled) - 1)


@pytest.mark.parametrize("degrees", [1, 2, 3, 50])
def test_chi_squares_follow_their_law(degrees):
    draws = javascript(
        f"((g) => Array.from({{length: 20000}}, () => g.chiSquare({degrees})))(S.generator(3))"
    )
    assert stats.kstest(draws, stats.chi2(degrees).cdf).pvalue > 1e-4


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("width, slope", [(4, 0), (16, 0.25), (60, 0)])
def test_drawn_networks_have_the_exact_law(direction, width, slope):
    """Mean and variance of ln q, dead networks, and the share below each end of the band."""
    setting = BASE | {"depth": 8, "width": width, "slope": slope, "direction": direction, "taper": 2}
    draws = 20_000
    curves, nets = javascript(
        f"((s, g) => [T.curves(s), Array.from({{length: {draws}}}, () => S.network(s, g))])"
        f"({json.dumps(setting)}, S.generator(11))"
    )
    q = np.array([[np.nan if v is None else v for v in net] for net in nets])  # JSON has no infinity
    for layer in range(8):
        if direction == "backward" and layer == 7:
            assert (q[:, 7] == 0).all()  # the cotangent itself
            continue
        dead = np.isnan(q[:, layer]).mean()
        expected = curves["dead"][layer]
        assert abs(dead - expected) <= 4.5 * math.sqrt(expected * (1 - expected) / draws)
        log = q[~np.isnan(q[:, layer]), layer] * LN10
        variance = curves["logVariance"][layer]
        assert abs(log.mean() - curves["logMean"][layer]) < 4.5 * math.sqrt(variance / len(log))
        fourth = np.mean((log - log.mean()) ** 4) / log.var() ** 2
        assert abs(log.var() / variance - 1) < 4.5 * math.sqrt((fourth - 1) / len(log))
        for level, name in ((0.025, "low"), (0.5, "median"), (0.975, "high")):
            below = np.mean(log < curves[name][layer] * LN10)
            assert abs(below - level) < 4.5 * math.sqrt(level * (1 - level) / len(log))


# --------------------------------------------------------------------------- the page as a text


def small_study(**columns):
    rows = {
        "initializer": ["he", "he", "normal", "normal"],
        "activation": "relu",
        "depth": 2,
        "seed": 0,
        "status": "completed",
        "epoch": [1, 2, 1, 2],
        "test_accuracy": [50.0, 60.0, 30.0, math.nan],
    }
    return pd.DataFrame(rows | columns)


def test_a_studys_table_becomes_curves():
    records = study_records(small_study())
    assert records["presets"] == [{"name": "study", "question": "", "common": []}]
    assert list(records["quantities"]) == ["test_accuracy"]
    he, normal = records["curves"]
    assert (he["initializer"], he["depth"], he["variant"]) == ("he", 2, "")
    assert he["published"] == 55.83 and normal["published"] == 37.58
    assert he["seeds"] == [
        {"seed": 0, "status": "completed", "epoch": [1, 2], "test_accuracy": [50.0, 60.0]}
    ]
    assert normal["seeds"][0]["test_accuracy"] == [30.0, None]  # JSON has no NaN


def test_what_a_whole_preset_shares_is_said_once():
    study = small_study(
        preset="no-norm", norm="none", initializer="he", fan=["fan_in"] * 2 + ["fan_out"] * 2
    )
    records = study_records(study)
    (preset,) = records["presets"]
    assert preset["common"] == ["no batch norm"] and "batch norm hides" in preset["question"]
    assert [curve["variant"] for curve in records["curves"]] == ["fan_in", ""]
    assert [curve["published"] for curve in records["curves"]] == [
        None,
        None,
    ]  # not the report's networks


def test_the_reports_number_stands_beside_another_fan_but_no_other_protocol():
    def published(**columns):
        return study_records(small_study(**columns))["curves"][0]["published"]

    assert published(fan="fan_in", head_fan=math.nan, limit_train=math.nan) == 55.83
    assert published(epochs=2) is None and published(head_initializer="he") is None


def test_variants_of_one_preset_are_curves_of_their_own():
    study = small_study(optimizer=["adam"] * 2 + ["sgd"] * 2, initializer="he", epoch=[1, 2, 1, 2])
    assert [curve["variant"] for curve in study_records(study)["curves"]] == ["", "SGD"]


def test_a_cell_stands_in_every_preset_that_asks_for_it():
    study = small_study(preset=["textbook report"] * 2 + [None] * 2)
    records = study_records(study)
    assert [preset["name"] for preset in records["presets"]] == ["report", "textbook", "other"]
    curves = [(curve["preset"], curve["initializer"]) for curve in records["curves"]]
    assert curves == [("report", "he"), ("textbook", "he"), ("other", "normal")]


@pytest.mark.parametrize(
    "columns, says",
    [
        ({"depth": "two"}, "depth that are not numbers"),
        ({"test_accuracy": "high"}, "test_accuracy that are not numbers"),
        ({"status": None}, "rows without status"),
    ],
)
def test_a_wrong_table_is_refused_in_words(columns, says):
    with pytest.raises(RequestError, match=says):
        page(small_study(**columns))


def test_a_missing_column_is_named():
    with pytest.raises(RequestError, match="lacks seed, status: it needs"):
        page(small_study().drop(columns=["seed", "status"]))


def test_the_page_is_whole_and_names_no_address():
    text = page(small_study(), seed=12)
    assert not re.search(r"\$\{(css|html|js|version|seed|level|sublevel|data|maps)\}", text)
    assert 'value="12"' in text
    assert not re.search(
        r"""(src|href)\s*=\s*["'](?!#|data:,)|url\((?!#)|@import|fetch\(|XMLHttp""", text
    )
    assert "default-src 'none'" in text
    body, css, script = fragment(small_study(), seed=12)
    assert body in text and css in text and script in text


def test_a_fragment_takes_its_place_among_the_headings():
    body, _, _ = fragment(heading_level=3)
    assert "<h3" in body and "<h4" in body and "<h2" not in body
    with pytest.raises(RequestError, match="heading level"):
        fragment(heading_level=6)


def test_the_stylesheet_touches_nothing_but_the_explorer():
    _, css, _ = fragment()
    plain = re.sub(r"/\*.*?\*/", "", css, flags=re.S)
    plain = re.sub(r"@(media|container)[^{]*", "", plain)
    rules = re.findall(r"([^{}]+)\{", plain)
    selectors = [selector.strip() for rule in rules for selector in re.split(r",(?![^(]*\))", rule)]
    assert len(selectors) > 60 and all(selector.startswith(".fx") for selector in selectors if selector)


@pytest.mark.parametrize(
    "argv, code", [(["--help"], 0), (["--records", "no/such/folder"], 2), (["--seed", "-1"], 2)]
)
def test_help_and_wrong_requests_need_no_heavy_library(argv, code):
    program = (
        "import sys, cli\n"
        "try:\n    code = cli.main(['explorer', *sys.argv[1:]])\n"
        "except SystemExit as stop:\n    code = stop.code or 0\n"
        "heavy = {'torch', 'numpy', 'pandas', 'scipy', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(99 if heavy else code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *argv], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stderr


def publish(folder):
    """Published tables of two cells of the report, two epochs each."""
    cells, study = [], []
    for depth, accuracy in ((2, 50.0), (5, 60.0)):
        spec = TrainSpec(depth=depth, epochs=2)
        identity = {"cell": spec.cell_id, "preset": "report", "variant": ""} | spec.config()
        ran = {"engine": "eager", "status": "completed"}
        values = dict.fromkeys(published.EPOCH_VALUES, 1.0)
        study += [
            identity | ran | values | {"epoch": epoch, "test_accuracy": accuracy + epoch}
            for epoch in (1, 2)
        ]
        ended = {"epochs_done": 2, "threads": 1, "final_test_accuracy": accuracy + 2}
        cells.append(identity | ran | ended)
    layers = [{"cell": cell["cell"], "epoch": 0, "layer": "conv01", "kind": "Conv2d"} for cell in cells]
    folder.mkdir()
    for name, rows, columns in (
        (published.STUDY, study, published.STUDY_COLUMNS),
        (published.LAYERS, layers, published.LAYER_COLUMNS),
        (published.CELLS, cells, published.CELL_COLUMNS),
    ):
        pd.DataFrame(rows, columns=list(columns)).to_csv(folder / name, index=False)


def test_the_command_writes_the_page_with_the_records_of_its_folders(capsys, tmp_path):
    publish(tmp_path / "data")
    out = tmp_path / "site"
    argv = ["explorer", "--records", str(tmp_path / "data"), "--out", str(out), "--json"]
    assert cli.main(argv) == 0
    document = json.loads(capsys.readouterr().out)
    text = (out / "explorer.html").read_text(encoding="utf-8")
    assert document["bytes"] == len(text.encode()) and document["cells"] == 2
    assert '"test_accuracy":[61,62]' in text.replace(".0", "")
    assert [path.name for path in out.iterdir()] == ["explorer.html"]


def test_without_a_published_study_the_page_has_theory_alone(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("commands.options.PUBLISHED", tmp_path / "none")
    assert cli.main(["explorer", "--out", str(tmp_path / "site")]) == 0
    assert "theory alone" in capsys.readouterr().out
    text = (tmp_path / "site" / "explorer.html").read_text(encoding="utf-8")
    assert '<script type="application/json" id="fx-data"></script>' in text


def test_records_that_are_none_are_one_line_and_exit_2(capsys, tmp_path):
    (tmp_path / "empty" / "cells").mkdir(parents=True)
    for folder, says in (("none", "is no folder"), (".", "holds no records"), ("empty", "no finished")):
        argv = ["explorer", "--records", str(tmp_path / folder), "--out", str(tmp_path / "out")]
        assert cli.main(argv) == 2
        captured = capsys.readouterr()
        assert captured.err.startswith("error: ") and captured.err.count("\n") == 1
        assert says in captured.err and not (tmp_path / "out" / "explorer.html").exists()


def test_a_seed_that_the_page_cannot_hold_is_refused(capsys, tmp_path):
    assert cli.main(["explorer", "--seed", "4294967296", "--out", str(tmp_path)]) == 2
    assert "4,294,967,295" in capsys.readouterr().err
