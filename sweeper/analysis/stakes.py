"""How the error of one test is divided among candidates that are tried one after the other."""

from dataclasses import dataclass, replace

SPREAD_EVENLY = 0.3
"""Share of the error that all candidates have in equal parts; the rest is a reserve, from which whoever comes first
takes most. Found by simulation, over searches whose best setting is good, bad, or lucky."""
FROM_RESERVE = 0.7
"""Share of the reserve that a candidate stakes, unless it is the last, which stakes everything."""


@dataclass(frozen=True)
class Stakes:
    """The error that is left to stake.

    A candidate pays a stake s, and is certified once its wealth reaches 1 / s; given up, it gets back s times its
    wealth, at most s. Then (what is left) + (s times wealth for a bad candidate, s for a good one) is a nonnegative
    supermartingale that starts at the error, and a false certificate needs it to reach 1: it happens with a probability
    of at most the error. Order, skips and endings may depend on everything seen so far. Without the limit of s a refund
    after a lucky candidate would break this.

    Args:
        even: what is divided evenly.
        reserve: what is not.
        remaining: candidates that have not been tried.
    """

    even: float
    reserve: float
    remaining: int

    @classmethod
    def of(cls, error: float, candidates: int) -> "Stakes":
        """All of the error, before the first candidate.

        Args:
            error: of the whole test, in (0, 1).
            candidates: at least one.
        """
        even = SPREAD_EVENLY * error if candidates > 1 else 0.0
        return cls(even, error - even, candidates)

    @property
    def next(self) -> float:
        """The stake of the next candidate."""
        if self.remaining == 1:
            return self.even + self.reserve
        return self.even / self.remaining + FROM_RESERVE * self.reserve

    def skip(self) -> "Stakes":
        """What is left when the next candidate is not tried."""
        return replace(self, remaining=self.remaining - 1)

    def pay(self) -> "Stakes":
        """What is left when the next candidate has paid its stake."""
        if self.remaining == 1:
            return Stakes(0.0, 0.0, 0)
        return Stakes(self.even - self.even / self.remaining, (1 - FROM_RESERVE) * self.reserve, self.remaining - 1)

    def refund(self, stake: float, wealth: float) -> "Stakes":
        """What is left when a candidate with this stake and wealth is given up."""
        return replace(self, reserve=self.reserve + stake * min(wealth, 1.0))
