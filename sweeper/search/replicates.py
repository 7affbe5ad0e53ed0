"""The agenda of a test: replicates of settings, trained at many places, and counted one by one in a fixed order."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Any, Protocol

import numpy as np

from sweeper.run_folder.certificate import DESCRIBED
from sweeper.run_folder.record import (
    FAILED,
    FINISHED,
    PRUNED,
    REPLICATE,
    RUNNING,
    RunKey,
    Training,
    TrialRecord,
    next_id,
)
from sweeper.search.agenda import Book
from trainers.scenario import ScenarioConfig
from trainers.trial import TrialConfig

FAILED_BESIDE = "Not needed: another training of this replicate failed."


class Test(Protocol):
    """Decides by the losses of replicates, in a fixed order (:class:`sweeper.analysis.certification.Certification`)."""

    @property
    def turn(self) -> tuple[int, int] | None:
        """The candidate, and the number of its replicate, whose loss comes next; null if none does."""

    @property
    def decided(self) -> bool:
        """Whether the test has ended."""

    @property
    def left(self) -> float:
        """Trainings that may still be counted."""

    def ends(self, loss: float) -> bool:
        """Whether the current candidate is out if its next loss is at least this."""

    def apply(self, loss: float, accuracy: float | None, trainings: int, ended: bool) -> None:
        """Count the loss of the replicate whose turn it is."""

    def ahead(self) -> Iterator[tuple[int, int]]:
        """Replicates in the order in which they may be needed, the surely needed ones first."""


@dataclass(frozen=True)
class Result:
    """What a replicate came to.

    Args:
        loss: the attack figure in the worst scenario; 1 if it failed or ended early.
        accuracy: mean ``test_acc`` over the scenarios that ran; null if it failed.
        min_class_acc: lowest ``test_min_class_acc`` of them; null likewise, or where it is not known.
        trainings: that count for it.
        failed: why it failed; null if it did not.
        ended_by: the scenario after which it ended early; null if it did not.
    """

    loss: float
    accuracy: float | None
    min_class_acc: float | None
    trainings: int
    failed: str | None = None
    ended_by: str | None = None


@dataclass
class _Replicate:
    """One replicate: its trainings in their order. Scenarios of the same name have records of their own.

    Args:
        setting: number of its candidate or described setting.
        records: of its trainings.
        order: its trainings, the hardest scenario first.
        running: those that have begun and not ended.
    """

    setting: int
    records: list[TrialRecord]
    order: list[Training]
    running: list[Training] = field(default_factory=list)

    @property
    def failed(self) -> Training | None:
        return next((training for training in self.order if training.state.status in (FAILED, PRUNED)), None)

    @property
    def next(self) -> list[Training]:
        """The training that runs or comes next; empty if none is left."""
        if self.failed is not None:
            return []
        return self.running or [training for training in self.order if training.state.status == RUNNING][:1]

    @property
    def closed(self) -> bool:
        return all(record.status != RUNNING for record in self.records)


class Replicates:
    """Names the trainings of a test, and counts replicates as their turn comes.

    It takes the place of :class:`sweeper.search.agenda.Agenda` while a test runs, for hosts and for simulations alike.
    Trainings of one replicate run one after the other. Places that are left over run replicates ahead, whose results
    wait until the replicates before them were counted: so what is decided does not depend on how many places there are,
    on which training ends first, or on when the program was killed. Once the test has ended, the described settings
    are trained. A budget counts what was counted: a replicate that ran ahead and is not needed any more is beyond it.

    Args:
        test: decides; earlier replicates were counted.
        settings: candidates, then described settings, without scenarios and seeds.
        candidates: how many of them are candidates.
        scenarios: of each replicate, the hardest first.
        seed: of a replicate, by number of its setting and of the replicate.
        metric: the figure whose worst value is the loss.
        book: with the records of an earlier part of the test.
        counted: is told of each replicate that was counted.
    """

    def __init__(
        self,
        test: Test,
        settings: Sequence[TrialConfig],
        candidates: int,
        scenarios: Sequence[ScenarioConfig],
        seed: Callable[[int, int], int],
        metric: str,
        book: Book,
        counted: Callable[[int, int, Result], None] = lambda _setting, _number, _result: None,
    ):
        self._test = test
        self._settings = settings
        self._candidates = candidates
        self._scenarios = scenarios
        self._seed = seed
        self._metric = metric
        self._book = book
        self._counted = counted
        self._again: deque[Training] = deque()
        self._unwanted: list[Training] = []
        """Trainings that run, and that nobody needs any more."""
        self._abandoned = False
        known = [r for r in (*book.records.values(), *book.interrupted.values()) if r.role == REPLICATE and r.config]
        self._ids = [record.trial_id for record in known]
        self._known = {record.config.key: record for record in known if record.config is not None}
        self._replicates: dict[tuple[int, int], _Replicate] = {}
        for setting, number in self._begun_before():
            self._take_up(setting, number)
        self._count()
        self._stop_unneeded()

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to run."""
        return self._abandoned or not any(True for _ in self._wanted())

    def next(self) -> Training | None:
        """The training that begins now; null if there is none, until one ends. What broke off comes first."""
        while self._again:
            training = self._again.popleft()
            if training.state.status == RUNNING:
                return training
        for training in self._wanted():
            own = self._of(training)
            if not own.running:
                own.running.append(training)
                return training
        return None

    def again(self, training: Training) -> None:
        """Take up a training again that broke off, before everything else: the same one, with the same draws.

        Until it ends it is one that runs, so that no other of its replicate begins.
        """
        if training.state.status == RUNNING:
            self._again.append(training)

    def ended(self, training: Training, status: str, error: str | None = None) -> list[Training]:
        """Take note that a training ended; returns those that are to be stopped, and have ended already."""
        own = self._of(training)
        if training.state.status != RUNNING:
            return []
        record = training.record
        if training in own.running:
            own.running.remove(training)
        record.end_training(training.run, status, error)
        self._unwanted.clear()
        if status != FINISHED:
            self._end(record, FAILED, error)
        elif all(state.status == FINISHED for state in record.trainings.values()):
            self._end(record, FINISHED)
        else:
            self._book.update(record)
        if own.setting >= self._candidates and own.failed is not None:
            self._close(own, FAILED_BESIDE, None)
        self._count()
        self._stop_unneeded()
        return list(self._unwanted)

    def trunk_of(self, training: Training) -> None:
        """A test shares no trunk: its trainings are independent."""

    def trunk_passed(self, training: Training, is_kept: bool) -> None:
        """Nothing: no training of a test has one."""

    def trunk_gone(self, training: Training) -> None:
        """Likewise."""

    def abandon(self, reason: str) -> None:
        """End everything that has not ended, after the test was stopped early; it can be continued."""
        self._abandoned = True
        for own in self._replicates.values():
            for record in own.records:
                if record.status == RUNNING:
                    self._end(record, FAILED, reason, interrupted=True)

    # What runs

    def _wanted(self) -> Iterator[Training]:
        """Trainings that may begin, in order; those of a replicate of which one runs are left out, except that one.

        The described settings come once nothing of the test may begin or runs, be it because the budget is spent.
        """
        tests = False
        for training in self._wanted_of_candidates():
            tests = True
            yield training
        if not tests:
            for number in range(DESCRIBED):
                for setting in range(self._candidates, len(self._settings)):
                    yield from self._take_up(setting, number).next

    def _wanted_of_candidates(self) -> Iterator[Training]:
        turn, left = self._test.turn, self._test.left
        if turn is None:
            return
        for place, (setting, number) in enumerate(self._test.ahead()):
            left -= len(self._scenarios)
            if left < 0:
                return
            own = self._take_up(setting, number)
            # Ahead of its turn, a replicate waits where it would probably end.
            if place and setting == turn[0] and self._test.ends(self._highest(own)):
                continue
            yield from own.next

    def _take_up(self, setting: int, number: int) -> _Replicate:
        """The replicate with this number; its trainings are noted down when it is asked for first."""
        if (setting, number) not in self._replicates:
            records: list[TrialRecord] = []
            order: list[tuple[int, RunKey]] = []
            seed = self._seed(setting, number)
            parts = in_parts(self._scenarios)
            for part in parts:
                config = replace(self._settings[setting], scenarios=tuple(part), repeats=(seed,))
                records.append(self._record(config))
            for scenario in self._scenarios:
                where = next(i for i, part in enumerate(parts) if scenario in part)
                order.append((where, (scenario.name, seed)))
            trainings = [Training(records[where], run) for where, run in order]
            self._replicates[setting, number] = _Replicate(setting, records, trainings)
        return self._replicates[setting, number]

    def _record(self, config: TrialConfig) -> TrialRecord:
        before = self._known.get(config.key)
        if before is not None and not before.open:
            return before
        if before is None:
            self._ids.append(next_id("r", self._ids))
        record = TrialRecord(self._ids[-1] if before is None else before.trial_id, REPLICATE, config, {})
        if before is not None:
            for run, state in before.trainings.items():
                if state.status == FINISHED and before.final(run):
                    record.trainings[run], record.epochs[run] = state, before.epochs[run]
                    record.facts[run] = before.facts.get(run, {})
                elif state.status != FINISHED:
                    record.trainings[run].attempt = state.attempt
        self._book.add(record)
        if all(state.status == FINISHED for state in record.trainings.values()):
            self._end(record, FINISHED)  # the test was cut off just before this was written down
        return record

    def _begun_before(self) -> Iterator[tuple[int, int]]:
        """Replicates that an earlier part of the test began."""
        seeds = {record.config.repeats[0] for record in self._known.values() if record.config}
        for setting in range(len(self._settings)):
            first = self._seed(setting, 0)
            own = sorted(seed - first for seed in seeds if first <= seed < self._seed(setting + 1, 0))
            yield from ((setting, number) for number in own)

    def _of(self, training: Training) -> _Replicate:
        return next(own for own in self._replicates.values() if training.record in own.records)

    # What counts

    def _count(self) -> None:
        """Count every replicate whose turn has come."""
        while (turn := self._test.turn) is not None:
            own = self._take_up(*turn)
            result = self._result(own)
            if result is None:
                return
            if result.ended_by is not None:
                reason = f"Ended after {result.ended_by}: the setting is out, whatever the other scenarios bring."
                self._close(own, reason, result.ended_by)
            elif result.failed is not None:
                self._close(own, FAILED_BESIDE, None)
            self._test.apply(result.loss, result.accuracy, result.trainings, result.ended_by is not None)
            self._counted(*turn, result)

    def _result(self, own: _Replicate) -> Result | None:
        """The result of the replicate whose turn it is; null while that is open.

        It ends with the first scenario after which the setting is out, also if more were trained ahead: else the
        decision could depend on that.
        """
        highest, accuracies, of_classes = 0.0, list[float](), list[float | None]()

        def result(loss: float, failed: str | None = None, ended_by: str | None = None) -> Result:
            known = [value for value in of_classes if value is not None]
            accuracy = float(np.mean(accuracies)) if accuracies and failed is None else None
            least = min(known) if failed is None and len(known) == len(accuracies) > 0 else None
            return Result(loss, accuracy, least, len(accuracies) + (failed is not None), failed, ended_by)

        for training in own.order:
            state = training.state
            if state.status in (FAILED, PRUNED):
                return result(1.0, state.error or training.record.error or "it failed")
            if state.status != FINISHED:
                return None
            figures = training.record.final(training.run)
            loss, accuracy = _share(figures.get(self._metric)), _share(figures.get("test_acc"))
            if loss is None or accuracy is None:
                return result(1.0, f"{training.run[0]} has no {self._metric if loss is None else 'test_acc'}")
            highest = max(highest, loss)
            accuracies.append(accuracy)
            of_classes.append(figures.get("test_min_class_acc"))
            if training is not own.order[-1] and self._test.ends(highest):
                return result(1.0, ended_by=training.run[0])
        return result(highest)

    def _highest(self, own: _Replicate) -> float:
        """The highest loss of a replicate's trainings so far."""
        known = [t.record.final(t.run).get(self._metric) for t in own.order if t.state.status == FINISHED]
        return max((share for share in map(_share, known) if share is not None), default=0.0)

    def _stop_unneeded(self) -> None:
        """End replicates that nobody needs any more."""
        turn = self._test.turn
        for own in self._replicates.values():
            if own.setting >= self._candidates or own.closed or (turn is not None and own.setting >= turn[0]):
                continue
            if turn is None and not self._test.decided:  # it waits for a larger budget
                self._unwanted += own.running
                own.running.clear()
                for record in own.records:
                    if record.status == RUNNING:
                        self._end(record, FAILED, "Not finished: the budget is spent.", interrupted=True)
            else:
                self._close(own, "Not needed: the test went on without it.", None)

    def _close(self, own: _Replicate, reason: str, ended_by: str | None) -> None:
        self._unwanted += own.running
        own.running.clear()
        for record in own.records:
            if record.status == RUNNING:
                record.ended_by = ended_by
                self._end(record, PRUNED, reason)

    def _end(self, record: TrialRecord, status: str, error: str | None = None, interrupted: bool = False) -> None:
        self._book.end(record, status, error, interrupted)
        self._book.announce(record)


def in_parts(scenarios: Sequence[ScenarioConfig]) -> list[list[ScenarioConfig]]:
    """The scenarios in as few lists as let none hold a name twice, as a record needs it."""
    parts: list[list[ScenarioConfig]] = []
    for scenario in scenarios:
        part = next((part for part in parts if scenario.name not in [other.name for other in part]), None)
        if part is None:
            parts.append([scenario])
        else:
            part.append(scenario)
    return parts


def _share(value: Any) -> float | None:
    """A figure, if it is a share; null if it is none, or not finite."""
    return value if isinstance(value, int | float) and isfinite(value) and 0 <= value <= 1 else None
