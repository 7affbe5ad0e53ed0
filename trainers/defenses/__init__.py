"""Defenses by name."""

from trainers.defenses.abl import Abl
from trainers.defenses.base import Defense
from trainers.defenses.bcu import Bcu
from trainers.defenses.dlp import Dlp
from trainers.defenses.none import NoDefense
from trainers.defenses.pt import Pt
from trainers.defenses.vab import Vab

__all__ = ["DEFENSES", "Defense"]

DEFENSES: dict[str, type[Defense]] = {defense.name: defense for defense in (NoDefense, Vab, Pt, Bcu, Dlp, Abl)}
