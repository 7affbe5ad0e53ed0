"""Bounds on what an attack may achieve against a setting: on what its trigger adds, and on its success."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainers.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd


def check_share(option: str, value: float | None) -> None:
    """Check that the value of an option of a command, if one was given, is a share.

    Raises:
        ConfigError: it is not a number from 0 to 1.
    """
    if value is not None and not 0 <= value <= 1:
        raise ConfigError(f"--{option} must lie in [0, 1], but got {value:g}.")


@dataclass(frozen=True)
class Limit:
    """One bound.

    Args:
        option: of the command.
        metric: name of the bounded metric.
        most: the bound.
        mean: column of :func:`sweeper.analysis.frontier.points` that must keep it.
    """

    option: str
    metric: str
    most: float
    mean: str


@dataclass(frozen=True)
class AttackBounds:
    """Upper bounds over the scenarios that count; null: none.

    Args:
        max_excess: on what the trigger adds (``val_asr_excess``).
        max_asr: on attack success (``val_asr``), floor included.

    Raises:
        ConfigError: a bound is not a number from 0 to 1.
    """

    max_excess: float | None = None
    max_asr: float | None = None

    def __post_init__(self) -> None:
        check_share("max-excess", self.max_excess)
        check_share("max-asr", self.max_asr)

    @property
    def limits(self) -> list[Limit]:
        """The bounds that were given."""
        every = (
            ("max-excess", "val_asr_excess", self.max_excess, "val_asr_excess"),
            ("max-asr", "val_asr", self.max_asr, "val_asr_worst"),
        )
        return [Limit(option, metric, most, mean) for option, metric, most, mean in every if most is not None]

    def kept(self, table: "pd.DataFrame") -> "pd.Series":
        """Whether each setting keeps all bounds: bool, with the index of ``table``; a figure that is null keeps none.

        Args:
            table: from :func:`sweeper.analysis.frontier.points`.
        """
        columns = [limit.mean for limit in self.limits]
        return (table[columns].astype(float) <= [limit.most for limit in self.limits]).all(axis=1)


UNBOUNDED = AttackBounds()
