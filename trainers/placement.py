"""Images where a training reads them: on its device, or sent there batch by batch while the last one trains."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

import torch
from torch import Tensor

from trainers.compute import Compute
from trainers.data.memory import sized
from trainers.data.stored import PART, Gathered, Images, Stored

AHEAD = 4
"""Batches that are read before they are asked for."""
_HELD = 2
"""Batches that may be asked for at a time: one of each kind, where a step takes two kinds."""


class Sent:
    """Images that do not lie on the device: those that are asked for are put together where they lie, and sent there.

    Args:
        images: the images.
        device: where to.
    """

    def __init__(self, images: Gathered, device: torch.device):
        self._images, self._device = images, device
        self._held: deque[tuple[Tensor, Tensor]] = deque(maxlen=_HELD)
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self.shape = images.shape

    def __len__(self) -> int:
        return len(self._images)

    def index_select(self, dim: int, indices: Tensor) -> Tensor:
        """The images at int64 (M,): uint8 (M, C, H, W), on the device. A batch of :meth:`ahead` is there already."""
        assert dim == 0, "images are chosen whole"
        for batch, images in self._held:
            if batch is indices:
                return images
        return self._arrived(self._send(indices.cpu()))

    def __getitem__(self, chosen: Tensor) -> Tensor:
        """As :meth:`index_select`."""
        return self.index_select(0, chosen)

    def split(self, size: int) -> Iterator[Tensor]:
        """All images, ``size`` at a time, on the device."""
        for batch in self.ahead(torch.arange(len(self)).split(size)):
            yield self.index_select(0, batch)

    def ahead(self, batches: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yield ``batches``, int64 (M,) each; a thread reads the images of the next ones meanwhile."""
        if not batches:
            return
        wanted = torch.cat(tuple(batches)).cpu().split([len(batch) for batch in batches])  # the device is awaited once
        pairs = iter(zip(batches, wanted, strict=True))
        with ThreadPoolExecutor(1) as thread:
            reading: deque[tuple[Tensor, Future[Tensor]]] = deque()
            reading.extend((batch, thread.submit(self._send, indices)) for batch, indices in islice(pairs, AHEAD))
            try:
                while reading:
                    batch, future = reading.popleft()
                    self._held.append((batch, self._arrived(future.result())))
                    for following, indices in islice(pairs, 1):
                        reading.append((following, thread.submit(self._send, indices)))
                    yield batch
            finally:
                self._held.clear()
                thread.shutdown(cancel_futures=True)

    def _send(self, indices: Tensor) -> Tensor:
        """The images at indices on the CPU; on CUDA, on their way to the device by a stream of their own."""
        if self._stream is None:
            return self._images.gather(indices)
        page_locked = torch.empty((len(indices), *self.shape[1:]), dtype=torch.uint8, pin_memory=True)
        with torch.cuda.stream(self._stream):
            return self._images.gather(indices, page_locked).to(self._device, non_blocking=True)

    def _arrived(self, images: Tensor) -> Tensor:
        """The images, for which what is computed from now on waits, without this process waiting."""
        if self._stream is not None:
            current = torch.cuda.current_stream(self._device)
            current.wait_stream(self._stream)
            images.record_stream(current)
        return images


def ahead(images: Tensor | Sent, batches: Sequence[Tensor]) -> Iterator[Tensor]:
    """Yield ``batches`` of indices, int64 (M,) each; images that are sent are read meanwhile (:meth:`Sent.ahead`)."""
    yield from images.ahead(batches) if isinstance(images, Sent) else batches


def kept(images: Images, compute: Compute) -> bool:
    """Whether a training keeps the images on its device. On a CPU, those of a file stay there, for all to share."""
    return images.nbytes <= compute.image_room and not _shared(images, compute.device.type == "cpu")


def _shared(images: Images, on_cpu: bool) -> bool:
    return on_cpu and isinstance(images, Stored) and images.file is not None


def placed(images: Images, compute: Compute) -> Tensor | Sent:
    """The images on the device, if they are kept there; else what sends them. The numbers are the same."""
    if not kept(images, compute):
        return Sent(gathered(images), compute.device)
    return images.to(compute.device) if isinstance(images, Tensor) else whole(images, compute.device)


def settled(images: Images, compute: Compute) -> Images:
    """A tensor as it is, if it would be kept on the device; else the images as those that are put together when they
    are asked for, of which a poisoned set is no copy.
    """
    return images if isinstance(images, Tensor) and kept(images, compute) else gathered(images)


def whole(images: Gathered, device: torch.device) -> Tensor:
    """All images as a tensor on the device: uint8 (N, C, H, W)."""
    made = torch.empty(images.shape, dtype=torch.uint8, device=device)
    start = 0
    for some in images.split(PART):
        made[start : start + len(some)] = some.to(device)
        start += len(some)
    return made


def gathered(images: Images) -> Stored:
    """The images as those that are put together when they are asked for; none is copied."""
    return images if isinstance(images, Stored) else Stored(images)


def chunks(images: Tensor | Gathered | Sent, size: int, device: torch.device) -> Iterator[Tensor]:
    """All images, ``size`` at a time, on the device: uint8 (size, C, H, W) each, the last one perhaps fewer."""
    if isinstance(images, Gathered):
        images = Sent(images, device)
    for some in images.split(size):
        yield some.to(device)


def placement(images: Images, room: float | None, on_cpu: bool) -> str:
    """Where trainings have their images, as a line.

    Args:
        images: of the training set.
        room: bytes of images that a training keeps on its device; null: not known.
        on_cpu: whether that is a CPU.
    """
    size, elsewhere = sized(images.nbytes), gathered(images).where
    if room is None:
        return f"Training images: {size}; on the GPU where they fit into its share, and otherwise {elsewhere}."
    if images.nbytes <= room and not _shared(images, on_cpu):
        return f"Training images: {size}, kept on the device of each training."
    return f"Training images: {size}, {elsewhere}, from where each training reads them ahead."
