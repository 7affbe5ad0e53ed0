"""Attacks by name."""

from trainers.attacks.badnets import BadNets
from trainers.attacks.base import Attack, PoisonedSet
from trainers.attacks.blend import Blend
from trainers.attacks.labels import LabelMap

__all__ = ["ATTACKS", "Attack", "LabelMap", "PoisonedSet"]

ATTACKS: dict[str, type[Attack]] = {attack.name: attack for attack in (BadNets, Blend)}
