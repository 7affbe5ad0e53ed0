"""Training with a chosen setting."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from rich.console import Console

from sweeper.deploy import train as train_module
from sweeper.deploy import training as module
from sweeper.deploy.deployment import Deployment
from sweeper.deploy.train import Deployed, doubtful_classes, train
from trainers.blind import train_blind
from trainers.compute import Compute
from trainers.data import DataConfig, ImageSet
from trainers.data.shapes import make_shapes
from trainers.errors import TrialError
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


MARKING = {"warmup_steps": 3, "warmup_rounds": 1, "mix_epochs": 1, "suppression_epochs": 1, "batch_size": 16}


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures take a second each."""
    monkeypatch.setattr(train_module, "draw_suspicious", lambda *_: None)


def trained_at(folder: Path, seed: int, replicates: int = 1) -> Deployed:
    data = make_shapes(40, 4, 0).train
    chosen, compute = setting_for(data, "vab", **MARKING), Compute(torch.device("cpu"))
    return train(chosen, data, DataConfig(), folder, compute, seed, Console(quiet=True), replicates=replicates)


@pytest.mark.usefixtures("undrawn")
def test_the_model_of_several_is_that_of_a_single_training_with_its_seed(tmp_path: Path) -> None:
    found = trained_at(tmp_path / "three", seed=4, replicates=3)
    assert found.replicates is not None
    assert found.replicates.seeds == (4, 5, 6)
    assert found.seed == found.replicates.chosen
    alone = trained_at(tmp_path / "one", seed=found.seed)
    assert alone.replicates is None
    for file in ("model.safetensors", "model.json"):
        assert (tmp_path / "three" / file).read_bytes() == (tmp_path / "one" / file).read_bytes()
    assert {path.name for path in (tmp_path / "three").iterdir()} == {
        "model.safetensors", "model.json", "suspicious.parquet", "replicates.parquet", "report.md",
    }  # fmt: skip
    assert {path.name for path in (tmp_path / "one").iterdir()} == {
        "model.safetensors", "model.json", "suspicious.parquet", "report.md",
    }  # fmt: skip
    review, single = (pd.read_parquet(tmp_path / name / "suspicious.parquet") for name in ("three", "one"))
    assert list(review.columns) == [*single.columns, "marked_by"]
    pd.testing.assert_frame_equal(review.drop(columns="marked_by"), single)
    models = pd.read_parquet(tmp_path / "three" / "replicates.parquet")
    assert models["marked_by"][review["index"]].tolist() == review["marked_by"].tolist()
    own = models[f"verdict_{found.seed}"]
    assert own[review["index"]].tolist() == review["verdict"].tolist()
    verdicts = models[["verdict_4", "verdict_5", "verdict_6"]] == "suspicious"
    assert models["marked_by"].tolist() == pytest.approx(verdicts.mean(axis=1).tolist())
    report = (tmp_path / "three" / "report.md").read_text()
    assert f"epochs, seed {found.seed}." in report
    assert "## Agreement of 3 models" in report
    assert "Agreement of" not in (tmp_path / "one" / "report.md").read_text()


@pytest.mark.usefixtures("undrawn")
def test_models_that_were_trained_are_not_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first ends, the second is cut off, and the same command goes on."""
    seeds: list[int] = []

    def cut_off(setting: Any, data: Any, compute: Any, seed: int, *others: Any) -> Any:
        seeds.append(seed)
        if seeds == [0, 1]:
            raise KeyboardInterrupt
        return train_blind(setting, data, compute, seed, *others)

    monkeypatch.setattr(module, "train_blind", cut_off)
    with pytest.raises(KeyboardInterrupt):
        trained_at(tmp_path / "cut", seed=0, replicates=2)
    assert not (tmp_path / "cut" / "model.safetensors").exists()
    found = trained_at(tmp_path / "cut", seed=0, replicates=2)
    assert seeds == [0, 1, 1]
    assert found.seed == 0, "two are equally near"
    trained_at(tmp_path / "whole", seed=0, replicates=2)
    for file in ("model.safetensors", "replicates.parquet", "suspicious.parquet"):
        assert (tmp_path / "cut" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    assert not (tmp_path / "cut" / "states").exists()


@pytest.mark.usefixtures("undrawn")
def test_one_training_of_several_may_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(setting: Any, data: Any, compute: Any, seed: int, *others: Any) -> Any:
        if seed == 0:
            raise TrialError("The loss is nan.")
        return train_blind(setting, data, compute, seed, *others)

    monkeypatch.setattr(module, "train_blind", broken)
    found = trained_at(tmp_path, seed=0, replicates=2)
    assert found.replicates is not None
    assert (found.seed, found.replicates.failures) == (1, {0: "The loss is nan."})
    assert (
        "The training with seed 0 failed, and counts nowhere:** `The loss is nan.`"
        in (tmp_path / "report.md").read_text()
    )
