"""Memory of one step of training, found without memory and without computing: tensors of the step have only a shape."""

import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from trainers.models import ModelConfig, build_model
from trainers.optim import frozen_parts
from trainers.optim.parts import freeze

FEW, MANY = 16, 4096
"""The numbers of images for which a step is looked at.

Of a step with more images, the peak may lie at another layer, with more bytes for each image. So the straight line
between the two is never too low between them.
"""


@dataclass(frozen=True)
class NetworkBytes:
    """Bytes of a network, and those of a pass beside weights, gradients, moments and the images themselves.

    Args:
        weights: all parameters.
        trained: those of them that are trained, and so have gradients and moments.
        buffers: what batch-norm keeps.
        step_fixed: of a forward and backward pass, what does not depend on the number of images.
        step_per_image: of such a pass, what each image takes.
        prediction_per_image: of a forward pass in float32 that keeps nothing, what each image takes.
    """

    weights: int
    trained: int
    buffers: int
    step_fixed: float
    step_per_image: float
    prediction_per_image: float

    def step(self, images: int) -> int:
        """Bytes of a forward and backward pass of ``images`` images."""
        return round(self.step_fixed + self.step_per_image * images) if images else 0

    def prediction(self, images: int) -> int:
        """Bytes of a prediction for ``images`` images at once."""
        return round(self.prediction_per_image * images)


class _Peak(TorchDispatchMode):
    """Counts the bytes of the tensors that come to be and cease to be; those that share their memory count once."""

    def __init__(self, known: Iterable[Tensor]):
        super().__init__()  # type: ignore[no-untyped-call]
        self._alive = {tensor.untyped_storage()._cdata for tensor in known}
        self._now = 0
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._meet(leaf.untyped_storage())
        return result

    def _meet(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key not in self._alive:
            self._alive.add(key)
            self._now += size
            self.bytes = max(self.bytes, self._now)
            weakref.finalize(storage, self._lose, key, size)

    def _lose(self, key: int, size: int) -> None:
        self._alive.discard(key)
        self._now -= size


def network_bytes(build: Callable[[], nn.Module], shape: tuple[int, int, int], amp: bool) -> NetworkBytes:
    """What a network takes, found by three dry passes.

    Args:
        build: makes the network, whose output has ``logits``, with frozen weights marked as such.
        shape: channels, height and width of an image.
        amp: whether the forward pass of training runs under bfloat16 autocast.
    """
    # Its import takes seconds, which only commands that ask for the memory should wait for.
    from torch._subclasses.fake_tensor import FakeTensorMode

    with torch.random.fork_rng(devices=[]):
        network = build()  # outside of the mode: networks of timm read values while they are built
    with FakeTensorMode() as mode:
        network._apply(mode.from_tensor)
        updated = [weight for weight in network.parameters() if weight.requires_grad]
        for weight in updated:
            weight.grad = torch.empty_like(weight)
        few, many = (_peak(network, images, shape, amp, train=True) for images in (FEW, MANY))
        seen = _peak(network, MANY, shape, amp=False, train=False)
    per_image = (many - few) / (MANY - FEW)
    weights, trained, buffers = (
        sum(t.nbytes for t in tensors) for tensors in (network.parameters(), updated, network.buffers())
    )
    return NetworkBytes(weights, trained, buffers, few - FEW * per_image, per_image, seen / MANY)


def _peak(network: nn.Module, images: int, shape: tuple[int, int, int], amp: bool, train: bool) -> int:
    """Most bytes at once of a pass, with the backward pass if ``train``."""
    network.train(train)
    given = torch.empty(images, *shape).to(memory_format=torch.channels_last)
    gradients = [weight.grad for weight in network.parameters() if weight.grad is not None]
    known = [*network.parameters(), *network.buffers(), *gradients, given]
    with _Peak(known) as peak, torch.set_grad_enabled(train):
        # Fake tensors are on the CPU; there, autocast takes convolutions and linear layers to bfloat16 as on CUDA.
        with torch.autocast("cpu", torch.bfloat16, enabled=amp):
            logits = network(given).logits
        if train:
            labels = torch.empty(images, dtype=torch.long)
            functional.cross_entropy(logits.float(), labels).backward()
    return int(peak.bytes)


@lru_cache
def model_bytes(
    model: ModelConfig, shape: tuple[int, int, int], classes: int, amp: bool, frozen: str = "none"
) -> NetworkBytes:
    """:func:`network_bytes` of a network by its name; ``frozen``: parts that are not trained."""

    def build() -> nn.Module:
        network = build_model(model.architecture, shape, classes, seed=0)
        freeze(network, frozen_parts("frozen", frozen, network))
        return network

    return network_bytes(build, shape, amp)
