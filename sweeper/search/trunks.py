"""Trunks of a sweep: which trainings share their first stages, which of them trains these, and who waits for that.

A group of ``search.branches`` settings has the parameters that its first stages read in common. The first training of a
trunk keeps its state at the trunk's end; the others of the same scenario and seed wait for it and begin there. Whoever
trains a trunk may be cut off, or stopped: the next one that needs it trains it then.
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
from sweeper.run_folder.record import CONTROL, FINISHED, TRIAL, RunKey, Training, TrialRecord
from sweeper.search.branching import Fork, fork
from sweeper.search.gain import WAITING
from sweeper.search.siblings import agrees, same
from trainers.defenses import DEFENSES
from trainers.defenses.none import NoDefense
from trainers.errors import ConfigError
from trainers.trial import TrialConfig, trunk_file

MOST_COMBINATIONS = 256
"""Settings of a trunk that are counted, so that no two of a group are the same; more hardly coincide."""

_Run = tuple[str, RunKey]
"""Trial and training."""


@dataclass(frozen=True)
class Trunk:
    """The trunk of a training.

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
        self._grid: list[int] | None = None
        if spec.search.sampler == "grid" and self._branches > 1:
            self._grid = [number for number, points in enumerate(grid_in_groups(spec)) for _ in points]
        self._latest = -1
        self._groups: dict[int, _Group] = {}
        self._of: dict[_Run, Trunk | None] = {}
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
        if record.config is None:
            return
        number = self.group_of(number)
        group = self._groups.get(number)
        if group is None or not _has(record.searched, group.early):
            group = _Group(record.config.defense, record.searched, fork_of(self._spec, record.config))
            self._groups[number] = group
        group.others.append({name: value for name, value in record.searched.items() if name in group.fork.late})

    # Sharing

    def of(self, training: Training) -> Trunk | None:
        """The trunk that a training shares with others; null if it shares none."""
        run = (training.record.trial_id, training.run)
        if run not in self._of:
            self._of[run] = self._find(training)
        return self._of[run]

    def _find(self, training: Training) -> Trunk | None:
        config = training.record.config
        if config is None or training.record.role not in (TRIAL, CONTROL):
            return None
        group: int | None = None
        if training.record.role == CONTROL:
            stages = 1 if self._begin_with_control else 0
        else:
            at = fork_of(self._spec, config) if self._branches > 1 else Fork(0)
            stages = at.stages or int(config.defense in self._begin_with_control)
            searched = {name for name, _ in self._blocks[config.defense].searched()}
            if at.stages and searched - at.late:
                group = self.group_of(int(training.record.trial_id[1:]))
        if not stages:
            return None
        trunk = Trunk(trunk_file(training.config.trunk(stages)), stages)
        known = self._last_group.get(trunk.file, group)
        self._last_group[trunk.file] = None if group is None or known is None else max(group, known)
        return trunk

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

    def ended(self, record: TrialRecord, runs: Iterable[RunKey]) -> None:
        """Take note of trainings that have ended, or are not needed."""
        for run in runs:
            trunk = self._of.pop((record.trial_id, run), None)
            if trunk is not None:
                self._needs[trunk.file].discard((record.trial_id, run))
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
        """Files of trunks of these trials and controls that somebody may need."""
        trunks = (self.of(Training(record, run)) for record in records for run in record.trainings)
        return {trunk.file for trunk in trunks if trunk is not None and self.is_needed(trunk.file, more)}

    def is_needed(self, file: str, more: bool) -> bool:
        """Whether a training needs a trunk, or may need it later.

        Args:
            file: of the trunk.
            more: whether trials are left to propose.
        """
        if self._needs.get(file):
            return True
        group = self._last_group.get(file)
        return more and (group is None or self.group_of(self._latest + 1) <= group)


def _name(training: Training) -> _Run:
    return training.record.trial_id, training.run


def _has(searched: Mapping[str, Any], values: Mapping[str, Any]) -> bool:
    return all(name in searched and same(searched[name], value) for name, value in values.items())


def _begins_with(defense: str, spec: SweepSpec, control: Any) -> bool:
    """Whether settings of a defense may begin with exactly the training of a control."""
    kind = DEFENSES[defense]
    block = next(block for block in spec.defense if block.kind == defense)
    if kind is NoDefense:
        return False
    params = kind.Params(**block.draw(lambda _, searched: searched.corners()[0]))
    first = kind.stages(params)[0]
    trunk = kind.trunk(params, 1)
    return trunk.defense == control.defense and (
        trunk == control or any(key in first.reads for key in block.searched_keys())
    )


def grid_in_groups(spec: SweepSpec) -> list[list[dict[str, Any]]]:
    """The points of a grid, those with the same trunk beside each other, each group where its first point was.

    Raises:
        ConfigError: there are too many.
    """
    points = grid_points(spec)
    if spec.search.branches == 1:
        return [[point] for point in points]
    groups: dict[str, list[dict[str, Any]]] = {}
    for point in points:
        try:
            config = spec.trial(lambda name, _, point=point: point[name], "")  # type: ignore[misc]
        except ConfigError:  # the trial will fail, with its reason
            groups[json.dumps(point)] = [point]
            continue
        late = fork_of(spec, config).late
        early = {name: value for name, value in point.items() if name not in late}
        groups.setdefault(json.dumps(early, sort_keys=True), []).append(point)
    return list(groups.values())


def fork_of(spec: SweepSpec, config: TrialConfig) -> Fork:
    """The fork of the group of a setting."""
    block = next(block for block in spec.defense if block.kind == config.defense)
    kind = DEFENSES[config.defense]
    return fork(block, kind.stages(kind.Params(**config.params)), spec.search.branches)
