from collections import Counter

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
    dealt = [deal([{"x": searched}], number)["x"] for number in range(3 * len(options))]
    assert Counter(dealt) == dict.fromkeys(options, 3)
    assert set(dealt[: len(options)]) == set(options)


def test_several_parameters_combine() -> None:
    environment = {"rate": RATES, "size": SIZES, "labels": Searched("categorical", ("one", "all"))}
    dealt = [tuple(deal([environment], number).values()) for number in range(24)]
    assert Counter(dealt) == dict.fromkeys(dealt, 2)
    assert len(set(dealt[:12])) == 12


def test_nothing_to_deal() -> None:
    assert deal([{}], 4) == {}
