"""Defenses by name."""

from trainers.defenses.base import Defense
from trainers.defenses.none import NoDefense
from trainers.defenses.vab import Vab

__all__ = ["DEFENSES", "Defense"]

DEFENSES: dict[str, type[Defense]] = {defense.name: defense for defense in (NoDefense, Vab)}
