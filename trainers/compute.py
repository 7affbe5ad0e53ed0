"""Device, threads and numeric format of computations."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import nn

from trainers.errors import HostError
from trainers.params import Parameters, param

MOST_AT_ONCE = 4096
"""Most images that go through a network in one pass of a training step."""


@dataclass(frozen=True)
class ComputeConfig(Parameters):
    """Device, threads and numeric format of one trial."""

    device: str = param(
        "auto", choices=("auto", "cpu", "cuda"), doc="where to compute; auto: on a GPU if the trial has a share of one"
    )
    threads: int = param(1, ge=1, doc="CPU threads of a trial")
    amp: bool = param(True, doc="bfloat16 autocast, on CUDA only")
    compile: bool = param(False, doc="whether networks are compiled by torch.compile")

    def open(self, gpu_share: float = 0.0) -> "Compute":
        """Set the thread count, choose the device, and limit the trial to its share of a GPU's memory.

        Args:
            gpu_share: GPUs reserved for the trial; a share below 1 is also its share of one GPU's memory.

        Raises:
            HostError: a GPU is asked for or reserved, and torch sees none.
        """
        torch.set_num_threads(self.threads)
        wanted = self.device == "cuda" or (self.device == "auto" and gpu_share > 0)
        if wanted and not torch.cuda.is_available():
            raise HostError("A GPU is asked for, but torch sees none here; set device to cpu to compute without it.")
        if wanted:  # a reused process would keep its last limit
            torch.cuda.set_per_process_memory_fraction(gpu_share if 0 < gpu_share < 1 else 1.0)
        device = torch.device("cuda" if wanted else "cpu")
        return Compute(device, self.amp and device.type == "cuda", self.compile)


@dataclass(frozen=True)
class Compute:
    """A device with its numeric settings, ready for use."""

    device: torch.device
    amp: bool = False
    compile: bool = False

    @property
    def identity(self) -> list[object]:
        """JSON values of everything here that may change the last digits of a result."""
        threads = torch.get_num_threads() if self.device.type == "cpu" else None
        return [self.device.type, self.amp, self.compile, threads, torch.__version__]

    def autocast(self) -> AbstractContextManager[object]:
        """Context for bfloat16 autocast; does nothing if ``amp`` is off."""
        return torch.autocast(self.device.type, torch.bfloat16) if self.amp else nullcontext()

    def place(self, network: nn.Module) -> None:
        """Move ``network`` to the device, channels last in memory; compile it if ``compile`` is on."""
        network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if self.compile:
            network.compile()
