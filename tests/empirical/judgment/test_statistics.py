import itertools
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from empirical.judgment.statistics import (
    COMPARISON_COLUMNS,
    PAIR_COLUMNS,
    SUMMARY_COLUMNS,
    bca_interval,
    cell_statistics,
    compare,
    effect_size,
    final_values,
    holm,
    pair_statistics,
    seeds_needed,
    sign_flip_p_value,
    summary,
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


def test_summary_is_numpys_and_keeps_divergence_apart():
    table = summary(study({"he": [*HE, 10.0]}, diverged={("he", 6)}))
    assert set(SUMMARY_COLUMNS) <= set(table)
    (row,) = table.to_dict("records")
    assert (row["seeds"], row["diverged"]) == (6, 1)
    assert row["mean"] == pytest.approx(np.mean(HE)) and row["std"] == pytest.approx(np.std(HE, ddof=1))
    assert row["low"] < row["mean"] < row["high"]
    expected = stats.bootstrap(
        (np.array(HE),), np.mean, method="BCa", n_resamples=9_999, rng=np.random.default_rng(0)
    ).confidence_interval
    assert (row["low"], row["high"]) == (expected.low, expected.high)


def test_one_seed_has_a_mean_and_nothing_else():
    (row,) = summary(study({"he": [80.0]})).to_dict("records")
    assert row["mean"] == 80 and np.isnan([row["std"], row["low"], row["high"]]).all()


@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_the_sign_flip_test_is_the_brute_force_one(n):
    differences = np.random.default_rng(n).normal(0.5, 1, n)
    flips = [sum(s * d for s, d in zip(signs, differences, strict=True))
             for signs in itertools.product((-1, 1), repeat=n)]  # fmt: skip
    expected = np.mean([abs(total) >= abs(differences.sum()) - 1e-9 for total in flips])
    assert sign_flip_p_value(differences) == expected


def test_the_sign_flip_test_is_scipys():
    differences = np.random.default_rng(1).normal(0.4, 1, 9)
    theirs = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=np.inf, alternative="two-sided"
    ).pvalue
    assert sign_flip_p_value(differences) == pytest.approx(theirs)


def test_many_pairs_are_sampled_and_agree_with_the_normal_limit():
    differences = np.random.default_rng(2).normal(0.25, 1, 100)
    z = differences.sum() / np.sqrt((differences**2).sum())
    expected = 2 * stats.norm.sf(abs(z))
    error = np.sqrt(expected * (1 - expected) / 9_999)
    assert abs(sign_flip_p_value(differences) - expected) < 4 * error + 2e-3


def test_under_the_null_the_p_value_is_honest():
    rng = np.random.default_rng(3)
    p = np.array([sign_flip_p_value(rng.normal(size=7)) for _ in range(800)])
    for level in (0.05, 0.2, 0.5):
        assert np.mean(p <= level) < level + 4 * np.sqrt(level * (1 - level) / 800)


def test_bca_covers_a_skewed_mean_about_as_often_as_it_says():
    rng, covered, runs = np.random.default_rng(4), 0, 60
    for _ in range(runs):
        low, high = bca_interval(rng.exponential(size=30))
        covered += low < 1 < high
    assert stats.binomtest(covered, runs, 0.93).pvalue > 1e-3


def test_a_clear_difference_with_six_pairs_is_shown():
    table = compare(study({"he": HE, "normal": NORMAL}), "initializer", "he", "normal")
    assert set(COMPARISON_COLUMNS) <= set(table)
    (row,) = table.to_dict("records")
    gaps = np.subtract(HE, NORMAL)
    assert row["difference"] == pytest.approx(gaps.mean())
    assert row["effect_size"] == pytest.approx(gaps.mean() / gaps.std(ddof=1))
    assert (row["pairs"], row["p_value"], row["p_holm"]) == (6, 2 / 64, 2 / 64)
    assert row["verdict"] == "first higher"
    (back,) = compare(study({"he": HE, "normal": NORMAL}), "initializer", "normal", "he").to_dict(
        "records"
    )
    assert back["verdict"] == "second higher" and back["difference"] == -row["difference"]


def test_pairs_are_of_one_seed_and_divergence_drops_the_pair():
    table = compare(
        study({"he": [*HE, 0.0, 90.0], "normal": [*NORMAL, 50.0]}, diverged={("he", 6)}),
        "initializer", "he", "normal",
    )  # fmt: skip
    (row,) = table.to_dict("records")
    assert (row["pairs"], row["diverged_first"], row["diverged_second"]) == (6, 1, 0)
    assert row["difference"] == pytest.approx(np.subtract(HE, NORMAL).mean())


def test_below_six_pairs_there_is_no_verdict():
    table = compare(study({"he": HE[:5], "normal": NORMAL[:5]}), "initializer", "he", "normal")
    (row,) = table.to_dict("records")
    assert row["verdict"] == "insufficient seeds" and np.isnan(row["p_holm"])


def test_holm_corrects_over_the_rows_of_the_table():
    table = compare(
        study({"he": HE, "normal": NORMAL}, depths=(2, 5, 10)), "initializer", "he", "normal"
    )
    assert list(table["p_holm"]) == pytest.approx([3 * 2 / 64] * 3)
    # six pairs could not show any difference in a family of three
    assert set(table["verdict"]) == {"insufficient seeds"}


def test_equal_arms_with_enough_seeds_show_no_difference():
    alike = [value + (-1) ** seed for seed, value in enumerate([*HE, *NORMAL])]
    table = compare(study({"he": [*HE, *NORMAL], "xavier": alike}), "initializer", "he", "xavier")
    assert list(table["verdict"]) == ["no difference shown"]


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
    assert bca_interval(np.array([3.0, 3.0, 3.0])) == (3.0, 3.0)
    assert np.isnan(effect_size(np.array([1.0, 1.0, 1.0]))) and np.isnan(
        sign_flip_p_value(np.array([]))
    )
    assert sign_flip_p_value(np.zeros(6)) == 1.0


def test_a_wrong_request_is_refused():
    cells = study({"he": HE})
    with pytest.raises(RequestError, match="share no setting"):
        compare(cells, "initializer", "he", "xavier")
    with pytest.raises(RequestError, match="no column 'speed'"):
        summary(cells, "speed")
    with pytest.raises(RequestError, match="confidence"):
        summary(cells, confidence=1.5)


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
    # a field that is not set is None, and None is a setting like any other
    assert len(summary(whole_study())) == 12 and set(summary(whole_study())["seeds"]) == {10}


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
    assert set(verdicts["he", "he, head fan_in", 12]) == {"no difference shown"}


def test_pairs_of_one_arm_and_one_activation_are_none():
    lone = whole_study().query("initializer == 'normal' and activation == 'relu'")
    assert pair_statistics(lone).empty and set(PAIR_COLUMNS) <= set(pair_statistics(lone))


@pytest.mark.parametrize("family", [1, 2, 8, 24])
def test_seeds_needed_is_where_the_best_outcome_becomes_significant(family):
    def best(n):
        """The verdict on ``family`` clear differences of n seeds each."""
        clear = study({"he": [80.0 + s for s in range(n)], "normal": [60.0] * n}, depths=range(family))
        return set(compare(clear, "initializer", "he", "normal")["verdict"])

    needed = seeds_needed(family)
    assert best(needed) == {"first higher"} and best(needed - 1) == {"insufficient seeds"}


def test_neither_the_order_of_rows_nor_a_seed_told_twice_changes_a_number():
    told = whole_study()
    twice = pd.concat([told, told.assign(cell=told["cell"] + 1000)])
    shuffled = told.sample(frac=1, random_state=3)
    expected = cell_statistics(told).sort_values(["arm", "activation", "depth"], ignore_index=True)
    for other in (twice, shuffled):
        found = cell_statistics(other).sort_values(["arm", "activation", "depth"], ignore_index=True)
        pd.testing.assert_frame_equal(found, expected)


@pytest.mark.parametrize("n", [15, 22, 30])
def test_the_sign_flip_test_is_exact_for_many_pairs(n):
    """Whole numbers: the number of sign patterns with each sum is a coefficient of Π (1 + x^(2d))."""
    differences = np.random.default_rng(n).integers(-3, 6, n)
    ways = np.array([1], dtype=object)
    for d in np.abs(differences):
        shifted = np.concatenate([np.zeros(2 * d, dtype=object), ways])
        ways = shifted + np.concatenate([ways, np.zeros(2 * d, dtype=object)])
    sums = np.arange(len(ways)) - np.abs(differences).sum()
    extreme = sum(ways[np.abs(sums) >= abs(differences.sum())])
    assert sign_flip_p_value(differences.astype(float)) == pytest.approx(extreme / 2**n, rel=1e-12)


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
    assert pair["verdict"] == "insufficient seeds"
