import hashlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torchvision.datasets import CIFAR10

from trainers.data.cifar10 import load_cifar10
from trainers.data.pixels import AS_IT_IS, Rendering
from trainers.errors import ConfigError

NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with CIFAR-10's files, ten images in each, which torchvision takes for the published ones."""
    folder = tmp_path / CIFAR10.base_folder
    folder.mkdir()

    def store(name: str, content: dict[str, Any]) -> str:
        (folder / name).write_bytes(pickle.dumps(content))
        return hashlib.md5((folder / name).read_bytes()).hexdigest()

    def batches(names: list[str]) -> list[list[str]]:
        return [[name, store(name, batch(number))] for number, name in enumerate(names)]

    def batch(number: int) -> dict[str, Any]:
        data = np.zeros((10, 3, 32, 32), dtype=np.uint8)
        data[:, 0] = number  # red
        data[:, 1] = np.arange(10)[:, None, None]  # green
        return {"data": data.reshape(10, -1), "labels": list(range(10))}

    monkeypatch.setattr(CIFAR10, "train_list", batches([f"data_batch_{n}" for n in range(1, 6)]))
    monkeypatch.setattr(CIFAR10, "test_list", batches(["test_batch"]))
    md5 = store("batches.meta", {"label_names": NAMES})
    monkeypatch.setattr(CIFAR10, "meta", {"filename": "batches.meta", "key": "label_names", "md5": md5})
    return tmp_path


def test_the_files_become_splits(root: Path) -> None:
    splits = load_cifar10(str(root), False, AS_IT_IS)
    assert splits.train.images.shape == (50, 3, 32, 32)
    assert splits.train.images[:, 0, 0, 0].tolist() == [n for n in range(5) for _ in range(10)]
    assert splits.test.images[:, 1, 31, 31].tolist() == splits.test.labels.tolist() == list(range(10))
    assert splits.test.class_names == tuple(NAMES)


def test_resizing(root: Path) -> None:
    splits = load_cifar10(str(root), False, Rendering(16))
    assert splits.train.images.shape == (50, 3, 16, 16)
    assert splits.test.images[:, 1, 8, 8].tolist() == list(range(10))


class Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.file,)


@pytest.mark.parametrize("name", ["data_batch_3", "test_batch", "batches.meta"])
def test_a_file_that_was_changed_is_never_unpickled(root: Path, name: str) -> None:
    trap = pickle.dumps(Trap(root / "sprung"))
    (root / CIFAR10.base_folder / name).write_bytes(trap)
    with pytest.raises(ConfigError, match=r"incomplete or damaged; data\.download: true"):
        load_cifar10(str(root), False, AS_IT_IS)
    assert not (root / "sprung").exists()
    pickle.loads(trap)  # noqa: S301 - the trap works
    assert (root / "sprung").exists()


def test_missing_files(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no CIFAR-10 at .*nowhere.*data\.download: true"):
        load_cifar10(str(tmp_path / "nowhere"), False, AS_IT_IS)
    (root / CIFAR10.base_folder / "data_batch_2").unlink()
    with pytest.raises(ConfigError, match="incomplete or damaged"):
        load_cifar10(str(root), False, AS_IT_IS)


def test_only_a_download_that_was_asked_for_reaches_the_network(root: Path, tmp_path: Path, asked: list[str]) -> None:
    load_cifar10(str(root), True, AS_IT_IS)  # everything is there
    with pytest.raises(ConfigError, match="no CIFAR-10"):
        load_cifar10(str(tmp_path / "nowhere"), False, AS_IT_IS)
    assert not asked
    with pytest.raises(ConfigError, match=r"Cannot download CIFAR-10 to .*no network"):
        load_cifar10(str(tmp_path / "nowhere"), True, AS_IT_IS)
    assert asked
