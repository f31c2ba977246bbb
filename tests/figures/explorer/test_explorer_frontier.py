"""The explorer's maps of trainability: the table's numbers, and theory between them."""

import json

import numpy as np
import pytest
from browser import run_javascript

from empirical.frontier.prediction import SCALES, ends, scales_of
from empirical.frontier.table import TRAINED
from figures.beyond.frontier import kind_of, map_of
from figures.beyond.published import MAPS, published_map
from figures.explorer import fragment
from figures.explorer.build import HERE
from figures.explorer.frontier import frontier_maps
from figures.prose import name_of
from theory.initializers import parse_initializer

SOURCES = [(HERE / name).read_text(encoding="utf-8") for name in ("theory.js", "frontier.js")]


@pytest.fixture(scope="module")
def table():
    return published_map()


@pytest.fixture(scope="module")
def maps(table):
    """(spec, activation, rows of the table, what is embedded) of every map."""
    found = {(one["network"], one["activation"]): one for one in frontier_maps(table)}
    each = []
    for spec in MAPS.values():
        rows = map_of(table, spec)
        for phi in spec.parsed:
            part = rows[rows["activation"] == phi.name]
            each.append((spec, phi, part, found.pop((kind_of(part.iloc[0]), name_of(phi.name)))))
    assert not found
    return each


def javascript(expression):
    """``expression``, with F for frontier.js; no infinity comes back."""
    program = f"(() => {{ const F = Fanin.frontier; return {expression}; }})()"
    value = run_javascript(SOURCES, program)
    if value is None:
        pytest.skip("neither Node nor a Chromium is installed: no JavaScript to compare")
    return value


def test_a_map_has_the_tables_accuracies(maps):
    assert len(maps) == 12
    for _, _, part, one in maps:
        assert len(part) == len(one["depths"]) * len(one["variances"])
        for row in part.itertuples():
            i, j = one["depths"].index(row.depth), one["variances"].index(row.weight_variance)
            assert one["accuracy"][i][j] == pytest.approx(row.accuracy, abs=0.0501)
        assert one["trained"] == TRAINED and one["guessing"] in (10, 12.5)
        assert set(one["marks"].values()) <= set(one["variances"])


def test_the_page_says_of_every_trained_network_what_was_predicted(maps):
    for _, _, part, one in maps:
        cells = part[["weight_variance", "depth"]].to_numpy().tolist()
        shares = javascript(f"{cells}.map((at) => F.share({json.dumps(one)}, ...at))")
        folds = (part["depth"] / (SCALES * part["depth_scale"])).to_numpy()
        assert shares == pytest.approx(folds, rel=1e-3, abs=1e-6)
        assert ((np.array(shares) <= 1) == part["predicted"]).all()


def test_between_its_columns_a_map_follows_theory(maps):
    """Its share where theory's line is, not that line's depth: folds that hardly grow leave it open."""
    random = np.random.default_rng(0)
    for spec, phi, _, one in maps:
        columns = np.log([one["variances"][0], one["variances"][-1]])
        variances = np.exp(random.uniform(*columns, 6)).tolist()
        theirs = [min(ends(spec, phi, variance)[1], 1e9) for variance in variances]
        points = json.dumps([*zip(variances, theirs, strict=True)])
        got = javascript(
            f"((m) => {points}.map(([v, end]) => "
            f"[48, end, F.end(m, v)].map((depth) => F.share(m, v, depth))))({json.dumps(one)})"
        )
        for variance, end, (share, there, own) in zip(variances, theirs, got, strict=True):
            folds = 48 / (SCALES * scales_of(spec, phi, variance, 48)[1])
            assert share == pytest.approx(folds, rel=0.01, abs=0.03)
            if end <= spec.depths[-1]:
                assert there == pytest.approx(1, abs=0.01) and own == pytest.approx(1, rel=1e-9)


def test_the_readers_variance_is_that_of_the_initializer(maps):
    """fan_in·Var[w] as the Python laws have it, at the width of the maps and at another."""
    for _, phi, _, one in maps[:3]:
        for width in (64, 512):
            for name in ("he", "xavier", "normal"):
                setting = {
                    "depth": 12,
                    "width": width,
                    "taper": 1,
                    "fan": "fan_in",
                    "initializer": name,
                }
                law = parse_initializer(name)
                expected = width * law.variance(width, width, phi.gain_slope)
                got = javascript(f"F.varianceOf({json.dumps(setting)}, {json.dumps(one)})")
                assert got == pytest.approx(expected, rel=1e-12)
                if width == one["width"]:
                    assert got == pytest.approx(one["marks"][name], rel=1e-9)


def test_the_maps_are_embedded_and_without_them_the_page_has_none(table):
    part = table[(table["activation"] == "relu") & (table["network"] == "plain")]
    body, _, _ = fragment(None, frontier_maps(part))
    opening = '<script type="application/json" id="fx-maps">'
    embedded = json.loads(body.split(opening)[1].split("</script>")[0])
    assert embedded == json.loads(json.dumps(frontier_maps(part)))
    assert [one["activation"] for one in embedded] == ["ReLU"]
    assert (
        f"{opening}</script>" in fragment()[0]
        and f"{opening}</script>" in fragment(None, frontier_maps(table[:0]))[0]
    )
