"""Trunks of a sweep: who trains them, who waits, and when they go; without a training."""

from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.exceptions import ExperimentalWarning

from sweeper.preset.spec import SweepSpec
from sweeper.run_folder.record import CONTROL, FAILED, FINISHED, PRUNED, Training, TrialRecord
from sweeper.search.branching import fork_of
from sweeper.search.gain import WAITING
from sweeper.search.trunks import Trunks
from tests.sweeper.search.in_memory import TWO, Sweep
from tests.sweeper.search.in_memory import run as run_all
from tests.sweeper.small import ONE_SETTING, make_objectives, spec_with

pytestmark = pytest.mark.filterwarnings("ignore", category=ExperimentalWarning)

LATE = {"late_weight": {"float": [0.1, 1]}}
EARLY = {"threshold": {"float": [0.1, 0.5]}}
BCU = {"name": "bcu", "training_epochs": 1, "batch_size": 64, "lr": 0.05, "head_ratio": {"float": [0.1, 0.5]}}


def spec_of(
    defense: Any = None, trials: int = 8, branches: int = 4, seeds: Sequence[int] = (0,), **search: Any
) -> SweepSpec:
    return spec_with(
        defense=defense or ONE_SETTING | EARLY | LATE,
        scenarios=TWO,
        seeds=list(seeds),
        search={"sampler": "random", "trials": trials, "branches": branches, **search},
    )


class Places:
    """Runs a sweep in a number of places, as workers do: it notes what each training finds of its trunk.

    Args:
        sweep: which.
        places: trainings at a time.
        seed: of the order in which trainings end.
    """

    def __init__(self, sweep: Sweep, places: int = 1, seed: int = 0):
        self.sweep, self.places, self.random = sweep, places, Random(seed)
        self.files: set[str] = set()
        self.lost: set[str] = set()
        self.trained: Counter[str] = Counter()
        """How often each trunk was trained."""
        self.most_files = 0
        self.running: list[tuple[Training, str | None, bool]] = []
        """Each with its trunk, and whether it has passed it."""

    def fill(self) -> None:
        while len(self.running) < self.places and (training := self.sweep.agenda.next()) is not None:
            training.state.attempt += 1
            trunk = self.sweep.agenda.trunk_of(training)
            file = None if trunk is None else trunk.file
            there = file in self.files
            if file is not None and not there:
                self.trained[file] += 1
                others = [other for _, other, passed in self.running if not passed]
                assert file not in others or file in self.lost, "it is being trained"
            self.running.append((training, file, False))
            if there:
                self.pass_trunk(len(self.running) - 1)

    def pass_trunk(self, place: int, is_kept: bool = True) -> None:
        training, file, _ = self.running[place]
        if file is not None:
            (self.files if is_kept else self.lost).add(file)
            self.running[place] = (training, file, True)
            self.sweep.agenda.trunk_passed(training, is_kept)
            self.remove()

    def remove(self) -> None:
        for file in self.sweep.book.removed:
            assert file in self.files
            self.files.discard(file)
        self.sweep.book.removed.clear()
        self.most_files = max(self.most_files, len(self.files))

    def end(self, place: int) -> None:
        if not self.running[place][2]:
            self.pass_trunk(place)
        training, _, _ = self.running.pop(place)
        for stopped in self.sweep.finish(training):
            self.running = [other for other in self.running if other[0] is not stopped]
        self.remove()

    def run(self) -> None:
        self.fill()
        while self.running:
            self.end(self.random.randrange(len(self.running)))
            self.fill()
        assert self.sweep.agenda.is_done


def trials(sweep: Sweep) -> list[TrialRecord]:
    return [record for record in sweep.book.records.values() if record.role != CONTROL]


def values(sweep: Sweep, name: str) -> list[Any]:
    return [record.searched[name] for record in trials(sweep)]


@pytest.mark.parametrize("places", [1, 2, 5, 20])
def test_each_trunk_is_trained_once(places: int) -> None:
    sweep = Sweep(spec_of(race="off"))
    run = Places(sweep, places)
    run.run()
    assert Counter(values(sweep, "vab.threshold")).most_common() == [
        (v, 4) for v in dict.fromkeys(values(sweep, "vab.threshold"))
    ]
    assert len(set(values(sweep, "vab.late_weight"))) == 8
    assert sorted(run.trained.values()) == [1] * 4, "two groups against two attackers"
    assert run.files == set(), "nothing is left"
    assert [record.status for record in trials(sweep)] == [FINISHED] * 8


def test_without_branches_nothing_is_shared() -> None:
    sweep = Sweep(spec_of(branches=1))
    run = Places(sweep, 3)
    run.run()
    assert not run.trained
    assert len(set(values(sweep, "vab.threshold"))) == 8


def test_a_sibling_takes_another_scenario_while_its_trunk_is_trained() -> None:
    sweep = Sweep(spec_of(race="off"))
    sweep.skip_controls(2)
    begun = sweep.begin(3)
    assert [(t.record.trial_id, t.run[0]) for t in begun] == [
        ("t0000", "badnets"), ("t0001", "blend"), ("t0004", "badnets"),
    ]  # fmt: skip


def test_the_second_waits_until_the_trunk_is_kept() -> None:
    spec = spec_with(defense=ONE_SETTING | LATE, search={"sampler": "random", "trials": 2, "branches": 2})
    sweep = Sweep(spec)
    sweep.skip_controls(1)
    (first,) = sweep.begin()
    assert sweep.agenda.next() is None
    sweep.agenda.trunk_passed(first, True)
    (second,) = sweep.begin()
    assert (second.record.trial_id, sweep.book.removed) == ("t0001", [])
    sweep.finish(first)
    assert sweep.book.removed == []
    sweep.finish(second)
    assert len(sweep.book.removed) == 1


@pytest.mark.parametrize(("late", "wait"), [(LATE, 2 * WAITING), ({}, WAITING)], ids=["shared", "ignored"])
def test_races_wait_by_groups(late: dict[str, Any], wait: int) -> None:
    """Before one goes on, as many of each group as share a trunk have shown what they are."""
    spec = spec_of(ONE_SETTING | EARLY | late, trials=2 * WAITING + 4, branches=2, race="bounds", interest=1.0)
    sweep = Sweep(spec)
    finished = [name for name in run_all(sweep, figures=lambda _: {"val_asr": 0.1}) if name.startswith("t")]
    first = [f"t{number:04d}" for number in range(wait)]
    assert [name[:5] for name in finished[: wait + 1]] == [*first, "t0000"]


@pytest.mark.parametrize("end", [FAILED, PRUNED])
def test_if_whoever_trains_a_trunk_ends_the_next_one_trains_it(end: str) -> None:
    sweep = Sweep(spec_with(defense=ONE_SETTING | LATE, search={"sampler": "random", "trials": 3, "branches": 3}))
    sweep.skip_controls(1)
    (first,) = sweep.begin()
    assert sweep.agenda.next() is None
    sweep.agenda.ended(first, end, "why")
    (second,) = sweep.begin()
    assert second.record.trial_id == "t0001"
    assert sweep.agenda.next() is None, "and the third waits for the second"


def test_one_that_broke_off_is_waited_for_until_it_ends() -> None:
    sweep = Sweep(spec_with(defense=ONE_SETTING | LATE, search={"sampler": "random", "trials": 2, "branches": 2}))
    sweep.skip_controls(1)
    (first,) = sweep.begin()
    sweep.agenda.again(first)
    (again,) = sweep.begin()
    assert again is first
    assert sweep.agenda.next() is None
    sweep.agenda.trunk_passed(first, True)
    assert sweep.begin()[0].record.trial_id == "t0001"


def test_where_the_disk_is_full_nobody_waits() -> None:
    sweep = Sweep(spec_with(defense=ONE_SETTING | LATE, search={"sampler": "random", "trials": 3, "branches": 3}))
    sweep.skip_controls(1)
    (first,) = sweep.begin()
    sweep.agenda.trunk_passed(first, False)
    assert len(sweep.begin(2)) == 2


def test_where_every_setting_has_the_same_trunk_it_is_kept_until_the_end() -> None:
    sweep = Sweep(spec_of(ONE_SETTING | LATE, race="off"))
    run = Places(sweep, 2)
    run.run()
    assert sorted(run.trained.values()) == [1, 1]
    assert (run.most_files, run.files) == (2, set())


def test_settings_of_a_group_are_few_where_their_choices_are() -> None:
    """Two late values: the third and fourth setting of a group begin another trunk."""
    few = {"suppression": {"categorical": ["both", "none"]}}
    sweep = Sweep(spec_of(ONE_SETTING | EARLY | few, race="off"))
    run = Places(sweep)
    run.run()
    assert [count for _, count in Counter(values(sweep, "vab.threshold")).items()] == [2] * 4
    assert sorted(run.trained.values()) == [1] * 8


def test_a_control_is_the_trunk_of_what_begins_with_it() -> None:
    sweep = Sweep(spec_of(BCU, trials=3, branches=1, race="off"))
    run = Places(sweep, 4)
    run.fill()
    assert [training.record.role for training, _, _ in run.running] == [CONTROL, CONTROL]
    run.run()
    assert sorted(run.trained.values()) == [1, 1]


def test_another_undefended_training_is_no_control() -> None:
    sweep = Sweep(spec_of(BCU | {"lr": 0.01}, trials=3, branches=1))
    run = Places(sweep, 4)
    run.run()
    assert not run.trained


def test_confirmations_share_nothing() -> None:
    sweep = Sweep(spec_of(BCU, trials=1, branches=1, race="off"))
    Places(sweep, 2).run()
    again = Sweep(spec_of(BCU, trials=1, branches=1), sweep.book.written())
    config = trials(sweep)[0].config
    assert config is not None
    again.agenda.add(TrialRecord("k0000", "confirmation", config, dict(trials(sweep)[0].controls)))
    (training,) = again.begin()
    assert again.agenda.trunk_of(training) is None


def test_defenses_and_attackers_are_dealt_by_trunk() -> None:
    vab = ONE_SETTING | EARLY | LATE
    pt = {"name": "pt", "partial_epochs": 2, "isolation_rate": {"float": [0.05, 0.2]}, "lr": {"float": [0.01, 0.1]}}
    rates = [{"attack": "badnets", "poison_rate": {"categorical": [0.1, 0.2]}}]
    spec = spec_with(
        defense=[vab, pt], scenarios=rates,
        search={"sampler": "tpe", "trials": 16, "branches": 2, "defenses": "turns"},
    )  # fmt: skip
    sweep = Sweep(spec)
    run = Places(sweep, 3)
    run.run()
    shown = [
        (record.config.defense, record.searched["badnets.poison_rate"]) for record in trials(sweep) if record.config
    ]
    assert shown == [pair for rate in (0.1, 0.2) for pair in [("vab", rate)] * 2 + [("pt", rate)] * 2] * 2
    early = defaultdict(set)
    for number, record in enumerate(trials(sweep)):
        name = "vab.threshold" if "vab.threshold" in record.searched else "pt.isolation_rate"
        early[number // 2].add((name, record.searched[name]))
    assert [len(own) for own in early.values()] == [1] * 8
    assert set(run.trained.values()) == {1}


def test_a_trunk_that_is_gone_is_trained_by_the_next() -> None:
    sweep = Sweep(spec_with(defense=ONE_SETTING | LATE, search={"sampler": "random", "trials": 3, "branches": 3}))
    sweep.skip_controls(1)
    (first,) = sweep.begin()
    sweep.agenda.trunk_gone(first)
    (second,) = sweep.begin()
    assert sweep.agenda.next() is None, "the third waits for the second"
    sweep.agenda.trunk_passed(second, True)
    assert len(sweep.begin()) == 1


def test_settings_of_a_group_part_where_its_first_one_does() -> None:
    """Alone, a setting with a long second stage would part after it: it shares what the first of its group shares."""
    pt = {
        "name": "pt", "partial_epochs": 30, "finetune_epochs": 1,
        "clean_epochs": {"categorical": [5, 100]}, "unlearning_weight": {"categorical": [0.1, 0.2]},
    }  # fmt: skip
    sweep = Sweep(spec_of(pt, trials=4, race="off"))
    run = Places(sweep)
    run.run()
    forks = {fork_of(sweep.spec, record.config).stages for record in trials(sweep) if record.config}
    assert forks == {1, 2}
    by_first = len({record.config.params["clean_epochs"] for record in trials(sweep) if record.config})
    assert sorted(run.trained.values()) == [1] * (2 if by_first == 2 else 4)


def test_a_training_that_ends_with_its_trunk_shares_none() -> None:
    pt = {"name": "pt", "partial_epochs": 2, "score_epochs": 1, "clean_epochs": 2}
    late = {"finetune_epochs": {"categorical": [0, 2]}, "unlearning_weight": {"float": [0.1, 0.2]}}
    sweep = Sweep(spec_of(pt | late, trials=8, race="off"))
    Places(sweep).run()
    trunks = Trunks(sweep.spec)
    shares = {
        (record.config.params["finetune_epochs"], trunks.of(Training(record, ("badnets", 0))) is not None)
        for record in trials(sweep)
        if record.config
    }
    assert shares == {(0, False), (2, True)}


def test_the_controls_of_an_attackers_sweep_are_kept_for_their_own_trial() -> None:
    fixed = {"name": "bcu", "training_epochs": 1, "batch_size": 64, "lr": 0.05}
    blend = {"attack": "blend", "alpha": {"float": [0.1, 0.5]}}
    spec = spec_with(
        defense=fixed, scenarios=[blend], objectives=make_objectives(("val_asr", "maximize")),
        search={"sampler": "random", "trials": 6},
    )  # fmt: skip
    sweep = Sweep(spec)
    run = Places(sweep, 2)
    run.run()
    assert len(run.trained) == 6
    assert run.most_files <= 2
    assert run.files == set()


def test_the_points_of_a_grid_with_one_trunk_are_beside_each_other() -> None:
    grid = {"threshold": {"categorical": [0.1, 0.2, 0.3]}, "temperature": {"categorical": [1.0, 2.0, 3.0]}}
    sweep = Sweep(spec_of(ONE_SETTING | grid, trials=9, branches=3, sampler="grid", race="off"))
    run = Places(sweep, 2)
    run.run()
    assert len(trials(sweep)) == 9
    groups = [values(sweep, "vab.threshold")[k : k + 3] for k in (0, 3, 6)]
    assert sorted(group[0] for group in groups) == [0.1, 0.2, 0.3]
    assert all(len(set(group)) == 1 for group in groups)
    assert sorted(run.trained.values()) == [1] * 6


@pytest.mark.parametrize("ended", [0, 3, 6, 9, 12])
def test_a_resumed_sweep_goes_on_with_its_groups(ended: int) -> None:
    spec = spec_of(race="off")
    sweep = Sweep(spec)
    run = Places(sweep, 2, seed=ended)
    run.fill()
    for _ in range(ended):
        run.end(run.random.randrange(len(run.running)))
        run.fill()
    sweep.agenda.abandon("stopped")
    again = Sweep(spec, sweep.book.written())
    more = Places(again, 2)
    more.files = run.files & again.agenda.trunks_needed()
    more.run()
    assert len(trials(again)) == 8
    thresholds = {record.trial_id: record.searched["vab.threshold"] for record in trials(again)}
    ordered = [thresholds[f"t{number:04d}"] for number in range(8)]
    assert (len(set(ordered[:4])), len(set(ordered[4:]))) == (1, 1)
    assert len({record.searched["vab.late_weight"] for record in trials(again)}) == 8
    assert more.files == set()
    assert set(more.trained.values()) <= {1}


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 5), st.sampled_from(["off", "bounds", "learned"]))
def test_whatever_breaks_off_every_trial_ends_once(seed: int, places: int, branches: int, race: str) -> None:
    """Trainings fail, are retried, are stopped by races; trunks are lost: nothing is stuck, and no file is left."""
    random = Random(seed)
    sweep = Sweep(spec_of(trials=10, branches=branches, seeds=(0, 1), race=race, interest=0.3))
    run = Places(sweep, places, seed)
    again: deque[Training] = deque()
    for _ in range(1000):
        run.fill()
        if not run.running:
            break
        place = random.randrange(len(run.running))
        training, _, passed = run.running[place]
        what = random.random()
        if what < 0.2 and not passed:
            run.pass_trunk(place, is_kept=random.random() < 0.8)
        elif what < 0.3:
            run.running.pop(place)
            sweep.agenda.again(training)
            again.append(training)
        elif what < 0.35 and training.record.role != CONTROL:
            run.running.pop(place)
            stopped = sweep.agenda.ended(training, FAILED, "it crashed")
            run.running = [other for other in run.running if other[0] not in stopped]
            run.remove()
        else:
            if not passed:
                run.pass_trunk(place)
            training, _, _ = run.running.pop(place)
            stopped = sweep.finish(training, val_asr=random.random())
            run.running = [other for other in run.running if other[0] not in stopped]
            run.remove()
    assert sweep.agenda.is_done
    assert run.files == set()
    assert len(trials(sweep)) == 10
    assert sorted(sweep.book.announced) == sorted(sweep.book.records)
