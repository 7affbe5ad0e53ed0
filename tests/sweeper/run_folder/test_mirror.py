"""A run folder and its copy in an object store."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sweeper import launch
from sweeper.run_folder import mirror
from sweeper.run_folder.folder import RunFolder
from sweeper.run_folder.mirror import Mirror, copy_results, fetch, mirrored
from sweeper.run_folder.record import FINISHED, RUNNING, TrialRecord
from sweeper.running.driver import Outcome
from sweeper.running.ledger import Ledger
from tests.sweeper.cli.calls import call, sentence, sweep_at, write_preset
from tests.sweeper.small import control_row, finish, fresh_store, record_of, row_with, write_rows
from trainers.errors import ConfigError
from trainers.storage.object_store import ObjectPath


@pytest.fixture
def store(s3: str, tmp_path: Path) -> ObjectPath:
    return ObjectPath(f"{s3}/{tmp_path.name}/run")


def wait_for(there: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not there():
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.fixture
def folder(store: ObjectPath, tmp_path: Path) -> RunFolder:
    return RunFolder(sweep_at(tmp_path / "run"), store)


def test_what_lasts_is_copied_and_nothing_else(folder: RunFolder, store: ObjectPath) -> None:
    for name in ("records/t0000.json", "scores/t0000-badnets-0.parquet", "records/.beside-x.json", "study.db-journal",
                 "live.json"):  # fmt: skip
        (folder.path / name).parent.mkdir(exist_ok=True)
        (folder.path / name).write_text(name)
    folder.study.touch()
    with folder.lock():
        Mirror(folder).push()
    kept = {"sweep.yaml", "trials.parquet", "records/t0000.json", "scores/t0000-badnets-0.parquet"}
    assert set(store.walk()) == kept
    assert (store / "records/t0000.json").read_text() == "records/t0000.json"


def test_the_working_folder_may_change_meanwhile(
    folder: RunFolder, store: ObjectPath, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    copy = Mirror(RunFolder(folder.path.relative_to(tmp_path), store))
    monkeypatch.chdir("/")
    copy.push()
    assert (store / "trials.parquet").read_bytes() == folder.trials.read_bytes()


def test_only_what_changed_is_copied_again(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    copy, written = Mirror(folder), []
    copy.push()
    monkeypatch.setattr(ObjectPath, "write_bytes", lambda self, _: written.append(self.name))
    copy.push()
    assert written == []
    folder.sweep.write_text(folder.sweep.read_text() + "\n")
    os.utime(folder.trials, ns=(5, 5))
    copy.push()
    assert written == ["sweep.yaml", "trials.parquet"]


def test_a_store_that_is_away_is_caught_up_with(
    folder: RunFolder, store: ObjectPath, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(_path: ObjectPath, _content: bytes) -> None:
        raise OSError("Could not connect to server")

    copy = Mirror(folder)
    with monkeypatch.context() as patch:
        patch.setattr(ObjectPath, "write_bytes", away)
        copy.push()
        copy.push()
    assert copy.behind == "Could not connect to server"
    assert len(caplog.messages) == 1
    copy.push()
    assert copy.behind is None
    assert (store / "trials.parquet").read_bytes() == folder.trials.read_bytes()


def test_the_copy_grows_as_the_sweep_does_and_is_whole_at_its_end(
    folder: RunFolder, store: ObjectPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "EVERY_S", 0.01)

    def sweep() -> None:
        with mirrored(folder):
            wait_for((store / "trials.parquet").exists)
            (folder.path / "late").write_text("x")
            raise RuntimeError("broke off")

    with pytest.raises(RuntimeError, match="broke off"):
        sweep()
    assert (store / "late").read_text() == "x"
    with mirrored(RunFolder(folder.path)) as nothing:
        assert nothing is None


def test_a_copy_is_fetched_whole(folder: RunFolder, store: ObjectPath, tmp_path: Path) -> None:
    folder.write_sweep(folder.read_sweep() | {"store": str(store)})
    (folder.path / "records").mkdir()
    (folder.path / "records" / "t0000.json").write_text("{}")
    Mirror(folder).push()
    (store / "states" / "t0000" / "owner.txt").write_bytes(b"1")
    back = fetch(store, tmp_path / "elsewhere")
    assert back.path == tmp_path / "elsewhere" / "run"
    assert (back.store, back.states) == (store, store / "states")
    assert (back.records / "t0000.json").read_text() == "{}"
    assert back.trials.read_bytes() == folder.trials.read_bytes()
    assert not (back.path / "states").exists()
    assert len({path.stat().st_mtime for path in back.path.rglob("*") if path.is_file()}) == 1
    with pytest.raises(ConfigError, match="run exists already: give it instead of s3://"):
        fetch(store, tmp_path / "elsewhere")


def test_what_commands_write_after_a_sweep_is_copied_too(
    folder: RunFolder, store: ObjectPath, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Also where they are given the copy alone, on a machine that has not seen the sweep."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", fresh_store(tmp_path / "tracking.db"))
    folder.write_sweep(folder.read_sweep() | {"store": str(store)})
    Mirror(folder).push()
    (tmp_path / "laptop").mkdir()
    monkeypatch.chdir(tmp_path / "laptop")
    result = call("select", str(store), "--max-asr", "0.15")
    assert result.exit_code == 0, result.output
    assert result.stdout.count(f"Copy: {store}") == 1
    assert (store / "deploy.yaml").read_bytes() == Path("runs/run/deploy.yaml").read_bytes()
    for command in ("report", "frontier"):
        assert f"Copy: {store}" in call(command, "runs/run").stdout
    assert {"report.html", "frontier.parquet", "frontier.png"} < set(store.walk())
    before = set(store.walk())
    assert f"Copy: {store}" not in call("frontier", "runs/run", "--out", "apart").stdout
    assert set(store.walk()) == before
    assert (
        sentence(call("report", str(store))) == f"runs/run exists already: give it instead of {store}, or move it away."
    )


def test_commands_copy_nothing_while_a_driver_works(
    folder: RunFolder, store: ObjectPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert copy_results(RunFolder(folder.path), [folder.trials]) is None
    with RunFolder(folder.path).lock():  # its driver copies
        assert copy_results(folder, [folder.trials]) is None
    monkeypatch.setattr(mirror, "other_driver", lambda _: "process 7 on head, last heard of 2 s ago")
    said = copy_results(folder, [folder.trials])
    assert said == f"Not copied to {store}, which is in use by process 7 on head, last heard of 2 s ago."
    assert list(store.walk()) == []
    monkeypatch.setattr(mirror, "other_driver", lambda _: (_ for _ in ()).throw(OSError("no answer")))
    assert copy_results(folder, [folder.trials]) == f"The copy to {store} failed: no answer"


def test_nothing_is_copied_to_a_place_that_another_driver_has_taken_over(
    folder: RunFolder, store: ObjectPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = Mirror(folder)
    monkeypatch.setattr(mirror, "other_driver", lambda _: "process 7 on head, last heard of 2 s ago")
    copy.push()
    assert list(store.walk()) == []
    assert copy.behind == "it is in use by process 7 on head, last heard of 2 s ago"


def test_records_are_copied_last(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("records/t0000.json", "scores/t0000-badnets-0.parquet"):
        (folder.path / name).parent.mkdir()
        (folder.path / name).touch()
    written: list[str] = []
    monkeypatch.setattr(ObjectPath, "write_bytes", lambda self, _: written.append(self.name))
    Mirror(folder).push()
    assert written[-1] == "t0000.json"


def test_a_record_that_ends_during_the_copy_does_not_overtake_what_it_stands_for(
    folder: RunFolder, store: ObjectPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, scores = record_of(), folder.path / "scores" / "t0000-badnets-0.parquet"
    folder.write_record(record)
    write, ended = ObjectPath.write_bytes, []

    def and_a_trial_ends(path: ObjectPath, content: bytes) -> None:
        if not ended:
            ended.append(finish(record))
            scores.parent.mkdir()
            scores.touch()
            folder.write_record(record)
        write(path, content)

    monkeypatch.setattr(ObjectPath, "write_bytes", and_a_trial_ends)
    copy = Mirror(folder)
    copy.push()
    name = "records/t0000.json"
    assert TrialRecord.from_json((store / name).read_text()).status == RUNNING
    copy.push()
    assert TrialRecord.from_json((store / name).read_text()).status == FINISHED
    assert (store / "scores" / scores.name).exists()


def test_records_do_not_wait_for_the_next_copy(folder: RunFolder, store: ObjectPath) -> None:
    with mirrored(folder):
        folder.write_record(record_of())
        assert (store / "records" / "t0000.json").exists()


def test_a_store_that_is_away_is_not_waited_for_with_each_record(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def away(path: ObjectPath, _: bytes) -> None:
        tried.append(path)
        raise OSError("Could not connect to server")

    with monkeypatch.context() as patch, mirrored(folder) as copy:
        patch.setattr(ObjectPath, "write_bytes", away)
        for number in range(5):
            folder.write_record(record_of(f"t000{number}"))
        assert len(tried) == 1
    assert copy is not None
    assert copy.behind is not None


def test_what_was_fetched_in_part_is_fetched_anew(
    folder: RunFolder, store: ObjectPath, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Mirror(folder).push()
    read = ObjectPath.read_bytes

    def broken(self: ObjectPath) -> bytes:
        if self.name == "trials.parquet":
            raise OSError("reset")
        return read(self)

    with monkeypatch.context() as patch:
        patch.setattr(ObjectPath, "read_bytes", broken)
        with pytest.raises(ConfigError, match="cannot be read: reset"):
            fetch(store, tmp_path / "elsewhere")
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert fetch(store, tmp_path / "elsewhere").trials.exists()


@pytest.mark.parametrize("name", ["../../escaped.txt", "..", "records/../../x", "/etc/x", "a//b", "./x"])
def test_nothing_is_fetched_to_another_place(
    folder: RunFolder, store: ObjectPath, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    """Whoever may write to the bucket names the objects."""
    Mirror(folder).push()
    monkeypatch.setattr(ObjectPath, "walk", lambda _: iter(["sweep.yaml", name]))
    monkeypatch.setattr(ObjectPath, "read_bytes", lambda _: b"x")
    monkeypatch.setattr(mirror, "refuse_other_driver", lambda _: None)
    with pytest.raises(ConfigError, match="which no run folder does; remove it"):
        fetch(store, tmp_path / "deep" / "runs")
    assert list((tmp_path / "deep").rglob("*")) == [tmp_path / "deep" / "runs"]


def test_what_cannot_be_fetched(store: ObjectPath, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert sentence(call("resume", str(store))) == f"{store} holds no sweep: sweep.yaml must be there."
    monkeypatch.setattr(ObjectPath, "exists", lambda _: (_ for _ in ()).throw(OSError("no answer")))
    assert sentence(call("resume", str(store))) == f"{store} cannot be read: no answer"
    assert list(tmp_path.iterdir()) == []
    assert "what://x/y cannot be read" in sentence(call("resume", "what://x/y"))


def test_a_sweep_whose_storage_is_a_store(store: ObjectPath, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", fresh_store(tmp_path / "tracking.db"))

    def sweep(spec: Any, content: Any, splits: Any, ledger: Ledger, *_: Any) -> Outcome:
        ledger.folder.write_sweep(content)
        write_rows(ledger.folder, [control_row(), row_with("t0000")])
        return Outcome(1, [], None)

    monkeypatch.setattr(launch, "run_sweep", sweep)
    preset = write_preset(tmp_path / "p.yaml")
    result = call("run", preset, "--storage", str(store.parent), "--out", "here/run")
    assert result.exit_code == 0, result.output
    assert f"Copy: {store}" in result.stdout
    folder = RunFolder.open(tmp_path / "here" / "run")
    assert folder.store == store
    assert folder.attack_cache == store.parent / "attack-cache"
    assert (store / "report.html").read_bytes() == folder.report.read_bytes()
    text = sentence(call("run", preset, "--storage", str(store.parent), "--out", "other/run"))
    assert text == f"{store} already holds a sweep; give --out another name."


def test_a_sweep_that_is_refused_after_it_began_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", fresh_store(tmp_path / "tracking.db"))

    def late(spec: Any, content: Any, splits: Any, ledger: Ledger, *_: Any) -> Outcome:
        ledger.folder.write_record(finish(record_of()))
        raise ConfigError("trials.parquet cannot be read.")

    monkeypatch.setattr(launch, "run_sweep", late)
    out = tmp_path / "run"
    refused = sentence(call("run", write_preset(tmp_path / "p.yaml"), "--out", str(out)))
    assert refused == "trials.parquet cannot be read."
    assert list(RunFolder.open(out).read_records()) == ["t0000"]


def test_a_sweep_that_does_not_begin_leaves_the_store_free(
    store: ObjectPath, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", fresh_store(tmp_path / "tracking.db"))

    def refused(*_: Any) -> Outcome:
        raise ConfigError("A host is not fit.")

    monkeypatch.setattr(launch, "run_sweep", refused)
    preset = write_preset(tmp_path / "p.yaml")
    for _ in range(2):
        assert sentence(call("run", preset, "--storage", str(store.parent), "--out", "run")) == "A host is not fit."
    assert list(store.walk()) == []


@pytest.mark.parametrize(
    ("address", "says"), [("s3://nobody/x", "NO_SUCH_BUCKET"), ("what://x/y", "what"), ("s3://", "Missing bucket name")]
)
def test_a_store_that_cannot_be_written_is_refused(
    s3: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, address: str, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    text = sentence(call("run", write_preset(tmp_path / "p.yaml"), "--storage", address, "--out", "run"))
    assert says in text
    assert "cannot be written" in text
