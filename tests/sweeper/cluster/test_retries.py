"""What becomes of trainings that broke off."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from sweeper.cluster.fleet import BAD_AFTER, Fleet
from sweeper.cluster.hosts import Host, Unusable
from sweeper.cluster.losses import OUT_OF_MEMORY
from sweeper.cluster.retries import LOST_AT_MOST, NO_WORD, Decision, Retries
from sweeper.run_folder.record import Training
from tests.sweeper.small import Hosts, record_of, spec_with
from trainers.storage.state_store import StateStore, new_attempt


def answering(unusable: Mapping[str, str]) -> Callable[[Sequence[Host]], Unusable]:
    """Hosts that tell at once which of them cannot load what trials run."""
    return lambda _: lambda: unusable


able = answering({})


def training_of(trial_id: str = "t0000", number: int = 0, seeds: int = 1) -> Training:
    """One of a trial's trainings, one for each seed."""
    record = record_of(trial_id, spec=spec_with(seeds=list(range(seeds))))
    return Training(record, list(record.trainings)[number])


def begun(folder: Path, training: Training, host: str, crash: str | None = None) -> tuple[Training, Path]:
    """A training that was handed out again, and began on a host."""
    training.state.attempt = new_attempt(folder)
    store = StateStore(folder, attempt=training.state.attempt)
    store.begin(host)
    if crash:
        store.note_crash(crash)
    return training, folder


def test_a_crash_is_retried_as_often_as_the_preset_says(tmp_path: Path) -> None:
    retries, training = Retries(2, Fleet({"CPU": 1}, Hosts("1"))), training_of()
    decisions = [retries.decide(*begun(tmp_path, training, "1", "MemoryError: no more")) for _ in range(3)]
    assert [d.again for d in decisions] == [True, True, False]
    assert {(d.reason, d.said) for d in decisions} == {("MemoryError: no more", None)}


def test_a_worker_that_died_on_a_host_that_lives_is_a_crash(tmp_path: Path) -> None:
    retries, training = Retries(1, Fleet({"CPU": 1}, Hosts("1"))), training_of()
    decisions = [retries.decide(*begun(tmp_path, training, "1")) for _ in range(2)]
    assert [(d.again, d.reason, d.said) for d in decisions] == [(True, NO_WORD, None), (False, NO_WORD, None)]


def test_a_lost_host_is_no_fault_of_its_trials_unless_it_happens_again_and_again(tmp_path: Path) -> None:
    there = Hosts("1", "2")
    fleet = Fleet({"CPU": 1}, there)
    fleet.room()
    retries, training = Retries(0, fleet), training_of()
    there.names = ["2"]
    decision = retries.decide(*begun(tmp_path, training, "1"))
    assert (decision.again, decision.said) == (True, "t0000 lost its host 10.0.0.1; it goes on elsewhere.")
    for _ in range(LOST_AT_MOST):
        decision = retries.decide(*begun(tmp_path, training, "1"))
    assert not decision.again
    assert decision.reason == f"It lost its host {LOST_AT_MOST + 1} times, the last time 10.0.0.1."


def test_a_trial_that_crashed_before_its_host_went_has_crashed(tmp_path: Path) -> None:
    there = Hosts("1", "2")
    fleet = Fleet({"CPU": 1}, there)
    fleet.room()
    there.names = ["2"]
    assert not Retries(0, fleet).decide(*begun(tmp_path, training_of(), "1", "ValueError: odd")).again


def test_what_is_avoided_is_said_with_its_reason(tmp_path: Path) -> None:
    fleet = Fleet({"CPU": 1}, Hosts("1", "2"))
    fleet.room()
    fleet.worked("2")
    retries = Retries(1, fleet)
    said = []
    for i in range(3):
        said.append(retries.decide(*begun(tmp_path / str(i), training_of(f"t000{i}"), "1", "OSError: no disk")).said)
        fleet.worked("2")
    assert said[-1] == "The host 10.0.0.1 is avoided from now on, since every training failed there: OSError: no disk"
    assert said[:-1] == [None, None]


def test_an_attempt_that_never_began_is_no_fault_of_its_trial_and_no_crash_of_the_one_before(tmp_path: Path) -> None:
    retries, training = Retries(0, Fleet({"CPU": 1}, Hosts("1"), able)), training_of()
    begun(tmp_path, training, "1", "ValueError: odd")
    for number in range(1, LOST_AT_MOST + 2):
        training.state.attempt = new_attempt(tmp_path)
        decision = decided(retries, training, tmp_path)
        assert decision.again == (number <= LOST_AT_MOST)
        told = "t0000 was cut off 3 times before it began; sweeper doctor may tell why."
        assert decision.said == (told if number == 3 else None)
    assert decision.reason == f"It was cut off {LOST_AT_MOST + 1} times before it began."


def decided(retries: Retries, training: Training, folder: Path) -> Decision:
    """The decision, where hosts have answered."""
    decision = retries.decide(training, folder)
    assert decision is not None
    return decision


def never_begins(retries: Retries, folder: Path) -> list[str | None]:
    """What is said when a trial is cut off before it begins, three times."""
    training, said = training_of(), []
    for _ in range(3):
        training.state.attempt = new_attempt(folder)
        said.append(decided(retries, training, folder).said)
    return said


def test_a_host_that_cannot_load_what_trials_run_is_avoided_and_named(tmp_path: Path) -> None:
    asked = []

    def load(among: Sequence[Host]) -> Unusable:
        asked.append([host.node_id for host in among])
        return lambda: {"2": "ImportError: libcudart.so.12"}

    fleet = Fleet({"CPU": 1}, Hosts("1", "2"), load)
    said = never_begins(Retries(0, fleet), tmp_path)
    assert said[:-1] == [None, None]
    assert said[-1] == (
        "The host 10.0.0.2 is avoided from now on, since it cannot load the trials' program: "
        "ImportError: libcudart.so.12"
    )
    assert asked == [["1", "2"]]
    assert fleet.room() == 2
    assert Retries(0, fleet).avoided_by(training_of("t0001")) == ["2"]


def test_of_two_trials_that_ask_at_once_one_tells_what_the_hosts_said(tmp_path: Path) -> None:
    answers: list[Mapping[str, str]] = []
    fleet = Fleet({"CPU": 1}, Hosts("1", "2"), lambda _: lambda: answers[0] if answers else None)
    retries = Retries(0, fleet)
    trainings = [training_of(f"t000{number}") for number in range(2)]
    for _ in range(3):
        for training in trainings:
            training.state.attempt = new_attempt(tmp_path / training.name)
            decision = retries.decide(training, tmp_path / training.name)
    assert decision is None, "nothing waits for the hosts"
    answers.append({"2": "ImportError: odd"})
    said = [decided(retries, training, tmp_path / training.name).said for training in trainings]
    assert [text and text.partition(" is avoided")[0] for text in said] == ["The host 10.0.0.2", None]


def test_a_host_that_went_when_it_was_asked_is_not_blamed(tmp_path: Path) -> None:
    there = Hosts("1", "2", "3")

    def load(_: Sequence[Host]) -> Unusable:
        there.names = ["2", "3"]
        return lambda: {"1": "The node died.", "2": "ImportError: odd"}

    fleet = Fleet({"CPU": 1}, there, load)
    fleet.room()
    assert "10.0.0.1" not in str(never_begins(Retries(0, fleet), tmp_path)[-1])
    assert fleet.avoided == {"2": "ImportError: odd"}


@pytest.mark.parametrize("unusable", [{}, {"1": "ImportError: odd", "2": "ImportError: odd"}])
def test_where_every_host_can_or_none_can_none_is_avoided(tmp_path: Path, unusable: dict[str, str]) -> None:
    fleet = Fleet({"CPU": 1}, Hosts("1", "2"), answering(unusable))
    said = never_begins(Retries(0, fleet), tmp_path)
    assert said[-1] == "t0000 was cut off 3 times before it began; sweeper doctor may tell why."
    assert fleet.avoided == {}


def test_lost_hosts_do_not_count_as_attempts_that_never_began(tmp_path: Path) -> None:
    there = Hosts("1", "2")
    fleet = Fleet({"CPU": 1}, there, able)
    fleet.room()
    retries, training = Retries(0, fleet), training_of()
    there.names = ["2"]
    for _ in range(3):
        retries.decide(*begun(tmp_path, training, "1"))
    assert never_begins(retries, tmp_path) == [
        None,
        None,
        "t0000 was cut off 3 times before it began; sweeper doctor may tell why.",
    ]


def test_a_trial_keeps_away_from_where_it_crashed_if_enough_others_are_left(tmp_path: Path) -> None:
    there = Hosts("1", "2", "3")
    retries, training = Retries(2, Fleet({"CPU": 1}, there)), training_of()
    assert retries.avoided_by(training) == []
    retries.decide(*begun(tmp_path, training, "1", "OSError: no disk"))
    assert retries.avoided_by(training) == ["1"]
    assert retries.avoided_by(training_of("t0001")) == []
    retries.crashed(training, "2", "OSError: no disk")
    assert retries.avoided_by(training) == []  # one other host alone is left


def test_trainings_of_one_trial_are_counted_each_for_itself_and_named(tmp_path: Path) -> None:
    there = Hosts("1", "2", "3")
    fleet = Fleet({"CPU": 1}, there)
    fleet.room()
    retries = Retries(1, fleet)
    first, second = (training_of(number=number, seeds=2) for number in range(2))
    for training in (first, second):
        assert retries.decide(*begun(tmp_path / training.name, training, "1", "OSError: no disk")).again
    assert not retries.decide(*begun(tmp_path / first.name, first, "2", "OSError: no disk")).again
    assert (retries.avoided_by(first), retries.avoided_by(second)) == ([], ["1"]), "the first has one host left"
    there.names = ["2", "3"]
    said = retries.decide(*begun(tmp_path / second.name, second, "1")).said
    assert said == "t0000 (badnets, seed 1) lost its host 10.0.0.1; it goes on elsewhere."


def test_a_trial_whose_trainings_all_crash_is_no_hosts_fault(tmp_path: Path) -> None:
    fleet = Fleet({"CPU": 1}, Hosts("1", "2"))
    fleet.room()
    retries = Retries(0, fleet)
    for number in range(BAD_AFTER + 1):
        training = training_of(number=number, seeds=BAD_AFTER + 1)
        retries.decide(*begun(tmp_path / training.name, training, "1", "OSError: odd"))
        fleet.worked("2")
    assert fleet.avoided == {}


def test_a_host_that_is_not_fit_is_avoided_in_the_end(tmp_path: Path) -> None:
    fleet = Fleet({"CPU": 1}, Hosts("1", "2"))
    fleet.room()
    retries = Retries(0, fleet)
    decisions = []
    for i in range(3):
        decisions.append(retries.unusable(training_of(f"t000{i}"), "1", "It runs another version."))
        fleet.worked("2")
    assert all(decision.again for decision in decisions)  # it costs no retry
    assert [decision.said for decision in decisions[:2]] == [
        "The host 10.0.0.1 is not fit for t0000, which goes elsewhere: It runs another version.", None,
    ]  # fmt: skip
    assert retries.avoided_by(training_of("t0000")) == ["1"]
    assert decisions[-1].said == (
        "The host 10.0.0.1 is avoided from now on, since every training failed there: It runs another version."
    )
    assert retries.avoided_by(training_of("t0009")) == ["1"]


def test_a_host_that_is_not_fit_is_left_at_once_and_where_no_other_is_left_the_trial_fails(tmp_path: Path) -> None:
    retries, training = Retries(1, Fleet({"CPU": 1}, Hosts("1", "2"))), training_of()
    assert retries.unusable(training, "1", "It runs another version.").again
    assert retries.avoided_by(training) == ["1"]
    decisions = [retries.unusable(training, "2", "It does not see the folder.") for _ in range(2)]
    assert [decision.again for decision in decisions] == [True, False]
    assert decisions[-1].reason == "It does not see the folder."
    assert retries.avoided_by(training) == []


MEMORY = f"Ray's memory monitor ended its worker. {OUT_OF_MEMORY}"


def test_a_worker_that_ray_ended_for_its_memory_is_told_so_at_once_and_no_host_is_asked(tmp_path: Path) -> None:
    fleet = Fleet({"CPU": 1}, Hosts("1"), lambda _: pytest.fail("hosts were asked"))
    retries, training = Retries(1, fleet), training_of()
    decisions = []
    for _ in range(LOST_AT_MOST + 1):
        training.state.attempt = new_attempt(tmp_path)
        decisions.append(retries.decide(training, tmp_path, MEMORY))
    assert [d.said for d in decisions if d.said] == [f"t0000 was cut off before it began. {MEMORY}."]
    assert [d.again for d in decisions] == [True] * LOST_AT_MOST + [False]
    assert decisions[-1].reason == f"It was cut off {LOST_AT_MOST + 1} times before it began. {MEMORY}."


def test_one_that_had_begun_has_crashed_with_that_reason_whatever_becomes_of_its_host(tmp_path: Path) -> None:
    there = Hosts("1", "2")
    fleet = Fleet({"CPU": 1}, there)
    fleet.room()
    there.names = ["2"]
    decision = Retries(0, fleet).decide(*begun(tmp_path, training_of(), "1"), MEMORY)
    assert (decision.again, decision.reason) == (False, f"{MEMORY}.")


def test_what_ray_says_of_another_end_stands_beside_it(tmp_path: Path) -> None:
    word = "Worker unexpectedly exits with a connection error code 2. End of file"
    retries = Retries(0, Fleet({"CPU": 1}, Hosts("1"), able))
    decision = retries.decide(*begun(tmp_path / "a", training_of(), "1"), word)
    assert decision.reason == f"The worker died without a word; Ray says: {word}."
    training = training_of("t0001")
    for _ in range(3):
        training.state.attempt = new_attempt(tmp_path / "b")
        decision = retries.decide(training, tmp_path / "b", word)
    assert decision.said == (
        f"t0001 was cut off 3 times before it began; sweeper doctor may tell why. Ray says: {word}."
    )
    assert decision.reason == f"It was cut off 3 times before it began. Ray says: {word}."
