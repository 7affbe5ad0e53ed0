"""Replicates: what is compared, and what a training that fails costs."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor

from sweeper.deploy.kept import FILE, keep, kept
from sweeper.deploy.replicates import Replicates, train_replicates, write_replicates
from trainers.blind import Trained
from trainers.data import ImageSet
from trainers.data.batches import Normalizer
from trainers.data.pixels import Rendering
from trainers.errors import TrialError
from trainers.models import ModelConfig, build_model
from trainers.storage.saved_model import WEIGHTS, SavedModel

CPU = torch.device("cpu")
IMAGES = torch.randint(0, 256, (6, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def trained_with(seed: int, credible: list[bool] | None = None) -> Trained:
    """A network as it begins; after it, half of what a training may leave."""
    config = ModelConfig("tiny", width=4)
    model = SavedModel(
        build_model(config, (3, 32, 32), 2, seed), config, Normalizer(torch.full((3,), 0.4), torch.ones(3)), (3, 8, 8),
        ("cat", "dog"), Rendering(background="#ff0000"),
    )  # fmt: skip
    kinds = None if credible is None else torch.tensor(credible)
    return Trained(model, None if kinds is None else torch.arange(len(kinds)) / 3, kinds, [0.1, None])


def replicates(train_one: Callable[[int], Trained], said: list[str] | None = None, count: int = 3) -> Replicates:
    return train_replicates(range(5, 5 + count), train_one, IMAGES, CPU, [].append if said is None else said.append)


def test_verdicts_and_predictions_are_those_of_the_models(tmp_path: Path) -> None:
    kept_as_clean = {5: [True] * 6, 6: [False] + [True] * 5, 7: [False, False] + [True] * 4}
    found = replicates(lambda seed: trained_with(seed, kept_as_clean[seed]))
    wanted = [trained_with(seed).model.probabilities(IMAGES).argmax(1).tolist() for seed in (5, 6, 7)]
    assert found.predictions.tolist() == wanted
    assert found.marked_by is not None
    assert found.marked_by.tolist() == [2 / 3, 1 / 3, 0, 0, 0, 0]
    assert (found.seeds, found.failures, found.asked) == ((5, 6, 7), {}, 3)
    assert found.chosen == 5 + found.agreement.nearest

    data = ImageSet(IMAGES, torch.tensor([0, 0, 0, 1, 1, 1]), ("cat", "dog"), tuple("abcdef"))
    write_replicates(found, data, tmp_path)
    table = pq.read_table(tmp_path / "replicates.parquet").to_pydict()
    assert list(table) == [
        "index", "path", "label", "marked_by", "verdict_5", "verdict_6", "verdict_7",
        "prediction_5", "prediction_6", "prediction_7",
    ]  # fmt: skip
    assert (table["path"], table["label"]) == ([*"abcdef"], ["cat"] * 3 + ["dog"] * 3)
    assert table["verdict_7"] == ["suspicious"] * 2 + ["credible"] * 4
    assert table["prediction_6"] == [data.class_names[label] for label in wanted[1]]
    assert table["marked_by"] == found.marked_by.tolist()


def test_a_defense_may_mark_nothing(tmp_path: Path) -> None:
    found = replicates(trained_with)
    assert (found.marks, found.marked_by, found.agreement.jaccard) == (None, None, None)
    write_replicates(found, ImageSet(IMAGES, torch.tensor([0, 1] * 3), ("cat", "dog")), tmp_path)
    assert "verdict_5" not in pq.read_schema(tmp_path / "replicates.parquet").names


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (TrialError("The loss is nan."), "The loss is nan."),
        (RuntimeError("CUDA error: unspecified\nand more"), "RuntimeError: CUDA error: unspecified"),
    ],
)
def test_a_training_that_fails_costs_no_other(error: Exception, reason: str) -> None:
    def train_one(seed: int) -> Trained:
        if seed == 6:
            raise error
        return trained_with(seed)

    said: list[str] = []
    found = replicates(train_one, said)
    assert (found.seeds, found.failures, len(found.predictions)) == ((5, 7), {6: reason}, 2)
    assert (found.asked, found.chosen) == (3, 5)
    assert said == [
        "Model 1 of 3 (seed 5)", "Model 2 of 3 (seed 6)", f"Model 2 of 3 (seed 6) failed: {reason}",
        "Model 3 of 3 (seed 7)",
    ]  # fmt: skip


def test_a_model_whose_predictions_are_not_finite_failed() -> None:
    def train_one(seed: int) -> Trained:
        trained = trained_with(seed, [True] * 6)
        if seed == 5:
            trained.model.normalise.std.fill_(0)
        return trained

    found = replicates(train_one)
    assert found.failures == {5: "The network's predictions are not finite."}
    assert found.marks is not None
    assert found.marks.shape == found.predictions.shape == (2, 6)


def test_where_all_fail_the_command_does() -> None:
    def broken(seed: int) -> Trained:
        raise TrialError("The loss is nan.")

    with pytest.raises(TrialError, match=r"None of 2 models could be trained \(seed 5: The loss is nan; seed 6: The"):
        replicates(broken, count=2)


@pytest.mark.parametrize("credible", [None, [True, False, True]])
def test_what_was_kept_comes_back_to_the_bit(tmp_path: Path, credible: list[bool] | None) -> None:
    before = trained_with(3, credible)
    keep(before, tmp_path / "kept")
    after = kept(tmp_path / "kept")
    assert after is not None
    assert after.losses == [0.1, None]
    assert [as_list(x) for x in (after.suspicion, after.credible)] == [
        as_list(x) for x in (before.suspicion, before.credible)
    ]
    for name, model in (("before", before.model), ("after", after.model)):
        model.save(tmp_path / name)
    assert files(tmp_path / "before") == files(tmp_path / "after")


def test_what_cannot_be_read_was_not_kept(tmp_path: Path) -> None:
    assert kept(tmp_path) is None
    for damaged in (FILE, WEIGHTS):
        keep(trained_with(3), tmp_path)
        (tmp_path / damaged).write_bytes(b"x")
        assert kept(tmp_path) is None


def as_list(tensor: Tensor | None) -> list[float] | None:
    return None if tensor is None else np.asarray(tensor).tolist()


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}
