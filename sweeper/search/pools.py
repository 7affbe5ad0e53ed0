"""One pool of trials for each defense, so that each is searched as if it were alone.

A sampler that saw the trials of all defenses would rate most trials of a weak one as bad, and hardly search it.
"""

from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy

import optuna
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from sweeper.preset.blocks import DEFENSE


class Pools:
    """The trials of a study divided by defense, each part a study of its own in memory.

    Args:
        directions: of the objectives.
        make: makes a new sampler for the named defense.
        trials: of the study so far.
    """

    def __init__(
        self,
        directions: Sequence[StudyDirection],
        make: Callable[[str], BaseSampler],
        trials: Iterable[FrozenTrial] = (),
    ):
        self._directions = directions
        self._make = make
        self._parts: dict[str, optuna.Study] = {}
        self._samplers: dict[str, BaseSampler] = {}
        self._proposed: dict[int, optuna.Trial] = {}
        self._ended = [trial for trial in trials if trial.state.is_finished()]
        """Trials that have ended, and that no part knows yet."""

    def tell(self, trial: FrozenTrial) -> None:
        """Take note of a trial of the study that ended."""
        if DEFENSE in trial.params:
            self._ended.append(trial)

    def propose(self, number: int, defense: str, beside: Callable[[BaseSampler], BaseSampler]) -> optuna.Trial:
        """A trial that suggests a setting of one defense, based on the ended trials of that defense in the study.

        Args:
            number: the trial's number in the study.
            defense: its name.
            beside: makes a sampler that leaves alone what is fixed of this trial.
        """
        for trial in self._ended:
            if DEFENSE in trial.params:
                own = deepcopy(trial)
                part = self.part(own.params.pop(DEFENSE))
                own.distributions.pop(DEFENSE)
                if proposed := self._proposed.pop(trial.number, None):
                    part.tell(proposed, state=TrialState.FAIL)  # its result is added instead
                part.add_trial(own)
        self._ended.clear()
        part = self.part(defense)
        part.sampler = beside(self._samplers[defense])
        self._proposed[number] = part.ask()
        return self._proposed[number]

    def part(self, defense: str) -> optuna.Study:
        """The study with the trials of one defense."""
        if defense not in self._parts:
            self._samplers[defense] = self._make(defense)
            self._parts[defense] = optuna.create_study(directions=self._directions, sampler=self._samplers[defense])
        return self._parts[defense]
