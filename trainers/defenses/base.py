"""Base class of defenses: a list of stages over untrusted data, with a state that can be saved."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from trainers.compute import Compute
from trainers.data.augmentation import Augmentation, augment
from trainers.data.batches import shuffled_batches
from trainers.data.image_set import ImageSet
from trainers.data.stored import Gathered, Images
from trainers.defenses.footprint import DataSize, Footprint, Trained
from trainers.errors import TrialError
from trainers.models import ModelConfig, ModelOutput, Network, build_model
from trainers.models.normalizer import normalizer_of
from trainers.optim import Descent, OptimizerParams, frozen_parts
from trainers.optim.descent import Average
from trainers.optim.parts import freeze
from trainers.params import Parameters
from trainers.placement import Sent, ahead, chunks, placed
from trainers.seeding import derive_seed

CHUNK = 1000
"""Images in one pass of a prediction."""


@dataclass(frozen=True)
class Unlabelled:
    """The unlabelled images that a defense needs.

    Args:
        source: source of the images, see :mod:`trainers.unlabelled`.
        count: number of images; null: all.
    """

    source: str
    count: int | None


@dataclass(frozen=True)
class TrainingTask:
    """Everything that a defense gets: images, their given labels, and how to compute; not the truth about them.

    Args:
        data: the untrusted training set.
        model: the network to train.
        augmentation: augmentation of training images.
        compute: where to compute.
        seed: seed from which every random draw of the defense derives.
        unlabelled: uint8 (M, C, H, W), images without labels, for defenses that ask for them.
    """

    data: ImageSet
    model: ModelConfig
    augmentation: Augmentation
    compute: Compute
    seed: int
    unlabelled: Images | None = None


@dataclass(frozen=True)
class Report:
    """What a defense reports after an epoch; the monitor measures it.

    Args:
        loss: mean training loss of the epoch; null if nothing was trained.
        images_seen: images that went forward and backward in this epoch; each augmented view counts as one.
        model: the network that would be deployed if training ended here; null while there is none.
        suspicion: float (N,), higher is more suspicious; null if the defense gives no scores.
        credible: bool (N,), the samples that the defense treats as clean; null if the defense marks none.
    """

    loss: float | None
    images_seen: int
    model: Network | None = None
    suspicion: Tensor | None = None
    credible: Tensor | None = None


@dataclass(frozen=True)
class Stage:
    """Epochs whose result depends on the parameters that this stage and the earlier ones read.

    Args:
        name: shown in curves and errors.
        epochs: number of epochs.
        reads: names of the parameters that this stage reads.
        run: the method that trains one epoch, given its number from 0 in this stage.
    """

    name: str
    epochs: int
    reads: tuple[str, ...]
    run: Callable[[Any, int], Report]


@dataclass(frozen=True)
class Trunk:
    """The first stages of a training, with all that their result depends on beside the task.

    Args:
        defense: name of the defense whose stages they are.
        params: the parameters that they read, those at their defaults left out.
        stages: how many they are.
    """

    defense: str
    params: dict[str, Any]
    stages: int


class LossMeter:
    """Mean of batch losses, kept on the device so that no batch waits for the host."""

    def __init__(self, device: torch.device):
        self._total = torch.zeros((), device=device)
        self._batches = 0
        self.images = 0

    def add(self, loss: Tensor, images: int) -> None:
        """Add the scalar ``loss`` of a batch of ``images`` images."""
        self._total += loss.detach()
        self._batches += 1
        self.images += images

    def mean(self) -> float | None:
        """The mean over batches; null if there was no batch."""
        return float(self._total) / self._batches if self._batches else None


class Defense(ABC):
    """Trains a network on untrusted data.

    A subclass puts everything that changes in training into ``modules``, ``descents`` and ``tensors``; together with
    the generator and the position these are its state, which can be saved and loaded between any two epochs.

    Args:
        params: an instance of the class's ``Params``.
        task: what to train on.
    """

    name: ClassVar[str]
    Params: ClassVar[type[Parameters]]

    def __init__(self, params: Any, task: TrainingTask):
        self.params = params
        self.task = task
        self.device = task.compute.device
        self.images = placed(task.data.images, task.compute)
        self.labels = task.data.labels.to(self.device)
        self.normalise = normalizer_of(task.model, task.data.images, self.device)
        self.generator = torch.Generator(device=self.device)
        self.modules: dict[str, nn.Module] = {}
        self.descents: dict[str, Descent] = {}
        self.tensors: dict[str, Tensor] = {}
        self._stage = 0
        self._epoch = 0
        sizes = [value for key, value in params.as_dict().items() if key.endswith("batch_size")]
        self._fixed_sizes = {*sizes, *(2 * size for size in sizes)}
        self._of_fixed_size: dict[nn.Module, Callable[..., ModelOutput]] = {}

    @classmethod
    def check(cls, params: Any, data: ImageSet, model: ModelConfig) -> None:
        """Check, before anything is trained, that the parameters fit the training set and the network.

        Raises:
            ConfigError: the parameters do not fit.
        """
        if params.frozen_parts != "none":
            network = build_model(model.architecture, data.shape, data.num_classes, seed=0)
            frozen_parts("frozen_parts", params.frozen_parts, network)

    @classmethod
    def unlabelled(cls, params: Any) -> Unlabelled | None:
        """The unlabelled images that the defense needs; null: none."""
        return None

    @classmethod
    def trunk(cls, params: Any, stages: int) -> Trunk:
        """The first ``stages``. Defenses and settings with the same trunk share these stages to the last bit.

        A defense that begins with the stages of another one names that one; it has the networks and optimisers of these
        stages under the same names.
        """
        read = {key for stage in cls.stages(params)[:stages] for key in stage.reads}
        return Trunk(cls.name, {key: value for key, value in params.changed().items() if key in read}, stages)

    @classmethod
    def footprint(cls, params: Any, model: ModelConfig, data: DataSize, pass_images: int) -> Footprint:
        """What the defense keeps on the device; by default one network that is trained in batches.

        Args:
            params: parameters of the defense.
            model: the network to train.
            data: number and shape of the images.
            pass_images: images that a step with more of them takes in one pass.
        """
        return Footprint((cls.trained(params, model, params.batch_size, data.images),))

    @staticmethod
    def trained(params: OptimizerParams, model: ModelConfig, batch_size: int, images: int) -> Trained:
        """A network that is trained in batches of ``batch_size`` of ``images`` images, with all options."""
        most = min(batch_size + 1, images)
        averaged = params.ema_decay is not None
        return Trained(
            model, params.moments, min(batch_size, images), most, most, frozen=params.frozen_parts, averaged=averaged
        )

    @classmethod
    @abstractmethod
    def stages(cls, params: Any) -> list[Stage]:
        """The stages, in order. Together they read every parameter that changes the result."""

    def epochs(self) -> Iterator[tuple[Stage, Report]]:
        """Train from the current position to the end, one epoch at a time.

        Raises:
            TrialError: a loss is not finite.
        """
        stages = self.stages(self.params)
        while self._stage < len(stages):
            stage = stages[self._stage]
            if self._epoch >= stage.epochs:
                self._stage, self._epoch = self._stage + 1, 0
                continue
            self.task.compute.next_step()
            if self._epoch == 0:
                self.generator.manual_seed(self.stage_seed(self._stage))
            report = stage.run(self, self._epoch)
            self._epoch += 1
            if report.loss is not None and not torch.isfinite(torch.tensor(report.loss)):
                raise TrialError(f"The loss is {report.loss} in epoch {self._epoch} of stage {stage.name}.")
            yield stage, report

    @property
    def stage_ended(self) -> bool:
        """Whether the epoch just trained was the last one of its stage."""
        stages = self.stages(self.params)
        return self._stage < len(stages) and self._epoch >= stages[self._stage].epochs

    def stage_seed(self, index: int) -> int:
        """Seed of a stage. It depends on the parameters read so far: settings that agree in these get equal numbers."""
        trunk = self.trunk(self.params, index + 1)
        return derive_seed(self.task.seed, trunk.defense, index, trunk.params)

    def state(self) -> dict[str, Any]:
        """Everything that changes in training, as a tree for :func:`trainers.storage.state.save_state`."""
        return {
            "position": [self._stage, self._epoch],
            "generator": self.generator.get_state(),
            "modules": {name: module.state_dict() for name, module in self.modules.items()},
            "optimizers": {name: descent.state_dict() for name, descent in self.descents.items()},
            "tensors": dict(self.tensors),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Continue from a state that :meth:`state` returned, in memory or read from a file."""
        self._stage, self._epoch = state["position"]
        self.generator.set_state(state["generator"].cpu())
        for name, module in self.modules.items():
            module.load_state_dict(state["modules"][name])
        for name, descent in self.descents.items():
            descent.load_state_dict(state["optimizers"][name])
        self.tensors = {name: tensor.to(self.device, copy=True) for name, tensor in state["tensors"].items()}

    def begin(self, state: dict[str, Any]) -> None:
        """Begin at the end of a trunk, from the state that any defense with this trunk had there.

        Networks and optimisers that the trunk does not train stay as they are.
        """
        own = self.state()
        self.load({**state, **{kind: own[kind] | state[kind] for kind in ("modules", "optimizers")}})

    def new_network(self, role: str, model: ModelConfig | None = None) -> Network:
        """A new network on the device, initialised by a seed of its own and added to the state as ``role``."""
        data = self.task.data
        seed = derive_seed(self.task.seed, self.name, role)
        network = build_model(model or self.task.model, data.shape, data.num_classes, seed)
        self.task.compute.place(network)
        self.modules[role] = network
        return network

    def new_descent(
        self,
        role: str,
        network: Network,
        params: OptimizerParams,
        *,
        lr: float | None = None,
        by_parts: bool = True,
        averaged: bool = True,
    ) -> Descent:
        """The descent of a network of the task's model, added to the state as ``role``, and its average with it.

        Args:
            role: that of the network.
            network: the weights that have a gradient are trained.
            params: optimiser and options.
            lr: learning rate until another is set; null: that of ``params``.
            by_parts: whether ``frozen_parts`` and ``backbone_lr_factor`` apply; else all has the same rate.
            averaged: whether ``ema_decay`` applies.
        """
        still = freeze(network, frozen_parts("frozen_parts", params.frozen_parts, network)) if by_parts else []
        factor = params.backbone_lr_factor if by_parts else 1.0
        lr = lr or params.lr
        average = None
        if averaged and params.ema_decay is not None:
            average = Average(network, self.new_network(f"{role}_average"), params.ema_decay)
        self.descents[role] = Descent(
            network,
            params.new_optimizer(network, lr, factor, self.task.compute.fused),
            lr,
            warmup_steps=params.lr_warmup_steps,
            clip_norm=params.clip_norm,
            still=still,
            average=average,
        )
        return self.descents[role]

    def batches(self, chosen: Tensor, batch_size: int) -> Iterator[Tensor]:
        """The ``chosen`` indices as :func:`shuffled_batches` has them, each batch's images read ahead."""
        yield from self.ahead(list(shuffled_batches(chosen, batch_size, self.generator)))

    def ahead(self, batches: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yield ``batches`` of indices; the images of the next ones are read meanwhile, if they are not on the device.

        They are found by the very tensor that is yielded. At most two batches are in use at a time.
        """
        return ahead(self.images, batches)

    def ahead_in_pairs(self, pairs: Iterable[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
        """As :meth:`ahead`, for two batches at a time."""
        batches = self.ahead([batch for pair in pairs for batch in pair])
        yield from zip(batches, batches, strict=True)

    def view(self, indices: Tensor) -> Tensor:
        """Augmented, normalised training images: float (M, C, H, W)."""
        chosen = self.images.index_select(0, indices)
        return self.normalise(augment(chosen, self.task.augmentation, self.generator))

    def run_network(self, network: nn.Module, images: Tensor) -> ModelOutput:
        """Output of a forward pass, in bfloat16 if autocast is on.

        Where networks are compiled, whole batches, and two views of them, run code for exactly this size; last batches
        and others whose size changes share code for any size.
        """
        run: Callable[..., ModelOutput] = network
        if self.task.compute.compile and len(images) in self._fixed_sizes:
            if network not in self._of_fixed_size:
                self._of_fixed_size[network] = self.task.compute.of_fixed_size(network)
            run = self._of_fixed_size[network]
        elif self.task.compute.compile:
            torch._dynamo.maybe_mark_dynamic(images, 0)  # so that height and width stay constants
        with self.task.compute.autocast():
            return run(images)

    @torch.no_grad()
    def logits_of(self, network: nn.Module, images: Tensor | Gathered | Sent, batch_size: int = CHUNK) -> Tensor:
        """Logits of ``images``, uint8 (M, C, H, W), not augmented: float (M, classes). Leaves ``network`` in eval."""
        network.eval()
        some = chunks(images, batch_size, self.device)
        return torch.cat([self.run_network(network, self.normalise(c)).logits.float() for c in some])

    def step(self, descent: Descent, loss: Tensor) -> None:
        """One step of gradient descent on ``loss``."""
        self.step_in_passes(descent, [loss])

    def step_in_passes(self, descent: Descent, losses: Iterable[Tensor]) -> Tensor:
        """One step of gradient descent on the sum of ``losses``.

        Args:
            descent: of the network.
            losses: float scalars; each is computed when the memory of the one before it has been freed.

        Returns:
            The sum, detached: float scalar.
        """
        parts: list[Tensor] = []
        descent.optimizer.zero_grad(set_to_none=True)
        for loss in losses:
            loss.backward()
            parts.append(loss.detach())
            del loss
        descent.step()
        self.task.compute.next_step()
        return parts[0] if len(parts) == 1 else torch.stack(parts).sum()
