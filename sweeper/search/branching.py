"""Where settings branch off: the stages that several settings of a defense have in common."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, inf, prod

from sweeper.preset.blocks import Block
from sweeper.preset.spec import SweepSpec
from trainers.defenses import DEFENSES
from trainers.defenses.base import Stage
from trainers.trial import TrialConfig


@dataclass(frozen=True)
class Fork:
    """The end of the stages that settings of a group share.

    Args:
        stages: how many they are; 0: none.
        late: names, in the study, of the searched parameters that only later stages read.
    """

    stages: int
    late: frozenset[str] = frozenset()


def fork(block: Block, stages: Sequence[Stage], branches: int) -> Fork:
    """The fork at which a group of settings saves most epochs.

    Args:
        block: the defense, with its searched parameters.
        stages: of the group's first setting.
        branches: settings in a group.
    """
    best, most = Fork(0), 0.0
    for count in range(1, len(stages)):
        late = _late(block, stages[:count])
        different = min(branches, _values(block, late))
        saved = sum(stage.epochs for stage in stages[:count]) * (1 - 1 / different)
        if saved >= most and saved > 0:
            best, most = Fork(count, frozenset(block.names[key] for key in late)), saved
    return best


def _late(block: Block, first: Sequence[Stage]) -> set[str]:
    """Searched parameters that none of the ``first`` stages depends on."""
    read = {key for stage in first for key in stage.reads}
    late = {key for key in block.searched_keys() if key not in read}
    while True:  # whether an early one is drawn at all may depend on others
        deciding = {key for own in set(block.searched_keys()) - late for key in block.values[own].when}
        if not deciding & late:
            return late
        late -= deciding


def _values(block: Block, keys: set[str]) -> float:
    """How many different values these parameters can have together, conditions aside."""
    count = 1.0
    for key in keys:
        options = block.values[key].grid()
        count *= inf if options is None else len(options)
    return count


def fork_of(spec: SweepSpec, config: TrialConfig) -> Fork:
    """The fork of a group whose first setting this is."""
    return fork(block_of(spec, config.defense), config.stages(), spec.search.branches)


def block_of(spec: SweepSpec, defense: str) -> Block:
    """The block of a defense of a sweep."""
    return next(block for block in spec.defense if block.kind == defense)


def first_stages(block: Block) -> list[Stage]:
    """The stages of the first setting of a defense's search space: the smallest value, or the first choice, of each."""
    kind = DEFENSES[block.kind]
    return list(kind.stages(kind.Params(**block.draw(lambda _, searched: searched.corners()[0]))))


def branching_lines(spec: SweepSpec) -> list[str]:
    """What ``search.branches`` means for each defense of a sweep; a line each, for a screen."""
    branches = spec.search.branches
    if branches == 1:
        return []
    if spec.attacking:
        return ["search.branches is ignored, since each trial of an attacker's sweep meets data of its own."]
    lines, ignored = [], []
    for block in spec.defense:
        stages = first_stages(block)
        at = fork(block, stages, branches)
        if at.stages:
            shared = " and ".join(stage.name for stage in stages[: at.stages])
            differ = ", ".join(sorted(name.partition(".")[2] for name in at.late))
            lines.append(f"{branches} settings of {block.kind} at a time share {shared}, and differ in {differ}.")
        else:
            ignored.append(block.kind)
    if ignored:
        lines.append(
            f"search.branches is ignored for {', '.join(ignored)}: each searched parameter, if there is one, is read "
            "by the first stage that takes any time."
        )
    groups, different = ceil(spec.search.trials / branches), _different(spec)
    if spec.search.sampler != "grid" and groups < different:
        lines.append(
            f"{spec.search.trials} trials are {groups} group{'s' * (groups > 1)} of {branches} settings, but there are "
            f"{different} pairs of defense and attacker to take turns: raise search.trials to at least "
            f"{branches * different}, or some are never tried."
        )
    return lines


def _different(spec: SweepSpec) -> int:
    """Defenses that take turns, times attackers with each value of their parameters."""
    attackers = 0
    for environment in spec.environments():
        attackers += prod(len(searched.grid() or ()) for searched in environment.values())
    return max(len(spec.turns()), 1) * attackers
