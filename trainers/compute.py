"""Device, threads and numeric format of computations."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from trainers.data.memory import IN_MEMORY, total_memory
from trainers.errors import ConfigError, HostError
from trainers.params import Parameters, param

PASS_IMAGES = 4096
"""Largest number of images in one pass on CUDA: 16 times the two views of V&B's and ABL's usual batch of 128."""

CUDA_ITSELF = 2**29
"""Bytes that a process has on a GPU before it computes anything (context, kernels): an assumption, not measured here.
They lie outside what torch counts and limits, but inside the GPU."""
IMAGES_ON_CARD = 0.5
"""Share of a training's GPU memory that its images may take; the rest is for networks and their activations."""
COMPILED_FORMS = 64
"""Most forms (size, with and without gradient, ...) in which all networks of a training are compiled; torch's 8 are for
one function, and the networks share theirs."""


@dataclass(frozen=True)
class ComputeConfig(Parameters):
    """Device, threads and numeric format of one trial."""

    device: str = param(
        "auto", choices=("auto", "cpu", "cuda"), doc="where to compute; auto: on a GPU if the trial has a share of one"
    )
    threads: int = param(1, ge=1, doc="CPU threads of a trial")
    amp: str | None = param(
        None,
        choices=("auto", "on", "off", None),
        doc="bfloat16 autocast: null: on CUDA only; auto: also on a CPU that computes in bfloat16 (AVX512-BF16 or AMX)",
    )
    compile: bool = param(False, doc="compile the networks with torch.compile")
    cuda_graphs: bool = param(
        False, doc="run whole batches as CUDA graphs, with one launch for all kernels; needs compile: true"
    )
    fused: bool = param(True, doc="update all weights in one kernel, on CUDA only")
    autotune: bool = param(
        False, doc="cuDNN times its algorithms for each new batch size, on CUDA only; the last digits may differ"
    )

    pass_images: int | None = param(
        None,
        ge=8,
        doc="most images in one pass of a training step; where suspicious samples make a step larger, it is divided "
        "into passes whose gradients are added; null: 4096 on CUDA, no limit on a CPU",
    )

    def __post_init__(self) -> None:
        """Check combinations of fields."""
        super().__post_init__()
        if self.cuda_graphs and not self.compile:
            raise ConfigError("cuda_graphs needs compile: true.")

    def changed(self) -> dict[str, Any]:
        """As for all parameters; ``amp: off`` enters keys as it did when it was false."""
        found = super().changed()
        return found | ({"amp": False} if self.amp == "off" else {})

    def settled(self) -> "ComputeConfig":
        """The configuration with ``amp: auto`` decided by the processor of this machine, for all trainings of a sweep.

        Where the processor does not compute in bfloat16, ``amp`` becomes null, so that a GPU still does.
        """
        return replace(self, amp="on" if has_bfloat16() else None) if self.amp == "auto" else self

    def open(self, gpu_share: float = 0.0) -> "Compute":
        """Set the thread count, choose the device, and limit the trial to its share of a GPU's memory.

        Args:
            gpu_share: GPUs reserved for the trial; a share below 1 is also its share of one GPU's memory.

        Raises:
            HostError: a GPU is asked for or reserved, and torch sees none.
        """
        torch.set_num_threads(self.threads)
        if self.compile:
            torch._dynamo.config.recompile_limit = COMPILED_FORMS
        wanted = self.device == "cuda" or (self.device == "auto" and gpu_share > 0)
        if wanted and not torch.cuda.is_available():
            raise HostError("A GPU is asked for, but torch sees none here; set device to cpu to compute without it.")
        if not wanted:
            amp = self.settled().amp == "on"
            room = IN_MEMORY * total_memory()
            return Compute(torch.device("cpu"), amp, self.compile, pass_images=self.pass_images, image_room=room)
        # A reused process would keep what the last training set.
        torch.cuda.set_per_process_memory_fraction(_tensors_share(gpu_share))
        compute = replace(self.on_cuda(), image_room=_image_room(gpu_share))
        torch.backends.cudnn.benchmark = compute.autotune
        return compute

    def image_room(self, gpu_share: float) -> float | None:
        """Bytes of training images that a training keeps on its device; null if that cannot be known here: on a GPU of
        another host.

        Args:
            gpu_share: GPUs reserved for the trial.
        """
        if self.on_cpu(gpu_share):
            return IN_MEMORY * total_memory()
        return _image_room(gpu_share) if torch.cuda.is_available() else None

    def on_cpu(self, gpu_share: float) -> bool:
        """Whether a training with so many GPUs computes on a CPU."""
        return self.device == "cpu" or (self.device == "auto" and not gpu_share)

    def on_cuda(self) -> "Compute":
        """What :meth:`open` returns on a GPU; sets nothing."""
        return Compute(
            torch.device("cuda"),
            self.amp != "off",
            self.compile,
            self.cuda_graphs,
            self.fused,
            self.autotune,
            self.pass_images or PASS_IMAGES,
        )


def _tensors_share(gpu_share: float) -> float:
    """The share of a GPU's memory that is left for tensors, of a share of the GPU below 1."""
    if not 0 < gpu_share < 1:
        return 1.0
    total = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
    return max(gpu_share - CUDA_ITSELF / total, 0.0)


def _image_room(gpu_share: float) -> float:
    """Bytes of this GPU that are meant for training images."""
    total = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
    return IMAGES_ON_CARD * _tensors_share(gpu_share) * total


def amp_as_it_was(amp: Any) -> Any:
    """``amp`` as earlier versions wrote it: true was bfloat16 on CUDA only, and false none."""
    return {True: None, False: "off"}[amp] if isinstance(amp, bool) else amp


def computed_in(amp: bool, on_cuda: bool) -> str:
    """A numeric format and a kind of device, as text."""
    return f"{'bfloat16 autocast' if amp else 'float32'} on {'CUDA' if on_cuda else 'CPUs'}"


def has_bfloat16() -> bool:
    """Whether this machine's processor has instructions for products of bfloat16: AVX512-BF16 or AMX."""
    known = torch.cpu.get_capabilities()
    return bool(known.get("avx512_bf16") or known.get("amx_bf16"))


@dataclass(frozen=True)
class Compute:
    """A device with its numeric settings, ready for use."""

    device: torch.device
    amp: bool = False
    compile: bool = False
    cuda_graphs: bool = False
    fused: bool = False
    autotune: bool = False
    pass_images: int | None = None
    image_room: float = math.inf
    """Most bytes of training images that are kept on the device; larger sets are sent there batch by batch."""

    def __str__(self) -> str:
        """Numeric format and device."""
        return computed_in(self.amp, self.device.type == "cuda")

    @property
    def identity(self) -> list[object]:
        """JSON values of everything here that may change the last digits of a result."""
        threads = torch.get_num_threads() if self.device.type == "cpu" else None
        kernels = [name for name in ("fused", "autotune") if getattr(self, name)]
        return [self.device.type, self.amp, self.compile, threads, torch.__version__, *kernels]

    def autocast(self) -> AbstractContextManager[object]:
        """Context for bfloat16 autocast; does nothing if ``amp`` is off."""
        return torch.autocast(self.device.type, torch.bfloat16) if self.amp else nullcontext()

    def place(self, network: nn.Module) -> None:
        """Move ``network`` to the device, channels last in memory; compile it, for any batch size, if wanted."""
        network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if self.compile:
            network.compile()

    def of_fixed_size(self, network: nn.Module) -> Callable[..., Any]:
        """The forward pass of a placed ``network``, compiled anew for each batch size: for batches of a few sizes."""
        mode = "reduce-overhead" if self.cuda_graphs else None
        return torch.compile(network.forward, dynamic=False, mode=mode)

    def passes(self, images: int) -> int:
        """In how many passes of about equal size ``images`` go through a network."""
        return 1 if self.pass_images is None else max(math.ceil(images / self.pass_images), 1)

    def next_step(self) -> None:
        """Tell CUDA graphs that another step of training begins, which may write over the results of the last one."""
        if self.cuda_graphs:
            torch.compiler.cudagraph_mark_step_begin()
