"""Which trainings go on at a rung: against places and decisions worked out by hand."""

import itertools
import random

import pytest

from sweeper.search import asha
from sweeper.search.asha import Asha, Point, place


def places(*points: tuple[float, ...]) -> list[int]:
    shown = [Point(losses) for losses in points]
    return [place(point, shown) for point in shown]


def decisions(found: Asha, losses: list[tuple[float, ...]], share: float = 0.25) -> list[bool]:
    """Whether each of these trainings goes on, one after the other."""
    return [found.reported(number, "peers", share, Point(own)) is None for number, own in enumerate(losses)]


def test_ranks_come_first_and_within_a_rank_what_is_far_from_those_before() -> None:
    """(1, 2) is 2.2 from (0, 4) and 3.6 from (4, 0), which is 5.7 from (0, 4). (2, 3) and (5, 1) are dominated."""
    assert places((0, 4), (1, 2), (4, 0), (2, 3), (5, 1)) == [0, 2, 1, 3, 4]
    # (9, 9) is behind both ranks. Of (3, 1) and (1, 3), 2.8 and 1.4 from (0, 4), the first covers more.
    assert places((9, 9), (3, 1), (1, 3), (0, 4)) == [3, 1, 2, 0]


def test_equal_points_share_their_place_and_count_each_for_those_behind() -> None:
    assert places((1, 1), (0, 0), (0, 0), (1, 1), (2, 2)) == [2, 0, 0, 2, 4]
    assert places((3.0,), (1.0,), (2.0,), (1.0,)) == [3, 0, 2, 0]
    assert places((0.5, 0.5)) == [0]


def test_the_order_in_which_points_come_is_of_no_matter() -> None:
    points = [(0.1, 0.9), (0.5, 0.5), (0.9, 0.1), (0.5, 0.5), (0.6, 0.6), (0.2, 0.2), (0.2, 0.95)]
    expected = dict(zip(points, places(*points), strict=True))
    for shuffled in itertools.islice(itertools.permutations(points), 0, 5040, 97):
        assert dict(zip(shuffled, places(*shuffled), strict=True)) == expected


def test_no_point_is_ahead_of_one_that_dominates_it() -> None:
    generator = random.Random(0)
    points = [tuple(generator.randrange(6) / 5 for _ in range(3)) for _ in range(60)]
    found = places(*points)
    for (one, own), (other, theirs) in itertools.permutations(zip(points, found, strict=True), 2):
        if all(a <= b for a, b in zip(one, other, strict=True)) and one != other:
            assert own < theirs


def test_who_breaks_a_constraint_is_behind_only_where_another_is_as_good_in_all() -> None:
    keeps, breaks = Point((0.5, 0.5), (0.0,)), Point((0.4, 0.5), (0.2,))
    assert [place(point, [keeps, breaks]) for point in (breaks, keeps)] == [0, 1], "neither dominates the other"
    worse = Point((0.5, 0.5), (0.3,))
    assert [place(point, [worse, keeps, breaks]) for point in (breaks, keeps, worse)] == [0, 1, 2]


def test_one_objective_is_plain_asha() -> None:
    """Of those that came so far, it is to be among the best third, rounded up; the first two go on."""
    generator = random.Random(1)
    losses = [(generator.random(),) for _ in range(50)]
    goes_on = decisions(Asha(0.25), losses)
    for number, (own,) in enumerate(losses):
        better = sum(other < own for (other,) in losses[: number + 1])
        assert goes_on[number] == (number < 2 or better < (number + 1) / 3)
    assert 10 < sum(goes_on) < 25
    assert decisions(Asha(0.25), [(0.5,)] * 9) == [True] * 9, "of equal ones, none is behind another"


def test_with_more_trainings_in_a_trial_a_larger_part_of_them_goes_on() -> None:
    """The eighth root of a third is 0.87: of 8 of which each is worse than those before, the last is stopped."""
    assert decisions(Asha(0.25, trainings=8), [(float(n),) for n in range(8)]) == [True] * 7 + [False]
    through = []
    for seed in range(40):
        generator = random.Random(seed)
        found = Asha(0.25, trainings=4)
        alive = set(range(60))
        for scenario in range(4):
            for trial in sorted(alive):
                if found.reported((trial, scenario), scenario, 0.3, Point((generator.random(),))) is not None:
                    alive.discard(trial)
        through.append(len(alive))
    assert 0.3 < sum(through) / len(through) / 60 < 0.45, "a third comes through, where figures are but chance"


def test_rungs_are_at_the_grace_and_three_times_each_before() -> None:
    found = Asha(0.1)
    for share in (0.05, 0.09):
        assert found.note("early", "peers", share, Point((0.0,))) == []
    for number, share in enumerate((0.1, 0.3, 0.9)):
        assert len(found.note("a", "peers", share, Point((float(number),)))) == 1, "a rung of its own"
        assert found.note("a", "peers", share + 0.05, Point((7.0,))) == [], "once at each"
    assert found.note("a", "peers", 1.0, Point((0.0,))) == []
    assert found.note("b", "peers", 0.89, Point((5.0,))) == [Point((1.0,)), Point((5.0,))], "at the last that it passed"
    assert found.note("b", "peers", 0.89, Point((5.0,))) == []
    assert found.note("c", "peers", 1.0, Point((5.0,))) == [], "one that has ended is not compared"


def test_what_trainings_do_at_other_rungs_or_among_other_peers_is_of_no_matter() -> None:
    def run(order: list[tuple[str, str, float, float]]) -> dict[tuple[str, str, float], bool]:
        found = Asha(0.25)
        return {(n, peers, share): found.reported(n, peers, share, Point((own,))) is None
                for n, peers, share, own in order}  # fmt: skip

    here = [(f"h{n}", "here", 0.25, float(n)) for n in range(6)]
    there = [(f"t{n}", "there", 0.25, -float(n)) for n in range(6)]
    later = [("h0", "here", 0.75, 9.0), ("h1", "here", 0.8, 8.0), ("t0", "there", 0.9, 8.0)]
    one = run([*here, *there, *later])
    assert run([*there, *here, *later]) == one
    assert run([*itertools.chain(*zip(here, there, strict=True)), *later]) == one
    assert [one[f"h{n}", "here", 0.25] for n in range(6)] == [True, True] + [False] * 4
    assert all(one[f"t{n}", "there", 0.25] for n in range(6)), "each is the best so far"


def test_the_reason_says_where_and_how_many_are_ahead() -> None:
    found = Asha(0.25)
    reasons = [found.reported(number, "peers", 0.26, Point((float(number),))) for number in range(3)]
    assert reasons == [None, None, "at 26% of its epochs, where 2 of 3 trainings are ahead of it"]


@pytest.mark.parametrize("reduction", [2, 3, 4])
def test_one_of_so_many_goes_on(reduction: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asha, "REDUCTION", reduction)
    found = Asha(0.25)
    for number in range(119):
        found.note(("known", number), "peers", 0.25, Point((float(number),)))
    (best,) = [own for own in range(119) if place(Point((float(own),)), found._shown["peers", 1]) == 120 // reduction]
    assert found.reported("just", "peers", 0.25, Point((best - 0.5 - 1,))) is None
    assert found.reported("behind", "peers", 0.25, Point((best + 2.0,))) is not None
