"""How much of a card's memory a training needs, estimated before it starts."""

from dataclasses import dataclass
from typing import Any

from trainers.card.dry_step import NetworkBytes, model_bytes
from trainers.compute import CUDA_ITSELF, PASS_IMAGES, Compute
from trainers.data.image_set import Splits
from trainers.defenses.base import CHUNK, Defense
from trainers.defenses.footprint import DataSize, Trained
from trainers.models import ModelConfig
from trainers.unlabelled import count_of

WORKSPACES = 2**26
"""For cuBLAS and cuBLASLt, which take up to 32 MiB each: an assumption, not measured here."""
HELD = 1.2
"""Factor for what torch holds beyond what it uses (rounded and divided blocks), and for cuDNN's workspaces: an
assumption, not measured here."""
FLOAT_COPIES = 3
"""How many times the images of a step lie on the card as float32 beside the network: the views of a step, those that
are mixed, and what is put together for the pass."""
FEW_FLOATS = 16
"""Numbers that a defense keeps for each sample beside label, targets and logits: scores and marks."""


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes that a training needs on a card.

    Args:
        kept: images, networks, gradients and moments, which are there all the time.
        certain_step: what a step adds in any case, or the evaluation, if that is more.
        largest_step: what a step may add at most.
    """

    kept: int
    certain_step: int
    largest_step: int

    @property
    def least(self) -> int:
        """Tensors that are there together in any case, and CUDA's own part, without any other allowance."""
        return self.kept + self.certain_step + CUDA_ITSELF

    @property
    def certain(self) -> int:
        """What the training needs in any case, with CUDA's own part."""
        return self._with_rest(self.certain_step)

    @property
    def most(self) -> int:
        """What it needs at most, with CUDA's own part."""
        return self._with_rest(self.largest_step)

    @property
    def tensors(self) -> int:
        """What torch allocates at most, workspaces included, without what it holds beyond that."""
        return self.kept + self.largest_step + WORKSPACES

    def _with_rest(self, step: int) -> int:
        return round((self.kept + step) * HELD) + WORKSPACES + CUDA_ITSELF


def memory_need(
    defense: type[Defense], params: Any, model: ModelConfig, data: DataSize, compute: Compute
) -> MemoryNeed:
    """Estimate the need of a training, without what attacks train before it and what cuDNN tries for ``autotune``.

    Args:
        defense: the defense.
        params: its parameters.
        model: the network.
        data: number and shape of the images.
        compute: numeric format, and images that a step with more of them takes in one pass.
    """
    footprint = defense.footprint(params, model, data, compute.pass_images or PASS_IMAGES)
    images = sum(
        copies * count * data.pixels
        for copies, count in ((footprint.copies, data.images), (1, data.unlabelled))
        if count * data.pixels <= compute.image_room  # others are sent batch by batch
    )
    facts = data.images * (8 + 4 * (3 * data.classes + FEW_FLOATS))  # targets, and logits while they are put together
    pairs = [
        (one, model_bytes(one.model, data.shape, data.classes, compute.amp, one.frozen)) for one in footprint.networks
    ]
    networks = sum(_kept(size, one) for one, size in pairs)
    certain = max(_step(size, one, one.certain_pass, one.certain_pass, data) for one, size in pairs)
    largest = max(_step(size, one, one.largest_pass, one.largest_step, data) for one, size in pairs)
    captured = certain if compute.cuda_graphs else 0  # graphs of whole batches keep their memory
    return MemoryNeed(images + facts + networks, certain, largest + captured)


def _kept(size: NetworkBytes, network: Trained) -> int:
    """Weights and buffers, also those of the average, with gradients and moments."""
    return (size.weights + size.buffers) * (1 + network.averaged) + size.trained * (1 + network.moments)


def _step(size: NetworkBytes, network: Trained, images: int, prepared: int, data: DataSize) -> int:
    """The largest of a pass, a prediction, and an update, which copies its weights for each number that it computes.

    Args:
        size: of the network.
        network: the network.
        images: of a pass.
        prepared: images of all passes of the step, which are made before it.
        data: number and shape of the images.
    """
    chunk = min(CHUNK, max(data.images, data.tested))
    pixels = 4 * FLOAT_COPIES * data.pixels
    update = size.trained * (1 + network.moments)
    return max(size.step(images) + pixels * prepared, size.prediction(chunk) + pixels * chunk, update)


def need_in_a_sweep(
    defense: type[Defense], params: Any, model: ModelConfig, splits: Splits, compute: Compute
) -> MemoryNeed:
    """The need of a training of a sweep, which is measured on halves of the test set."""
    tested = (len(splits.test) + 1) // 2
    data = DataSize.of(splits.train, tested, count_of(defense.unlabelled(params), splits))
    return memory_need(defense, params, model, data, compute)
