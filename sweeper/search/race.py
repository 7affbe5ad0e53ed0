"""A trial's race: the order of its trainings, and when it leaves early, since more of them would change nothing.

A trial is one setting with a training for each scenario and seed. It leaves once no outcome of its missing trainings
could put it on the part of the frontier from which somebody would deploy. This assumes that a missing training is at
most as accurate as its control plus :data:`~sweeper.preset.objectives.HEADROOM`, and that nobody deploys a setting
whose attack success is above ``interest``. Racing algorithms (F-Race, Birattari et al. 2002) compare in the same way,
with statistical tests in the place of bounds.
"""

from collections import defaultdict
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, sqrt
from statistics import fmean
from typing import Any, Literal, NamedTuple

from sweeper.preset.objectives import ATTACK_SUCCESS, BELOW_CONTROL, HEADROOM, TOLERANCE, Constraint, Objective

Mode = Literal["bounds", "learned"]

STANDARD_ERRORS = 2.0
"""Standard errors above what a trial has shown that the learned ceiling leaves to its missing trainings."""
FIRST_SPREAD, FIRST_TRIALS = 0.1, 3
"""Standard deviation of a setting's distance to its controls that is assumed until so many trials are complete."""

Row = Mapping[str, Any]


class Run(NamedTuple):
    """A training of a trial: its scenario by name, and its seed."""

    scenario: str
    seed: int


class Leaving(NamedTuple):
    """Why a trial leaves, and the scenario that made it leave."""

    reason: str
    scenario: str


@dataclass(frozen=True)
class Rules:
    """What races of one sweep are judged by.

    Args:
        mode: ``bounds``: a control's accuracy bounds that of a missing training; ``learned``: so does what the trial
            has shown.
        interest: attack success above which nobody would deploy a setting; null: attackers search.
        objectives: of the sweep.
        constraints: of the sweep.
        axes: of the frontier, where they are no objectives: no trial leaves that could be on it.
    """

    mode: Mode
    interest: float | None
    objectives: Sequence[Objective]
    constraints: Sequence[Constraint] = ()
    axes: Sequence[Objective] = ()

    @property
    def compared(self) -> list[Objective]:
        """The figures in which a trial must be at least as good as another that it rules out."""
        return [*self.objectives, *self.axes]

    @property
    def attack(self) -> Objective | None:
        """The objective that a defender's interest bounds; null if attackers search, or if there is none."""
        minimised = (o for o in self.objectives if o.metric in ATTACK_SUCCESS and o.direction == "minimize")
        return None if self.interest is None else next(minimised, None)


@dataclass(frozen=True)
class Complete:
    """A trial whose trainings have all ended.

    Args:
        name: its id.
        group: environment and turn: trials of one group are compared.
        values: of :attr:`Rules.compared`.
    """

    name: str
    group: Hashable
    values: Sequence[float]


@dataclass
class Experience:
    """What a sweep has learned from its trainings so far, for the order of the next ones."""

    tries: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    ended: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    _squares: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    _freedom: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    _trials: int = 0

    def add_training(self, scenario: str, seconds: float) -> None:
        """Note a training that finished."""
        self.tries[scenario] += 1
        self.seconds[scenario] += seconds

    def add_ending(self, scenario: str) -> None:
        """Note a trial that left because of a training of this scenario."""
        self.ended[scenario] += 1

    def add_complete(self, distances: Mapping[str, Sequence[float]]) -> None:
        """Note a complete trial: by figure, the distance of each of its trainings to its control."""
        self._trials += 1
        for metric, values in distances.items():
            if values:
                mean = fmean(values)
                self._squares[metric] += sum((value - mean) ** 2 for value in values)
                self._freedom[metric] += len(values) - 1

    def spread(self, metric: str) -> float:
        """Standard deviation of the distance to the controls within a trial, pooled over complete trials."""
        if self._trials < FIRST_TRIALS or not self._freedom[metric]:
            return FIRST_SPREAD
        return sqrt(self._squares[metric] / self._freedom[metric])

    def promise(self, scenario: str) -> float:
        """Trials that a training of this scenario is expected to end, per second."""
        spent, tries = sum(self.seconds.values()), sum(self.tries.values())
        own = self.seconds[scenario] / self.tries[scenario] if self.tries[scenario] else None
        usual = spent / tries if tries else 1.0
        return (self.ended[scenario] + 0.5) / (self.tries[scenario] + 1) / max(own if own is not None else usual, 1e-9)


class Race:
    """The race of one trial.

    Args:
        rules: of the sweep.
        group: as in :class:`Complete`.
        before: for each training, in the order of the preset, what is known before it: the figures that the scenario
            fixes (``poison_rate``), and null for those that it leaves undefined (``val_asr`` without poison).
    """

    def __init__(self, rules: Rules, group: Hashable, before: Mapping[Run, Row]):
        self.rules = rules
        self.group = group
        self._before = dict(before)
        self._seeds = list(dict.fromkeys(run.seed for run in before))
        self.ended: dict[Run, Row] = {}
        """Figures of the trainings that finished."""
        self.controls: dict[Run, Row] = {}
        """Figures of their controls, as far as these have finished."""

    @property
    def missing(self) -> list[Run]:
        """The trainings that have not finished, in the order of the preset."""
        return [run for run in self._before if run not in self.ended]

    def next(self, experience: Experience, running: Collection[Run] = ()) -> Run | None:
        """The training that comes next; null if all have begun.

        Seed after seed; within a seed the scenario first that promises most. A scenario that came out above the
        interest is repeated with its next seed at once, as long as it may end the trial: whoever is losing is finished
        off.

        Args:
            experience: of the sweep.
            running: trainings that have begun and not finished.
        """
        waiting = [run for run in self.missing if run not in running]
        return min(waiting, key=lambda run: self._rank(run, experience), default=None)

    def _rank(self, run: Run, experience: Experience) -> tuple[bool, int, float]:
        return (not self._is_losing(run.scenario), self._seeds.index(run.seed), -experience.promise(run.scenario))

    def _is_losing(self, scenario: str) -> bool:
        """Whether a scenario came out above the interest, and may end the trial with its missing seeds."""
        attack, interest = self.rules.attack, self.rules.interest
        if attack is None or interest is None or attack.aggregate == "mean":
            return False
        own = [run for run in self._before if run.scenario == scenario]
        seen = [self.ended[run][attack.metric] for run in own if run in self.ended]
        seen = [value for value in seen if value is not None]
        highest = sum(seen) + len(own) - len([run for run in own if run in self.ended])
        return any(value > interest for value in seen) and highest / len(own) > interest

    def leaves(self, complete: Iterable[Complete], experience: Experience, last: str) -> Leaving | None:
        """Why the trial leaves; null if it stays, or if all of its trainings have finished.

        Args:
            complete: trials that may stand on the frontier.
            experience: of the sweep.
            last: the scenario of the training that finished last.
        """
        if not self.missing:
            return None
        reason = self._beyond_interest() or self._broken() or self._dominated(complete, experience)
        return None if reason is None else Leaving(reason, last)

    def _beyond_interest(self) -> str | None:
        attack, interest = self.rules.attack, self.rules.interest
        if attack is None or interest is None:
            return None
        least = attack.value(self._hopeful(attack.metric, high=False))
        if least is None or least <= interest:
            return None
        return f"{attack.metric} is at least {least:.3f}, above the interest of {interest:g}"

    def _broken(self) -> str | None:
        for constraint in self.rules.constraints:
            if self.violation(constraint) > 0:
                high = constraint.min is not None
                bound = f"at least {constraint.min:g}" if high else f"at most {constraint.max:g}"
                return f"{constraint.metric} cannot be {bound} any more"
        return None

    def violation(self, constraint: Constraint) -> float:
        """By how much a constraint is violated, if every missing training came out as well as it can."""
        return constraint.violation(self._hopeful(constraint.metric, constraint.min is not None))

    def _dominated(self, complete: Iterable[Complete], experience: Experience) -> str | None:
        best = self.best(experience)
        for other in complete:
            if other.group == self.group and all(map(_at_least_as_good, self.rules.compared, other.values, best)):
                expected = "can" if self.rules.mode == "bounds" else "is likely to"
                return f"{other.name} is at least as good as it {expected} become"
        return None

    def best(self, experience: Experience) -> list[float | None]:
        """Each compared figure, if every missing training came out as well as it can; null where it is undefined."""
        found = []
        for objective in self.rules.compared:
            high = objective.direction == "maximize"
            found.append(objective.value(self._hopeful(objective.metric, high, experience)))
        return found

    def expected(self) -> list[float | None]:
        """Each objective as far as it was seen; accuracies relative to the controls of all trainings."""
        found: list[float | None] = []
        for objective in self.rules.objectives:
            metric = objective.metric
            distances = self.distances(metric)
            known = [row[metric] for row in self.controls.values() if row.get(metric) is not None]
            if metric in BELOW_CONTROL and distances and known:
                found.append(fmean(known) + fmean(distances))
            else:
                found.append(objective.value(list(self.ended.values())))
        return found

    def distances(self, metric: str) -> list[float]:
        """By how much each finished training differs from its control."""
        pairs = [(row.get(metric), self.controls.get(run, {}).get(metric)) for run, row in self.ended.items()]
        return [own - control for own, control in pairs if own is not None and control is not None]

    def _hopeful(self, metric: str, high: bool, experience: Experience | None = None) -> list[Row]:
        """Rows of all trainings, with the highest or lowest possible figure for those that are missing.

        Args:
            metric: the figure.
            high: whether it is to be high.
            experience: of the sweep, for the learned ceiling; null: bounds alone.
        """
        rows: list[Row] = []
        for run, known in self._before.items():
            if run in self.ended and not (metric == "control_asr" and self.ended[run].get(metric) is None):
                value = self.ended[run].get(metric)
            elif metric in known:
                value = known[metric]
            else:
                value = self._ceiling(run, metric, experience) if high else 0.0
            rows.append({"scenario": run.scenario, metric: value})
        return rows

    def _ceiling(self, run: Run, metric: str, experience: Experience | None) -> float:
        """The highest figure that a missing training may have."""
        if metric == "images_seen":
            return inf
        control = self.controls.get(run, {}).get(metric)
        if metric not in BELOW_CONTROL or control is None:
            return 1.0
        bound: float = min(control + HEADROOM, 1.0)
        distances = self.distances(metric)
        if experience is None or self.rules.mode == "bounds" or not distances:
            return bound
        error = experience.spread(metric) * sqrt(1 / len(distances) + 1 / len(self.missing))
        learned: float = control + fmean(distances) + STANDARD_ERRORS * error
        return min(bound, learned)


def _at_least_as_good(objective: Objective, value: float, other: float | None) -> bool:
    """Whether ``value`` is at least as good as ``other``; what attacks achieve may be worse by :data:`TOLERANCE`."""
    if other is None:
        return False
    slack = TOLERANCE if objective.metric in ATTACK_SUCCESS else 0.0
    return value >= other - slack if objective.direction == "maximize" else value <= other + slack
