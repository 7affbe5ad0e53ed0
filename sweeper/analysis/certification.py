"""The sequential test that certifies one of several settings: that its mean loss is at most a bound."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import ceil, log
from statistics import fmean

from sweeper.analysis.betting import MIRROR_BETS, fewest, growth, mirrored
from sweeper.analysis.stakes import Stakes

PILOTS = 3
"""Most replicates of a candidate before it pays a stake. They are not counted."""
HOPELESS_PILOTS = 3.0
"""A candidate is skipped once the losses of its pilots sum to more than this many bounds."""
PATIENCE = 3.0
"""A candidate has this many times the fewest replicates that could certify it."""
TOO_POOR, TOO_POOR_AT_LAST = 0.3, 0.1
"""Wealth below which a candidate is given up, and below which the last one is."""
REFUTING = 5.0
"""Wealth of the opposite statement from which a candidate is given up."""

CERTIFIED, SKIPPED, GIVEN_UP, REFUTED, INACCURATE = "certified", "skipped", "given up", "refuted", "too inaccurate"
"""Verdicts on candidates."""


@dataclass(frozen=True)
class Terms:
    """What a test is about; frozen before its first replicate.

    Args:
        bound: that the mean loss must keep, in (0, 1).
        error: probability, at most, of a false certificate; in (0, 1).
        candidates: how many there are, the most accurate first.
        least_accuracy: that the mean accuracy of a candidate's replicates must reach.
        trainings: of one replicate that is not ended early.
    """

    bound: float
    error: float
    candidates: int
    least_accuracy: float = 0.0
    trainings: int = 1

    def least_trainings(self) -> int:
        """Trainings that any certificate needs: with a smaller budget nothing can be certified."""
        return _least_of(Stakes.of(self.error, self.candidates), self.bound) * self.trainings


@dataclass
class Standing:
    """How one candidate stands.

    Args:
        pilots: losses of its pilots.
        losses: losses of its counted replicates.
        accuracies: of all its replicates, pilots included; null where one has none.
        stake: that it paid; null: none yet.
        wealth: after each counted replicate.
        mirror: wealth against the opposite, of each of its bets.
        most: counted replicates that it may have; 0: it has paid no stake.
        verdict: null while it is tested, or has not been.
    """

    pilots: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    accuracies: list[float | None] = field(default_factory=list)
    stake: float | None = None
    wealth: list[float] = field(default_factory=list)
    mirror: list[float] = field(default_factory=lambda: [1.0] * len(MIRROR_BETS))
    most: int = 0
    verdict: str | None = None

    @property
    def replicates(self) -> int:
        """How many it has had."""
        return len(self.pilots) + len(self.losses)

    @property
    def accuracy(self) -> float:
        """Mean accuracy of its replicates; 1 if none has one."""
        known = [value for value in self.accuracies if value is not None]
        return fmean(known) if known else 1.0


class Certification:
    """Tests candidates in turn until one is certified, none can be, or the budget does not suffice any more.

    Each replicate of a candidate is an independent training with everything drawn anew; its loss, in [0, 1], is what is
    bounded. Up to three pilots decide whether a candidate is worth a stake (:class:`Stakes`). Then it bets
    (:mod:`sweeper.analysis.betting`) until its wealth reaches 1 / stake, or it is given up: because it cannot get there
    with the replicates it may have, because its wealth is low, or because the opposite is likely.

    What happens is a function of the losses in the order candidate by candidate, replicate by replicate. So replicates
    may be trained ahead, in any order and at many places: their losses wait, unread, for their turn.

    Args:
        terms: of the test.
        budget: trainings that may be counted; null: no limit.
    """

    def __init__(self, terms: Terms, budget: int | None = None):
        self.terms = terms
        self.budget = budget
        self.stakes = Stakes.of(terms.error, terms.candidates)
        self.candidates = [Standing() for _ in range(terms.candidates)]
        self.spent = 0
        """Trainings of the replicates that were applied."""
        self.certified: int | None = None
        """The certified candidate; null if there is none."""
        self._current = 0
        self._fastest = growth(0.0, terms.bound)
        self._open_next()
        self._turn_to_cheaper()

    @property
    def decided(self) -> bool:
        """Whether a candidate is certified, or none can be."""
        return self.certified is not None or self._current >= len(self.candidates)

    @property
    def turn(self) -> tuple[int, int] | None:
        """The candidate, and the number of its replicate, whose loss is applied next.

        Null once the test is decided, or if the budget does not suffice to certify anything.
        """
        if self.decided or not self._suffices:
            return None
        return self._current, self.candidates[self._current].replicates

    @property
    def least_left(self) -> int:
        """Replicates that the current candidate needs at least; 0 once the test is decided."""
        if self.decided:
            return 0
        own = self.candidates[self._current]
        if own.stake is None:
            return PILOTS - len(own.pilots) + fewest(self.terms.bound, self.stakes.next)
        return fewest(self.terms.bound, min(own.stake * _wealth(own), 1.0))

    @property
    def left(self) -> float:
        """Trainings that the budget still allows."""
        return float("inf") if self.budget is None else self.budget - self.spent

    @property
    def _within_budget(self) -> float:
        """Whole replicates that the budget still allows."""
        return self.left // self.terms.trainings

    @property
    def _suffices(self) -> bool:
        """Whether the budget suffices to certify the current candidate."""
        return self.budget is None or self._within_budget >= self.least_left

    def allow(self, budget: int | None) -> None:
        """Go on with another budget; what was decided under an earlier one stays."""
        self.budget = budget
        self._turn_to_cheaper()

    def ends(self, loss: float) -> bool:
        """Whether the current candidate is out if its next loss is at least this. Then the replicate may end."""
        own, bound = self.candidates[self._current], self.terms.bound
        if own.stake is None:
            return sum(own.pilots) + loss > HOPELESS_PILOTS * bound
        wealth, mirror = _wealth(own) * growth(loss, bound), mirrored(own.mirror, loss, bound)
        return self._why_given_up(own.stake, own.most - len(own.losses) - 1, wealth, mirror) is not None

    def apply(
        self, loss: float, accuracy: float | None = None, trainings: int | None = None, ended: bool = False
    ) -> None:
        """Count the loss of the replicate whose turn it is.

        Args:
            loss: in [0, 1].
            accuracy: of the replicate; null if it has none.
            trainings: that it took; null: as many as a whole one.
            ended: whether it ended early, so that its loss counts as 1 without having been seen. That is no evidence
                for the opposite: the candidate is given up, and not refuted.
        """
        own, terms = self.candidates[self._current], self.terms
        self.spent += terms.trainings if trainings is None else trainings
        own.accuracies.append(accuracy)
        if own.stake is None:
            own.pilots.append(loss)
            if sum(own.pilots) > HOPELESS_PILOTS * terms.bound:
                self._skip(own, SKIPPED)
            elif len(own.pilots) == PILOTS:
                if own.accuracy < terms.least_accuracy:
                    self._skip(own, INACCURATE)
                else:
                    self._pay(own)
        else:
            own.wealth.append(_wealth(own) * growth(loss, terms.bound))
            own.mirror = mirrored(own.mirror, loss, terms.bound)
            own.losses.append(loss)
            self._judge(own, own.stake, ended)
        self._turn_to_cheaper()

    def ahead(self) -> Iterator[tuple[int, int]]:
        """Replicates in the order in which they may be needed, that of :attr:`turn` first: what the current candidate
        needs at least, then pilots of the candidates after it, then what the current one may need beyond.
        """
        turn = self.turn
        if turn is None:
            return
        current, number = turn
        yield from ((current, number + more) for more in range(self.least_left))
        for later in range(current + 1, len(self.candidates) - 1):
            yield from ((later, pilot) for pilot in range(PILOTS))
        yield from ((current, more) for more in range(number + self.least_left, self._most(current)))

    def _open_next(self) -> None:
        """Let the current candidate pay, if it is the last one: it has no pilots."""
        if self._current == len(self.candidates) - 1:
            self._pay(self.candidates[self._current])

    def _pay(self, own: Standing) -> None:
        own.stake, self.stakes = self.stakes.next, self.stakes.pay()
        own.most = self._most_counted(own.stake)

    def _skip(self, own: Standing, verdict: str) -> None:
        own.verdict, self.stakes = verdict, self.stakes.skip()
        self._current += 1
        self._open_next()

    def _judge(self, own: Standing, stake: float, ended: bool) -> None:
        wealth = _wealth(own)
        if stake * wealth >= 1:
            if own.accuracy >= self.terms.least_accuracy:
                own.verdict, self.certified = CERTIFIED, self._current
                return
            # The stake of a candidate that deserved its certificate is there again in full.
            own.verdict = INACCURATE
        else:
            own.verdict = self._why_given_up(stake, own.most - len(own.losses), wealth, own.mirror)
            if ended and own.verdict == REFUTED:
                own.verdict = GIVEN_UP
        if own.verdict is not None:
            self.stakes = self.stakes.refund(stake, wealth)
            self._current += 1
            self._open_next()

    def _why_given_up(self, stake: float, left: int, wealth: float, mirror: Sequence[float]) -> str | None:
        """Why the current candidate is given up, if it may have so many more replicates; null if it is not."""
        if stake * wealth >= 1:
            return None
        last, opposite = self._current == len(self.candidates) - 1, sum(mirror) / len(mirror)
        if opposite >= 1 / self.terms.error:
            return REFUTED
        cannot = wealth * self._fastest**left < 1 / stake
        poor = wealth < (TOO_POOR_AT_LAST if last else TOO_POOR) - 1e-9  # one failure leaves a tenth, but for rounding
        return GIVEN_UP if cannot or poor or opposite >= REFUTING else None

    def _turn_to_cheaper(self) -> None:
        """Give the current candidate up if the budget does not suffice for it, but does for a later one."""
        while not self._suffices and not self.decided:
            own = self.candidates[self._current]
            after = self.stakes.skip() if own.stake is None else self.stakes.refund(own.stake, _wealth(own))
            if after.remaining == 0 or self._within_budget < _least_of(after, self.terms.bound):
                return
            own.verdict, self.stakes = (SKIPPED if own.stake is None else GIVEN_UP), after
            self._current += 1
            self._open_next()

    def _most(self, candidate: int) -> int:
        """Replicates that a candidate may have in all."""
        counted = self.candidates[candidate].most or self._most_counted(self.stakes.next)
        return (PILOTS if candidate < len(self.candidates) - 1 else 0) + counted

    def _most_counted(self, stake: float) -> int:
        return ceil(PATIENCE * log(1 / stake) / log(self._fastest) - 1e-9)


def _wealth(own: Standing) -> float:
    return own.wealth[-1] if own.wealth else 1.0


def _least_of(stakes: Stakes, bound: float) -> int:
    """Replicates that any of the candidates left needs at least."""
    least = []
    while stakes.remaining:
        least.append((PILOTS if stakes.remaining > 1 else 0) + fewest(bound, stakes.next))
        stakes = stakes.skip()
    return min(least)
