"""The costly parts of V&B as this project computes them, on a fixed split, ready to be timed."""

import copy

import torch
from torch import Tensor

from trainers.compute import Compute
from trainers.data import ImageSet
from trainers.data.augmentation import Augmentation
from trainers.data.batches import shuffled_batches
from trainers.defenses.base import TrainingTask
from trainers.defenses.parts.entropy import normalise, prediction_entropy, split_by_threshold
from trainers.defenses.vab import Vab, VabParams
from trainers.models import ModelConfig
from trainers.seeding import seeded

SUSPICIOUS_SHARE = 0.2
"""Share of the training set: a poison rate of 0.1, and as many clean samples that the Victim is certain of."""


def fixed_split(count: int) -> Tensor:
    """Mask of the credible samples: bool (count,)."""
    credible = torch.ones(count, dtype=torch.bool)
    credible[torch.randperm(count, generator=seeded(0))[: round(SUSPICIOUS_SHARE * count)]] = False
    return credible


class ProjectVab:
    """V&B of ``trainers``. Every method that is timed returns the number of images that it processed.

    Args:
        data: the training set.
        model: network of Victim and Beneficiary.
        augmentation: augmentation of training images.
        compute: where to compute.
    """

    def __init__(self, data: ImageSet, model: ModelConfig, augmentation: Augmentation, compute: Compute):
        self.params = VabParams(warmup_steps=1, warmup_rounds=0)
        self.defense = Vab(self.params, TrainingTask(data, model, augmentation, compute, seed=0))
        self._stages = {stage.name: stage for stage in Vab.stages(self.params)}
        fresh = copy.deepcopy(self.defense.state()["optimizers"])
        self.defense.generator.manual_seed(0)
        self._stages["warmup"].run(self.defense, 0)  # leaves the scores that the other stages start from
        state = self.defense.state()
        # A copy on the host, which takes no memory on the measured device.
        modules = {n: {k: v.cpu().clone() for k, v in weights.items()} for n, weights in state["modules"].items()}
        tensors = {name: tensor.cpu() for name, tensor in state["tensors"].items()}
        tensors["credible"] = fixed_split(len(data))
        self._start = {**state, "modules": modules, "optimizers": fresh, "tensors": tensors}
        self.reset()

    def reset(self) -> None:
        """Go back to the initial weights and split."""
        self.defense.load(self._start)

    def views(self) -> int:
        """Make two augmented views of every credible sample, without training."""
        defense, count = self.defense, 0
        credible = defense.tensors["credible"].nonzero().squeeze(1)
        for batch in shuffled_batches(credible, self.params.batch_size, defense.generator):
            count += len(defense.view(batch)) + len(defense.view(batch))
        return count

    def mix_epoch(self) -> int:
        """Train an epoch of stage 1, without a new split."""
        return self._stages["mix"].run(self.defense, 0).images_seen

    def suppression_epoch(self) -> int:
        """Train an epoch of stage 2, with its epoch of the Victim and its new split."""
        return self._stages["suppression"].run(self.defense, 0).images_seen

    def score(self) -> int:
        """Compute the entropies of all samples, and split the samples."""
        return len(split_by_threshold(normalise(self.entropies()), self.params.threshold))

    def entropies(self) -> Tensor:
        """The Victim's prediction entropy on every sample: float (N,)."""
        return prediction_entropy(self.defense.logits_of(self.defense.victim, self.defense.images))
