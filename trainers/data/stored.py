"""Images that are put together when they are asked for: those of a file or a tensor, and what differs from them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

PART = 1000
"""Images that are put together at a time, where all of them are gone through."""


@dataclass(frozen=True)
class CacheFile:
    """Where decoded images lie.

    Args:
        path: of the file.
        key: what it was made of, see :func:`trainers.data.cached.cached`.
    """

    path: Path
    key: str


class Gathered(ABC):
    """Images that are no tensor: whoever asks for some gets a copy of them, which may be written to.

    Args:
        shape: (N, C, H, W).
    """

    dtype = torch.uint8
    ndim = 4

    def __init__(self, shape: tuple[int, ...]):
        self.shape = torch.Size(shape)

    @abstractmethod
    def gather(self, indices: Tensor, out: Tensor | None = None) -> Tensor:
        """The images at ``indices``.

        Args:
            indices: int64 (M,), on the CPU.
            out: uint8 (M, C, H, W), gets them; null: a new tensor does.

        Returns:
            uint8 (M, C, H, W), on the CPU.
        """

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        """Bytes of all images."""
        return self.shape.numel()

    def __getitem__(self, index: int | Tensor) -> Tensor:
        """One image, (C, H, W), or those at int64 (M,) or bool (N,): uint8 (M, C, H, W).

        Raises:
            IndexError: there is no such image.
        """
        if isinstance(index, int):
            if not -len(self) <= index < len(self):
                raise IndexError(f"There is no image {index} of {len(self)}.")
            return self.gather(torch.tensor([index % len(self)]))[0]
        return self.gather(places_of(index))

    def split(self, size: int) -> Iterator[Tensor]:
        """All images, ``size`` at a time: uint8 (size, C, H, W) each, the last one perhaps fewer."""
        for indices in torch.arange(len(self)).split(size):
            yield self.gather(indices)


class Stored(Gathered):
    """Images in a file, or in memory, of which some may be replaced by others. Nothing is ever written into the file.

    Args:
        base: uint8 (F, C, H, W), mapped from the file, or in memory.
        file: that ``base`` is mapped from; null: it lies in memory.
        rows: int64 (N,), where in ``base`` each image lies; from F on, in ``own``. Null: all of ``base``, in its order.
        own: uint8 (K, C, H, W), images that are not in ``base``; null: none.
    """

    def __init__(
        self, base: Tensor, file: CacheFile | None = None, rows: Tensor | None = None, own: Tensor | None = None
    ):
        self._base = base
        self.file = file
        self.rows = torch.arange(len(base)) if rows is None else rows
        self._own = base[:0] if own is None else own
        super().__init__((len(self.rows), *base.shape[1:]))

    @property
    def where(self) -> str:
        """Where they lie, as text."""
        return "in memory" if self.file is None else f"on disk ({self.file.path})"

    def gather(self, indices: Tensor, out: Tensor | None = None) -> Tensor:
        """As in the base class."""
        rows = self.rows[indices]
        replaced = rows >= len(self._base)
        if not replaced.any():
            return torch.index_select(self._base, 0, rows, out=out)
        made = torch.index_select(self._base, 0, rows.masked_fill(replaced, 0), out=out)
        made[replaced] = self._own[rows[replaced] - len(self._base)]
        return made

    def subset(self, indices: Tensor) -> "Stored":
        """The images at int64 (M,) or bool (N,), which are not copied."""
        return Stored(self._base, self.file, self.rows[places_of(indices)], self._own)

    def replaced(self, indices: Tensor, images: Tensor) -> "Stored":
        """The same images, with others at ``indices``.

        Args:
            indices: int64 (M,), each once.
            images: uint8 (M, C, H, W).
        """
        rows = self.rows.clone()
        rows[indices] = len(self._base) + len(self._own) + torch.arange(len(indices))
        return Stored(self._base, self.file, rows, torch.cat([self._own, images]))


class Mapped(Gathered):
    """Images that a function makes of others, each time that they are asked for.

    Args:
        images: the others.
        make: uint8 (M, C, H, W) -> a new tensor of the same shape and type, each image by itself.
    """

    def __init__(self, images: Gathered, make: Callable[[Tensor], Tensor]):
        super().__init__(tuple(images.shape))
        self._images, self._make = images, make

    def gather(self, indices: Tensor, out: Tensor | None = None) -> Tensor:
        """As in the base class."""
        made = self._make(self._images.gather(indices))
        return made if out is None else out.copy_(made)


Images = Tensor | Stored
"""uint8 (N, C, H, W)."""


def places_of(chosen: Tensor) -> Tensor:
    """Indices as int64 (M,), of indices or of a mask, bool (N,), on the CPU."""
    chosen = chosen.cpu()
    return chosen.nonzero().squeeze(1) if chosen.dtype == torch.bool else chosen


def subset(images: Images, chosen: Tensor) -> Images:
    """The images at int64 (M,) or bool (N,); copied only if they are a tensor."""
    return images.subset(chosen) if isinstance(images, Stored) else images[chosen]


def with_replaced(images: Images, indices: Tensor, others: Tensor) -> Images:
    """The same images with ``others``, uint8 (M, C, H, W), at int64 (M,); a tensor is copied, and not written to."""
    if isinstance(images, Stored):
        return images.replaced(indices, others)
    return images.index_copy(0, indices, others)


def made_of(images: Tensor | Gathered, make: Callable[[Tensor], Tensor]) -> Tensor:
    """What ``make`` makes of all images, some at a time, as :class:`Mapped` describes it: uint8 (N, C, H, W)."""
    made = torch.empty(images.shape, dtype=torch.uint8)
    start = 0
    for some in images.split(PART):
        made[start : start + len(some)] = make(some)
        start += len(some)
    return made


def differing(images: Images, others: Images) -> Tensor:
    """Which images have other pixels than the ``others`` at their places: bool (N,)."""
    if isinstance(images, Stored) and isinstance(others, Stored):  # elsewhere they are the same by what they are
        found = images.rows != others.rows
        where = found.nonzero().squeeze(1)
        found[where] = (images[where] != others[where]).flatten(1).any(1)
        return found
    assert isinstance(images, Tensor), "both lie in the same place"
    assert isinstance(others, Tensor), "both lie in the same place"
    return (images != others).flatten(1).any(1)


def part(images: Images, start: int, stop: int | None) -> Images:
    """The images from ``start`` on, up to ``stop`` (null: the end); none is copied."""
    if isinstance(images, Stored):
        return images.subset(torch.arange(len(images))[start:stop])
    return images[start:stop]
