"""One pool of trials for each defense, so that each is searched as if it were alone.

A sampler that saw the trials of all defenses would rate most trials of a weak one as bad, and hardly search it.
"""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import optuna
from optuna.samplers import BaseSampler, PartialFixedSampler
from optuna.trial import TrialState

from sweeper.preset.blocks import DEFENSE

_ENDED = (TrialState.COMPLETE, TrialState.FAIL, TrialState.PRUNED)


class Pools:
    """The trials of a study divided by defense, each part a study of its own in memory.

    Args:
        study: of the whole sweep.
        make: makes a new sampler for the named defense.
    """

    def __init__(self, study: optuna.Study, make: Callable[[str], BaseSampler]):
        self._study = study
        self._make = make
        self._parts: dict[str, optuna.Study] = {}
        self._samplers: dict[str, BaseSampler] = {}
        self._proposed: dict[int, optuna.Trial] = {}
        self._known: set[int] = set()

    def propose(self, number: int, defense: str, **environment: Any) -> optuna.Trial:
        """A trial that suggests a setting of one defense, based on the ended trials of that defense in the study.

        Args:
            number: the trial's number in the study.
            defense: its name.
            environment: values of the attacker's parameters for this trial, by name in the study.
        """
        for trial in self._study.get_trials(deepcopy=False, states=_ENDED):
            if trial.number not in self._known and DEFENSE in trial.params:
                self._known.add(trial.number)
                own = deepcopy(trial)
                part = self.part(own.params.pop(DEFENSE))
                own.distributions.pop(DEFENSE)
                if proposed := self._proposed.pop(trial.number, None):
                    part.tell(proposed, state=TrialState.FAIL)  # its result is added instead
                part.add_trial(own)
        part = self.part(defense)
        part.sampler = PartialFixedSampler(environment, self._samplers[defense])
        self._proposed[number] = part.ask()
        return self._proposed[number]

    def part(self, defense: str) -> optuna.Study:
        """The study with the trials of one defense."""
        if defense not in self._parts:
            self._samplers[defense] = self._make(defense)
            self._parts[defense] = optuna.create_study(
                directions=self._study.directions, sampler=self._samplers[defense]
            )
        return self._parts[defense]
