"""The policies that a replay compares, the sweeps that it runs with them, and how it scores these."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from math import inf
from random import Random
from typing import Any
from unittest.mock import patch

import numpy as np
import optuna

from benchmarks.replay_clock import Moment, Replayed, VirtualSweep, races_of
from benchmarks.replay_figures import FINGERPRINT, Outcomes, Setting, Table
from benchmarks.replay_table import preset_of
from sweeper.analysis.frontier import hypervolume, non_dominated
from sweeper.preset.objectives import TOLERANCE
from sweeper.preset.spec import SweepSpec, validate
from sweeper.search import agenda as agenda_module
from sweeper.search import asha as asha_module
from sweeper.search import race as race_module
from sweeper.search.asha import REDUCTION
from sweeper.search.gain import WAITING
from sweeper.search.race import Experience, Race, Run
from sweeper.search.study import make_sampler

SHARE = 0.95
"""Of the full sweep's hypervolume below the interest, at which trainings are counted."""


class SeedBySeed(Race):
    """Seed after seed, the scenario first that promises most; nobody is finished off."""

    def _rank(self, run: Run, experience: Experience) -> tuple[bool, int, float]:
        return (False, self._seeds.index(run.seed), -experience.promise(run.scenario))


class PresetOrder(Race):
    """Seed after seed, scenarios as the preset lists them; nobody is finished off."""

    def _rank(self, run: Run, experience: Experience) -> tuple[bool, int, float]:
        return (False, self._seeds.index(run.seed), 0.0)


@dataclass(frozen=True)
class Policy:
    """A rule by which trials leave, and an order of their trainings.

    Args:
        race: as in presets.
        kind: of the races.
        tolerance: attack success by which two settings may differ and still count as equal.
        waiting: races that wait, by ``branches``, before the most promising of them goes on; 0: each goes on at once.
        grace: share of its epochs before which asha stops no training; null: without asha.
        reduction: of so many trainings at a rung of asha, one goes on.
        branches: settings that share a trunk.
    """

    race: str
    kind: type[Race] = Race
    tolerance: float = TOLERANCE
    waiting: int = WAITING
    grace: float | None = None
    reduction: int = REDUCTION
    branches: int = 1

    @property
    def search(self) -> dict[str, Any]:
        """Its keys of ``search`` in a preset."""
        stopping = {} if self.grace is None else {"scheduler": "asha", "grace": self.grace}
        return {"race": self.race, "branches": self.branches, **stopping}


POLICIES = {
    "off": Policy("off"),
    "bounds, preset order": Policy("bounds", PresetOrder),
    "bounds": Policy("bounds"),
    "learned, preset order": Policy("learned", PresetOrder),
    "learned, learned order": Policy("learned", SeedBySeed),
    "learned": Policy("learned"),
    "bounds, one by one": Policy("bounds", waiting=0),
    "learned, one by one": Policy("learned", waiting=0),
    "learned, two wait": Policy("learned", waiting=2),
    "learned, ten wait": Policy("learned", waiting=10),
    "bounds, tolerance 0.02": Policy("bounds", tolerance=0.02),
    "learned, tolerance 0.02": Policy("learned", tolerance=0.02),
    "learned, tolerance 0.01": Policy("learned", tolerance=0.01),
    "learned, tolerance 0": Policy("learned", tolerance=0.0),
    "asha": Policy("off", grace=0.25),
    "asha + learned": Policy("learned", grace=0.25),
    "asha + learned, grace 0.5": Policy("learned", grace=0.5),
    "asha + learned, reduction 2": Policy("learned", grace=0.25, reduction=2),
    "asha + learned, reduction 4": Policy("learned", grace=0.25, reduction=4),
    "branches": Policy("off", branches=4),
    "bounds + branches": Policy("bounds", branches=4),
    "learned + branches": Policy("learned", branches=4),
    "learned + branches, one trunk waits": Policy("learned", waiting=1, branches=4),
    "learned + branches, two trunks wait": Policy("learned", waiting=2, branches=4),
    "asha + learned + branches": Policy("learned", grace=0.25, branches=4),
}
"""``bounds`` and ``learned`` are those of the product: in learned order, finishing off, and five races wait before the
most promising goes on. The tolerance concerns attack success alone. ``asha`` is without races, and with the grace and
the reduction of the product."""


@dataclass(frozen=True)
class Case:
    """What is swept. The preset's limit on images is left out: it rules out settings only once they are complete.

    Args:
        interest: attack objective above which a setting is of no use.
        without: scenarios that are left out.
        defenses: whose settings are swept.
    """

    interest: float = 0.3
    without: tuple[str, ...] = ()
    defenses: tuple[str, ...] = ("vab", "pt")

    def spec(self, policy: Policy, trials: int, sampler: str = "random", seed: int = 0) -> SweepSpec:
        """The sweep of this case with a policy, over the settings and attackers of the table.

        Args:
            policy: how trials leave.
            trials: how many.
            sampler: of the settings.
            seed: of the sampler.
        """
        preset = preset_of(small=False)
        own = preset | {"seed": seed}
        own["defense"] = [block for block in preset["defense"] if block["name"] in self.defenses]
        own["scenarios"] = [block for block in preset["scenarios"] if block["attack"] not in self.without]
        own["objectives"] = [
            {"metric": "val_acc", "direction": "maximize"}, {"metric": "val_asr_excess", "direction": "minimize"}
        ]  # fmt: skip
        own["constraints"] = []
        own["search"] = {"sampler": sampler, "trials": trials, "interest": self.interest, **policy.search}
        return validate(own, "replay")

    def settings(self, table: Table) -> list[Setting]:
        """The settings of a table that are swept."""
        return [setting for setting in table.settings if setting.defense in self.defenses]


def shuffled(settings: Iterable[Setting], order: int) -> list[Setting]:
    """The settings in one of many orders, by its number."""
    found = list(settings)
    Random(order).shuffle(found)
    return found


def by_trunk(settings: Iterable[Setting], order: int) -> list[Setting]:
    """The settings with those of each trunk beside each other, the trunks in one of many orders."""
    found: dict[tuple[str, int], list[Setting]] = {}
    for setting in shuffled(settings, order):
        found.setdefault((setting.defense, setting.trunk), []).append(setting)
    return [setting for members in found.values() for setting in members]


def replay(
    spec: SweepSpec, policy: Policy, outcomes: Outcomes, proposals: Sequence[Setting] = (), **how: Any
) -> Replayed:
    """Run a sweep with a policy.

    Args:
        spec: of the sweep.
        policy: of its races.
        outcomes: what trainings come out as.
        proposals: settings that are proposed first; trials beyond them are proposed by the sampler.
        how: further arguments of :class:`VirtualSweep`.
    """
    directions = [objective.direction for objective in spec.objectives]
    study = optuna.create_study(directions=directions, sampler=make_sampler(spec, 0))
    for setting in proposals:
        study.enqueue_trial(setting.proposal if len(spec.defense) > 1 else dict(setting.searched))
    with (
        races_of(policy.kind),
        patch.object(race_module, "TOLERANCE", policy.tolerance),
        patch.object(agenda_module, "WAITING", policy.waiting),
        patch.object(asha_module, "REDUCTION", policy.reduction),
    ):
        return VirtualSweep(spec, study, outcomes, **how).run()


def whole(table: Table, case: Case) -> list[Moment]:
    """What the full sweep of a case comes to: each setting of the table."""
    settings = case.settings(table)
    spec = case.spec(POLICIES["off"], len(settings))
    found = []
    for setting in settings:
        config = spec.trial(lambda name, _, own=setting.proposal: own[name], FINGERPRINT)  # type: ignore[misc]
        rows = [
            {**table.trainings[setting.config_id, scenario.name, seed].final, "scenario": scenario.name}
            for scenario, seed in config.runs()
        ]
        acc, attack = (objective.value(rows) or 0.0 for objective in spec.objectives)
        kept = all(constraint.violation(rows) <= 0 for constraint in spec.constraints)
        found.append(Moment(0, 0.0, 0.0, acc, attack, kept))
    return found


def volume(points: Collection[Moment], interest: float) -> float:
    """The share of the area between accuracy 0 and 1, attack 0 and the interest, that trials dominate."""
    kept = [point for point in points if point.kept]
    return hypervolume([point.acc for point in kept], [point.attack for point in kept], interest)


def gap(full: Collection[Moment], own: Collection[Moment], interest: float) -> float:
    """How much is missing, in accuracy or attack success, from each point of the full sweep's frontier to the nearest
    trial that is there instead; of the worst point. Infinite if there is no trial at all.
    """
    useful = [p for p in full if p.kept and p.attack <= interest]
    best = non_dominated(np.array([p.acc for p in useful]), np.array([p.attack for p in useful]))
    there = [p for p in own if p.kept and p.attack <= interest]
    missing = (
        min((max(p.acc - q.acc, q.attack - p.attack, 0.0) for q in there), default=inf)
        for p, is_best in zip(useful, best, strict=True)
        if is_best
    )
    return max(missing, default=0.0)


@dataclass(frozen=True)
class Reached:
    """When a sweep had reached a share of the full sweep's hypervolume.

    Args:
        trainings: begun until then; all of them if it never did.
        seconds: of computing until then.
        at: the virtual time.
        ever: whether it did.
    """

    trainings: int
    seconds: float
    at: float
    ever: bool = True


def reached(run: Replayed, full: float, interest: float, share: float = SHARE) -> Reached:
    """When a sweep had reached a share of the hypervolume ``full``; a setting counts once all of it has run."""
    best: list[Moment] = []
    for moment in run.complete:
        if moment.kept and moment.attack <= interest:
            best.append(moment)
            if volume(best, interest) >= share * full:
                return Reached(moment.trainings, moment.seconds, moment.at)
    return Reached(run.trainings, run.seconds, run.makespan, full == 0)


def curve(run: Replayed, full: float, interest: float, grid: Sequence[int]) -> list[float]:
    """The share of the hypervolume ``full`` that a sweep had after each number of trainings."""
    known, steps = list[Moment](), [(0, 0.0)]
    for moment in run.complete:
        known.append(moment)
        steps.append((moment.trainings, volume(known, interest) / full if full else 1.0))
    at = np.searchsorted([trainings for trainings, _ in steps], grid, side="right") - 1
    return [steps[k][1] for k in at]
