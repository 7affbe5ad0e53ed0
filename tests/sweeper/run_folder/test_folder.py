"""The folder that outlives its process: locks, versions, records, leftovers."""

import fcntl
import json
import subprocess
import sys
from pathlib import Path
from threading import Timer
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from sweeper.run_folder.folder import LOCK_FILE, VERSION, RunFolder
from sweeper.run_folder.record import TrialRecord
from sweeper.run_folder.tables import TABLE_COLUMNS, read_table, write_table
from tests.sweeper.small import FACTS, epoch_figures, finish, record_of, row_with, spec_with, sweep_with, write_rows
from trainers.errors import ConfigError
from trainers.seeding import NUMERICS
from trainers.storage.files import LEFTOVER


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path / "run")


def test_the_sweep_comes_back(folder: RunFolder) -> None:
    content = sweep_with()
    folder.write_sweep(content)
    back = folder.read_sweep()
    assert back == {"version": VERSION, **yaml.safe_load(yaml.safe_dump(content))}
    folder.write_sweep(back)
    assert folder.read_sweep() == back


@pytest.mark.parametrize("text", ["a: [1\n", "", "- 1\n", "name: x\n"])
def test_a_damaged_description_is_a_sentence(folder: RunFolder, text: str) -> None:
    folder.sweep.write_text(text)
    with pytest.raises(ConfigError, match=r"sweep\.yaml"):
        folder.read_sweep()


def test_a_folder_with_anything_in_it_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "study.db").write_text("")
    with pytest.raises(ConfigError, match="already holds files; give --out an empty or new folder"):
        RunFolder.create(tmp_path)


def test_an_empty_or_new_folder_is_taken_and_left_empty(tmp_path: Path) -> None:
    for path in (tmp_path / "a" / "b", tmp_path / "c"):
        path.mkdir(parents=True) if path.name == "c" else None
        assert list(RunFolder.create(path).path.iterdir()) == []


@pytest.mark.parametrize("name", ["file", "file/run", "/proc/nowhere"])
def test_a_place_that_cannot_be_written_is_a_sentence(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"cannot be written: .*\.$"):
        RunFolder.create(tmp_path / name)


def test_only_a_sweep_is_opened(folder: RunFolder) -> None:
    with pytest.raises(ConfigError, match="holds no sweep"):
        RunFolder.open(folder.path)
    folder.write_sweep(sweep_with())
    write_rows(folder, [])
    assert RunFolder.open(folder.path).path == folder.path


@pytest.mark.parametrize("key", ["preset", "sweep_id", "data_fingerprint", "data", "provenance"])
def test_a_description_without_a_key_is_a_sentence(folder: RunFolder, key: str) -> None:
    whole = sweep_with()
    for content in ({**whole, key: ["x"]}, {name: value for name, value in whole.items() if name != key}):
        folder.write_sweep(content)
        with pytest.raises(ConfigError, match=f"is no description of a sweep: it has no key {key}, or a damaged one"):
            folder.read_sweep()


@pytest.mark.parametrize("version", [None, 0, VERSION + 1, "new"])
def test_another_version_is_a_sentence(folder: RunFolder, version: object) -> None:
    folder.write_sweep(sweep_with())
    write_rows(folder, [])
    text = folder.sweep.read_text()
    folder.sweep.write_text(text.replace(f"version: {VERSION}", f"version: {json.dumps(version)}"))
    with pytest.raises(ConfigError, match=rf"has version {version}, but this program reads versions up to {VERSION}"):
        RunFolder.open(folder.path)


@pytest.mark.parametrize("version", range(1, VERSION + 1))
def test_a_folder_of_an_earlier_version_is_read(folder: RunFolder, version: int) -> None:
    folder.write_sweep(sweep_with())
    write_rows(folder, [])
    folder.sweep.write_text(folder.sweep.read_text().replace(f"version: {VERSION}", f"version: {version}"))
    assert RunFolder.open(folder.path).read_sweep()["version"] == version


def test_a_sweep_whose_asha_counted_epochs_is_read(folder: RunFolder) -> None:
    folder.write_sweep(sweep_with(search={"scheduler": "asha"}))
    folder.sweep.write_text(folder.sweep.read_text().replace("grace: 0.25", "grace_epochs: 5"))
    assert "grace_epochs" in folder.sweep.read_text()
    assert (folder.spec().search.scheduler, folder.spec().search.grace) == ("asha", 0.25)


@pytest.mark.parametrize(("line", "read"), [("amp: true", None), ("amp: false", "off"), ("amp: 'on'", "on")])
def test_bfloat16_was_for_cuda_only_when_it_was_true(folder: RunFolder, line: str, read: str | None) -> None:
    folder.write_sweep(sweep_with())
    text = folder.sweep.read_text().replace("amp: null", line)
    folder.sweep.write_text(text.replace(f"version: {VERSION}", "version: 2"))
    assert folder.spec().amp == read


@pytest.mark.parametrize(("device", "numerics"), [("auto", 1), ("cpu", NUMERICS)])
def test_cuda_computed_otherwise_before_version_3(folder: RunFolder, device: str, numerics: int) -> None:
    folder.write_sweep(sweep_with(device=device, resources={"gpu": 0.5}))
    assert folder.numerics == NUMERICS
    folder.sweep.write_text(folder.sweep.read_text().replace(f"version: {VERSION}", "version: 2"))
    assert folder.numerics == numerics


def test_a_folder_that_is_gone_on_with_has_the_version_of_what_is_written_now(folder: RunFolder) -> None:
    """An older program would take its new records for damaged ones. The part before had no races."""
    folder.write_sweep(sweep_with())
    folder.sweep.write_text(
        folder.sweep.read_text().replace(f"version: {VERSION}", "version: 1").replace("race: null", "")
    )
    before = folder.read_sweep()
    assert folder.spec().race is None
    folder.write_sweep(before)
    assert folder.read_sweep()["version"] == VERSION
    assert folder.spec().race is None, "the rest has none either"


def test_a_second_process_is_refused_and_told_of_the_first(folder: RunFolder) -> None:
    hold = "import sys; from pathlib import Path; from sweeper.run_folder.folder import RunFolder\n"
    hold += "with RunFolder(Path(sys.argv[1])).lock(): print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(folder.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout and other.stdout.readline() == "held\n"  # noqa: PT018
        with (
            pytest.raises(ConfigError, match=rf"in use by another process \(process {other.pid} on .*\)"),
            folder.lock(),
        ):
            pass
        other.kill()
        other.wait()
        with folder.lock():  # the kernel let go of it
            pass


def test_a_folder_that_only_holds_a_lock_is_taken(folder: RunFolder) -> None:
    with folder.lock():
        pass
    assert RunFolder.create(folder.path).path == folder.path


@pytest.mark.parametrize("seeds", [[0], [0, 7]])
def test_records_come_back_as_they_went(folder: RunFolder, seeds: list[int]) -> None:
    running, ended = record_of("t0001", spec=spec_with(seeds=seeds)), finish(record_of("t0000"))
    refused = TrialRecord("t0002", "trial", None, {}, {"vab.mix_epochs": 0})
    refused.end("FAILED", "must not both be 0")
    control = finish(record_of("c0000", "control"), val_asr=None)
    before = [control, ended, running, refused]
    for record in before:
        folder.write_record(record)
    assert [folder.read_record(record.trial_id) for record in before] == before
    back = folder.read_records()
    assert list(back) == ["c0000", "t0000", "t0001", "t0002"]
    assert list(back.values()) == before
    assert [record.open for record in back.values()] == [False, False, True, False]


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"trial_id": "t0000"}', "null", "\x00" * 50])
def test_a_damaged_record_does_not_count(folder: RunFolder, content: str, caplog: pytest.LogCaptureFixture) -> None:
    folder.write_record(finish(record_of("t0001")))
    (folder.records / "t0000.json").write_text(content)
    assert list(folder.read_records()) == ["t0001"]
    assert "t0000.json is damaged" in caplog.text
    assert folder.read_record("t0000") is None
    assert folder.read_record("t0002") is None, "there is none"


@pytest.mark.parametrize("name", ["../../photos", "/home/me/photos", "t0000/../../x", "photos", "t1", "", "t0001", 7])
def test_a_record_under_a_name_that_no_trial_has_does_not_count(folder: RunFolder, name: Any) -> None:
    """Names become those of files and folders, which are written and removed."""
    fields = json.loads(finish(record_of("t0000")).to_json())
    folder.records.mkdir()
    (folder.records / "t0000.json").write_text(json.dumps(fields | {"trial_id": name}))
    assert folder.read_records() == {}
    fields["config"]["scenarios"][0]["name"] = "../../photos"
    (folder.records / "t0000.json").write_text(json.dumps(fields))
    assert folder.read_records() == {}


@pytest.mark.parametrize("name", ["states", "records", "roc.png", ".lock", "records/t0000.json", "scores/deeper"])
def test_a_folder_that_holds_a_link_is_not_opened(folder: RunFolder, tmp_path: Path, name: str) -> None:
    """It may come from somebody else: what the link leads to would be emptied, read or written."""
    folder.write_sweep(sweep_with())
    write_rows(folder, [])
    aim = tmp_path / "photos"
    aim.mkdir()
    (aim / "me.png").touch()
    (folder.path / name).parent.mkdir(exist_ok=True)
    (folder.path / name).symlink_to(aim)
    with pytest.raises(ConfigError, match=f"{name} is a link; put the file itself there"):
        RunFolder.open(folder.path)
    assert (aim / "me.png").exists()


def test_a_lock_is_never_taken_through_a_link(folder: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "own").write_text("mine")
    (folder.path / LOCK_FILE).symlink_to(tmp_path / "own")
    with pytest.raises(ConfigError, match="cannot be written"), folder.lock():
        pytest.fail("it was taken")
    assert (tmp_path / "own").read_text() == "mine"


def test_what_a_killed_process_had_not_finished_is_removed(folder: RunFolder) -> None:
    folder.write_record(record_of())
    state = folder.states / "t0000"
    state.mkdir(parents=True)
    for place in (folder.path, folder.records, state):
        (place / f"{LEFTOVER}half-x.json").write_text("half")
    (state / "run-0.1.safetensors").write_text("whole")
    folder.remove_leftovers()
    left = {str(path.relative_to(folder.path)) for path in folder.path.rglob("*") if path.is_file()}
    assert left == {"records/t0000.json", "states/t0000/run-0.1.safetensors"}


def test_columns_that_an_older_version_did_not_know_are_null(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    rows = [{name: value for name, value in row_with().items() if name not in ("val_ra", "ssim")}]
    write_table(folder.trials, rows, ())
    frame = folder.read_trials()
    assert set(TABLE_COLUMNS) <= set(frame.columns)
    assert frame[["val_ra", "ssim"]].isna().all(axis=None)
    assert frame["val_acc"].tolist() == [0.8]


def test_in_an_older_table_trials_stand_as_their_trainings(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    rows = [row_with("t0"), row_with("t1", status="FAILED", error="The loss is nan.", val_acc=None)]
    older = [{name: value for name, value in row.items() if not name.startswith("trial_s")} for row in rows]
    write_table(folder.trials, [{k: v for k, v in row.items() if k != "trial_error"} for row in older], ())
    frame = folder.read_trials()
    assert frame["trial_status"].tolist() == ["FINISHED", "FAILED"]
    assert [None if pd.isna(error) else error for error in frame["trial_error"]] == [None, "The loss is nan."]
    rows[1] |= {"status": "FINISHED", "error": None}
    write_table(folder.trials, rows, ())
    frame = folder.read_trials()
    assert frame["status"].tolist() == ["FINISHED"] * 2
    assert frame["trial_status"].tolist() == ["FINISHED", "FAILED"], "what a table has is not made up"


def test_the_excess_of_an_older_table_is_computed(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    rows = [row_with(val_asr=asr, asr_floor=0.25, test_asr=0.5, test_asr_floor=floor)
            for asr, floor in ((0.75, 0.125), (0.125, None), (None, 0.5))]  # fmt: skip
    older = [{name: value for name, value in row.items() if not name.endswith("_excess")} for row in rows]
    write_table(folder.trials, older, ())
    frame = folder.read_trials()
    assert [None if pd.isna(value) else value for value in frame["val_asr_excess"]] == [0.5, 0.0, None]
    assert [None if pd.isna(value) else value for value in frame["test_asr_excess"]] == [0.375, None, 0.0]
    write_table(folder.trials, [row | {"val_asr_excess": 0.9} for row in older], ())
    assert set(folder.read_trials()["val_asr_excess"]) == {0.9}, "what a table has is not computed again"


def test_a_sweep_that_names_no_numerics_was_trained_with_the_first(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write_sweep({name: value for name, value in sweep_with().items() if name != "numerics"})
    assert folder.numerics == 1
    folder.write_sweep(sweep_with() | {"numerics": 7})
    assert folder.numerics == 7
    for damaged in ("new", True, 1.5):
        folder.write_sweep(sweep_with() | {"numerics": damaged})
        with pytest.raises(ConfigError, match="its key numerics is damaged"):
            folder.read_sweep()


def test_leftovers_among_the_scores_are_removed_too(folder: RunFolder) -> None:
    folder.scores.mkdir()
    (folder.scores / f"{LEFTOVER}half").write_text("half")
    (folder.scores / "t0000-badnets-0.parquet").write_text("whole")
    folder.remove_leftovers()
    assert [path.name for path in folder.scores.iterdir()] == ["t0000-badnets-0.parquet"]


def test_states_of_unknown_trainings_go(folder: RunFolder) -> None:
    for name in ("t0000", "t0001-0", "t0001-1", "c0000-0"):
        (folder.states / name).mkdir(parents=True)
        (folder.states / name / "run-0.1.safetensors").write_text("state")
    folder.remove_states_but({"t0001-1", "c0000-0"})
    assert {path.name for path in folder.states.glob("*")} == {"t0001-1", "c0000-0"}


def test_trunks_that_nobody_needs_go_and_what_is_half_written_too(folder: RunFolder) -> None:
    assert folder.trunk_sizes() == []
    folder.remove_trunks_but(set())
    trunks = folder.path / "trunks"
    trunks.mkdir()
    for name in ("a", "b", "c"):
        (trunks / f"{name}.safetensors").write_bytes(b"1234")
    (trunks / f"{LEFTOVER}d.safetensors").write_bytes(b"12")
    folder.remove_leftovers()
    folder.remove_trunk("c.safetensors")
    folder.remove_trunk("c.safetensors")
    assert folder.trunk_sizes() == [4, 4]
    folder.remove_trunks_but({"b.safetensors"})
    assert [path.name for path in trunks.iterdir()] == ["b.safetensors"]


@pytest.mark.parametrize("was_there", [False, True])
def test_of_a_sweep_that_did_not_begin_nothing_stays(tmp_path: Path, was_there: bool) -> None:
    """A folder that the user had made is left to them."""
    path = tmp_path / "run"
    if was_there:
        path.mkdir()
    folder = RunFolder.create(path)
    with folder.lock():
        folder.write_sweep(sweep_with())
        write_rows(folder, [])
        for written in (folder.curves, folder.study):
            written.touch()
        folder.discard()
    assert path.exists() == was_there
    assert not was_there or [entry.name for entry in path.iterdir()] == [LOCK_FILE]


def test_what_somebody_else_put_into_a_discarded_folder_stays(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run")
    (folder.path / "notes.txt").write_text("mine")
    folder.discard()
    assert (folder.path / "notes.txt").read_text() == "mine"


def test_each_run_has_scores_of_its_own(folder: RunFolder) -> None:
    runs = [("t0000", "badnets", 0), ("t0000", "badnets", 1), ("t0000", "blend", 0), ("t0001", "badnets", 0)]
    assert len({folder.scores_of(*run) for run in runs}) == 4
    for number, run in enumerate(runs):
        folder.write_scores(*run, pa.table({"suspicion": [number / 10]}))
    assert [pq.read_table(folder.scores_of(*run))["suspicion"].to_pylist() for run in runs] == [
        [0.0],
        [0.1],
        [0.2],
        [0.3],
    ]


def test_a_lock_that_is_held_for_a_moment_is_waited_for(folder: RunFolder) -> None:
    """Whoever asks who holds the folder holds it too, meanwhile."""
    with (folder.path / LOCK_FILE).open("w") as asking:
        fcntl.flock(asking, fcntl.LOCK_SH)
        release = Timer(0.1, lambda: fcntl.flock(asking, fcntl.LOCK_UN))
        release.start()
        with folder.lock():
            assert not release.is_alive()
        release.join()


def test_what_attacks_train_lies_beside_the_run_folders(tmp_path: Path) -> None:
    caches = {RunFolder(tmp_path / "runs" / name).attack_cache for name in ("one", "two")}
    assert caches == {tmp_path / "runs" / "attack-cache"}


def test_the_curves_are_those_of_every_trial(folder: RunFolder) -> None:
    running, failed = record_of("t0001"), finish(record_of("t0002"), epochs=1)
    running.add_epoch(("badnets", 0), epoch_figures(1), FACTS)
    failed.end("FAILED", "The loss is nan.")
    folder.write_tables([finish(record_of("t0000"), epochs=2), running, failed], {})
    assert read_table(folder.curves)["trial_id"].tolist() == ["t0000", "t0000", "t0001", "t0002"]


def test_whoever_follows_the_folder_is_told_of_a_record_once_it_is_written(folder: RunFolder) -> None:
    told: list[list[str]] = []
    folder.record_written = lambda: told.append([path.name for path in folder.records.iterdir()])
    folder.write_record(record_of("t0003"))
    assert told == [["t0003.json"]]


def test_a_hidden_file_is_passed_over_without_a_word(folder: RunFolder, caplog: pytest.LogCaptureFixture) -> None:
    """Some systems leave one beside each file."""
    folder.write_record(record_of("t0003"))
    (folder.records / "._t0003.json").write_text("not a record")
    assert list(folder.read_records()) == ["t0003"]
    assert caplog.text == ""


def test_records_come_in_the_order_of_their_names(folder: RunFolder) -> None:
    for name in ("t0002", "c0001", "t0000", "c0000", "k0000"):
        folder.write_record(record_of(name))
    assert list(folder.read_records()) == ["c0000", "c0001", "k0000", "t0000", "t0002"]
