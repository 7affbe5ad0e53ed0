"""Which trainings of a sweep are stopped early: what its trials and its preset mean to :mod:`sweeper.search.asha`."""

from collections.abc import Hashable, Iterable, Mapping
from typing import Any

from sweeper.preset.objectives import UNDER_ATTACK
from sweeper.preset.spec import SweepSpec
from sweeper.run_folder.record import TRIAL, Training, TrialRecord
from sweeper.search.asha import Asha, Point
from sweeper.search.racing import Racing
from sweeper.search.trunks import Trunks
from trainers.trial import TrialConfig

OF_THE_SCENARIO = ("control_asr", "poison_rate")
"""Figures that no training of a scenario changes; as constraints they compare nothing."""


class EarlyStopping:
    """Compares the trainings of a sweep that have the scenario, the seed and the group of their trials in common.

    Within a trunk all trainings that share it are one: it is compared once, and if it is stopped, so are they. They are
    compared at equal shares of their epochs, by all objectives that their scenario leaves defined: without poison there
    is no attack success. An epoch counts once all of these, and the constraints, are defined: V&B has no model while it
    warms up. Controls and confirmations are neither compared nor stopped.

    Args:
        spec: the sweep; without ``search.scheduler: asha`` nothing is stopped.
        racing: names the groups of its trials.
        trunks: what their trainings share.
    """

    def __init__(self, spec: SweepSpec, racing: Racing, trunks: Trunks):
        self._spec = spec
        self._racing = racing
        self._trunks = trunks
        self._stopped: dict[Hashable, str] = {}
        """By trunk that was stopped: why."""
        self._epochs: dict[str, int] = {}
        """By trial: the epochs of each of its trainings."""
        met = 1 if spec.search.scenarios == "one" else len(spec.scenarios)
        self._asha = Asha(spec.search.grace, met * len(spec.seeds)) if spec.search.scheduler == "asha" else None

    def reported(self, training: Training, figures: Mapping[str, Any]) -> str | None:
        """Take note of the figures of an epoch.

        Args:
            training: which has trained it.
            figures: as its record holds them.

        Returns:
            Why the training is stopped; null if it goes on.
        """
        shown = self._shown(training, figures)
        if self._asha is None or shown is None:
            return None
        reason = self._stopped.get(shown[0]) or self._asha.reported(*shown)
        if reason is None:
            return None
        self._stopped[shown[0]] = reason
        return f"{training.run[0]}, seed {training.run[1]} was stopped by asha {reason}"

    def relearn(self, records: Iterable[TrialRecord]) -> None:
        """Take note of every epoch of an earlier part of the sweep; nothing of it is stopped again."""
        for record in records:
            for run, epochs in record.epochs.items():
                for epoch in sorted(epochs):
                    shown = self._shown(Training(record, run), epochs[epoch])
                    if self._asha is not None and shown is not None:
                        self._asha.note(*shown)

    def _shown(self, training: Training, figures: Mapping[str, Any]) -> tuple[Hashable, Hashable, float, Point] | None:
        """What :meth:`Asha.note` takes; null if the epoch does not count."""
        record, (scenario, seed) = training.record, training.run
        if self._asha is None or record.role != TRIAL or record.config is None:
            return None
        rate = next(s.poison_rate for s, repeat in record.runs if (s.name, repeat) == training.run)
        row = {**figures, "scenario": scenario, "poison_rate": rate}
        undefined = UNDER_ATTACK if rate == 0 else ()
        objectives = [o for o in self._spec.objectives if o.metric not in undefined]
        bounds = [c for c in self._spec.constraints if c.metric not in (*undefined, *OF_THE_SCENARIO)]
        if not objectives or any(row.get(part.metric) is None for part in (*objectives, *bounds)):
            return None
        losses = tuple(-row[o.metric] if o.direction == "maximize" else row[o.metric] for o in objectives)
        point = Point(losses, tuple(max(bound.violation([row]), 0.0) for bound in bounds))
        if record.trial_id not in self._epochs:
            self._epochs[record.trial_id] = plan_epochs(record.config)
        share = figures["epoch"] / self._epochs[record.trial_id]
        peers = (self._racing.group(record), scenario, seed, rate == 0)
        return self._name(training, record.config, figures["epoch"]), peers, share, point

    def _name(self, training: Training, config: TrialConfig, epoch: int) -> Hashable:
        """The name under which an epoch counts: that of the trunk to which it belongs, or of the training."""
        trunk = self._trunks.of(training)
        if trunk is not None and epoch <= sum(stage.epochs for stage in config.stages()[: trunk.stages]):
            return trunk.file
        return training.record.trial_id, training.run


def plan_epochs(config: TrialConfig) -> int:
    """Epochs of all stages of each training of a trial."""
    return sum(stage.epochs for stage in config.stages())
