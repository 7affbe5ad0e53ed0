"""What the trainings of a preset need of a card's memory, and which share of a card would do."""

from typing import Any

import torch

from sweeper.cluster.finding import Finding
from sweeper.preset.spec import SweepSpec
from trainers.card.need import MemoryNeed, need_in_a_sweep
from trainers.card.room import LARGE_STEPS, Room, proposed_share
from trainers.data.image_set import Splits
from trainers.data.memory import sized
from trainers.defenses.base import Defense
from trainers.defenses.none import NoDefense

GPU_MEMORY = "GPU memory"
"""What ``doctor`` calls the check."""


def needs(spec: SweepSpec, splits: Splits) -> list[MemoryNeed]:
    """The needs of the control, and of each defense at the corners of its parameters."""
    settings: list[tuple[type[Defense], Any]] = [(NoDefense, spec.control), *spec.corner_settings()]
    compute = spec.compute.on_cuda()
    return [need_in_a_sweep(kind, params, spec.model, splits, compute) for kind, params in settings]


def gpu_memory(spec: SweepSpec, splits: Splits) -> Finding:
    """What a training needs, beside its share of the smallest GPU here; without a GPU, the need alone."""
    known = needs(spec, splits)
    least, certain, most = (max(getattr(need, name) for need in known) for name in ("least", "certain", "most"))
    text = f"a training needs about {sized(most)}"
    if sized(certain) != sized(most):
        text = f"a training needs about {sized(certain)}, and up to {sized(most)} in its largest steps"
    if not torch.cuda.is_available():
        return Finding(GPU_MEMORY, True, f"{text}; torch sees no GPU here to compare that with")
    rooms = [Room.of(index, spec.resources.gpu) for index in range(torch.cuda.device_count())]
    room = min(rooms, key=lambda room: room.total)
    share = proposed_share(most, room.total)
    if least > room.bytes:
        remedy = room.remedy(least) if share is None else f"set resources.gpu: {share:g}, or lower batch_size"
        return Finding(GPU_MEMORY, False, f"{text}, and {room}", f"{remedy[0].upper()}{remedy[1:]}.")
    text = f"{text}; the smallest GPU here has {sized(room.total)}"
    if share is not None:
        count = int(1 / share)
        text += f": resources.gpu: {share:g} is enough" + (f" ({count} trainings at once)" if count > 1 else "")
    notes = []
    if most > room.bytes:
        notes = [
            f"Warning: the largest steps may not fit, since {room}; a training that runs out of memory is FAILED. To "
            f"be sure, {room.remedy(most, LARGE_STEPS)}."
        ]
    return Finding(GPU_MEMORY, True, text, notes=tuple(notes))
