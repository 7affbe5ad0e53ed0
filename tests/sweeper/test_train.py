"""Training with a chosen setting."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from sweeper import train as module
from sweeper.deployment import Deployment
from sweeper.train import train
from trainers.compute import Compute
from trainers.data.shapes import make_shapes
from trainers.state_store import StateStore


def test_a_training_is_gone_on_with_only_where_its_states_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Generators of a CPU read no states of a GPU's; and a model has one numeric format."""
    data = make_shapes(20, 4, 0).train
    chosen = Deployment.model_validate(
        {
            "defense": "none",
            "params": {"epochs": 1},
            "model": {"name": "tiny"},
            "augment": {},
            "images": {"image_shape": list(data.images.shape[1:]), "class_names": list(data.class_names)},
        }
    )
    opened = []

    def cut_off(setting: Any, data: Any, compute: Compute, seed: int, store: StateStore, *_: Any) -> None:
        opened.append(store.folder)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "train_blind", cut_off)
    cpu, other = torch.device("cpu"), torch.device("meta")
    for compute in (Compute(cpu), Compute(other), Compute(cpu, amp=True), Compute(cpu)):
        with suppress(KeyboardInterrupt):
            train(chosen, data, "shapes", tmp_path, compute, 0, Console(quiet=True))
    assert opened[0] == opened[3]
    assert len(set(opened)) == 3
