from collections import Counter

import pytest

from search_spaces.distributions import Searched
from sweeper.search.turns import assign

RATES = Searched("categorical", (0.01, 0.05, 0.1))
SIZES = Searched("int", (2, 3))


@pytest.mark.parametrize(
    "searched",
    [RATES, SIZES, Searched("int", (20, 60), step=20), Searched("float", (0.1, 0.3), step=0.1)],
)
def test_values_take_turns(searched: Searched) -> None:
    options = searched.grid()
    assert options is not None
    dealt = [assign([{"x": searched}], number)["x"] for number in range(3 * len(options))]
    assert Counter(dealt) == dict.fromkeys(options, 3)
    assert set(dealt[: len(options)]) == set(options)


def test_several_parameters_combine() -> None:
    environment = {"rate": RATES, "size": SIZES, "labels": Searched("categorical", ("one", "all"))}
    dealt = [tuple(assign([environment], number).values()) for number in range(24)]
    assert Counter(dealt) == dict.fromkeys(dealt, 2)
    assert len(set(dealt[:12])) == 12


def test_defenses_take_turns_and_each_meets_every_attacker() -> None:
    dealt = [tuple(assign([{"rate": RATES}], number, ("vab", "abl")).items()) for number in range(12)]
    assert [dict(values)["defense"] for values in dealt] == ["vab", "abl"] * 6
    assert Counter(dealt) == dict.fromkeys(dealt, 2)
    assert len(set(dealt)) == 6


def test_nothing_to_deal() -> None:
    assert assign([{}], 4) == {}


def test_attackers_take_turns_and_so_do_the_values_of_each() -> None:
    def attacker(name: str, **searched: Searched) -> dict[str, Searched]:
        return {"scenario": Searched("categorical", (name,)), **searched}

    environments = [attacker("a", rate=RATES), attacker("b"), attacker("c", rate=RATES, size=SIZES)]
    dealt = [tuple(assign(environments, number).items()) for number in range(36)]
    names = [dict(values)["scenario"] for values in dealt]
    assert names == ["a", "b", "c"] * 12
    a, b, c = (Counter(values for values in dealt if dict(values)["scenario"] == name) for name in "abc")
    assert a == {(("scenario", "a"), ("rate", rate)): 4 for rate in (0.01, 0.05, 0.1)}
    assert b == {(("scenario", "b"),): 12}
    assert c == {
        (("scenario", "c"), ("rate", rate), ("size", size)): 2 for rate in (0.01, 0.05, 0.1) for size in (2, 3)
    }
    # Nobody is ahead by more than one at any time.
    for attacker_name in "ac":
        met = [dict(values)["rate"] for values in dealt if dict(values)["scenario"] == attacker_name]
        for end in range(1, len(met) + 1):
            counts = Counter(met[:end])
            assert max(counts.values()) - min(counts[rate] for rate in (0.01, 0.05, 0.1)) <= 1
