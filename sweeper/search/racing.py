"""Sets up the races of a sweep from its preset and its records."""

from collections.abc import Hashable, Iterable, Mapping
from typing import Any

from search_spaces.distributions import Searched
from sweeper.preset.blocks import DEFENSE, Block
from sweeper.preset.objectives import BELOW_CONTROL, UNDER_ATTACK, Objective
from sweeper.preset.spec import SCENARIO, SweepSpec
from sweeper.run_folder.record import CONTROL, FINISHED, TRIAL, RunKey, TrialRecord
from sweeper.search.race import Complete, Experience, Race, Row, Rules, Run
from trainers.scenario import ScenarioConfig

Controls = Mapping[str, Row]
"""Final figures of the controls that finished, by key of their configurations."""


def control_figures(records: Iterable[TrialRecord]) -> dict[str, Row]:
    """Final figures of each control that finished, by key of its configuration."""
    figures: dict[str, Row] = {}
    for record in records:
        if record.role == CONTROL and record.status == FINISHED:
            ((run, key),) = record.controls.items()
            figures[key] = record.final(run)
    return figures


def open_controls(records: Iterable[TrialRecord]) -> set[str]:
    """Keys of the controls that have not ended."""
    return {key for record in records if record.role == CONTROL and record.open for key in record.controls.values()}


class Racing:
    """The races of a sweep: their rules, and what they have learned so far.

    Args:
        spec: the sweep.
    """

    def __init__(self, spec: SweepSpec):
        self._spec = spec
        attacker = {SCENARIO, *(name for block in spec.scenario_blocks for name, _ in block.searched())}
        self._shared = (set() if spec.attacking else attacker) | ({DEFENSE} if spec.turns() else set())
        interest = None if spec.attacking else spec.search.interest
        # Without races, the same rules tell what to expect of trials that an earlier part of the sweep raced out.
        self.rules = Rules(spec.race or "bounds", interest, spec.objectives, spec.constraints, _axes(spec))
        self.experience = Experience()
        self._best: dict[Hashable, list[Complete]] = {}

    def race(self, record: TrialRecord, controls: Controls) -> Race:
        """The race of a trial, with the trainings that have finished."""
        before = {Run(scenario.name, seed): _before(scenario.poison_rate) for scenario, seed in record.runs}
        race = Race(self.rules, self.group(record), before)
        for run, state in record.trainings.items():
            if state.status == FINISHED:
                race.ended[Run(*run)] = self.figures(record, run, controls)
        self.learn_controls(race, record, controls)
        return race

    def group(self, record: TrialRecord) -> Hashable:
        """What trials that are compared have in common: the environment, and the defense where defenses take turns."""
        return tuple((name, value) for name, value in sorted(record.searched.items()) if name in self._shared)

    def figures(self, record: TrialRecord, run: RunKey, controls: Controls) -> dict[str, Any]:
        """What objectives and constraints read of a finished training."""
        rate = next(s.poison_rate for s, seed in record.runs if (s.name, seed) == run)
        control = controls.get(record.controls[run], {})
        return {**record.final(run), "scenario": run[0], "poison_rate": rate, "control_asr": control.get("val_asr")}

    def learn_controls(self, race: Race, record: TrialRecord, controls: Controls) -> None:
        """Give a race the figures of the controls that have finished."""
        for run, key in record.controls.items():
            if key in controls:
                race.controls[Run(*run)] = controls[key]
                if Run(*run) in race.ended:
                    race.ended[Run(*run)] = self.figures(record, run, controls)

    def candidates(self, group: Hashable) -> list[Complete]:
        """Complete trials that no other dominates, of one group."""
        return self._best.get(group, [])

    def learn_training(self, scenario: str, figures: Row) -> None:
        """Note a training that finished, with the seconds that it took itself."""
        took = (figures.get("seconds") or 0.0) - (figures.get("seconds_shared") or 0.0)
        self.experience.add_training(scenario, float(took))

    def learn_end(self, record: TrialRecord, race: Race, controls: Controls) -> None:
        """Note a trial that ended; its trainings are noted already. Its controls have ended too."""
        if record.raced_out and record.ended_by is not None:
            self.experience.add_ending(record.ended_by)
        if record.status != FINISHED:
            return
        shown = {o.metric for o in self.rules.objectives if o.metric in BELOW_CONTROL}
        self.experience.add_complete({metric: race.distances(metric) for metric in shown})
        rows = list(race.ended.values())
        values = [objective.value(rows) for objective in self.rules.compared]
        known = [value for value in values if value is not None]
        kept = all(constraint.violation(rows) <= 0 for constraint in self.rules.constraints)
        if len(known) == len(values) and kept:
            self._add(race.group, Complete(record.trial_id, race.group, known))

    def relearn(self, records: Iterable[TrialRecord], controls: Controls) -> None:
        """Learn from the records of an earlier part of the sweep."""
        records = list(records)
        missing = open_controls(records)
        for record in records:
            if record.role == TRIAL and record.config is not None:
                race = self.race(record, controls)
                for run, figures in race.ended.items():
                    self.learn_training(run.scenario, figures)
                if not record.open and missing.isdisjoint(record.controls.values()):
                    self.learn_end(record, race, controls)

    def _add(self, group: Hashable, new: Complete) -> None:
        """Keep a complete trial, unless one is there that rules out all that it would."""
        known = self._best.setdefault(group, [])
        if any(self._rules_out_more(other, new) for other in known):
            return
        known[:] = [other for other in known if not self._rules_out_more(new, other)]
        known.append(new)

    def _rules_out_more(self, one: Complete, other: Complete) -> bool:
        pairs = zip(self.rules.compared, one.values, other.values, strict=True)
        return all(mine >= theirs if o.direction == "maximize" else mine <= theirs for o, mine, theirs in pairs)


def _axes(spec: SweepSpec) -> list[Objective]:
    """The axes of a defender's frontier that are no objectives of the sweep."""
    known = {objective.metric for objective in spec.objectives}
    axes = [Objective(metric="val_acc", direction="maximize"), Objective(metric="val_asr_excess", direction="minimize")]
    wanted = axes if any(map(_is_attack, spec.scenario_blocks)) else axes[:1]
    return [] if spec.attacking else [axis for axis in wanted if axis.metric not in known]


def _is_attack(block: Block) -> bool:
    """Whether a scenario poisons anything, at any of its rates."""
    rate = block.values.get("poison_rate", ScenarioConfig.poison_rate)
    return bool(max(rate.corners()) > 0 if isinstance(rate, Searched) else rate > 0)


def _before(poison_rate: float) -> dict[str, Any]:
    """What is known of a training before it: its rate, and without poison that figures of attacks are undefined."""
    undefined = dict.fromkeys(UNDER_ATTACK) if poison_rate == 0 else {}
    return {"poison_rate": poison_rate, **undefined}
