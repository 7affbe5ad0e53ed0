"""What a setting must keep to be selected, and the commands that ask for it."""

from dataclasses import dataclass, replace
from pathlib import Path

from sweeper.analysis.attack_bounds import AttackBounds, check_share
from sweeper.analysis.uncertainty import Over
from sweeper.analysis.verdicts import budget
from sweeper.run_folder.certificate import Certificate
from sweeper.words import command
from trainers.errors import ConfigError

CONFIDENCE = 0.95
"""Confidence in the commands that certify a setting to deploy, and select it."""


@dataclass(frozen=True)
class Bounds:
    """Bounds that the setting must keep. :func:`sweeper.analysis.selection.select` explains each, and
    :func:`sweeper.analysis.certified.select_certified` what they mean at a confidence.

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
    """The command that selects the certified setting, at the confidence of the bounds or :data:`CONFIDENCE`."""
    return select_command(path, _testable(bounds))


def confirm_command(path: Path, bounds: Bounds) -> str:
    """The command that certifies a setting for the bounds, at their confidence or :data:`CONFIDENCE`."""
    asked = _testable(bounds)
    return command(
        "confirm",
        path,
        max_excess=asked.max_excess,
        max_asr=asked.max_asr,
        min_acc=asked.min_acc or None,
        confidence=asked.confidence,
    )


def bounds_of(certificate: Certificate) -> Bounds:
    """The bounds that a test is about."""
    known = Bounds(certificate.bound, min_acc=certificate.min_acc, confidence=certificate.confidence)
    if certificate.option == "max-excess":
        return known
    return replace(known, max_excess=None, max_asr=certificate.bound)


def go_on(path: Path, certificate: Certificate) -> str:
    """A sentence with the command that goes on with a test that is not decided.

    Args:
        path: the run folder.
        certificate: the test.
    """
    more = "" if budget(certificate) is None else ", with a larger --budget if that is spent"
    return f"To go on: {confirm_command(path, bounds_of(certificate))}{more}."


def _testable(bounds: Bounds) -> Bounds:
    """The bounds with one on the attack, as a test has: of two the one on the excess, since no test can certify
    attack success below the floor.
    """
    one = bounds if bounds.max_excess is None else replace(bounds, max_asr=None)
    return replace(one, confidence=bounds.confidence or CONFIDENCE)
