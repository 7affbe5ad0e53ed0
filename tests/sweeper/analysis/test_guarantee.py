"""What a test guarantees: figures worked out here by hand."""

from math import sqrt

import pytest

from sweeper.analysis.guarantee import certificate_metrics, guarantee
from tests.sweeper.certificates import certificate_of, good, setting_named, step


def bound_of(count: int, error: float, loss: float = 0.0) -> float:
    """The mean m at which so many equal losses bring wealth to 1 / error: (1 + 0.9 (m - loss) / (1 - m)) ** count."""
    each = (1 / error) ** (1 / count) - 1
    return (each + 0.9 * loss) / (each + 0.9)


def test_the_figures_of_a_certified_setting() -> None:
    pilots = [step(0, 0.04, pilot=True), step(1, 0.02, pilot=True)]
    known = guarantee(
        certificate_of([*pilots, *(step(n, accuracy=0.8) for n in range(2, 42))], left_out=["sig (weak)"])
    )
    assert known is not None
    assert (known.replicates, known.pilots, known.failures, known.exceeding) == (42, 2, 0, 0)
    assert known.upper == pytest.approx(bound_of(40, 0.05))
    assert known.exceedance_upper == pytest.approx(bound_of(42, 0.05)), "pilots count"
    assert known.mean == pytest.approx(0.06 / 42)
    assert known.accuracy == pytest.approx((2 * 0.7 + 40 * 0.8) / 42)
    deviation = sqrt((2 * (0.7 - known.accuracy) ** 2 + 40 * (0.8 - known.accuracy) ** 2) / 41)
    assert known.accuracy_sd == pytest.approx(deviation)
    assert 0.5 < known.accuracy_lower < known.accuracy
    assert known.min_class_acc == pytest.approx(0.5)
    assert (known.attackers, known.left_out) == (["badnets"], ["sig (weak)"])
    assert known.seeds == [1_000_000_000 + number for number in range(42)]


def test_a_failure_counts_as_1_and_as_an_accuracy_of_0() -> None:
    failed = step(0, 1.0, accuracy=None, min_class_acc=None, failed="killed")
    with_one, without = (
        guarantee(certificate_of([first, *(step(number) for number in range(1, 57))])) for first in (failed, step(0))
    )
    assert with_one is not None
    assert without is not None
    assert (with_one.failures, with_one.exceeding) == (1, 1)
    assert with_one.mean == pytest.approx(1 / 57)
    assert without.upper < with_one.upper <= 0.1, "57 replicates are the fewest with one failure"
    assert with_one.accuracy == pytest.approx(0.7)
    assert with_one.accuracy_lower < without.accuracy_lower
    assert with_one.min_class_acc == pytest.approx(0.5)


def test_claims_beside_divide_the_error_over_all_candidates() -> None:
    two = [setting_named("a"), setting_named("b")]
    known = guarantee(good(40, candidates=two))
    assert known is not None
    assert known.exceedance_upper == pytest.approx(bound_of(40, 0.025))
    assert known.upper == pytest.approx(bound_of(40, 0.05)), "at the stake"


def test_metrics_of_a_certificate() -> None:
    metrics = certificate_metrics(good(40))
    assert metrics == {
        "certified": 1.0,
        "certified_mean": 0.0,
        "certified_sd": 0.0,
        "certified_upper": pytest.approx(bound_of(40, 0.05)),
        "certified_bound": 0.1,
        "certified_confidence": 0.95,
        "certified_replicates": 40.0,
        "certified_accuracy": pytest.approx(0.7),
        "certified_accuracy_lower": pytest.approx(1 - bound_of(40, 0.05, loss=0.3)),
        "certified_exceedance_upper": pytest.approx(bound_of(40, 0.05)),
        "certificate_trainings": 40.0,
    }
    steps = [step(0, 1.0, pilot=True, trainings=2), step(1, 1.0, pilot=True, trainings=3)]
    assert certificate_metrics(certificate_of(steps, None)) == {"certified": 0.0, "certificate_trainings": 5.0}
    assert certificate_metrics(certificate_of([], None, decided=False))["certificate_trainings"] == 0.0
