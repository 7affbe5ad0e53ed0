"""V&B's costly parts written the customary way, for comparison with this project.

A PyTorch ``Dataset`` that turns one sample at a time into PIL images and tensors, torchvision's transforms, a
``DataLoader`` in the training process, networks in torch's default memory format, and Python loops over the samples of
a batch where AttentionMix and the entropy are defined per sample. It computes what ``trainers.defenses.vab`` computes,
with the same networks, batch sizes and optimisers. Nothing in it is slow on purpose: forward passes, losses, upsampling
and suppression are batched, and scoring takes batches as large as the project's.
"""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks.project import fixed_split
from trainers.data import ImageSet
from trainers.data.batches import Normalizer
from trainers.defenses.vab import VabParams
from trainers.models import ModelConfig, build_model

Pixels = NDArray[np.uint8]
SCORING_BATCH = 1000
"""Images per batch in scoring, as in ``Defense.logits_of``."""


class Samples(Dataset[tuple[Any, ...]]):
    """One sample at a time: ``views`` transformed versions of it, its label, its number in the training set.

    Args:
        pixels: uint8 (N, H, W, C), all training images.
        labels: of all of them.
        indices: the samples that belong to this part.
        transform: PIL image -> tensor.
        views: number of times that the transform is applied.
    """

    def __init__(
        self, pixels: Pixels, labels: list[int], indices: Tensor, transform: transforms.Compose, views: int = 1
    ):
        self._pixels = pixels
        self._labels = labels
        self._indices = indices.tolist()
        self._transform = transform
        self._views = views

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, position: int) -> tuple[Any, ...]:
        index = self._indices[position]
        picture = Image.fromarray(self._pixels[index].squeeze())  # squeeze: PIL's grey images have no channel axis
        return *(self._transform(picture) for _ in range(self._views)), self._labels[index], index


class CustomaryVab:
    """V&B in customary PyTorch. Every method that is timed returns the number of images that it processed.

    Args:
        data: the training set.
        model: network of Victim and Beneficiary.
        weights: initial weights of both, as from ``state_dict``.
        normalizer: mean and standard deviation of the channels.
        crop: padding of the random crop.
        device: where to compute.
    """

    def __init__(
        self,
        data: ImageSet,
        model: ModelConfig,
        weights: dict[str, dict[str, Tensor]],
        normalizer: Normalizer,
        crop: int,
        device: torch.device,
    ):
        self.params = VabParams()
        self.device = device
        self.victim, self.beneficiary = (
            build_model(model, data.shape, data.num_classes, seed=0).to(device) for _ in range(2)
        )
        self._weights = {role: {k: v.cpu().clone() for k, v in values.items()} for role, values in weights.items()}
        self._num_classes = data.num_classes
        self._pixels = data.images.permute(0, 2, 3, 1).contiguous().numpy()
        self._labels = data.labels.tolist()
        to_tensor = [transforms.ToTensor(), transforms.Normalize(normalizer.mean.tolist(), normalizer.std.tolist())]
        self._plain = transforms.Compose(to_tensor)
        size = data.images.shape[2:]
        self._augmented = transforms.Compose(
            [transforms.RandomCrop(size, padding=crop), transforms.RandomHorizontalFlip(), *to_tensor]
        )
        self._everything = self._loader(torch.arange(len(data)), self._plain, SCORING_BATCH, shuffle=False)
        self._load_weights()
        logits = self._logits()
        self._first_scores, self._first_belief = torch.tensor(entropies_one_by_one(logits)), self._belief(logits)
        self.reset()

    def reset(self) -> None:
        """Go back to the initial weights and split."""
        torch.manual_seed(0)
        p = self.params
        self._load_weights()
        self._adam = torch.optim.Adam(self.victim.parameters(), p.victim_lr, weight_decay=p.victim_weight_decay)
        self._sgd = torch.optim.SGD(
            self.beneficiary.parameters(), p.lr, momentum=p.momentum, weight_decay=p.weight_decay
        )
        self._previous, self._belief_now = self._first_scores, self._first_belief
        self._split(fixed_split(len(self._labels)))

    def views(self) -> int:
        """Make two augmented views of every credible sample, without training."""
        return sum(len(first) + len(second) for first, second, _, _ in self._credible)

    def mix_epoch(self) -> int:
        """Train an epoch of stage 1, without a new split."""
        self.beneficiary.train()
        count = 0
        for first, second, labels, _ in self._credible:
            images, targets = self._mixed(first, second, self._one_hot(labels))
            self._step(self._sgd, soft_cross_entropy(self.beneficiary(images).logits, targets))
            count += len(images)
        return count

    def suppression_epoch(self) -> int:
        """Train an epoch of stage 2, with its epoch of the Victim and its new split."""
        self.beneficiary.train()
        count = 0
        size = max(len(self._suspicious) // len(self._credible), 1)
        loader = self._loader(self._suspicious, self._augmented, size, views=2, drop_last=True)
        for (first, second, labels, index), others in zip(self._credible, endless(loader), strict=False):
            known = (self._one_hot(labels) - self._belief_now[index].to(self.device)).clamp(0, 1)
            images, targets = self._mixed(first, second, known)
            views, guesses = self._pseudo_labelled(*others)
            logits = self.beneficiary(torch.cat([images, views])).logits
            loss = soft_cross_entropy(logits[: len(images)], targets)
            loss = loss + self.params.early_weight * soft_cross_entropy(logits[len(images) :], guesses)
            self._step(self._sgd, loss)
            count += len(images) + len(views)
        count += self._train_victim()
        self._update_split()
        return count

    def score(self) -> int:
        """Compute the entropies of all samples, and split the samples."""
        scores = self.entropies()
        low, high = scores.min(), scores.max()
        return len((scores - low) / (high - low) > self.params.threshold)

    def entropies(self) -> Tensor:
        """The Victim's prediction entropy on every sample: float (N,)."""
        return torch.tensor(entropies_one_by_one(self._logits()))

    def _load_weights(self) -> None:
        self.victim.load_state_dict(self._weights["victim"])
        self.beneficiary.load_state_dict(self._weights["beneficiary"])

    def _loader(
        self, indices: Tensor, transform: transforms.Compose, size: int, views: int = 1, **options: Any
    ) -> DataLoader[tuple[Any, ...]]:
        samples = Samples(self._pixels, self._labels, indices, transform, views)
        return DataLoader(samples, size, num_workers=0, **{"shuffle": True, **options})

    def _split(self, credible: Tensor) -> None:
        self._suspicious = (~credible).nonzero().squeeze(1)
        kept = credible.nonzero().squeeze(1)
        self._credible = self._loader(kept, self._augmented, self.params.batch_size, views=2)

    def _one_hot(self, labels: Tensor) -> Tensor:
        return functional.one_hot(labels, self._num_classes).float().to(self.device)

    def _mixed(self, first: Tensor, second: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        views = [first.to(self.device), second.to(self.device)]
        with torch.no_grad():
            features = torch.cat([self.beneficiary(view).features for view in views])
        images, targets = torch.cat(views), targets.repeat(2, 1)
        partner = torch.randperm(len(images))
        return attention_mix_one_by_one(images, targets, features, partner, self.params.mask_threshold)

    @torch.no_grad()
    def _pseudo_labelled(self, first: Tensor, second: Tensor, _: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        views = [first.to(self.device), second.to(self.device)]
        guess = (self.beneficiary(views[0]).logits.softmax(1) + self.beneficiary(views[1]).logits.softmax(1)).argmax(1)
        targets = (self._one_hot(guess) - self._belief_now[index].to(self.device)).clamp(0, 1)
        return torch.cat(views), targets.repeat(2, 1)

    def _train_victim(self) -> int:
        self.victim.train()
        for images, labels, _ in self._loader(self._suspicious, self._plain, self.params.victim_batch_size):
            logits = self.victim(images.to(self.device)).logits
            self._step(self._adam, functional.cross_entropy(logits, labels.to(self.device)))
        return len(self._suspicious)

    def _update_split(self) -> None:
        logits = self._logits()
        rate = self.params.smoothing
        scores = rate * torch.tensor(entropies_one_by_one(logits)) + (1 - rate) * self._previous
        self._previous, self._belief_now = scores, self._belief(logits)
        low, high = scores.min(), scores.max()
        self._split((scores - low) / (high - low) > self.params.threshold)

    def _belief(self, logits: Tensor) -> Tensor:
        return functional.softmax(logits / self.params.temperature, dim=1)

    @torch.no_grad()
    def _logits(self) -> Tensor:
        self.victim.eval()
        return torch.cat([self.victim(images.to(self.device)).logits.cpu() for images, _, _ in self._everything])

    @staticmethod
    def _step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def attention_mix_one_by_one(
    images: Tensor, targets: Tensor, features: Tensor, partner: Tensor, mask_threshold: float
) -> tuple[Tensor, Tensor]:
    """AttentionMix with a loop over the batch; equations as in ``trainers.defenses.parts.mixing.attention_mix``.

    Args:
        images: float (N, C, H, W).
        targets: float (N, classes).
        features: float (N, K, h, w), last-stage feature maps.
        partner: int64 (N,), a permutation.
        mask_threshold: attention from which a pixel is mixed.

    Returns:
        Mixed images and targets, of the same shapes.
    """
    energy = features.pow(2).sum(1, keepdim=True)
    maps = functional.interpolate(energy, images.shape[2:], mode="bilinear", align_corners=False).squeeze(1)
    contrast = (energy.amax((1, 2, 3)) > energy.amin((1, 2, 3))).tolist()
    attention = []
    for one, uneven in zip(maps, contrast, strict=True):
        low, high = one.min(), one.max()
        attention.append((one - low) / (high - low) if uneven else torch.ones_like(one))
    totals = [one.sum() for one in attention]
    mixed_images, mixed_targets = [], []
    for i, j in enumerate(partner.tolist()):
        mask = (attention[i] >= mask_threshold).float()
        own = (mask * attention[i]).sum() / totals[i]
        other = (mask * attention[j]).sum() / totals[j]
        keep = own / (own + other)
        mixed_images.append((1 - mask) * images[i] + mask * (keep * images[i] + (1 - keep) * images[j]))
        mixed_targets.append((1 - own + keep * own) * targets[i] + (own - keep * own) * targets[j])
    return torch.stack(mixed_images), torch.stack(mixed_targets)


def entropies_one_by_one(logits: Tensor) -> list[float]:
    """Mean over classes of ``-p log p``, with a loop over the samples: float (N, C) -> N numbers."""
    return [float(torch.special.entr(p).mean()) for p in logits.softmax(1)]


def soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """``-sum_c t_c log p_c``, averaged over the batch."""
    return -(targets * functional.log_softmax(logits, dim=1)).sum(1).mean()


def endless(loader: DataLoader[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    """The batches of ``loader``, over and over."""
    return itertools.chain.from_iterable(itertools.repeat(loader))
