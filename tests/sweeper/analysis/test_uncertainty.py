"""Bounds against values worked out here: by hand, by a search over the binomial's sum, or from tables."""

from math import comb, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeper.analysis.frontier import non_dominated, points
from sweeper.analysis.uncertainty import (
    Over,
    asr_upper,
    bootstrap,
    clopper_pearson_lower,
    clopper_pearson_upper,
    excess_upper,
    how_many,
    may_fail,
    min_class_acc_lower,
    over_scenarios,
    student_upper,
)
from tests.sweeper.small import frame_of, row_with

NAN = float("nan")


@pytest.mark.parametrize(
    ("over", "value"),
    [("worst", 0.9), ("mean", (0.1 + 0.9 + 0.5 + 0.3) / 4), ("cvar", (0.9 + 0.5) / 2)],
)
def test_scenarios_are_aggregated(over: str, value: float) -> None:
    assert over_scenarios(np.array([0.1, 0.9, 0.5, 0.3]), over) == pytest.approx(value)  # type: ignore[arg-type]


@pytest.mark.parametrize(("count", "half"), [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3)])
def test_the_worst_half_is_rounded_up(count: int, half: int) -> None:
    assert (how_many("cvar", count), how_many("worst", count), how_many("mean", count)) == (half, 1, count)


def test_a_scenario_without_the_figure_does_not_count() -> None:
    asr = np.array([[0.2, NAN, 0.4, NAN], [NAN] * 4])
    assert over_scenarios(asr, "mean")[0] == pytest.approx(0.3)
    assert over_scenarios(asr, "cvar")[0] == pytest.approx(0.4)
    assert np.isnan(over_scenarios(asr, "worst")[1])


def test_students_bound_is_that_of_the_table() -> None:
    values = [0.02, 0.05, 0.08]
    deviation = sqrt(sum((v - 0.05) ** 2 for v in values) / 2)
    # t(0.90, 2) = 1.886, t(0.95, 2) = 2.920, t(0.95, 4) = 2.132
    assert student_upper(values, 0.9) == pytest.approx(0.05 + 1.8856 * deviation / sqrt(3), abs=1e-5)
    assert student_upper(values, 0.95) == pytest.approx(0.05 + 2.9200 * deviation / sqrt(3), abs=1e-5)
    assert student_upper([0.1] * 5, 0.95) == pytest.approx(0.1)


@pytest.mark.parametrize(("hits", "trials"), [(0, 20), (1, 20), (7, 50), (19, 20), (20, 20), (3, 450)])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_clopper_and_pearson(hits: int, trials: int, confidence: float) -> None:
    """At the bound, as few hits as were seen have just the probability 1 - confidence."""
    bound = clopper_pearson_upper(hits, trials, confidence)
    if hits == trials:
        assert bound == 1
        return
    tail = sum(comb(trials, k) * bound**k * (1 - bound) ** (trials - k) for k in range(hits + 1))
    assert tail == pytest.approx(1 - confidence, rel=1e-6)
    if hits == 0:
        assert bound == pytest.approx(1 - (1 - confidence) ** (1 / trials))


@pytest.mark.parametrize(("seeds", "confidence"), [(1, 0.9), (3, 0.9), (3, 0.95), (20, 0.5)])
def test_what_so_many_seeds_in_a_row_cannot_exclude(seeds: int, confidence: float) -> None:
    """At that share, that many successes in a row have just the probability 1 - confidence."""
    assert (1 - may_fail(seeds, confidence)) ** seeds == pytest.approx(1 - confidence)


def test_the_larger_bound_counts() -> None:
    images = np.full((3, 1), 100)
    spread = np.array([[0.0], [0.1], [0.2]])
    assert asr_upper(spread, images, "worst", 0.9) == pytest.approx(
        max(student_upper([0.0, 0.1, 0.2], 0.9), clopper_pearson_upper(20, 100, 0.9))
    )
    same = np.full((3, 1), 0.02)
    assert asr_upper(same, images, "worst", 0.9) == pytest.approx(clopper_pearson_upper(2, 100, 0.9))
    assert asr_upper(same, np.full((3, 1), 10**7), "worst", 0.9) == pytest.approx(0.02, abs=1e-4)
    wide = np.array([[0.0], [0.9], [0.9]])
    assert student_upper(wide[:, 0].tolist(), 0.9) > 1
    assert asr_upper(wide, images, "worst", 0.9) == 1.0


def test_the_worst_seed_is_that_of_the_scenarios_that_count() -> None:
    asr = np.array([[0.0, 0.3], [0.2, 0.0], [0.1, 0.1]])
    images = np.array([[50, 200], [50, 200], [50, 200]])
    worst = asr_upper(asr, images, "worst", 0.9)
    assert worst == pytest.approx(max(student_upper([0.3, 0.2, 0.1], 0.9), clopper_pearson_upper(60, 200, 0.9)))
    mean = asr_upper(asr, images, "mean", 0.9)
    # The scenarios share their images: 0.15 of the 50 that the smaller one has, rounded up, and not 60 of 250.
    assert mean == pytest.approx(max(student_upper([0.15, 0.1, 0.1], 0.9), clopper_pearson_upper(8, 50, 0.9)))


def test_the_bound_holds_as_often_as_it_says() -> None:
    """Three seeds, two scenarios with known means: the true worst mean lies above the bound in at most a tenth."""
    random = np.random.default_rng(1)
    truth = np.array([0.10, 0.12])
    images = np.full((3, 2), 450)
    missed = 0
    for _ in range(400):
        asr = np.clip(truth + random.normal(0, 0.02, (3, 2)), 0, 1)
        asr = random.binomial(450, asr) / 450
        missed += asr_upper(asr, images, "worst", 0.9) < truth.max()
    assert missed / 400 <= 0.1


@pytest.mark.parametrize(("hits", "trials"), [(0, 20), (1, 20), (20, 20)])
def test_the_lower_bound_of_a_share(hits: int, trials: int) -> None:
    """At the bound, as many hits as were seen have just the probability 1 - confidence."""
    bound = clopper_pearson_lower(hits, trials, 0.9)
    if hits == 0:
        assert bound == 0
        return
    tail = sum(comb(trials, k) * bound**k * (1 - bound) ** (trials - k) for k in range(hits, trials + 1))
    assert tail == pytest.approx(0.1, rel=1e-6)


def test_the_bound_of_what_the_trigger_adds() -> None:
    """The larger one of Student's t over seeds, and of success less floor over images, each at half the error."""
    images = np.full((3, 1), 100)
    asr, floor = np.array([[0.2], [0.3], [0.25]]), np.array([[0.1], [0.1], [0.1]])
    of_images = clopper_pearson_upper(30, 100, 0.95) - clopper_pearson_lower(10, 100, 0.95)
    assert of_images > student_upper([0.1, 0.2, 0.15], 0.9)
    assert excess_upper(asr - floor, asr, images, "worst", 0.9) == pytest.approx(of_images)
    many = np.full((3, 1), 10**7)
    by_seeds = 0.15 + 1.8856 * 0.05 / sqrt(3)
    assert excess_upper(asr - floor, asr, many, "worst", 0.9) == pytest.approx(max(by_seeds, 0.2), abs=1e-3)
    wide = np.array([[0.0], [0.9], [0.9]])
    assert excess_upper(wide, wide, images, "worst", 0.9) == 1.0


def test_below_the_floor_the_trigger_adds_nothing_to_its_images_either() -> None:
    """Attack success 0.1 at a floor of 0.4: the bound must not fall below that of ten images of a hundred twice."""
    asr = np.full((3, 1), 0.1)
    bound = excess_upper(np.zeros((3, 1)), asr, np.full((3, 1), 100), "worst", 0.9)
    assert bound == pytest.approx(clopper_pearson_upper(10, 100, 0.95) - clopper_pearson_lower(10, 100, 0.95))


def test_the_bound_of_what_the_trigger_adds_is_aggregated_over_scenarios() -> None:
    """The worst is not that of the first, whose attack success is higher."""
    asr, floor = np.tile([0.5, 0.3], (3, 1)), np.tile([0.45, 0.02], (3, 1))
    images = np.full((3, 2), 100)
    first = clopper_pearson_upper(50, 100, 0.95) - clopper_pearson_lower(45, 100, 0.95)
    second = clopper_pearson_upper(30, 100, 0.95) - clopper_pearson_lower(2, 100, 0.95)
    assert excess_upper(asr - floor, asr, images, "worst", 0.9) == pytest.approx(second)
    assert excess_upper(asr - floor, asr, images, "cvar", 0.9) == pytest.approx(second)
    assert excess_upper(asr - floor, asr, images, "mean", 0.9) == pytest.approx((first + second) / 2)


@pytest.mark.parametrize("over", ["worst", "cvar"])
def test_a_harmless_scenario_beside_another_lowers_no_bound(over: Over) -> None:
    """It adds more, from 0 to 0.03, but is known better than the other, from 0.5 to 0.52."""
    added, asr, images = np.tile([0.03, 0.02], (3, 1)), np.tile([0.03, 0.52], (3, 1)), np.full((3, 2), 100)
    alone = excess_upper(added[:, 1:], asr[:, 1:], images[:, 1:], over, 0.9)
    assert alone == pytest.approx(0.192, abs=1e-3)
    assert excess_upper(added, asr, images, over, 0.9) == pytest.approx(alone)


def test_where_the_trigger_adds_the_same_the_seed_and_scenario_with_the_widest_bound_counts() -> None:
    """With many images the second seed in the second scenario; with few the third seed in the first."""
    asr = np.array([[0.0, 0.1], [0.0, 0.4], [0.2, 0.1]])
    for images, hits, shown in ((100, 40, 100), (50, 10, 50)):
        bound = excess_upper(np.zeros((3, 2)), asr, np.array([[images, 100]] * 3), "worst", 0.9)
        expected = clopper_pearson_upper(hits, shown, 0.95) - clopper_pearson_lower(hits, shown, 0.95)
        assert bound == pytest.approx(expected)


def test_the_bound_of_what_the_trigger_adds_holds_as_often_as_it_says() -> None:
    """Three seeds, two scenarios: the true worst excess lies above the bound in at most a tenth."""
    random = np.random.default_rng(1)
    truth, floors = np.array([0.02, 0.05]), np.array([0.10, 0.04])
    images = np.full((3, 2), 450)
    missed = 0
    for _ in range(400):
        base = random.binomial(450, np.clip(floors + random.normal(0, 0.02, (3, 2)), 0, 1)) / 450
        asr = random.binomial(450, np.clip(floors + truth + random.normal(0, 0.02, (3, 2)), 0, 1)) / 450
        missed += excess_upper(np.maximum(asr - base, 0), asr, images, "worst", 0.9) < truth.max()
    assert missed / 400 <= 0.1


def test_it_holds_as_often_where_a_harmless_scenario_has_the_higher_excess() -> None:
    """Equal seeds, so that images alone make the bound: one from 0 to 0.035, the other from 0.475 to 0.525."""
    random = np.random.default_rng(0)
    images = np.full((3, 2), 1000)
    missed = 0
    for _ in range(400):
        base, harmed, harmless = random.binomial(1000, [0.475, 0.525, 0.035]) / 1000
        added, asr = np.array([harmless, max(harmed - base, 0)]), np.array([harmless, harmed])
        missed += excess_upper(np.tile(added, (3, 1)), np.tile(asr, (3, 1)), images, "worst", 0.9) < 0.05
    assert missed / 400 <= 0.1


def test_the_lower_bound_of_the_worst_class() -> None:
    """The smaller one of Student's t over seeds and Clopper-Pearson over the classes of the worst seed."""
    apart = np.array([[0.8, 0.9], [0.6, 0.9], [0.7, 0.9]])
    many = [[(8_000, 10_000)], [(9_000, 10_000), (6_000, 10_000)], [(7_000, 10_000)]]
    by_seeds = 0.7 - 1.8856 * 0.1 / sqrt(3)
    assert min_class_acc_lower(apart, many, 0.9) == pytest.approx(by_seeds, abs=1e-5)
    same = np.full((3, 1), 0.6)
    few = [[(6, 10), (19, 20), (4, 4)], [(1, 10)], [(1, 10)]]
    # At the bound, as many hits as were seen have just the probability 0.1; four of four have it at 0.56.
    bound = min_class_acc_lower(same, few, 0.9)
    assert sum(comb(10, k) * bound**k * (1 - bound) ** (10 - k) for k in range(6, 11)) == pytest.approx(0.1)
    few[0] = [(60, 100), (1, 1)]
    assert min_class_acc_lower(same, few, 0.9) == pytest.approx(0.1), "one image of one says that little"
    few[0] = [(60, 100), (0, 0)]
    assert min_class_acc_lower(same, few, 0.9) == 0.0, "no image says nothing"


def test_the_lower_bound_holds_as_often_as_it_says() -> None:
    """Three seeds, three classes of unequal size: the true lowest mean lies below the bound in at most a tenth."""
    random = np.random.default_rng(1)
    truth, images = np.array([0.62, 0.6, 0.8]), np.array([200, 100, 20])
    missed = 0
    for _ in range(400):
        seeds = np.clip(truth + random.normal(0, 0.02, (3, 3)), 0, 1)
        right = random.binomial(images, seeds)
        counts = [list(zip(line.tolist(), images.tolist(), strict=True)) for line in right]
        missed += min_class_acc_lower((right / images).min(axis=1, keepdims=True), counts, 0.9) > truth.min()
    assert missed / 400 <= 0.1


def test_the_lower_bound_is_a_share() -> None:
    wide = np.array([[0.0], [0.9], [0.9]])
    assert min_class_acc_lower(wide, [[(0, 10)]] * 3, 0.9) == 0.0


CUBES = st.integers(2, 4).flatmap(
    lambda seeds: st.lists(st.lists(st.floats(0, 1), min_size=seeds, max_size=seeds), min_size=1, max_size=5)
)


@settings(deadline=None, max_examples=30)
@given(CUBES)
def test_an_interval_lies_within_the_seeds_and_some_setting_stands_on_every_frontier(cube: list[list[float]]) -> None:
    acc = np.array(cube)[:, :, None]
    found = bootstrap(acc, 1 - acc, np.ones(len(cube), bool), "worst", 50, (0.025, 0.975), non_dominated)
    low, high, asr_low, asr_high, share = found.T
    slack = 1e-9
    assert (low >= acc.min((1, 2)) - slack).all()
    assert (high <= acc.max((1, 2)) + slack).all()
    assert (low <= high + slack).all()
    assert np.allclose(asr_low, 1 - high)
    assert np.allclose(asr_high, 1 - low)
    assert share.sum() >= 1 - slack
    assert ((share >= 0) & (share <= 1)).all()


def test_the_bootstrap_of_two_seeds_has_three_outcomes() -> None:
    acc = np.array([[[0.2], [0.6]], [[0.5], [0.5]]])
    asr = np.zeros_like(acc)
    found = bootstrap(acc, asr, np.array([True, True]), "worst", 2000, (0.0, 1.0), non_dominated)
    assert found[0, :2] == pytest.approx([0.2, 0.6])
    assert found[1, :2] == pytest.approx([0.5, 0.5])
    # The first is better only if its good seed is drawn twice: a quarter of the samples.
    assert found[0, 4] == pytest.approx(0.25, abs=0.04)
    assert found[1, 4] == pytest.approx(0.75, abs=0.04)


def test_the_bootstrap_draws_the_same_seeds_each_time() -> None:
    acc = np.linspace(0.2, 0.9, 12).reshape(3, 4, 1)[:, ::-1]
    usable = np.array([True, True, True])
    one, other = (bootstrap(acc, acc**2, usable, "mean", 25, (0.1, 0.9), non_dominated) for _ in range(2))
    assert np.array_equal(one, other)


def test_what_may_stand_on_no_frontier_pushes_nobody_off_it() -> None:
    acc = np.array([[[0.9], [0.9]], [[0.5], [0.6]]])
    found = bootstrap(acc, np.zeros_like(acc), np.array([False, True]), "worst", 50, (0.0, 1.0), non_dominated)
    assert np.isnan(found[0, 4])
    assert found[1, 4] == 1


def test_where_a_sample_has_no_figure_there_is_no_interval() -> None:
    """The second seed lacks it: of a sample that draws it twice nothing is known."""
    acc = np.array([[[0.5], [NAN]], [[0.4], [0.6]]])
    found = bootstrap(acc, np.zeros_like(acc), np.array([True, True]), "worst", 200, (0.0, 1.0), non_dominated)
    assert np.isnan(found[0, :2]).all()
    assert found[1, :2] == pytest.approx([0.4, 0.6])


def test_spread_and_interval_of_a_point() -> None:
    def run(seed: int, scenario: str, acc: float, asr: float) -> dict[str, object]:
        return row_with(config="a", seed=seed, scenario=scenario, val_acc=acc, val_asr=asr, asr_floor=0.1)

    frame = frame_of(
        run(0, "x", 0.8, 0.1), run(0, "y", 0.6, 0.4), run(1, "x", 0.9, 0.3), run(1, "y", 0.7, 0.2),
    )  # fmt: skip
    (point,) = points(frame).to_dict("records")
    assert point["seeds"] == 2
    assert (point["val_acc"], point["val_asr_excess"]) == (pytest.approx(0.75), pytest.approx(0.2))  # y is the worst
    assert point["val_acc_sd"] == pytest.approx(abs(0.7 - 0.8) / sqrt(2))
    assert point["val_asr_excess_sd"] == point["val_asr_sd"] == pytest.approx(abs(0.4 - 0.2) / sqrt(2))
    assert (point["val_acc_low"], point["val_acc_high"]) == (pytest.approx(0.7), pytest.approx(0.8))
    # Seed 0 twice: y counts with 0.3; seed 1 twice: x with 0.2; both once: y with 0.2.
    assert (point["val_asr_excess_low"], point["val_asr_excess_high"]) == (pytest.approx(0.2), pytest.approx(0.3))
    assert point["frontier_share"] == 1
    (mean,) = points(frame, "mean").to_dict("records")
    assert mean["val_asr_excess"] == pytest.approx(0.15)


def test_one_seed_has_no_spread() -> None:
    (point,) = points(frame_of(row_with())).to_dict("records")
    names = ("val_acc_sd", "val_asr_excess_sd", "val_asr_sd", "val_acc_low", "val_asr_excess_high", "frontier_share")
    assert all(np.isnan(point[name]) for name in names)


def test_one_seed_beside_settings_with_several_has_no_interval() -> None:
    rows = [row_with("t0", "one", val_acc=0.9), row_with("t1", "two", val_acc=0.5)]
    table = points(frame_of(*rows, row_with("t2", "two", seed=1, val_acc=0.7))).set_index("config_id")
    names = ["val_acc_low", "val_acc_high", "val_asr_excess_low", "val_asr_excess_high", "frontier_share"]
    assert table.loc["one", names].isna().all()
    assert table.loc["two", ["val_acc_low", "val_acc_high"]].tolist() == pytest.approx([0.5, 0.7])


def test_the_interval_leaves_two_and_a_half_per_cent_at_either_end() -> None:
    """Of three seeds, the same one is drawn thrice in 1 of 27 samples, which is more than that, and less than 5 %."""
    rows = [row_with(f"t{seed}", "a", seed=seed, val_acc=acc) for seed, acc in enumerate((0.6, 0.7, 0.8))]
    (point,) = points(frame_of(*rows)).to_dict("records")
    assert (point["val_acc_low"], point["val_acc_high"]) == (pytest.approx(0.6), pytest.approx(0.8))
