"""The explorer as a reader meets it: a headless Chromium, real key presses, numbers read back."""

import json
import math
import time

import numpy as np
import pandas as pd
import pytest
from browser import Browser, find_browser
from explorer_theory import BASE, python_theory

from figures import style
from figures.beyond.published import published_map
from figures.explorer import fragment, frontier_maps
from figures.explorer import page as explorer_page
from theory.activations import parse_activation

RELATIVE = 1e-9
HOSTILE = "</script><script>document.title = 'taken over'</script>"


def study():
    """Two presets, two initializers, two depths, two seeds; one seed diverged after epoch 1."""
    rows = []
    for preset, filters in (("report", 32), ("textbook", 16)):
        for place, initializer in enumerate(("he", "normal")):
            for depth in (2, 12):
                for seed in (0, 1):
                    diverged = (preset, initializer, depth, seed) == ("report", "normal", 12, 1)
                    for epoch in (1,) if diverged else (1, 2, 3):
                        rows.append(
                            {
                                "preset": preset,
                                "filters": filters,
                                "initializer": initializer,
                                "activation": "relu",
                                "depth": depth,
                                "seed": seed,
                                "status": "diverged" if diverged else "completed",
                                "epoch": epoch,
                                "test_accuracy": 40 + 10 * place + depth + 3.25 * epoch + seed,
                                "train_loss": 2 / epoch,
                            }
                        )
    table = pd.DataFrame(rows)
    extra = table[(table["preset"] == "textbook") & (table["depth"] == 2)].copy()
    return pd.concat([table, extra.assign(initializer=HOSTILE)], ignore_index=True)


def relu_maps():
    table = published_map()
    return table[table["activation"] == "relu"]


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    path = tmp_path_factory.mktemp("explorer") / "explorer.html"
    path.write_text(explorer_page(study(), frontier_maps(relu_maps()), seed=5), encoding="utf-8")
    return path.as_uri()


@pytest.fixture(scope="module")
def browser():
    executable = find_browser()
    if executable is None:
        pytest.skip("no Chromium is installed: nothing to look at the page with")
    with Browser(executable) as running:
        yield running


@pytest.fixture
def page(browser, address):
    """A fresh page, ready; at the end nothing was complained of and nothing was loaded."""
    opened = browser.open(address)
    settle(opened)
    yield opened
    assert opened.problems == []
    assert opened.requests == [address]
    opened.close()


def settle(page):
    """Wait for the curves that belong to what the controls say."""
    deadline = time.monotonic() + 20
    while page.evaluate("document.getElementById('fx').getAttribute('aria-busy')") != "false":
        assert time.monotonic() < deadline, "the page never became ready"
        time.sleep(0.01)


def focus(page, name):
    page.evaluate(f"document.getElementById('fx-{name}').focus()")


def press(page, name, key, times=1):
    """Focus a control of that id and press a key there."""
    focus(page, name)
    for _ in range(times):
        page.keyboard.press(key)
    settle(page)


def choose(page, name, value):
    """Focus a radio button or a box, and press space."""
    page.evaluate(f"document.querySelector('input[name=fx-{name}][value={value}]').focus()")
    page.keyboard.press("Space")
    settle(page)


def drawn(page, chart, name):
    """The numbers of every series called ``name`` in a chart: y, or (low, high) of an area."""
    return page.evaluate(
        f"[...document.querySelectorAll('#fx-{chart} [data-name=\"{name}\"]')].map((path) => "
        "path.dataset.values ? JSON.parse(path.dataset.values) "
        ": [JSON.parse(path.dataset.low), JSON.parse(path.dataset.high)])"
    )


def text(page, name):
    return page.evaluate(f"document.getElementById('fx-{name}').textContent")


def cells(page, table):
    """The text of every cell in a table's body."""
    return page.evaluate(
        f"[...document.querySelectorAll('#fx-{table} tbody tr')]"
        ".map((row) => [...row.cells].map((cell) => cell.textContent))"
    )


def assert_curves(page, **changes):
    """Mean, median and band on the page are the Python theory's under BASE with ``changes``.

    Numbers near their zero to 1e-10: so far the Python inversion goes, in standard deviations.
    """
    setting = BASE | changes
    depth, width, taper = setting["depth"], setting["width"], setting["taper"]
    setting["widths"] = [max(1, round(width * taper ** (layer / depth))) for layer in range(depth + 1)]
    theory = python_theory(setting)
    (low, high), *_ = drawn(page, "level", "band")
    got = {"mean": drawn(page, "level", "mean")[0], "median": drawn(page, "level", "median")[0]}
    for name, values in (got | {"low": low, "high": high}).items():
        assert values == pytest.approx(theory[name].tolist(), rel=RELATIVE, abs=1e-10), name
    relative = np.array(drawn(page, "ratio", "median")[0])
    assert relative == pytest.approx(theory["median"] - theory["mean"], rel=RELATIVE, abs=1e-10)


# --------------------------------------------------------------------------- as it opens


@pytest.mark.parametrize(
    "width, dark", [(1280, False), (1280, True), (820, False), (360, False), (360, True), (320, False)]
)
def test_it_opens_without_a_word_or_a_request_and_fits(browser, address, width, dark):
    page = browser.open(address, width=width, height=740, dark=dark)
    settle(page)
    assert page.problems == [] and page.requests == [address]
    assert page.evaluate("document.title") == "fanin · explorer"  # and not what a record's name says
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    charts = page.evaluate(
        "[...document.querySelectorAll('#fx svg[role=img]')].map((s) => s.clientWidth)"
    )
    assert len(charts) == 6 and all(150 < chart <= width for chart in charts)
    paper = page.evaluate("getComputedStyle(document.getElementById('fx')).backgroundColor")
    assert (sum(map(int, paper[4:-1].split(","))) < 200) == dark
    assert_curves(page)
    page.close()


def test_a_narrower_window_draws_again(page):
    page.set_viewport_size({"width": 400, "height": 700})
    deadline = time.monotonic() + 10
    while page.evaluate("document.querySelector('#fx-level svg').clientWidth") > 400:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert page.evaluate("document.documentElement.scrollWidth") <= 400


def test_a_fragment_fits_the_column_of_a_report(browser, tmp_path):
    """In 640 pixels of a wide window, under a style of the report's own, and hidden at first."""
    body, css, script = fragment(study(), frontier_maps(relu_maps()), heading_level=3)
    path = tmp_path / "report.html"
    path.write_text(
        f"<!DOCTYPE html><meta charset=utf-8><style>{css} figure {{ margin: 3em }} p {{ margin: 2em }}"
        f"</style><main style='width: 640px'><h2>Explorer</h2><details id=fold><summary>open</summary>"
        f"{body}</details></main><script>{script}</script>",
        encoding="utf-8",
    )
    page = browser.open(path.as_uri())
    page.evaluate("document.getElementById('fold').open = true")
    settle(page)
    assert page.problems == []
    widths = page.evaluate(
        "[document.getElementById('fx'), ...document.querySelectorAll('#fx figure, #fx svg[role=img]')]"
        ".map((part) => part.getBoundingClientRect().width)"
    )
    assert len(widths) == 13 and all(590 < width <= 640 for width in widths)
    assert_curves(page)
    page.close()


def test_everything_that_can_be_used_has_a_name_and_every_chart_a_description(page):
    tree = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    used = {
        "slider",
        "combobox",
        "radio",
        "checkbox",
        "spinbutton",
        "button",
        "link",
        "DisclosureTriangle",
    }
    seen = [
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in tree
        if node.get("role", {}).get("value") in {*used, "image", "img", "form", "region"}
    ]
    assert [role for role, name in seen if not name] == []
    roles = [role for role, _ in seen]
    assert roles.count("slider") == 12 and roles.count("radio") == 5
    assert any(name.startswith("Signal by layer") for _, name in seen)
    slider = next(node for node in tree if node.get("name", {}).get("value", "").startswith("Depth"))
    words = page.evaluate("document.getElementById('fx-depth').getAttribute('aria-valuetext')")
    assert slider["role"]["value"] == "slider" and words == "30 layers"


def test_ids_and_classes_keep_to_their_prefix_and_one_global_name(page):
    names = page.evaluate(
        "[...document.querySelectorAll('#fx [id], #fx [class]')].flatMap((e) => "
        "[e.id, ...e.classList]).filter(Boolean)"
    )
    assert names and all(name.startswith("fx-") for name in names)
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map((e) => e.id)")
    assert len(ids) == len(set(ids))
    fresh = page.evaluate(
        "(() => { const frame = document.createElement('iframe'); document.body.append(frame); "
        "const known = new Set(Object.getOwnPropertyNames(frame.contentWindow)); frame.remove(); "
        "return Object.getOwnPropertyNames(window)"
        ".filter((n) => !known.has(n) && !/^(\\d+|fx)/.test(n)); })()"
    )
    assert fresh == ["Fanin"]


def test_colors_are_the_projects(page):
    names = ("blue", "vermilion", "green", "purple", "orange", "sky")
    for name in names:
        color = page.evaluate(
            f"getComputedStyle(document.getElementById('fx')).getPropertyValue('--fx-{name}')"
        )
        assert color.strip().lower() == getattr(style, name.upper()).lower()
    colors = {getattr(style, name.upper()): name for name in names} | {style.BLACK: "ink"}
    looks = style.initializer_looks([*style._INITIALIZER_ORDER, "other"])
    for initializer, look in looks.items():
        got = page.evaluate(f"Fanin.chart.initializerLook('{initializer}')")
        assert (got["color"], got["marker"]) == (colors[look.color], look.marker)
    for depths in ((2, 5, 10, 12), (22, 30), (3,), (4, 8, 16)):
        got = page.evaluate(f"[...Fanin.chart.depthLooks({list(depths)}).values()]")
        expected = style.depth_shades(depths, style.BLUE).values()
        assert [(style.shade(style.BLUE, one["shade"]), one["marker"]) for one in got] == [
            (look.color, look.marker) for look in expected
        ]


# --------------------------------------------------------------------------- by the keyboard


def test_tab_goes_through_the_controls_in_the_order_of_the_page(page):
    focused = []
    for _ in range(40):
        page.keyboard.press("Tab")
        focused.append(page.evaluate("document.activeElement.id || document.activeElement.name || ''"))
        if focused[-1] == "fx-depth-2":
            break
    order = [name.removeprefix("fx-") for name in focused if name.startswith("fx-")]
    assert order == [
        *("initializer", "slope", "depth", "width", "taper", "scale", "fan", "direction"),
        *("compare", "compare", "compare", "layer", "count", "seed", "draw"),
        *("start", "slope-2", "depth-2"),
    ]


def test_a_focused_control_is_not_under_the_chart_that_stays_on_a_telephone(browser, address):
    page = browser.open(address, width=360, height=740)
    settle(page)
    focus(page, "draw")
    for _ in range(12):
        page.keyboard.press("Shift+Tab")
        time.sleep(0.02)
        top, chart = page.evaluate(
            "[document.activeElement.getBoundingClientRect().top, "
            "document.querySelector('.fx-level').getBoundingClientRect()].map((r) => r.bottom ?? r)"
        )
        assert top >= chart - 1
    page.close()


@pytest.mark.parametrize(
    "name, key, times, changes, words",
    [
        ("slope", "ArrowRight", 25, {"slope": 0.25}, "0.25, PReLU’s start"),
        ("slope", "End", 1, {"slope": 1}, "1, linear"),
        ("depth", "ArrowLeft", 18, {"depth": 12}, "12 layers"),
        ("depth", "Home", 1, {"depth": 1}, "1 layer"),
        ("width", "ArrowLeft", 10, {"width": 16}, "16 units"),
        ("taper", "Home", 1, {"taper": 0.25}, "¼"),
        ("taper", "ArrowUp", 2, {"taper": 2}, "2"),
        ("scale", "ArrowLeft", 20, {"initializer": "custom", "scale": 1.0}, "1.00"),
        ("initializer", "ArrowDown", 2, {"initializer": "xavier"}, None),
        ("initializer", "End", 1, {"initializer": "custom", "scale": 2}, None),
    ],
)
def test_keys_on_a_control_give_the_theorys_curves(page, name, key, times, changes, words):
    press(page, name, key, times)
    if words is not None:
        assert text(page, f"{name}-value") == words
        heard = page.evaluate(f"document.getElementById('fx-{name}').getAttribute('aria-valuetext')")
        assert heard == words
    assert_curves(page, **changes)


def test_fan_modes_and_directions(page):
    """Fan in keeps the signal level, fan out the gradient (He et al. 2015, after Eq. 14)."""
    press(page, "depth", "ArrowLeft", 20)
    press(page, "width", "ArrowLeft", 9)
    press(page, "taper", "Home")
    shape = {"depth": 10, "width": 24, "taper": 0.25}
    assert_curves(page, **shape)
    choose(page, "fan", "fan_out")
    assert_curves(page, **shape, fan="fan_out")
    choose(page, "direction", "backward")
    assert_curves(page, **shape, fan="fan_out", direction="backward")
    assert "At layer 1 the mean" in text(page, "sentence")
    page.keyboard.press("ArrowLeft")  # on the radio button that has the focus
    settle(page)
    assert_curves(page, **shape, fan="fan_out")
    press(page, "initializer", "x")
    disabled = page.evaluate("[...document.querySelectorAll('[name=fx-fan]')].every((e) => e.disabled)")
    assert disabled and "by definition" in text(page, "fan-hint")


def test_the_sentence_says_the_verdict_and_the_numbers(page):
    assert "1.000: stable" in text(page, "sentence") and "the mean is 2.00" in text(page, "sentence")
    press(page, "initializer", "x")
    assert "0.5000: vanishing" in text(page, "sentence")
    assert "1.86\u00a0×\u00a010⁻⁹" in text(page, "sentence")
    press(page, "initializer", "ArrowDown", 2)
    assert "256.0: exploding" in text(page, "sentence")
    press(page, "layer", "Home")
    assert "At layer 1 the mean is 512" in text(page, "sentence")
    assert (
        page.evaluate("document.querySelector('#fx-level svg').ariaLabel").count(
            "at layer 1 the median"
        )
        == 1
    )


def test_dead_networks_are_counted_and_said(page):
    press(page, "width", "Home")
    press(page, "depth", "ArrowLeft", 28)
    assert "50\u00a0% of networks are dead there" in text(page, "sentence")
    assert_curves(page, width=1, depth=2)


def test_pytorchs_default_shows_its_biases_too(page):
    press(page, "initializer", "p")
    assert_curves(page, initializer="pytorch")
    (with_biases,) = drawn(page, "level", "mean-with-biases")
    q, expected = 2.0, []
    for _ in range(30):
        q = q / 6 + 1 / (3 * 512)  # s·A₂ = 1/6; the input has no rectifier before it
        expected.append(math.log10(q))
    assert with_biases == pytest.approx(expected, rel=RELATIVE)
    assert "without biases" in text(page, "fan-hint")


def test_comparisons_are_the_other_initializers_means(page):
    (xavier,) = drawn(page, "level", "compare-xavier")
    assert xavier == pytest.approx([-layer * math.log10(2) for layer in range(30)], rel=RELATIVE)
    choose(page, "compare", "normal")
    (normal,) = drawn(page, "level", "compare-normal")
    assert normal[-1] == pytest.approx(math.log10(512) + 29 * math.log10(256), rel=RELATIVE)
    assert drawn(page, "level", "compare-he") == []  # it is the curve itself


def test_the_numbers_are_there_to_read(page):
    page.evaluate("document.querySelector('#fx-numbers summary').focus()")
    page.keyboard.press("Enter")
    settle(page)
    time.sleep(0.05)
    settle(page)
    rows = cells(page, "numbers")
    assert len(rows) == 30 and rows[0] == ["1", "512", "2.00", *rows[0][3:]]
    assert [float(cell) for cell in rows[29][2:]] == pytest.approx([2, 1.735, 0.6, 4.94], abs=0.006)


def test_where_the_band_takes_long_none_is_shown_until_it_is_the_right_one(page):
    """A slow computation, by a slowed clock: the next change shows the mean alone at first."""
    page.evaluate("performance.now = ((t) => () => (t += 500))(0)")
    press(page, "slope", "ArrowRight")
    band, busy, mean = page.evaluate(
        "(() => { const e = document.getElementById('fx-width'); e.value -= 1; "
        "e.dispatchEvent(new Event('input')); return new Promise((done) => "
        "requestAnimationFrame(() => requestAnimationFrame(() => done(["
        "document.querySelectorAll('#fx-level [data-name=band]').length, "
        "document.getElementById('fx').ariaBusy, "
        "document.querySelectorAll('#fx-level [data-name=mean]').length])))); })()"
    )
    assert (band, busy, mean) == (0, "true", 1)
    settle(page)
    assert_curves(page, slope=0.01, width=384)


# --------------------------------------------------------------------------- drawn networks


def test_drawing_is_by_the_exact_sampler_and_its_seed(page):
    press(page, "draw", "Enter")
    networks = np.array(drawn(page, "level", "network"))
    assert networks.shape == (30, 30)
    theory = python_theory(BASE | {"widths": [512] * 31})
    z = (networks[:, -1] * math.log(10) - theory["logMean"][-1]) / np.sqrt(theory["logVariance"][-1])
    assert abs(z.mean()) < 4.5 / math.sqrt(30) and 0.4 < z.std() < 1.8
    (mean,) = drawn(page, "level", "sample-mean") or [None]
    assert mean is None  # markers carry no list; the sentence says it
    average = np.mean(10 ** networks[:, -1])
    inside = np.sum((networks[:, -1] >= theory["low"][-1]) & (networks[:, -1] <= theory["high"][-1]))
    assert f"Seed 5: at layer 30, {inside} of 30 drawn networks" in text(page, "drawn")
    assert f"Their mean is {average:.2f}." in text(page, "drawn")
    press(page, "draw", " ")  # again: the next seed
    assert page.evaluate("document.getElementById('fx-seed').value") == "6"
    others = np.array(drawn(page, "level", "network"))
    assert not np.array_equal(networks, others)
    page.evaluate("document.getElementById('fx-seed').value = '5'")
    press(page, "draw", "Enter")
    assert np.array_equal(np.array(drawn(page, "level", "network")), networks)
    press(page, "clear", "Enter")
    assert drawn(page, "level", "network") == [] and text(page, "drawn") == ""


def test_drawn_networks_follow_the_sliders(page):
    press(page, "draw", "Enter")
    press(page, "depth", "ArrowLeft", 20)
    assert np.array(drawn(page, "level", "network")).shape == (30, 10)
    choose(page, "direction", "backward")
    backward = np.array(drawn(page, "level", "network"))
    assert (backward[:, -1] == 0).all() and backward[:, 0].std() > 0.01


# --------------------------------------------------------------------------- correlation


def test_the_staircase_is_the_correlation_map(page):
    press(page, "start", "ArrowRight", 30)
    press(page, "slope-2", "ArrowRight", 10)
    assert text(page, "start-value") == "0.30" and text(page, "slope-value") == "0.10"
    phi, c = parse_activation("leaky-relu:0.1"), [0.3]
    for _ in range(29):
        c.append(float(phi.correlation_map(c[-1])))
    (stairs,) = drawn(page, "map", "stairs")
    assert stairs[1::2] == pytest.approx(c[1:], rel=RELATIVE)
    (left,) = drawn(page, "approach", "left")
    assert left == pytest.approx(np.log10(1 - np.array(c)).tolist(), rel=1e-8)
    assert f"{c[29]:.4f}" in text(page, "pair")
    (curve,) = drawn(page, "map", "map")
    assert curve == pytest.approx(phi.correlation_map(np.linspace(0, 1, 201)).tolist(), rel=RELATIVE)
    assert_curves(page, slope=0.1)  # the slope is the first panel's too


def test_the_linear_network_keeps_every_angle(page):
    press(page, "start", "ArrowLeft", 50)
    press(page, "slope", "End")
    (left,) = drawn(page, "approach", "left")
    assert left == pytest.approx([math.log10(1.5)] * 30)
    assert "−0.5000, an angle of 120.0°" in text(page, "pair")
    (asymptote,) = drawn(page, "approach", "asymptote")
    assert all(value is None for value in asymptote)  # there is none


# --------------------------------------------------------------------------- the frontier


def stands(page):
    """Where the reader's point is on the map, in columns and rows of its squares, from 0."""
    return page.evaluate(
        "(() => { const chart = document.getElementById('fx-map-chart'); "
        "const middle = (e) => { const r = e.getBoundingClientRect(); "
        "return [r.x + r.width / 2, r.y + r.height / 2]; }; "
        "const cells = [...chart.querySelectorAll('.fx-cells text')].map(middle); "
        "const [x, y] = middle(chart.querySelector('.fx-you path')); "
        "const [first, last] = [cells[0], cells[125]]; "  # of 14 columns and 9 rows
        "const share = (at, i) => (at - first[i]) / (last[i] - first[i]); "
        "return [13 * share(x, 0), 8 * share(y, 1)]; })()"
    )


def test_the_sliders_move_the_point_on_the_map_and_its_sentence(page):
    """σ_w² of plain networks: column 2 is 1, 7 is 2; rows 5 and 6 are 24 and 32 layers."""
    thirty = 5 + math.log(30 / 24) / math.log(32 / 24)
    assert stands(page) == pytest.approx([7, thirty], abs=0.08)  # the box of a text is not its middle
    assert "trains, for its ξ is infinite" in text(page, "map-sentence")
    press(page, "initializer-3", "x")
    assert stands(page) == pytest.approx([2, thirty], abs=0.08)
    times, end = 30 * math.log(2) / 6, 6 / math.log(2)
    said = text(page, "map-sentence")
    assert "does not train" in said and f"{times:.2f} times its 6ξ, {end:.2f} layers" in said
    rows = relu_maps().query("network == 'plain' and weight_variance == 1 and depth in (24, 32)")
    low, high = sorted(rows["accuracy"].round())
    assert f"(σw² 1, 24–32 layers) reached {low:.0f} to {high:.0f}\u00a0%" in said
    press(page, "depth-3", "ArrowLeft", 22)
    assert stands(page)[1] == pytest.approx(2, abs=0.08) and text(page, "depth-value") == "8 layers"
    assert f"trains, for 8 layers are {8 * math.log(2) / 6:.3f} times" in text(page, "map-sentence")
    press(page, "initializer-3", "ArrowDown", 2)  # N(0, 1), far beyond the last column, 64
    said = text(page, "map-sentence")
    assert "σw² = 512" in said and "outside of the map" in said
    assert stands(page)[0] == pytest.approx(13.35, abs=0.08)
    press(page, "width-3", "ArrowLeft", 6)
    assert stands(page) == pytest.approx([13, 2], abs=0.08)


def test_another_network_of_the_map_and_its_numbers(page):
    options = page.evaluate(
        "[...document.getElementById('fx-map-network').options].map((o) => o.value)"
    )
    assert options == ["Plain", "Residual", "Residual, branches scaled with the depth", "Recurrent"]
    press(page, "map-network", "R")
    assert "does not train, for 30 layers" in text(page, "map-sentence")
    page.evaluate("document.querySelector('#fx-map-numbers summary').focus()")
    page.keyboard.press("Enter")
    page.wait_for_timeout(100)
    rows = cells(page, "map-numbers")
    assert len(rows) == 10 and rows[-1][0] == "6ξ" and rows[0][0] == "2"
    part = relu_maps().query("network == 'residual' and branch_scale == 'none' and depth == 64")
    expected = part.sort_values("weight_variance")["accuracy"].tolist()
    assert [float(cell) for cell in rows[8][1:]] == pytest.approx(expected, abs=0.51)


# --------------------------------------------------------------------------- the study


def chip(page, name):
    """Focus the chip called ``name`` and press space."""
    page.evaluate(
        "[...document.querySelectorAll('#fx-filters .fx-chips button')]"
        f".find((b) => b.textContent === {json.dumps(name)}).focus()"
    )
    page.keyboard.press("Space")


def test_the_study_shows_means_over_seeds_that_did_not_diverge(page):
    table = study()
    for initializer, depth in (("he", 2), ("he", 12), ("normal", 2), ("normal", 12)):
        (got,) = drawn(page, "study-chart", f"{initializer} · relu · {depth}")
        rows = table[(table["preset"] == "report") & (table["initializer"] == initializer)]
        rows = rows[(rows["depth"] == depth) & (rows["status"] == "completed")]
        assert got == pytest.approx(rows.groupby("epoch")["test_accuracy"].mean().tolist())
    assert cells(page, "results") == [
        ["he · relu · 2", "52.25 ± 0.71", "2", "0", "55.83"],
        ["he · relu · 12", "62.25 ± 0.71", "2", "0", "79.03"],
        ["normal · relu · 2", "62.25 ± 0.71", "2", "0", "37.58"],
        ["normal · relu · 12", "71.75", "2", "1", "58.63"],
    ]


def test_clicking_filters_and_keeps_the_focus(page):
    chip(page, "normal")
    assert [row[0] for row in cells(page, "results")] == ["he · relu · 2", "he · relu · 12"]
    assert page.evaluate("document.activeElement.textContent") == "normal"
    assert page.evaluate("document.activeElement.ariaPressed") == "false"
    chip(page, "2")
    assert [row[0] for row in cells(page, "results")] == ["he · relu · 12"]
    assert text(page, "study-sentence") == "1 of 4 networks shown."
    chip(page, "12")
    assert cells(page, "results") == [] and "Every network is hidden" in text(page, "study-sentence")
    for name in ("normal", "2", "12"):
        chip(page, name)
    assert len(cells(page, "results")) == 4


def test_a_row_comes_to_the_front_and_goes_back(page):
    page.evaluate("document.querySelector('#fx-results tbody button').focus()")
    page.keyboard.press("Enter")
    faded = "document.querySelectorAll('#fx-study-chart path.fx-faded').length"
    assert page.evaluate(faded) > 0
    assert page.evaluate("document.activeElement.ariaPressed") == "true"
    page.keyboard.press("Enter")
    assert page.evaluate(faded) == 0


def test_another_study_and_another_quantity(page):
    focus(page, "preset")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.id") == "fx-preset"
    hint = page.evaluate("document.querySelector('#fx-filters .fx-hint').textContent")
    assert "as in textbooks" in hint and "All here: 16 filters." in hint
    assert len(cells(page, "results")) == 5 and cells(page, "results")[4][0] == f"{HOSTILE} · relu · 2"
    focus(page, "quantity")
    page.keyboard.press("ArrowDown")
    (loss,) = drawn(page, "study-chart", "he · relu · 2")
    assert loss == pytest.approx([2, 1, 2 / 3], rel=1e-5)
    assert text(page, "study-caption") == "Mean training loss against epoch"


def test_without_records_the_page_says_so(browser, tmp_path):
    path = tmp_path / "explorer.html"
    path.write_text(explorer_page(None), encoding="utf-8")
    page = browser.open(path.as_uri())
    settle(page)
    assert page.problems == []
    shown = page.evaluate("document.getElementById('fx-study').innerText")
    assert "No records are embedded" in shown and "Click" not in shown
    assert "Color tells" not in shown
    assert "No map" in page.evaluate("document.getElementById('fx-frontier').innerText")
    assert_curves(page)
    page.close()


def test_at_a_phone_s_width_a_wide_table_says_that_it_scrolls(browser, address):
    for width in (390, 1280):
        page = browser.open(address, width=width)
        settle(page)
        page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true })")
        page.wait_for_timeout(200)  # what is seen is observed
        seen = page.evaluate(
            "[...document.querySelectorAll('.fx-scroll')].map(one => [one.scrollWidth > "
            "one.clientWidth, getComputedStyle(one, '::before').content.includes('swipe')])"
        )
        assert all(wide == hint for wide, hint in seen)
        assert any(wide for wide, _ in seen) == (width == 390)
        page.close()
