"""What a sweep is made of; sweeps that run are in tests/sweeper/sweeps."""

import time
from collections.abc import Callable, Iterator, Mapping, ValuesView
from contextlib import contextmanager
from errno import ENOSPC
from functools import partial
from pathlib import Path
from types import MappingProxyType, SimpleNamespace

import pytest

from sweeper.run_folder.errors import SweepBroken
from sweeper.run_folder.folder import RunFolder
from sweeper.run_folder.record import FAILED, PRUNED, TrialRecord
from sweeper.run_folder.tables import as_rows
from sweeper.running import driver, watchdog
from sweeper.running.driver import Outcome, Plan, _request, run_sweep
from sweeper.running.ledger import Ledger
from sweeper.running.searcher import SweepSearcher
from sweeper.running.stopper import SweepStopper
from sweeper.running.watchdog import Watchdog
from tests.sweeper.small import colours, finish, record_of, roomy, spec_with, sweep_with
from trainers.data import Splits
from trainers.errors import ConfigError


def test_an_outcome_counts_trials_and_no_controls() -> None:
    failed, cut, pruned, out = (record_of(f"t000{number}") for number in (1, 2, 3, 4))
    failed.end(FAILED, "The loss is nan.")
    cut.end(FAILED, "Not finished: the sweep was interrupted.", interrupted=True)
    pruned.end(PRUNED)
    out.ended_by = "badnets"
    out.end(PRUNED, "t0003 is at least as good, whatever the missing trainings give")
    control = record_of("c0001", "control")
    control.end(FAILED, "odd")
    records = [finish(record_of("c0000", "control")), control, finish(record_of("t0000")), failed, cut, pruned, out,
               finish(record_of("k0000", "confirmation"))]  # fmt: skip
    assert Outcome.of(records, "the time budget ended") == Outcome(
        3, ["t0001: The loss is nan."], "the time budget ended"
    )


def test_a_plan_is_done_when_every_trial_and_control_has_ended() -> None:
    ended = {record.trial_id: finish(record) for record in (record_of("c0000", "control"), record_of())}
    assert Plan(1, ended).is_done
    assert not Plan(2, ended).is_done
    assert not Plan(1, ended, [record_of("k0000", "confirmation")]).is_done
    assert not Plan(1, ended | {"c0001": record_of("c0001", "control")}).is_done


def test_what_is_done_is_written_again_without_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder_states = tmp_path / "states"
    (folder_states / "t0000-0").mkdir(parents=True)
    monkeypatch.setattr(driver, "ray_runtime", lambda: pytest.fail("Ray was started"))
    records = {"t0000": finish(record_of())}
    folder, said = RunFolder(tmp_path), []
    outcome = run_sweep(spec_with(), {}, None, Ledger(folder, records), Plan(1, records), said.append)
    more = f"sweeper resume {tmp_path} --trials N"
    assert outcome.finished == 1
    assert not folder_states.exists(), "a driver that was killed may have left them"
    assert said == [f"Every trial has ended; nothing is left to run. For more trials, N in all: {more}"]
    assert folder.read_trials()["trial_id"].tolist() == ["t0000"]
    assert folder.study.exists()


def test_what_is_done_and_cannot_be_written_again_is_a_broken_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = {"t0000": finish(record_of())}
    ledger = Ledger(RunFolder(tmp_path), records)

    def full(*_: object) -> None:
        raise OSError(ENOSPC, "No space left on device")

    monkeypatch.setattr(ledger.folder, "write_tables", full)
    with pytest.raises(SweepBroken, match="cannot be written any more: No space left on device"):
        run_sweep(spec_with(), {}, None, ledger, Plan(1, records), print)


def test_a_job_asks_for_any_host_but_those_it_avoids() -> None:
    wanted = {"CPU": 2.0, "GPU": 0.5}
    assert _request(wanted, {"job": "..."}).bundles == [wanted]
    avoiding = _request(wanted, {"job": "...", "avoid": ["a", "b"]})
    assert avoiding.bundles == [wanted]
    assert avoiding._kwargs["bundle_label_selector"] == [{"ray.io/node-id": "!in(a,b)"}]


@pytest.mark.parametrize(("finished", "code"), [(0, 1), (1, 0)])
def test_where_ray_does_not_end_the_program_does_with_what_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finished: int, code: int
) -> None:
    codes, said = [], []
    monkeypatch.setattr(driver.os, "_exit", codes.append)
    ledger = Ledger(RunFolder(tmp_path), {})
    for record in [finish(record_of()), record_of("t0001")][1 - finished :]:
        ledger.add(record)
    driver._give_up(ledger, said.append, "the sweep was interrupted")
    assert codes == [code]
    assert said == [
        "Ray does not end, though the sweep was interrupted. Ended trials are kept; to continue: "
        f"sweeper resume {tmp_path}"
    ]
    assert len(ledger.folder.read_trials()) == 1 + finished
    monkeypatch.setattr(ledger, "write_tables", lambda: (_ for _ in ()).throw(OSError("the disk is full")))
    driver._give_up(ledger, said.append, "the sweep was interrupted")
    assert codes == [code, code], "whatever else goes wrong"
    assert len(said) == 2, "tables that cannot be written keep nothing from being said"


def test_the_program_ends_though_records_change_at_this_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the watchdog's thread that ends it."""
    codes = []
    monkeypatch.setattr(driver.os, "_exit", codes.append)

    class Changing(dict[str, TrialRecord]):
        def values(self) -> ValuesView[TrialRecord]:
            raise RuntimeError("dictionary changed size during iteration")

    ledger = Ledger(RunFolder(tmp_path), {})
    ledger.records = Changing()
    driver._give_up(ledger, lambda _: None, "the sweep was interrupted")
    assert codes == [1]


class Ray:
    """Stands for Ray, which loses its processes while it ends.

    Args:
        fit: runs the trials.
        ends_in_s: seconds until it has ended.
    """

    def __init__(self, fit: Callable[[SweepSearcher, SweepStopper], None], ends_in_s: float = 0.1):
        self.fit = fit
        self.ends_in_s = ends_in_s
        self.lost: list[str] = []
        self.given_up: list[str] = []

    @contextmanager
    def runtime(self) -> Iterator[bool]:
        try:
            yield False
        finally:
            self.lost.append("raylet")
            time.sleep(self.ends_in_s)

    def sweep(
        self, patch: pytest.MonkeyPatch, folder: Path, records: Mapping[str, TrialRecord] = MappingProxyType({})
    ) -> Outcome:
        """A sweep of one trial; Ray is given 0.1 s to end."""
        for name in ("await_room", "check_hosts", "end_trials_alone", "keep_keys", "listen_to_losses"):
            patch.setattr(driver, name, lambda *_: None)
        patch.setattr(driver, "ray_runtime", self.runtime)
        patch.setattr(driver, "lost_daemon", lambda: self.lost[0] if self.lost else None)
        patch.setattr(driver, "Fleet", lambda *_, **__: roomy())
        patch.setattr(driver, "_tuner", lambda *given: SimpleNamespace(fit=lambda: self.fit(given[3], given[4])))
        patch.setattr(driver, "_give_up", lambda _ledger, _say, reason: self.given_up.append(reason))
        patch.setattr(driver, "Watchdog", partial(Watchdog, patience_s=0.1))
        patch.setattr(watchdog, "EVERY_S", 0.01)
        data = Splits(colours(40), colours(20))
        return run_sweep(spec_with(), sweep_with(), data, Ledger(RunFolder(folder), records), Plan(1, records), print)


def test_ray_that_ends_misses_none_of_its_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = Ray(lambda *_: None)
    assert ray.sweep(monkeypatch, tmp_path) == Outcome(0, [], None)
    assert ray.lost == ["raylet"]


def interrupted(searcher: SweepSearcher, stopper: SweepStopper) -> None:
    """A trial is handed out, and Ctrl-C ends the sweep."""
    searcher.suggest("ray-0")
    stopper.stop_in_haste("the sweep was interrupted")


def test_a_disk_that_is_slow_when_the_user_ends_a_sweep_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken_off(searcher: SweepSearcher, stopper: SweepStopper) -> None:
        interrupted(searcher, stopper)
        searcher.on_trial_complete("ray-0", {"error": "odd"})  # written while Ray still runs

    monkeypatch.setattr(RunFolder, "write_tables", lambda *_: time.sleep(0.3))
    for number, fit in enumerate((interrupted, broken_off)):
        ray = Ray(fit, ends_in_s=0.0)
        outcome = ray.sweep(monkeypatch, tmp_path / str(number))
        assert (outcome.interrupted, ray.given_up) == ("the sweep was interrupted", [])
        assert outcome.in_haste


def test_states_of_what_was_interrupted_outlast_an_end_before_it_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = record_of()
    cut.end(FAILED, "Not finished: the sweep was interrupted.", interrupted=True)
    ray = Ray(lambda _searcher, stopper: stopper.stop("the sweep was interrupted"), ends_in_s=0.0)
    folder = RunFolder(tmp_path)
    folder.write_record(cut)
    state = tmp_path / "states" / "t0000-0" / "run-0.1.safetensors"
    state.parent.mkdir(parents=True)
    state.write_bytes(b"x")
    outcome = ray.sweep(monkeypatch, tmp_path, {"t0000": cut})
    assert outcome.interrupted == "the sweep was interrupted"
    assert state.exists()
    rows = as_rows(folder.read_trials())
    assert [(row["trial_id"], row["trial_status"]) for row in rows if row["role"] == "trial"] == [("t0000", FAILED)]


def test_ray_that_does_not_end_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(searcher: SweepSearcher, stopper: SweepStopper) -> None:
        interrupted(searcher, stopper)
        searcher.ledger.give_up(OSError(ENOSPC, "No space left on device"))

    ray = Ray(interrupted, ends_in_s=0.4)
    assert ray.sweep(monkeypatch, tmp_path / "a").interrupted == "the sweep was interrupted"
    assert ray.given_up == ["the sweep was interrupted"]
    ray = Ray(broken, ends_in_s=0.4)
    with pytest.raises(SweepBroken):
        ray.sweep(monkeypatch, tmp_path / "b")
    assert ray.given_up == ["the sweep was interrupted"]


def test_no_place_for_temporary_files_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> str:
        raise OSError(ENOSPC, "No space left on device")

    monkeypatch.setattr(driver.tempfile, "mkdtemp", full)
    with pytest.raises(ConfigError, match=r"^No temporary folder can be made \(No space left on device\); set TMPDIR"):
        driver._scratch_folder()
