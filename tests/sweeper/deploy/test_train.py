"""Training with a chosen setting."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from rich.console import Console

from sweeper.deploy import training as module
from sweeper.deploy.deployment import Deployment
from sweeper.deploy.train import doubtful_classes, train
from trainers.compute import Compute
from trainers.data import DataConfig, ImageSet
from trainers.data.shapes import make_shapes
from trainers.storage.state_store import StateStore


def test_classes_that_were_mostly_thrown_away_are_named() -> None:
    review = pd.DataFrame({"label": [*"aaabbb"], "verdict": [*["suspicious"] * 2, *["credible"] * 3, "suspicious"]})
    assert doubtful_classes(review) == {"a": pytest.approx(2 / 3)}
    assert doubtful_classes(review.assign(verdict="credible")) == {}
    numbered = pd.DataFrame({"label": ["10", "9", "2"], "verdict": ["suspicious"] * 3})
    assert list(doubtful_classes(numbered)) == ["2", "9", "10"]


def test_a_name_of_a_class_forges_nothing_in_the_report(tmp_path: Path) -> None:
    """Data that nobody vouches for names its classes."""
    data = make_shapes(40, 4, 0).train
    names = ("cat | 500 | 0 | 0.0% |\n| dog", "<script>", "do\ud800g", *data.class_names[3:])
    data = ImageSet(data.images, data.labels, names, tuple(f"caf\udce9{i}.png" for i in range(40)))
    chosen = setting_for(
        data, "vab", warmup_steps=1, warmup_rounds=1, mix_epochs=1, suppression_epochs=0, batch_size=16
    )
    train(chosen, data, DataConfig(), tmp_path, Compute(torch.device("cpu")), 0, Console(quiet=True))
    lines = (tmp_path / "report.md").read_text().splitlines()
    assert not any(line.startswith("| dog") for line in lines)
    assert any(line.startswith(r"| cat \| 500 \| 0 \| 0.0% \|\\n\| dog | ") for line in lines), lines
    assert not any("<script>" in line for line in lines if line.startswith("|"))
    assert (tmp_path / "suspicious.parquet").exists()
    assert not (tmp_path / "states").exists()


def test_what_lies_in_the_folder_beside_the_training_stays(tmp_path: Path) -> None:
    data = make_shapes(40, 4, 0).train
    (tmp_path / "states").mkdir()
    (tmp_path / "states" / "alaska.txt").touch()
    chosen = setting_for(data, "none", epochs=1, batch_size=16)
    train(chosen, data, DataConfig(), tmp_path, Compute(torch.device("cpu")), 0, Console(quiet=True), state_every_s=0.0)
    assert [path.name for path in (tmp_path / "states").iterdir()] == ["alaska.txt"]


def setting_for(data: ImageSet, defense: str, **params: object) -> Deployment:
    return Deployment.model_validate(
        {
            "defense": defense,
            "params": params,
            "model": {"name": "tiny"},
            "augment": {},
            "images": {"image_shape": list(data.images.shape[1:]), "class_names": list(data.class_names)},
        }
    )


def test_a_training_is_gone_on_with_only_where_its_states_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Generators of a CPU read no states of a GPU's; and a model has one numeric format."""
    data = make_shapes(20, 4, 0).train
    chosen = setting_for(data, "none", epochs=1)
    opened = []

    def cut_off(setting: Any, data: Any, compute: Compute, seed: int, store: StateStore, *_: Any) -> None:
        opened.append(store.folder)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "train_blind", cut_off)
    cpu, other = torch.device("cpu"), torch.device("meta")
    for compute in (Compute(cpu), Compute(other), Compute(cpu, amp=True), Compute(cpu)):
        with suppress(KeyboardInterrupt):
            train(chosen, data, DataConfig(), tmp_path, compute, 0, Console(quiet=True))
    assert opened[0] == opened[3]
    assert len(set(opened)) == 3
