import math
from collections import Counter
from itertools import pairwise

import pytest

from search_spaces.distributions import Searched
from sweeper.environment import deal

RATES = Searched("categorical", (0.01, 0.05, 0.1))
SIZES = Searched("int", (2, 3))


@pytest.mark.parametrize(
    "searched",
    [RATES, SIZES, Searched("int", (20, 60), step=20), Searched("float", (0.1, 0.3), step=0.1)],
)
def test_values_take_turns(searched: Searched) -> None:
    options = searched.grid()
    assert options is not None
    dealt = [deal({"x": searched}, number, seed=0)["x"] for number in range(3 * len(options))]
    assert Counter(dealt) == dict.fromkeys(options, 3)
    assert set(dealt[: len(options)]) == set(options)


def test_several_parameters_combine() -> None:
    environment = {"rate": RATES, "size": SIZES, "labels": Searched("categorical", ("one", "all"))}
    dealt = [tuple(deal(environment, number, seed=0).values()) for number in range(24)]
    assert Counter(dealt) == dict.fromkeys(dealt, 2)
    assert len(set(dealt[:12])) == 12


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_a_range_is_covered_evenly(seed: int) -> None:
    plain, log = Searched("float", (0.2, 1.0)), Searched("float", (0.001, 0.1), log=True)
    dealt = [deal({"plain": plain, "log": log}, number, seed) for number in range(64)]
    for values, low, high in (
        ([d["plain"] for d in dealt], 0.2, 1.0),
        ([math.log(d["log"]) for d in dealt], math.log(0.001), math.log(0.1)),
    ):
        assert all(low <= value <= high for value in values)
        quarters = Counter(min(int(4 * (value - low) / (high - low)), 3) for value in values)
        assert quarters == {0: 16, 1: 16, 2: 16, 3: 16}
        widest = max(after - before for before, after in pairwise(sorted(values)))
        assert widest < 0.1 * (high - low)


def test_two_ranges_go_their_own_ways() -> None:
    same = Searched("float", (0.0, 1.0))
    first = deal({"a": same, "b": same}, 0, seed=0)
    assert first["a"] != first["b"]


def test_whole_numbers_in_a_log_range_are_whole() -> None:
    dealt = [deal({"x": Searched("int", (1, 100), log=True)}, number, 0)["x"] for number in range(40)]
    assert all(isinstance(value, int) and 1 <= value <= 100 for value in dealt)
    assert len(set(dealt)) > 20


def test_the_same_number_and_seed_give_the_same() -> None:
    environment = {"rate": Searched("float", (0.01, 0.2), log=True), "size": SIZES}
    assert [deal(environment, n, 3) for n in range(9)] == [deal(environment, n, 3) for n in range(9)]
    assert deal(environment, 4, 3)["rate"] != deal(environment, 4, 5)["rate"]
    assert deal({}, 4, 3) == {}
