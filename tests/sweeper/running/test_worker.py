"""The actor without a Ray runtime: Ray calls setup, step and reset_config, and so do these tests."""

import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from errno import ENOSPC
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sweeper.run_folder.provenance import code_digest
from sweeper.run_folder.record import Training
from sweeper.running.worker import TrainingActor, pack, unpack
from tests.sweeper.small import record_of, spec_with
from trainers.data import DataConfig, Findings, ImageSet, Splits, cached, load_data, load_unlabelled
from trainers.data.shapes import make_shapes
from trainers.defenses.base import Defense
from trainers.errors import TrialError
from trainers.storage.object_store import ObjectPath
from trainers.storage.state_store import StateStore, SupersededError, attempts, crash_reason, host_of, new_attempt
from trainers.trial import TrialConfig

Start = Callable[..., TrainingActor]
VAB = {"name": "vab", "warmup_steps": 2, "warmup_rounds": 1, "mix_epochs": 2, "suppression_epochs": 1, "lr": 0.05}


@pytest.fixture(scope="module")
def splits() -> Splits:
    return make_shapes(200, 100, 0)


def job(trial_id: str = "t0000", role: str = "trial", **changes: Any) -> dict[str, Any]:
    record = record_of(trial_id, role, spec_with(**({"defense": VAB} | changes)))
    (run,) = record.trainings
    training = Training(record, run)
    return {"training": training.name, "job": training.config.to_json()}


@pytest.fixture
def start(tmp_path: Path, splits: Splits) -> Start:
    """A new actor in the run folder ``tmp_path``."""

    def make(config: dict[str, Any], state_every_s: float = 1e-9, **more: Any) -> TrainingActor:
        handed_out = config | {"attempt": new_attempt(tmp_path / "states" / config["training"])}
        actor = object.__new__(TrainingActor)
        actor.setup(handed_out, pack(splits, DataConfig()), tmp_path, state_every_s, 0.0, **more)
        return actor

    return make


def drain(actor: TrainingActor) -> list[dict[str, Any]]:
    """The reports of epochs; those of scores are left out."""
    return [result for result in reports(actor) if "scores" not in result]


def reports(actor: TrainingActor) -> list[dict[str, Any]]:
    results = [actor.step()]
    while not results[-1]["done"]:
        results.append(actor.step())
    return results


def without_time(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**r, "figures": {k: v for k, v in r["figures"] if not k.startswith("seconds")}} for r in results]


def test_data_travels_unchanged_and_uncopied(splits: Splits) -> None:
    packed = pack(splits, DataConfig())
    back = unpack(packed)
    assert back.fingerprint == splits.fingerprint
    assert back.train.class_names == splits.train.class_names
    assert np.shares_memory(packed["train_images"], back.train.images.numpy())


def test_images_from_elsewhere_travel_too(splits: Splits) -> None:
    both = replace(splits, elsewhere={"folder:a b": splits.test.images, "parquet:c": splits.train.images[:3]})
    back = unpack(pack(both, DataConfig()))
    assert back.fingerprint == both.fingerprint != splits.fingerprint
    assert set(back.elsewhere) == {"folder:a b", "parquet:c"}


@pytest.fixture
def folder_of_images(tmp_path: Path, splits: Splits, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder data set, and a cache of images into which threads decode."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(cached, "_processes", lambda first: ThreadPoolExecutor(1))
    for number in range(40):
        place = tmp_path / "images" / ("a", "b")[number % 2] / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(splits.train.images[number].permute(1, 2, 0).numpy()).save(place)
    return tmp_path / "images"


def test_of_images_in_a_file_the_path_alone_travels(
    folder_of_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = f"folder:{folder_of_images}"
    read_as = DataConfig(source, train_size=20, cache="on")
    alone = load_unlabelled(source, read_as, Findings())
    both = replace(load_data(read_as), elsewhere={source: alone})
    packed = pickle.loads(pickle.dumps(pack(both, read_as)))  # noqa: S301  # as Ray does
    assert len(pickle.dumps(packed)) < 40 * both.train.images[0].numel() // 4
    assert unpack(packed).fingerprint == both.fingerprint
    # A host that does not see the file decodes the same images once for itself.
    (made,) = (tmp_path / "cache").rglob("*.images")
    made.rename(tmp_path / "elsewhere")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "its own"))
    assert unpack(packed).fingerprint == both.fingerprint
    monkeypatch.setattr("sweeper.running.worker.load_data", None)
    assert unpack(packed).fingerprint == both.fingerprint


def test_a_relative_path_is_found_from_the_folder_of_a_worker(
    folder_of_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    read_as = DataConfig(f"folder:{folder_of_images.name}", cache="on")
    data = load_data(read_as)
    packed = pack(data, read_as)
    (made,) = (tmp_path / "cache").rglob("*.images")
    made.unlink()
    monkeypatch.chdir("/")
    assert unpack(packed).fingerprint == data.fingerprint


def test_a_host_with_other_images_is_unusable(folder_of_images: Path, tmp_path: Path) -> None:
    read_as = DataConfig(f"folder:{folder_of_images}", cache="on")
    packed = pack(load_data(read_as), read_as)
    (made,) = (tmp_path / "cache").rglob("*.images")
    made.unlink()
    (folder_of_images / "a" / "0.png").write_bytes((folder_of_images / "a" / "2.png").read_bytes())
    actor = object.__new__(TrainingActor)
    actor.setup(job() | {"attempt": "1"}, packed, tmp_path, 1e-9, 0.0)
    said = actor.step()["unusable"]
    assert said.startswith(f"It cannot read the images: The images of {read_as.source} are not those that the sweep")
    assert said.endswith("or the Pillow of this host is another one.")


def test_read_only_arrays_as_ray_hands_them_out_are_taken(splits: Splits, recwarn: pytest.WarningsRecorder) -> None:
    packed = pack(splits, DataConfig())
    for value in packed.values():
        if isinstance(value, np.ndarray):
            value.flags.writeable = False
    assert unpack(packed).fingerprint == splits.fingerprint
    assert not [w for w in recwarn if "writable" in str(w.message)]


def test_an_epoch_a_step_until_done(start: Start, tmp_path: Path) -> None:
    told = reports(start(job(seeds=[4])))
    results = [result for result in told if "scores" not in result]
    assert [(r["scenario"], r["seed"], dict(r["figures"])["epoch"]) for r in results] == [
        ("badnets", 4, epoch) for epoch in (1, 2, 3, 4, 5)
    ]
    assert [r["finished"] for r in results] == [r["done"] for r in results] == [False] * 4 + [True]
    assert {r["attempt"] for r in results} == {1}
    facts = dict(results[0]["facts"])
    assert (facts["poison_share"], facts["n_eval"], facts["changed_share"]) == (0.1, 45, 0.1)
    assert 10 < facts["psnr"] < 40
    assert 0.5 < facts["ssim"] < 0.99
    assert dict(results[-1]["figures"])["test_acc"] is not None
    assert dict(results[-2]["figures"])["test_acc"] is None
    assert "objective" not in results[-1]
    (before,) = [r for r in told if "scores" in r]
    assert (before["scenario"], before["seed"], before["done"]) == ("badnets", 4, False)
    assert dict(told[told.index(before) + 1]["figures"])["epoch"] == 5
    assert (before["scores"].num_rows, set(before["scores"].column_names)) == (
        200, {"label", "suspicion", "credible", "poisoned", "cover"},
    )  # fmt: skip


def test_an_actor_that_is_reused_gives_what_a_fresh_one_gives(start: Start, tmp_path: Path) -> None:
    fresh = without_time(drain(start(job("t0001"))))
    actor = start(job("t0000", seeds=[3]))
    actor.step()
    torch.manual_seed(0)
    torch.rand(3)
    assert actor.reset_config(job("t0002") | {"attempt": new_attempt(tmp_path / "states" / "t0002-0")}) is True
    again = without_time(drain(actor))
    assert again == fresh


@pytest.mark.parametrize("state_every_s", [1e-9, 1e9], ids=["every epoch", "stage ends only"])
def test_a_crashed_trial_goes_on_from_its_last_state(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state_every_s: float
) -> None:
    whole = without_time(drain(start(job("t0009"))))
    first = start(job(), state_every_s)
    before = [first.step() for _ in range(3)]
    del first
    trained: list[int] = []
    epoch = Defense.epochs

    def counted(self: Any) -> Any:
        for item in epoch(self):
            trained.append(1)
            yield item

    monkeypatch.setattr(Defense, "epochs", counted)
    results = drain(start(job(), state_every_s))
    assert attempts(tmp_path / "states" / "t0000-0") == 2
    assert without_time(results) == [{**r, "attempt": 2} for r in whole]
    assert without_time(before) == whole[:3]
    assert len(trained) == (2 if state_every_s < 1 else 3)  # the warm-up's two epochs are never trained again


def test_states_may_lie_in_a_store(start: Start, splits: Splits, s3: str, tmp_path: Path) -> None:
    whole = without_time(drain(start(job("t0009"))))
    store = ObjectPath(f"{s3}/{tmp_path.name}/run")

    def attempt() -> TrainingActor:
        actor = object.__new__(TrainingActor)
        number = new_attempt(store / "states" / "t0000-0")
        actor.setup(job() | {"attempt": number}, pack(splits, DataConfig()), tmp_path, 1e-9, 0.0, store)
        return actor

    first = attempt()
    before = [first.step() for _ in range(3)]
    assert without_time(before) == whole[:3]
    assert without_time(drain(attempt())) == [{**r, "attempt": 2} for r in whole]
    with pytest.raises(SupersededError):
        first.step()
    assert not (tmp_path / "states" / "t0000-0").exists()


def test_why_a_worker_crashed_lies_beside_its_states(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    actor = start(job())
    actor.step()
    monkeypatch.setattr(actor, "_results", iter_then(MemoryError("no more")))
    with pytest.raises(MemoryError):
        actor.step()
    left = tmp_path / "states" / "t0000-0"
    assert (host_of(left, 1), crash_reason(left, 1)) == ("", "MemoryError: no more")


def test_an_attempt_that_was_cut_off_ends_and_writes_nothing_more(start: Start, tmp_path: Path) -> None:
    whole = without_time(drain(start(job("t0009"))))
    cut_off = start(job())
    cut_off.step()
    successor = start(job())
    successor.step()
    left = {path: path.read_bytes() for path in (tmp_path / "states" / "t0000-0").iterdir()}
    with pytest.raises(SupersededError, match="Attempt 1 was cut off, and another went on with the trial"):
        cut_off.step()
    assert {path: path.read_bytes() for path in (tmp_path / "states" / "t0000-0").iterdir()} == left
    assert without_time(drain(successor)) == [{**r, "attempt": 2} for r in whole[1:]]


def iter_then(error: Exception) -> Any:
    raise_it = iter([1])
    return (_raise(error) for _ in raise_it)


def _raise(error: Exception) -> None:
    raise error


def test_a_trial_that_cannot_go_on_ends_and_is_not_retried(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    actor = start(job())
    monkeypatch.setattr(actor, "_results", iter_then(TrialError("The loss is nan.")))
    assert actor.step() == {"attempt": 1, "host": "", "error": "The loss is nan.", "done": True}


def test_a_host_without_the_gpu_that_it_promised_is_a_crash_since_another_may_have_it(
    start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    result = start(job(device="cuda", resources={"gpu": 1})).step()
    assert "A GPU is asked for, but torch sees none here" in result.pop("unusable")
    assert result == {"attempt": 1, "host": "", "done": True}


def test_a_host_without_the_weights_is_unusable_since_another_may_have_them(start: Start, tmp_path: Path) -> None:
    model = {"name": "tiny", "width": 4, "weights": str(tmp_path / "own.safetensors"), "weights_digest": "0" * 16}
    result = start(job(model=model)).step()
    assert "own.safetensors cannot be read: No such file" in result.pop("unusable")
    assert result == {"attempt": 1, "host": "", "done": True}


def test_a_full_disk_costs_the_trial_that_it_hit(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    actor = start(job())
    actor.step()
    monkeypatch.setattr(actor, "_results", iter_then(OSError(ENOSPC, "No space left on device")))
    result = actor.step()
    assert result == {"attempt": 1, "host": "", "disk_full": "[Errno 28] No space left on device", "done": True}


def test_a_disk_that_is_full_when_a_trial_begins_is_no_fault_of_the_host(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    actor = start(job())
    monkeypatch.setattr(StateStore, "begin", lambda *_: (_ for _ in ()).throw(OSError(ENOSPC, "No space left")))
    assert actor.step() == {"attempt": 1, "host": "", "disk_full": "[Errno 28] No space left", "done": True}


def test_a_trial_that_was_opened_and_not_begun_was_not_attempted(start: Start, tmp_path: Path) -> None:
    states = tmp_path / "states" / "t0000-0"
    actor = start(job())
    assert host_of(states, 1) is None
    actor.step()
    assert host_of(states, 1) == ""
    cut_off = start(job())
    new_attempt(states)
    with pytest.raises(SupersededError):
        cut_off.step()  # it comes too late to begin
    assert (attempts(states), host_of(states, 2)) == (3, None)


def test_a_host_that_joined_late_with_other_code_or_without_the_folder_takes_no_trial(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert start(job(), code=code_digest()).step()["unusable"] == f"It does not see {tmp_path}."
    (tmp_path / "sweep.yaml").touch()
    assert start(job(), code="other").step()["unusable"] == "It runs another version of this program."
    assert "unusable" not in start(job(), code=code_digest()).step()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "exists", lambda _: (_ for _ in ()).throw(PermissionError("not you")))
        assert start(job(), code=code_digest()).step()["unusable"] == f"It cannot look into {tmp_path}: not you"
    actor = start(job())
    monkeypatch.setattr(StateStore, "begin", lambda *_: (_ for _ in ()).throw(PermissionError("not you")))
    assert actor.step()["unusable"] == f"It cannot write {tmp_path / 'states' / 't0000-0'}: not you"
    assert host_of(tmp_path / "states" / "t0000-0", 2) is None


def test_a_nan_is_the_trials_own_fault(start: Start, tmp_path: Path) -> None:
    (result,) = drain(start(job(defense={"name": "none", "epochs": 3, "lr": 1e30})))
    assert "The loss is nan in epoch 1 of stage training" in result["error"]
    assert crash_reason(tmp_path / "states" / "t0000-0", 1) is None


def test_threads_follow_the_trial(start: Start) -> None:
    try:
        config = TrialConfig.from_json(job(resources={"cpu": 2})["job"])
        assert config.compute.threads == 2
        start(job(resources={"cpu": 2})).step()
        assert torch.get_num_threads() == 2
        start(job()).step()
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(1)


def test_what_an_earlier_trial_compiled_does_not_count_for_the_next(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    forgotten: list[bool] = []
    monkeypatch.setattr(torch.compiler, "reset", lambda: forgotten.append(True))
    start(job())
    assert forgotten == []
    start(job(compile=True))
    assert forgotten == [True]


def test_the_packed_form_holds_both_splits() -> None:
    images = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
    both = ImageSet(images, torch.tensor([0, 1]), ("a", "b"))
    assert set(pack(Splits(both, both), DataConfig())) == {
        "class_names", "read_as", "train_images", "train_labels", "test_images", "test_labels",
    }  # fmt: skip


def test_a_trunk_is_kept_in_the_run_folder_and_told_of(start: Start, tmp_path: Path) -> None:
    late = VAB | {"temperature": 5.0}
    first = drain(start(job() | {"trunk": 2}))
    assert [(dict(r["figures"])["epoch"], r["trunk"]) for r in first if "trunk" in r] == [(4, [None, False])]
    assert len(list((tmp_path / "trunks").iterdir())) == 1
    grown = drain(start(job("t0001", defense=late) | {"trunk": 2}))
    shared = [dict(r["figures"])["seconds_shared"] for r in grown]
    assert shared == [*(dict(r["figures"])["seconds"] for r in first[:4]), dict(first[3]["figures"])["seconds"]]
    alone = drain(start(job("t0002", defense=late)))
    assert not any("trunk" in r for r in alone)
    assert [dict(r["figures"])["val_acc"] for r in grown] == [dict(r["figures"])["val_acc"] for r in alone]


def test_trunks_may_lie_in_a_store(start: Start, splits: Splits, s3: str, tmp_path: Path) -> None:
    store = ObjectPath(f"{s3}/{tmp_path.name}/run")

    def attempt(config: dict[str, Any]) -> list[dict[str, Any]]:
        actor = object.__new__(TrainingActor)
        number = new_attempt(store / "states" / config["training"])
        actor.setup(config | {"attempt": number, "trunk": 2}, pack(splits, DataConfig()), tmp_path, 1e9, 0.0, store)
        return drain(actor)

    late = VAB | {"temperature": 5.0}
    attempt(job())
    assert [path.name for path in (store / "trunks").glob("*.safetensors")]
    grown, alone = attempt(job("t0001", defense=late)), drain(start(job("t0001", defense=late)))
    assert dict(grown[-1]["figures"])["seconds_shared"] > 0
    assert [dict(r["figures"])["val_acc"] for r in grown] == [dict(r["figures"])["val_acc"] for r in alone]
