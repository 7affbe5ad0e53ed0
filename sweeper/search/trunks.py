"""Trunks of a sweep: which trainings share their first stages, which of them trains these, and who waits for that.

A group of ``search.branches`` settings has the parameters that its first stages read in common. The first training of a
trunk keeps its state at the trunk's end; the others of the same scenario and seed wait for it and begin there. If it
breaks off it is tried again, and they wait for that; if it fails or is stopped, the next one trains the trunk.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import ceil
from typing import Any

from sweeper.preset.blocks import Choose
from sweeper.preset.grid import combinations, grid_points
from sweeper.preset.spec import SweepSpec
from sweeper.run_folder.record import CONTROL, FINISHED, RUNNING, TRIAL, RunKey, Training, TrialRecord
from sweeper.search.branching import Fork, block_of, first_stages, fork, fork_of
from sweeper.search.gain import WAITING
from sweeper.search.siblings import agrees, same
from trainers.defenses import DEFENSES
from trainers.defenses.base import Trunk
from trainers.defenses.none import NoDefense
from trainers.errors import ConfigError
from trainers.trial import TrialConfig, trunk_file

MOST_COMBINATIONS = 256
"""Settings of a trunk that are counted, so that no two of a group are the same; of more, two may be."""

_Run = tuple[str, RunKey]
"""Trial and training."""


@dataclass(frozen=True)
class Share:
    """The trunk that a training shares with others.

    Args:
        file: the name of its file.
        stages: how many stages it has.
    """

    file: str
    stages: int


@dataclass
class _Group:
    """Settings of one trunk.

    Args:
        defense: of all of them.
        searched: values of the first setting, by name in the study.
        fork: where the settings part.
        others: of each setting, the values that only later stages read.
    """

    defense: str
    searched: Mapping[str, Any]
    fork: Fork
    others: list[dict[str, Any]] = field(default_factory=list)

    @property
    def early(self) -> dict[str, Any]:
        """The values that all settings of the group have."""
        return {name: value for name, value in self.searched.items() if name not in self.fork.late}


class Trunks:
    """The trunks of one sweep.

    Args:
        spec: the sweep.
    """

    def __init__(self, spec: SweepSpec):
        self._spec = spec
        self._blocks = {block.kind: block for block in spec.defense}
        self._branches = 1 if spec.attacking else spec.search.branches
        shared = (fork(block, first_stages(block), self._branches).stages for block in spec.defense)
        self.alike = self._branches if self._branches > 1 and any(shared) else 1
        """Settings that share a trunk, for a defense that has any to share."""
        self._grid: list[int] | None = None
        if spec.search.sampler == "grid" and self._branches > 1:
            self._grid = [group for group, points in enumerate(grid_in_groups(spec)) for _ in points]
        self._latest = -1
        self._groups: dict[int, _Group] = {}
        self._of: dict[_Run, Share | None] = {}
        self._needs: defaultdict[str, set[_Run]] = defaultdict(set)
        """By file: trainings of open trials that have not ended."""
        self._last_group: dict[str, int | None] = {}
        """By file: the last group whose settings have this trunk; null: those of later groups have it too."""
        self._trained_by: dict[str, _Run] = {}
        self._kept: set[str] = set()
        self._given_up: set[str] = set()
        control = NoDefense.trunk(spec.control, 1)
        self._begin_with_control = {block.kind for block in spec.defense if _begins_with(block.kind, spec, control)}

    # Proposing

    def group_of(self, number: int) -> int:
        """The group of a trial, by its number from 0."""
        if self._grid is not None:
            return self._grid[number] if number < len(self._grid) else len(self._grid) + number
        return number // self._branches

    def proposal(self, number: int) -> tuple[dict[str, Any], list[dict[str, Any]] | None]:
        """What is fixed of a trial: what it has in common with those of its group that were proposed before.

        Returns:
            Values by name in the study, none for the first of its group; and in what settings the trial may still
            differ from the others, null if that cannot be counted.
        """
        group = self._groups.get(self.group_of(number))
        if group is None or not group.fork.stages:
            return {}, None
        free = self._free(group)
        return ({}, None) if free == [] else (group.early, free)

    def _free(self, group: _Group) -> list[dict[str, Any]] | None:
        block, early = self._blocks[group.defense], group.early

        def draw(choose: Choose) -> None:
            block.draw(lambda name, searched: early[name] if name in early else choose(name, searched))

        known = combinations(draw, MOST_COMBINATIONS)
        if known is None:
            return None
        return [own for own in known if not any(own.keys() == o.keys() and agrees(own, o) for o in group.others)]

    def learn(self, record: TrialRecord) -> None:
        """Take note of a trial that the study proposed, now or in an earlier part of the sweep."""
        if self._branches == 1 or record.role != TRIAL:
            return
        number = int(record.trial_id[1:])
        self._latest = max(self._latest, number)
        group = self._groups.get(self.group_of(number))
        if group is None or not _has(record.searched, group.early):
            if record.config is None:  # its values do not go together; the next one is the first of the group
                return
            group = _Group(record.config.defense, record.searched, fork_of(self._spec, record.config))
            self._groups[self.group_of(number)] = group
        group.others.append({name: value for name, value in record.searched.items() if name in group.fork.late})

    # Sharing

    def of(self, training: Training) -> Share | None:
        """The trunk that a training shares with others; null if it shares none."""
        run = _name(training)
        if run in self._of:
            return self._of[run]
        found = self._find(training)
        if training.state.status == RUNNING:  # of one that has ended, hardly anybody asks
            self._of[run] = found
        return found

    def _find(self, training: Training) -> Share | None:
        config, role = training.record.config, training.record.role
        if config is None or role not in (TRIAL, CONTROL) or (self._branches == 1 and not self._begin_with_control):
            return None
        last: int | None = None
        if role == CONTROL:
            stages = 1 if self._begin_with_control else 0
        else:
            number = int(training.record.trial_id[1:])
            at = self._fork(training.record, config, number)
            stages = at.stages or int(config.defense in self._begin_with_control)
            if sum(stage.epochs for stage in config.stages()[stages:]) == 0:
                return None  # the last epoch is measured otherwise than one in a trunk
            searched = {name for name, _ in self._blocks[config.defense].searched()}
            if at.stages and searched - at.late:
                last = self.group_of(number)
        if not stages:
            return None
        trunk = Share(trunk_file(training.config.trunk(stages)), stages)
        known = self._last_group.get(trunk.file, last)
        self._last_group[trunk.file] = None if last is None or known is None else max(last, known)
        return trunk

    def _fork(self, record: TrialRecord, config: TrialConfig, number: int) -> Fork:
        """Where a setting parts from those of its group: where the first of them does."""
        if self._branches == 1:
            return Fork(0)
        group = self._groups.get(self.group_of(number))
        alike = group is not None and group.defense == config.defense and _has(record.searched, group.early)
        return group.fork if group is not None and alike else fork_of(self._spec, config)

    def take_up(self, record: TrialRecord) -> None:
        """Take note of a trial whose trainings are to run."""
        if record.role == TRIAL:
            for run, state in record.trainings.items():
                trunk = self.of(Training(record, run)) if state.status != FINISHED else None
                if trunk is not None:
                    self._needs[trunk.file].add((record.trial_id, run))

    def waits(self, training: Training) -> bool:
        """Whether a training waits for another one that trains its trunk."""
        trunk = self.of(training)
        if trunk is None or trunk.file in self._kept or trunk.file in self._given_up:
            return False
        return self._trained_by.get(trunk.file, (training.record.trial_id, training.run)) != _name(training)

    def are_enough(self, waiting: int) -> bool:
        """Whether so many trials wait for their trunks that further ones might do so too.

        Groups whose trunks are being trained leave all of their other settings waiting; where no searched parameter is
        read early, every trial has the same trunk.
        """
        runs = len(self._spec.seeds) * (1 if self._spec.search.scenarios == "one" else len(self._spec.scenarios))
        return waiting >= max(self._branches, WAITING) * max(ceil(len(self._trained_by) / runs), 1)

    def begun(self, training: Training) -> None:
        """Take note that a training begins: it trains its trunk, if that is not there."""
        trunk = self.of(training)
        if trunk is not None and trunk.file not in self._kept:
            self._trained_by.setdefault(trunk.file, _name(training))

    def passed(self, training: Training, is_kept: bool) -> None:
        """Take note that a training has come to the end of its trunk.

        Args:
            training: which.
            is_kept: whether the trunk is kept for others; if not, each of them trains it.
        """
        trunk = self.of(training)
        if trunk is not None:
            (self._kept if is_kept else self._given_up).add(trunk.file)
            self._trained_by.pop(trunk.file, None)

    def gone(self, training: Training) -> None:
        """Take note that a trunk is not there, though a training is beyond it: the next one that needs it trains it."""
        trunk = self.of(training)
        if trunk is not None:
            self._kept.discard(trunk.file)
            self._trained_by.pop(trunk.file, None)

    def ended(self, record: TrialRecord, runs: Iterable[RunKey]) -> None:
        """Take note of trainings that have ended, or are not needed."""
        for run in runs:
            trunk = self._of.pop((record.trial_id, run), None)
            if trunk is not None:
                self._needs[trunk.file].discard((record.trial_id, run))
                if not self._needs[trunk.file]:
                    del self._needs[trunk.file]
                if self._trained_by.get(trunk.file) == (record.trial_id, run):
                    del self._trained_by[trunk.file]

    def unneeded(self, more: bool) -> Iterator[str]:
        """Files of trunks that nobody needs any more; each is named once.

        Args:
            more: whether trials are left to propose.
        """
        for file in [file for file in self._kept if not self.is_needed(file, more)]:
            self._kept.discard(file)
            yield file

    def needed(self, records: Iterable[TrialRecord], more: bool) -> set[str]:
        """Files of trunks of these trials and controls that somebody may need: those of open ones, and of the last
        group that was begun.
        """
        found = set()
        for record in records:
            in_last = record.role == TRIAL and self.group_of(int(record.trial_id[1:])) == self.group_of(self._latest)
            for run in record.trainings if record.open or in_last else ():
                trunk = self.of(Training(record, run))
                if trunk is not None and self.is_needed(trunk.file, more):
                    found.add(trunk.file)
        return found

    def is_needed(self, file: str, more: bool) -> bool:
        """Whether a training needs a trunk, or may need it later.

        Args:
            file: of the trunk.
            more: whether trials are left to propose.
        """
        if self._needs.get(file):
            return True
        if not more or self._spec.attacking:  # each trial meets data of its own
            return False
        last = self._last_group.get(file)
        return last is None or self.group_of(self._latest + 1) <= last


def _name(training: Training) -> _Run:
    return training.record.trial_id, training.run


def _has(searched: Mapping[str, Any], values: Mapping[str, Any]) -> bool:
    return all(name in searched and same(searched[name], value) for name, value in values.items())


def _begins_with(defense: str, spec: SweepSpec, control: Trunk) -> bool:
    """Whether every setting of a defense begins with exactly the training of a control."""
    kind, block = DEFENSES[defense], block_of(spec, defense)
    if kind is NoDefense:
        return False
    params = kind.Params(**block.draw(lambda _, searched: searched.corners()[0]))
    read = kind.stages(params)[0].reads
    return kind.trunk(params, 1) == control and not any(key in read for key in block.searched_keys())


def grid_in_groups(spec: SweepSpec) -> list[list[dict[str, Any]]]:
    """The points of a grid, in their random order, but each with up to ``search.branches`` of one trunk.

    Raises:
        ConfigError: there are too many.
    """
    points = grid_points(spec)
    if spec.search.branches == 1:
        return [[point] for point in points]
    groups: list[list[dict[str, Any]]] = []
    filling: dict[str, list[dict[str, Any]]] = {}
    for point in points:
        trunk = _early_of(spec, point)
        if trunk not in filling or len(filling[trunk]) == spec.search.branches:
            filling[trunk] = []
            groups.append(filling[trunk])
        filling[trunk].append(point)
    return groups


def _early_of(spec: SweepSpec, point: Mapping[str, Any]) -> str:
    """The values of a point that those with the same trunk have in common, as text."""
    try:
        late = fork_of(spec, spec.trial(lambda name, _: point[name], "")).late
    except ConfigError:  # the trial will fail, with its reason
        late = frozenset()
    return json.dumps({name: value for name, value in point.items() if name not in late}, sort_keys=True)
