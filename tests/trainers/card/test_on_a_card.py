"""The estimate beside what torch allocates."""

from collections.abc import Callable

import pytest
import torch

from trainers.card.need import memory_need
from trainers.compute import ComputeConfig
from trainers.data import ImageSet
from trainers.data.augmentation import Augmentation
from trainers.defenses.base import TrainingTask
from trainers.defenses.footprint import DataSize
from trainers.defenses.vab import Vab, VabParams
from trainers.models import ModelConfig


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
@pytest.mark.parametrize("amp", ["on", "off"])
def test_the_estimate_is_enough_and_at_most_twice_what_is_allocated(noise: Callable[..., ImageSet], amp: str) -> None:
    data, model = noise(3000), ModelConfig("tiny")
    compute = ComputeConfig(device="cuda", amp=amp).open(1.0)
    # All steps have two views of a batch, and no more: suspicious samples are left out.
    params = VabParams(batch_size=1024, mix_epochs=2, suppression_epochs=1, suppression="filter", threshold=0.0)
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    defense = Vab(params, TrainingTask(data, model, Augmentation(crop=1), compute, 0))
    for _ in defense.epochs():
        pass
    allocated = torch.cuda.max_memory_allocated() - before
    need = memory_need(Vab, params, model, DataSize.of(data), compute)
    assert allocated <= need.tensors <= 2 * allocated, (allocated, need)
