"""Attacks by name."""

from trainers.attacks.adaptive_blend import AdaptiveBlend
from trainers.attacks.adaptive_k_way import AdaptiveKWay
from trainers.attacks.adaptive_patch import AdaptivePatch
from trainers.attacks.artifact_cache import ArtifactCache
from trainers.attacks.badnets import BadNets
from trainers.attacks.base import Attack, PoisonedSet
from trainers.attacks.blend import Blend
from trainers.attacks.cl import Cl
from trainers.attacks.dynamic import Dynamic
from trainers.attacks.entropy_aware import EntropyAware
from trainers.attacks.labels import LabelMap
from trainers.attacks.laundry import Laundry
from trainers.attacks.narcissus import Narcissus
from trainers.attacks.sig import Sig
from trainers.attacks.slow_release import SlowRelease
from trainers.attacks.tact import Tact
from trainers.attacks.wanet import WaNet

__all__ = ["ATTACKS", "ArtifactCache", "Attack", "LabelMap", "PoisonedSet"]

_PUBLISHED: tuple[type[Attack], ...] = (BadNets, Blend, Sig, WaNet, Dynamic, Cl)
_ADAPTIVE: tuple[type[Attack], ...] = (
    AdaptiveBlend, AdaptivePatch, AdaptiveKWay, Tact, Narcissus, Laundry, SlowRelease, EntropyAware
)  # fmt: skip
ATTACKS: dict[str, type[Attack]] = {attack.name: attack for attack in (*_PUBLISHED, *_ADAPTIVE)}
