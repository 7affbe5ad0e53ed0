from math import log

import pytest

from sweeper.analysis.cost import cost_of_failure, costs
from tests.sweeper.analysis.test_candidates import known, table, trial
from tests.sweeper.small import spec_with

TWO = [{"attack": "badnets", "poison_rate": 0.1, "target": 0}, {"attack": "blend", "poison_rate": 0.1, "target": 0}]


def test_one_safe_setting_costs_what_the_formula_says() -> None:
    """At losses of 0 a single candidate needs ln(1/error) / ln(1 + 0.9 bound / (1 - bound)) replicates, rounded up."""
    spec = spec_with(scenarios=TWO, seeds=[0, 1])
    record = trial(spec, 0, 0.9, 0.0, seconds=36.0)
    found = costs(table(record), known(record), "max-excess", (0.1, 0.2), 0.0)
    assert [(one.bound, one.confidence, one.candidates) for one in found] == [
        (0.1, 0.9, 1), (0.1, 0.95, 1), (0.2, 0.9, 1), (0.2, 0.95, 1),
    ]  # fmt: skip
    for one, replicates in zip(found, (25, 32, 12, 15), strict=True):
        assert replicates - 1 < log(1 / (1 - one.confidence)) / log(1 + 0.9 * one.bound / (1 - one.bound)) <= replicates
        assert one.trainings == one.high == 2 * replicates + 2 * 3 * 2, "two scenarios; the defaults and no defense"
        assert one.hours == pytest.approx(one.trainings * 36 / 3600)
        assert one.share == 1.0


def test_a_setting_that_fails_half_of_the_time_is_certified_seldom() -> None:
    spec = spec_with(seeds=[0, 1])
    record = trial(spec, 0, 0.9, 0.0)
    frame = table(record)
    frame.loc[frame["seed"] == 1, ["val_asr", "val_asr_excess"]] = [0.2, 0.19]
    (loose, _), (tight, _) = (costs(frame, known(record), "max-excess", (bound,), 0.0) for bound in (0.2, 0.1))
    assert loose.share is not None
    assert loose.share > 0.95
    assert tight.share is not None
    assert tight.share < 0.6


def test_no_candidate_is_a_reason() -> None:
    spec = spec_with()
    record = trial(spec, 0, 0.9, 0.5)
    for one in costs(table(record), known(record), "max-excess", (0.1,), 0.0):
        assert (one.candidates, one.trainings, one.hours, one.share) == (0, None, None, None)
        assert "none is a candidate" in str(one.reason)


@pytest.mark.parametrize(("bound", "more"), [(0.1, 26), (0.2, 13)])
def test_what_a_failure_costs(bound: float, more: int) -> None:
    """Its own replicate, and those that bring back the nine tenths of wealth that it took."""
    wealth, count = 0.1, 1
    while wealth < 1:
        wealth, count = wealth * (1 + 0.9 * bound / (1 - bound)), count + 1
    assert cost_of_failure(bound) == count == more
