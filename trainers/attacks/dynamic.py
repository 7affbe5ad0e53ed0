"""Dynamic, input-aware (arXiv 2010.08138): each image gets a trigger of its own, from trained generators."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainers.attacks.artifact_cache import ArtifactCache
from trainers.attacks.base import Attack
from trainers.attacks.blending import to_pixels
from trainers.attacks.labels import LabelMap
from trainers.attacks.scale import enlarged, enlargement
from trainers.compute import Compute
from trainers.data.batches import Normalizer, shuffled_batches
from trainers.data.image_set import ImageSet
from trainers.data.stored import Images
from trainers.errors import ConfigError
from trainers.models import ModelConfig, build_model, check_network
from trainers.params import Parameters, param
from trainers.placement import ahead, placed
from trainers.seeding import seeded

WIDTH = 16
"""Channels of the generators' first layer."""
BATCH = 128
GENERATOR_LR = 2e-3
SHARPNESS = 10.0
"""Slope of the mask's sigmoid, steep so that most mask values are close to 0 or 1."""
EPSILON = 1e-4
"""Keeps quotients of distances finite."""
TINY = 1e-12
"""Keeps the gradient of the square root finite where two images are equal."""


@dataclass(frozen=True)
class DynamicParams(Parameters):
    """Generators and cross-trigger samples. Cover rate and diversity weight are the paper's, the rest our choice."""

    mask_epochs: int = param(5, ge=1, doc="passes over the clean set that train the mask generator")
    pattern_epochs: int = param(
        10, ge=1, doc="passes over the clean set that train the pattern generator and the surrogate together"
    )
    density: float = param(0.05, gt=0, le=1, doc="share of the pixels that the mask may cover without a penalty")
    density_weight: float = param(100.0, ge=0, doc="weight of the penalty on a mask that covers more than density")
    diversity_weight: float = param(1.0, ge=0, doc="weight of the diversity loss")
    backdoor_share: float = param(
        0.1, gt=0, lt=0.5, doc="share of a batch with each image's own trigger; an equal share gets another image's"
    )
    surrogate: str = param("tiny", check=check_network, doc="network of the attacker's surrogate")
    cover_rate: float = param(
        0.1, ge=0, lt=1, doc="cover samples (another image's trigger, true label), as a share of the whole set"
    )


class Generator(nn.Module):
    """Encoder and decoder with half and quarter resolution in the middle, for images of 4x4 pixels or more.

    Args:
        in_channels: channels of the images.
        out_channels: 1 for a mask, the images' channels for a pattern.
        factor: squares of so many pixels a side are averaged first, and what is made of them is enlarged.
    """

    def __init__(self, in_channels: int, out_channels: int, factor: int = 1):
        super().__init__()
        self._factor = factor
        self.first = _layer(in_channels, WIDTH)
        self.second = _layer(WIDTH, 2 * WIDTH)
        self.third = _layer(2 * WIDTH, WIDTH)
        self.last = nn.Conv2d(WIDTH, out_channels, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        """``images``: float (N, in_channels, H, W) -> (N, out_channels, H, W), without bounds."""
        fine = self.first(functional.avg_pool2d(images, self._factor, ceil_mode=True))
        middle = self.second(functional.avg_pool2d(fine, 2))
        coarse = functional.interpolate(functional.avg_pool2d(middle, 2), middle.shape[2:], mode="nearest")
        up = functional.interpolate(self.third(middle + coarse), fine.shape[2:], mode="nearest")
        made = enlarged(self.last(up + fine), self._factor)
        return made[:, :, : images.shape[2], : images.shape[3]]


def _layer(in_channels: int, out_channels: int) -> nn.Sequential:
    # Batch-norm would make an image's trigger depend on the other images of its batch.
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 3, padding=1), nn.GroupNorm(4, out_channels), nn.ReLU())


def diversity_loss(images: Tensor, others: Tensor, made: Tensor, others_made: Tensor) -> Tensor:
    """Mean of ``|x - x'| / |g(x) - g(x')|`` (equation 7 of the paper): large if different images get similar triggers.

    Args:
        images, others: float (M, C, H, W).
        made, others_made: the generator's outputs for these: float (M, K, H, W).
    """
    apart, made_apart = (_distance(a, b) for a, b in ((images, others), (made, others_made)))
    return (apart / (made_apart + EPSILON)).mean()


def _distance(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).square().flatten(1).mean(1).clamp_min(TINY).sqrt()


class Dynamic(Attack):
    """``x + m(x) (p(x) - x)``, with a mask m and a pattern p that depend on the image.

    The mask generator is trained first, for diverse and sparse masks. Then the pattern generator is trained together
    with a surrogate, which learns three parts of each batch: images with their own trigger (the attacker's label),
    images with another image's trigger (their own label), and clean images. An interpretation: the paper's attacker
    trains the victim's own classifier in this way and hands it over; here the generators are kept and poison a data
    set, as V&B's authors use them. Differences from the authors' code: the generators' layers and the number of passes;
    the density (0.05, theirs 0.032), which applies to a whole mask and not to each pixel; the cap on the masks'
    diversity loss, which is lower (EPSILON 1e-4, theirs 1e-7); and the generators' learning rate (2e-3, theirs 1e-2).
    In large images masks and patterns are enlarged as patches are.
    """

    name: ClassVar[str] = "dynamic"
    Params = DynamicParams
    params: DynamicParams
    _mask: Generator
    _pattern: Generator
    _donors: Images

    def __init__(self, params: DynamicParams, label_map: LabelMap, shape: tuple[int, int, int], seed: int):
        super().__init__(params, label_map, shape, seed)
        if min(shape[1:]) < 4:
            raise ConfigError(f"dynamic needs images of 4x4 pixels or more, but these are {shape[1]}x{shape[2]}.")

    def prepare(self, clean: ImageSet, rate: float, artifacts: ArtifactCache) -> None:
        """Train the generators, and keep the clean images: cover samples carry their triggers."""

        def make(seed: int) -> dict[str, Tensor]:
            made = self._generators(seed)
            self._train(*made, clean, artifacts.compute, seed)
            return _named("mask", made[0]) | _named("pattern", made[1])

        trained = {name: value for name, value in self.params.changed().items() if name != "cover_rate"}
        parts = [trained, self.label_map.target, self.label_map.num_classes, clean.fingerprint]
        tensors = artifacts.made("dynamic", parts, make)
        self._mask, self._pattern = self._generators(0)
        for name, generator in (("mask", self._mask), ("pattern", self._pattern)):
            generator.load_state_dict(_part(name, tensors))
            generator.eval()
        self._donors = clean.images

    def trigger(self, images: Tensor) -> Tensor:
        """Give each of ``images``, uint8 (M, C, H, W), its own trigger."""
        return self._apply(images, images)

    def cover_images(self, images: Tensor, chosen: Tensor, generator: torch.Generator) -> Tensor:
        """Give each of ``images`` the trigger of another training image."""
        # A shift by 1 to N - 1 never ends at the image itself.
        shift = torch.randint(1, max(len(self._donors), 2), (len(chosen),), generator=generator)
        return self._apply(images, self._donors[(chosen + shift) % len(self._donors)])

    def _generators(self, seed: int) -> tuple[Generator, Generator]:
        channels, factor = self.shape[0], enlargement(self.shape)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return Generator(channels, 1, factor), Generator(channels, channels, factor)

    @torch.no_grad()
    def _apply(self, images: Tensor, donors: Tensor) -> Tensor:
        chunks = []
        for own, donor in zip(images.split(1000), donors.split(1000), strict=True):
            scaled = donor.float() / 255
            mask, pattern = _mask(self._mask, scaled), _pattern(self._pattern, scaled) * 255
            chunks.append(to_pixels(own.float() + mask * (pattern - own.float())))
        return torch.cat(chunks) if chunks else images.clone()

    def _train(self, masker: Generator, painter: Generator, clean: ImageSet, compute: Compute, seed: int) -> None:
        p, device = self.params, compute.device
        images, labels = placed(clean.images, compute), clean.labels.to(device)
        normalise = Normalizer.fit(clean.images, device)
        network = build_model(ModelConfig(p.surrogate), self.shape, clean.num_classes, seed)
        for module in (masker, painter, network):
            module.to(device)
        everything, generator = torch.arange(len(images), device=device), seeded(seed, device)
        fused = compute.fused or None
        optimizer = torch.optim.Adam(masker.parameters(), GENERATOR_LR, fused=fused)
        for _ in range(p.mask_epochs):
            for batch in ahead(images, list(shuffled_batches(everything, BATCH, generator))):
                scaled = images[batch].float() / 255
                masks, other = _mask(masker, scaled), torch.arange(len(batch), device=device).roll(1)
                taken = (masks.mean((1, 2, 3)) - p.density).clamp_min(0).mean()
                varied = diversity_loss(scaled, scaled[other], masks, masks[other])
                _step(optimizer, p.density_weight * taken + p.diversity_weight * varied)
        masker.requires_grad_(False)
        # The surrogate has no warm-up of its own: it and the pattern generator start untrained, as in the paper.
        optimizers = (
            torch.optim.Adam(painter.parameters(), GENERATOR_LR, fused=fused),
            torch.optim.SGD(network.parameters(), 0.05, momentum=0.9, weight_decay=5e-4, fused=fused),
        )
        network.train()
        for _ in range(p.pattern_epochs):
            for batch in ahead(images, list(shuffled_batches(everything, BATCH, generator))):
                scaled = images[batch].float() / 255
                share = max(round(p.backdoor_share * len(batch)), 1)
                own, crossed = slice(0, share), slice(share, 2 * share)
                other = torch.arange(len(batch), device=device).roll(1)
                masks, patterns = _mask(masker, scaled), _pattern(painter, scaled)
                mixed, wanted = scaled.clone(), labels[batch].clone()
                mixed[own] = scaled[own] + masks[own] * (patterns[own] - scaled[own])
                alien = other[crossed]
                mixed[crossed] = scaled[crossed] + masks[alien] * (patterns[alien] - scaled[crossed])
                wanted[own] = self.target_of(wanted[own])
                logits = network(normalise(mixed * 255)).logits
                varied = diversity_loss(scaled, scaled[other], patterns, patterns[other])
                loss = functional.cross_entropy(logits, wanted) + p.diversity_weight * varied
                _step(optimizers, loss)


def _mask(generator: Generator, scaled: Tensor) -> Tensor:
    return torch.sigmoid(SHARPNESS * generator(scaled))


def _pattern(generator: Generator, scaled: Tensor) -> Tensor:
    return torch.sigmoid(generator(scaled))


def _step(optimizers: torch.optim.Optimizer | tuple[torch.optim.Optimizer, ...], loss: Tensor) -> None:
    several = optimizers if isinstance(optimizers, tuple) else (optimizers,)
    for optimizer in several:
        optimizer.zero_grad(set_to_none=True)
    loss.backward()
    for optimizer in several:
        optimizer.step()


def _named(prefix: str, module: nn.Module) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor.cpu() for name, tensor in module.state_dict().items()}


def _part(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(f"{prefix}."): t for name, t in tensors.items() if name.startswith(f"{prefix}.")}
