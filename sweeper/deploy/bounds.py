"""What a setting must keep to be selected, and the commands that ask for it."""

from dataclasses import dataclass, replace
from pathlib import Path

from sweeper.analysis.attack_bounds import AttackBounds, check_share
from sweeper.analysis.uncertainty import Over
from sweeper.words import command
from trainers.errors import ConfigError

CONFIDENCE = 0.9
"""Confidence in the commands that select a setting to deploy."""


@dataclass(frozen=True)
class Bounds:
    """Bounds that the setting must keep; :func:`sweeper.analysis.selection.select` explains each.

    Raises:
        ConfigError: a number is out of range, or there is no bound on the attack.
    """

    max_excess: float | None = None
    max_asr: float | None = None
    min_acc: float = 0.0
    min_class_acc: float = 0.0
    poison_rate: float | None = None
    over: Over = "worst"
    confidence: float | None = None
    defense: str | None = None

    def __post_init__(self) -> None:
        if not self.attack.limits:
            raise ConfigError("Give --max-excess, the most that a trigger may add to the floor, or --max-asr, or both.")
        check_share("min-acc", self.min_acc)
        check_share("min-class-acc", self.min_class_acc)
        check_share("poison-rate", self.poison_rate)
        if self.confidence is not None and not 0.5 <= self.confidence < 1:
            raise ConfigError(f"--confidence must lie in [0.5, 1), but got {self.confidence:g}.")

    @property
    def attack(self) -> AttackBounds:
        """The bounds on what an attack may achieve."""
        return AttackBounds(self.max_excess, self.max_asr)


def select_command(path: Path, bounds: Bounds) -> str:
    """The command that selects a setting within the bounds.

    Args:
        path: the run folder.
        bounds: what the setting must keep; those at their defaults are left out.
    """
    return command(
        "select",
        path,
        max_excess=bounds.max_excess,
        max_asr=bounds.max_asr,
        min_acc=bounds.min_acc or None,
        min_class_acc=bounds.min_class_acc or None,
        poison_rate=bounds.poison_rate,
        over=None if bounds.over == Bounds.over else bounds.over,
        defense=bounds.defense,
        confidence=bounds.confidence,
    )


def confident_command(path: Path, bounds: Bounds) -> str:
    """The command that selects a confirmed setting within the bounds, at their confidence or :data:`CONFIDENCE`."""
    return select_command(path, replace(bounds, confidence=bounds.confidence or CONFIDENCE))


def confirm_command(path: Path, bounds: Bounds) -> str:
    """The command that trains the leading settings again with fresh seeds, those that keep the bounds on the attack
    first.
    """
    return command("confirm", path, max_excess=bounds.max_excess, max_asr=bounds.max_asr)
