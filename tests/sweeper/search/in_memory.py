"""An agenda with a book and a study in memory, and a driver that runs it in a number of places."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import optuna

from sweeper.preset.spec import SweepSpec
from sweeper.run_folder.record import (
    CONTROL,
    FINISHED,
    Training,
    TrialRecord,
    control_success,
)
from sweeper.search.agenda import Agenda
from sweeper.search.study import fill_study, make_sampler
from tests.sweeper.small import FACTS, ONE_SETTING, epoch_figures, make_objectives, spec_with

TWO = [{"attack": "badnets"}, {"attack": "blend"}]
RUNS = [("badnets", 0), ("badnets", 1), ("blend", 0), ("blend", 1)]
"""The trainings of a trial that meets two scenarios with two seeds, in the order of the preset."""
RACED = [RUNS[0], RUNS[2], RUNS[1], RUNS[3]]
"""Their order in a race while nothing is learned: seed after seed."""


class Book:
    """Records in memory.

    Args:
        records: of an earlier part of the sweep.
    """

    def __init__(self, records: Iterable[TrialRecord] = ()):
        known = {record.trial_id: record for record in records}
        self.records = {name: record for name, record in known.items() if not record.open}
        self.interrupted = {name: record for name, record in known.items() if record.open}
        self.control_asr = control_success(self.records.values())
        self.announced: list[str] = []
        """Trials and controls of whose ends followers were told."""
        self.removed: list[str] = []
        """Files of trunks."""

    def add(self, record: TrialRecord) -> None:
        self.records[record.trial_id] = record

    def update(self, record: TrialRecord) -> None:
        assert self.records[record.trial_id] is record

    def end(self, record: TrialRecord, status: str, error: str | None = None, interrupted: bool = False) -> None:
        record.end(status, error, interrupted)
        if record.role == CONTROL:
            self.control_asr |= control_success([record])

    def announce(self, record: TrialRecord) -> None:
        self.announced.append(record.trial_id)

    def remove_trunk(self, file: str) -> None:
        self.removed.append(file)

    def written(self) -> list[TrialRecord]:
        """The records as they lie in a run folder at this moment."""
        known = self.interrupted | self.records
        return [TrialRecord.from_json(known[name].to_json()) for name in sorted(known)]


class Sweep:
    """An agenda with its book and its study.

    Args:
        spec: the sweep.
        records: of an earlier part of it.
    """

    def __init__(self, spec: SweepSpec, records: Iterable[TrialRecord] = ()):
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        records = list(records)
        self.spec = spec
        self.book = Book(records)
        self.study = optuna.create_study(directions=[objective.direction for objective in spec.objectives])
        self.study.sampler = make_sampler(spec, fill_study(self.study, spec, records, {}))
        self.agenda = Agenda(spec, self.study, "data", self.book, spec.search.trials)

    def begin(self, count: int = 1) -> list[Training]:
        """The next trainings, as a driver starts them."""
        begun = []
        for _ in range(count):
            training = self.agenda.next()
            assert training is not None, f"only {len(begun)} of {count} began"
            training.state.attempt += 1
            begun.append(training)
        return begun

    def finish(self, training: Training, **figures: Any) -> list[Training]:
        """Let a training finish: by default, one that is as accurate as the others, and on which the attack fails."""
        control = training.record.role == CONTROL
        known = {"val_acc": 0.9, "val_asr": 1.0} if control else {"val_acc": 0.8, "val_asr": 0.0}
        training.record.add_epoch(training.run, epoch_figures(1, **({"asr_floor": 0.0} | known | figures)), FACTS)
        return self.agenda.ended(training, FINISHED)

    def skip_controls(self, count: int, **figures: Any) -> None:
        """Run the controls, which come first."""
        for training in self.begin(count):
            assert training.record.role == CONTROL
            self.finish(training, **figures)

    def states(self) -> list[str]:
        return [trial.state.name for trial in self.study.get_trials()]

    def trial(self, number: int = 0) -> TrialRecord:
        return self.book.records[f"t{number:04d}"]


Figures = Callable[[Training], Mapping[str, Any]]


def plain(_: Training) -> Mapping[str, Any]:
    """Every training comes out the same."""
    return {}


def run(sweep: Sweep, places: int = 1, figures: Figures = plain, at_most: int = 10_000) -> list[str]:
    """Run a sweep in a number of places at once, the training that has run longest ending first.

    Returns:
        Names of the trainings that finished, of ``at_most`` at most.
    """
    running: deque[Training] = deque()
    finished: list[str] = []
    while True:
        while len(running) < places and (training := sweep.agenda.next()) is not None:
            training.state.attempt += 1
            running.append(training)
        if not running or len(finished) == at_most:
            return finished
        training = running.popleft()
        finished.append(training.name)
        for stopped in sweep.finish(training, **figures(training)):
            running.remove(stopped)


def names(trainings: Iterable[Training]) -> list[str]:
    return [training.name for training in trainings]


def spec_of(trials: int, seeds: int = 2, **search: Any) -> SweepSpec:
    """A sweep in which each trial meets two scenarios."""
    return spec_with(scenarios=TWO, seeds=list(range(seeds)), search={"sampler": "random", "trials": trials, **search})


def racing_spec(trials: int = 1, **search: Any) -> SweepSpec:
    return spec_of(trials, race="bounds", interest=0.4, **search)


def attackers_spec(trials: int = 2) -> SweepSpec:
    blend = {"attack": "blend", "alpha": {"float": [0.1, 0.5]}}
    return spec_with(
        defense=ONE_SETTING,
        scenarios=[blend],
        seeds=[0, 1],
        objectives=make_objectives(("val_asr", "maximize")),
        search={"sampler": "random", "trials": trials},
    )
