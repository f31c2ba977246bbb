import itertools
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from empirical.judgment.statistics import (
    ALONE,
    COMPARISON_COLUMNS,
    EQUIVALENT,
    INSUFFICIENT,
    PAIR_COLUMNS,
    SUMMARY_COLUMNS,
    TOO_CLOSE,
    between,
    cell_statistics,
    compare,
    final_values,
    holm,
    pair_statistics,
    paired,
    seeds_needed,
    sign_flip_p_value,
    t_p_value,
    unpaired,
    with_own_arms,
)
from theory.errors import RequestError


def study(arms, *, depths=(2,), diverged=()):
    """A study's table: ``arms`` maps an initializer to its final accuracy per seed."""
    rows = []
    for initializer, values in arms.items():
        for depth, (seed, value) in itertools.product(depths, enumerate(values)):
            status = "diverged" if (initializer, seed) in diverged else "completed"
            for epoch in (1, 2):  # only the last epoch counts
                accuracy = value if epoch == 2 else -1.0
                rows.append(
                    {"cell": f"{initializer}-{depth}-{seed}", "initializer": initializer, "seed": seed}
                    | {"activation": "relu", "depth": depth, "norm": "batch", "fan": "fan_out"}
                    | {"status": status, "epoch": epoch, "test_accuracy": accuracy}
                )
    return pd.DataFrame(rows).sample(frac=1, random_state=0)


HE = [80.0, 81.5, 79.0, 80.5, 82.0, 81.0]
NORMAL = [60.0, 60.5, 61.0, 59.0, 62.5, 60.0]


def test_a_cells_statistics_are_scipys_and_keep_divergence_apart():
    table = cell_statistics(study({"he": [*HE, 10.0]}, diverged={("he", 6)}))
    assert set(SUMMARY_COLUMNS) <= set(table)
    (row,) = table.to_dict("records")
    assert (row["seeds"], row["diverged"]) == (6, 1)
    assert row["mean"] == pytest.approx(np.mean(HE)) and row["std"] == pytest.approx(np.std(HE, ddof=1))
    expected = stats.t.interval(0.95, 5, np.mean(HE), np.std(HE, ddof=1) / np.sqrt(6))
    assert (row["low"], row["high"]) == pytest.approx(expected)


def test_one_seed_has_a_mean_and_nothing_else():
    (row,) = cell_statistics(study({"he": [80.0]})).to_dict("records")
    assert row["mean"] == 80 and np.isnan([row["std"], row["low"], row["high"]]).all()


def test_the_paired_test_is_scipys_with_its_interval():
    first, second = np.array(HE), np.array(NORMAL) + 19
    theirs = stats.ttest_rel(first, second)
    found = paired(first - second)
    assert found.p_value == pytest.approx(theirs.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(theirs.confidence_interval(0.95)))
    alone = paired(first - second, penalty=2)
    assert alone.p_value == pytest.approx(2 * theirs.pvalue)
    assert (alone.low, alone.high) == pytest.approx(tuple(theirs.confidence_interval(0.975)))


def test_an_interval_excludes_zero_where_the_test_decides():
    random = np.random.default_rng(8)
    for penalty in (1, 2, 4):
        for _ in range(200):
            found = paired(random.normal(0.8, 1, 4), penalty=penalty)
            assert (found.low > 0 or found.high < 0) == (found.p_value < 0.05)


def test_seeds_that_are_not_shared_are_welchs():
    first = pd.Series(HE[:4], index=[0, 1, 2, 3])
    second = pd.Series(NORMAL[:5], index=[3, 4, 5, 6, 7])
    found, theirs = between(first, second), stats.ttest_ind(HE[:4], NORMAL[:5], equal_var=False)
    assert not found.paired and found.seeds == 4 and found.p_value == pytest.approx(theirs.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(theirs.confidence_interval(0.95)))
    assert found.mean == pytest.approx(np.mean(HE[:4]) - np.mean(NORMAL[:5]))
    shared = between(first, pd.Series(NORMAL[:4], index=[0, 1, 2, 3]))
    assert shared.paired and shared.p_value == pytest.approx(stats.ttest_rel(HE[:4], NORMAL[:4]).pvalue)
    assert np.isnan(between(first[:1], second[:2]).p_value)  # too few of either


def test_equivalence_is_two_one_sided_tests():
    values = np.array([0.1, -0.2, 0.15, 0.05])
    lower = stats.ttest_1samp(values, -1.0, alternative="greater").pvalue
    upper = stats.ttest_1samp(values, 1.0, alternative="less").pvalue
    found = paired(values)
    assert found.p_not_worse == pytest.approx(lower)
    assert found.p_equivalent == pytest.approx(max(lower, upper))
    ours = unpaired(values + 0.9, np.zeros(4) + 0.01 * values)
    theirs = [
        stats.ttest_ind(
            values + 0.9, 0.01 * values + shift, equal_var=False, alternative=alternative
        ).pvalue
        for shift, alternative in ((-1.0, "greater"), (1.0, "less"))
    ]
    assert ours.p_equivalent == pytest.approx(max(theirs))
    assert ours.p_not_worse == pytest.approx(theirs[0])


def test_an_arm_that_does_not_vary_evens_out_no_skewness():
    """It is a number: p is multiplied, and the interval as much wider, paired or not."""
    he, stalled = pd.Series(HE), pd.Series([10.0] * 6)
    found, varied = between(he, stalled), between(he, pd.Series(NORMAL))
    plain = stats.ttest_1samp(he - stalled, 0)
    assert found.p_value == pytest.approx(ALONE * plain.pvalue)
    assert (found.low, found.high) == pytest.approx(plain.confidence_interval(1 - 0.05 / ALONE))
    assert varied.p_value == pytest.approx(stats.ttest_rel(HE, NORMAL).pvalue)
    apart = between(he, stalled.set_axis(range(10, 16)))
    with pytest.warns(RuntimeWarning, match="identical"):
        welch = stats.ttest_ind(HE, [10.0] * 6, equal_var=False)
    assert not apart.paired and apart.p_value == pytest.approx(ALONE * welch.pvalue)
    assert apart.effect_size == pytest.approx((np.mean(HE) - 10) / np.std(HE, ddof=1))


@pytest.mark.parametrize(
    "test", [paired, lambda values, penalty: unpaired(values, -values, penalty=penalty)]
)
def test_a_penalty_is_on_every_p_value(test):
    values = np.array([0.2, -0.1, 0.3, 0.1])
    once, twice = (test(values, penalty=penalty) for penalty in (1, 2))
    for name in ("p_value", "p_not_worse", "p_equivalent"):
        assert getattr(twice, name) == pytest.approx(min(1.0, 2 * getattr(once, name)))


def test_seeds_that_do_not_differ_are_never_proof_of_no_spread():
    same = paired(np.array([2.0, 2.0, 2.0]))
    assert same.p_value == 0.25 and (same.low, same.high) == (2.0, 2.0)
    assert verdict_of([5.0, 5.0, 5.0]) == INSUFFICIENT and verdict_of([5.0] * 6) == "first higher"
    assert t_p_value(np.array([0.1 + 0.2, 0.3, 0.3])) == 0.25  # equal but for rounding
    assert t_p_value(np.zeros(5)) == 1.0
    assert np.isnan(unpaired(np.ones(3), np.zeros(3)).p_value)


@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_the_sign_flip_test_is_the_brute_force_one(n):
    differences = np.random.default_rng(n).normal(0.5, 1, n)
    flips = [sum(s * d for s, d in zip(signs, differences, strict=True))
             for signs in itertools.product((-1, 1), repeat=n)]  # fmt: skip
    expected = np.mean([abs(total) >= abs(differences.sum()) - 1e-9 for total in flips])
    assert sign_flip_p_value(differences) == expected


def test_under_the_null_the_p_value_is_honest():
    rng = np.random.default_rng(3)
    p = np.array([sign_flip_p_value(rng.normal(size=7)) for _ in range(800)])
    for level in (0.05, 0.2, 0.5):
        assert np.mean(p <= level) < level + 4 * np.sqrt(level * (1 - level) / 800)


def test_a_clear_difference_is_shown_from_three_seeds_on():
    table = compare(study({"he": HE[:3], "normal": NORMAL[:3]}), "initializer", "he", "normal")
    assert set(COMPARISON_COLUMNS) <= set(table)
    (row,) = table.to_dict("records")
    gaps = np.subtract(HE[:3], NORMAL[:3])
    assert row["difference"] == pytest.approx(gaps.mean())
    assert row["effect_size"] == pytest.approx(gaps.mean() / gaps.std(ddof=1))
    assert (row["seeds"], row["p_holm"]) == (3, row["p_value"]) and np.isnan(row["p_exact"])
    assert row["verdict"] == "first higher"
    (back,) = compare(
        study({"he": HE[:3], "normal": NORMAL[:3]}), "initializer", "normal", "he"
    ).to_dict("records")
    assert back["verdict"] == "second higher" and back["difference"] == -row["difference"]


def test_the_exact_test_stands_beside_from_six_seeds_on():
    (row,) = compare(study({"he": HE, "normal": NORMAL}), "initializer", "he", "normal").to_dict(
        "records"
    )
    assert row["p_exact"] == 2 / 64 and row["p_value"] < 1e-4


def test_pairs_are_of_one_seed_and_divergence_drops_the_pair():
    table = compare(
        study({"he": [*HE, 0.0, 90.0], "normal": [*NORMAL, 50.0]}, diverged={("he", 6)}),
        "initializer", "he", "normal",
    )  # fmt: skip
    (row,) = table.to_dict("records")
    assert (row["seeds"], row["diverged_first"], row["diverged_second"]) == (6, 1, 0)
    assert row["difference"] == pytest.approx(np.subtract(HE, NORMAL).mean())


@pytest.mark.parametrize("seeds", [1, 2])
def test_below_three_seeds_there_is_no_verdict(seeds):
    table = compare(study({"he": HE[:seeds], "normal": NORMAL[:seeds]}), "initializer", "he", "normal")
    (row,) = table.to_dict("records")
    assert row["verdict"] == INSUFFICIENT and np.isnan(row["p_holm"])


def test_holm_corrects_over_the_rows_of_the_table():
    table = compare(
        study({"he": HE, "normal": NORMAL}, depths=(2, 5, 10)), "initializer", "he", "normal"
    )
    assert list(table["p_holm"]) == pytest.approx(list(3 * table["p_value"]))
    assert set(table["verdict"]) == {"first higher"} and set(table["family"]) == {3}


def verdict_of(differences):
    table = compare(
        study({"he": [50 + one for one in differences], "xavier": [50.0] * len(differences)}),
        "initializer", "he", "xavier",
    )  # fmt: skip
    return table["verdict"].item()


def test_what_is_not_decided_is_named():
    assert verdict_of([0.2, -0.3, 0.1, 0.0, -0.1]) == EQUIVALENT
    assert verdict_of([3.0, -4.0, 5.0, -3.0, 1.0]) == TOO_CLOSE  # as it looks, 10 seeds will not do
    assert verdict_of([5.0, 2.0, 9.0]) == INSUFFICIENT  # as it looks, a few more would


@pytest.mark.parametrize("size, level", [(3.0, 0.05), (1.5, 0.05 / 14), (0.8, 0.05)])
def test_the_seeds_needed_are_the_first_that_do(size, level):
    """The power of the t test by its noncentral distribution."""

    def power(n):
        edge = stats.t.isf(level / 2, n - 1)
        law = stats.nct(n - 1, size * np.sqrt(n))
        return law.sf(edge) + law.cdf(-edge)

    needed = seeds_needed(size, level)
    assert power(needed) >= 0.8 > power(needed - 1)
    assert seeds_needed(-size, level) == needed
    assert seeds_needed(np.inf) == 6 and seeds_needed(-np.inf, 0.05 / 14) == 10  # 2/2ⁿ ≤ level
    assert seeds_needed(np.nan) == seeds_needed(1e9) == 3


@settings(max_examples=50)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_monotone_and_between_raw_and_bonferroni(p_values):
    raw = np.array(p_values)
    corrected = holm(raw)
    assert np.all(corrected >= raw - 1e-15)
    assert np.all(corrected <= np.minimum(len(raw) * raw, 1) + 1e-15)
    order = np.argsort(raw)
    assert np.all(np.diff(corrected[order]) >= 0)


def test_degenerate_values_give_words_and_not_warnings():
    assert np.isnan(sign_flip_p_value(np.array([]))) and sign_flip_p_value(np.array([1.0])) == 1.0
    assert sign_flip_p_value(np.zeros(6)) == 1.0 and len(holm(np.array([]))) == 0


def test_a_wrong_request_is_refused():
    cells = study({"he": HE})
    with pytest.raises(RequestError, match="share no setting"):
        compare(cells, "initializer", "he", "xavier")
    with pytest.raises(RequestError, match="no column 'speed'"):
        final_values(cells, "speed")


# ------------------------------------------------------------------- the tables of a whole study


def whole_study():
    """He and N(0, 1), ReLU and PReLU at two depths, and He with another head; ten seeds."""
    rng, rows = np.random.default_rng(5), []
    arms = (("he", "epochs 3"), ("normal", "epochs 3"), ("he", "head fan_in, epochs 3"))
    grid = itertools.product(arms, ("relu", "prelu"), (2, 12), range(10))
    for (initializer, variant), activation, depth, seed in grid:
        mean = 70 - 15 * (initializer == "normal") + 5 * ("head" in variant) * (depth == 2)
        rows.append(
            {"cell": len(rows), "initializer": initializer, "variant": variant, "seed": seed}
            | {"activation": activation, "depth": depth, "status": "completed", "epoch": 3}
            | {"head_fan": "fan_in" if "head" in variant else None}
            | {"test_accuracy": mean + rng.normal()}
        )
    return pd.DataFrame(rows)


def test_arms_are_named_by_what_not_all_of_them_share():
    named = with_own_arms(whole_study())
    assert [arm.label for arm in named["arm"].unique()] == ["he", "normal", "he, head fan_in"]
    assert with_own_arms(named.assign(arm="mine"))["arm"].unique() == ["mine"]


def test_cells_of_another_protocol_are_no_seeds_of_this_one():
    cells = cell_statistics(whole_study())
    assert len(cells) == 3 * 2 * 2 and set(cells["seeds"]) == {10}


def test_pairs_are_every_two_arms_and_every_two_activations_each_kind_a_family():
    study_table = whole_study()
    pairs = pair_statistics(study_table)
    assert set(PAIR_COLUMNS) <= set(pairs)
    arms, activations = (pairs[pairs["compared"] == kind] for kind in ("arm", "activation"))
    assert len(arms) == 3 * 2 * 2 and len(activations) == 3 * 2
    assert set(arms["family"]) == {12} and set(activations["family"]) == {6}
    assert arms["p_holm"].to_numpy() == pytest.approx(holm(arms["p_value"].to_numpy()))
    row = arms.iloc[0]
    values = final_values(study_table).set_index(["initializer", "variant", "activation", "depth"])
    ours = values.loc[
        (row["first"].label, "epochs 3", row["activation"], row["depth"]), "test_accuracy"
    ]
    other = values.loc[
        (row["second"].label, "epochs 3", row["activation"], row["depth"]), "test_accuracy"
    ]
    assert row["difference"] == pytest.approx(ours.to_numpy().mean() - other.to_numpy().mean())
    labels = {name: arms[name].map(str) for name in ("first", "second")}
    verdicts = arms.assign(**labels).set_index(["first", "second", "depth"])["verdict"]
    assert set(verdicts["he", "normal", 2]) == {"first higher"}
    assert set(verdicts["he", "he, head fan_in", 2]) == {"second higher"}
    assert set(verdicts["he", "he, head fan_in", 12]) <= {TOO_CLOSE, EQUIVALENT}


def test_pairs_of_one_arm_and_one_activation_are_none():
    lone = whole_study().query("initializer == 'normal' and activation == 'relu'")
    assert pair_statistics(lone).empty and set(PAIR_COLUMNS) <= set(pair_statistics(lone))


def test_neither_the_order_of_rows_nor_a_seed_told_twice_changes_a_number():
    told = whole_study()
    twice = pd.concat([told, told.assign(cell=told["cell"] + 1000)])
    shuffled = told.sample(frac=1, random_state=3)
    expected = cell_statistics(told).sort_values(["arm", "activation", "depth"], ignore_index=True)
    for other in (twice, shuffled):
        found = cell_statistics(other).sort_values(["arm", "activation", "depth"], ignore_index=True)
        pd.testing.assert_frame_equal(found, expected)


def test_one_activation_or_one_arm_is_a_family_alone():
    """Its pairs are those that it has beside the other family."""
    two = study({"he": [1.0, 2.0, 4.0], "normal": [0.0, 3.0, 3.5]})
    both = pd.concat([two, two.assign(activation="prelu", cell="p-" + two["cell"])])
    for part in (two, both[both["initializer"] == "he"]):
        alone = pair_statistics(part)
        (compared,) = alone["compared"].unique()
        among = pair_statistics(both)
        shared = {"arm": "activation", "activation": "arm"}[compared]
        same = among[(among["compared"] == compared) & (among[shared] == alone[shared].iloc[0])]
        assert list(alone.columns) == list(among.columns) and len(alone) == len(same) == 1
        assert alone["difference"].tolist() == same["difference"].tolist()


@pytest.mark.parametrize("seeds", [1, 2])
def test_the_command_gives_its_statistics_as_json(seeds, capsys, tmp_path, monkeypatch):
    from cifar_format import tiny_dataset

    import cli
    from empirical.study import grid as study

    monkeypatch.delenv("CIFAR10_DIR", raising=False)
    monkeypatch.setattr(study, "load_dataset", lambda *args, **options: tiny_dataset())
    small = ["--activation", "relu", "--depths", "2", "--filters", "4", "--epochs", "1"]
    where = ["--device", "cpu", "--engine", "eager", "--out", str(tmp_path), "--json"]
    assert cli.main(["cifar", *small, *where, "--seeds", str(seeds)]) == 0
    document = json.loads(capsys.readouterr().out)
    finals = {"he": [], "normal": []}
    for cell in document["cells"]:
        finals[cell["initializer"]].append(cell["final_test_accuracy"])
    if seeds == 1:
        assert "statistics_cells" not in document and "statistics_pairs" not in document
        return
    for row in document["statistics_cells"]:
        assert row["seeds"] == 2
        assert row["mean"] == pytest.approx(sum(finals[row["arm"]]) / 2, abs=1e-9)
    (pair,) = document["statistics_pairs"]
    difference = (sum(finals[pair["first"]]) - sum(finals[pair["second"]])) / 2
    assert pair["difference"] == pytest.approx(difference, abs=1e-9)
    assert pair["verdict"] == INSUFFICIENT
