"""Whether a training fits into its share of a card, and what is said if it does not."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from trainers.card.need import MemoryNeed
from trainers.compute import Compute
from trainers.data.memory import sized
from trainers.errors import TrialError

MOST_ON_A_CARD = 8
"""Most trainings on one card that a share is proposed for."""
LARGE_STEPS = "batch_size or pass_images"
"""The keys on which the largest step depends."""


@dataclass(frozen=True)
class Room:
    """A training's share of a card's memory.

    Args:
        total: bytes of the card.
        share: the share, at most 1.
    """

    total: int
    share: float = 1.0

    @classmethod
    def of(cls, device: torch.device | int, gpu_share: float) -> "Room":
        """The room that :meth:`trainers.compute.ComputeConfig.open` leaves on ``device``."""
        total = torch.cuda.get_device_properties(device).total_memory
        return cls(total, gpu_share if 0 < gpu_share < 1 else 1.0)

    @property
    def bytes(self) -> int:
        """The share in bytes."""
        return int(self.total * self.share)

    def __str__(self) -> str:
        if self.share == 1:
            return f"the GPU has {sized(self.total)}"
        return f"its share (resources.gpu: {self.share:g} of a GPU with {sized(self.total)}) is {sized(self.bytes)}"

    def remedy(self, need: int, lower: str = "batch_size") -> str:
        """What to do where ``need`` bytes do not fit; ``lower``: the keys whose lower values need less."""
        if self.share < 1 and need <= self.total:
            return f"raise resources.gpu, or lower {lower}"
        return f"lower {lower}, or use a GPU with more memory"


@contextmanager
def within(compute: Compute, gpu_share: float, estimate: Callable[[], MemoryNeed]) -> Iterator[None]:
    """Begin a training only if it may fit, and say in a sentence if the GPU's memory does not suffice later.

    Refused is only what cannot fit: whose tensors, without any allowance, are more than its share. On the CPU, nothing
    is checked.

    Args:
        compute: where to compute.
        gpu_share: GPUs reserved for the training.
        estimate: estimates the need; called on CUDA only.

    Raises:
        TrialError: the training cannot fit, or ran out of memory and would do so again.
        torch.OutOfMemoryError: it ran out of memory although it fits by the estimate; it may fit another time.
    """
    if compute.device.type != "cuda":
        yield
        return
    room, need = Room.of(compute.device, gpu_share), estimate()
    if need.least > room.bytes:
        raise TrialError(
            f"This training needs at least {sized(need.least)} of GPU memory, and {room}; {room.remedy(need.least)}."
        )
    try:
        yield
    except torch.OutOfMemoryError as error:
        if need.most > room.bytes:
            lower = LARGE_STEPS if need.most > need.certain else "batch_size"
            raise TrialError(
                f"The GPU ran out of memory: this training needs up to about {sized(need.most)}, and {room}; "
                f"{room.remedy(need.most, lower)}."
            ) from error
        raise torch.OutOfMemoryError(
            f"The GPU ran out of memory, although this training needs no more than about {sized(need.most)}, and "
            f"{room}; something else may run on it, or what its attack trains may need more."
        ) from error


def proposed_share(need: int, total: int) -> float | None:
    """The smallest share 1/k of a card, k at most ``MOST_ON_A_CARD``, rounded down to thousandths, that ``need`` fits.

    Args:
        need: bytes.
        total: bytes of the card.

    Returns:
        The share; null if the need does not fit the whole card.
    """
    for count in range(MOST_ON_A_CARD, 0, -1):
        share = math.floor(1000 / count) / 1000
        if need <= Room(total, share).bytes:
            return share
    return None
