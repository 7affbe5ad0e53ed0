"""One network's descent: its optimiser, and what else a step does."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from trainers.models import Network
from trainers.optim.rates import warmup


class Average:
    """Exponential moving average of a network's weights.

    ``average = d * average + (1 - d) * weights`` after each step, with ``d = min(decay, (1 + n) / (10 + n))`` after n
    steps, as TensorFlow's ``ExponentialMovingAverage`` has it with ``num_updates``: a short training would otherwise
    end near its first weights. What batch-norm keeps is not averaged but that of the network.

    Args:
        network: is trained.
        shadow: the same network once more, which gets the averaged weights.
        decay: in [0, 1).
    """

    def __init__(self, network: Network, shadow: Network, decay: float):
        self._network = network
        self._shadow = shadow.requires_grad_(False).eval()
        self._decay = decay
        self.restart()

    def restart(self) -> None:
        """Begin anew from the network's weights."""
        self._shadow.load_state_dict(self._network.state_dict())

    def add(self, steps: int) -> None:
        """Average the weights after ``steps`` steps, counted from 1."""
        update = get_ema_multi_avg_fn(min(self._decay, (1 + steps) / (10 + steps)))
        update(list(self._shadow.parameters()), list(self._network.parameters()), steps)

    @torch.no_grad()
    def network(self) -> Network:
        """The network with averaged weights, and with what the trained one's batch-norm keeps now."""
        for own, current in zip(self._shadow.buffers(), self._network.buffers(), strict=True):
            own.copy_(current)
        return self._shadow


class Descent:
    """Updates the weights of a network.

    Args:
        network: is trained in place.
        optimizer: of its weights; the groups may name a ``factor`` of their learning rate.
        lr: learning rate until another is set.
        warmup_steps: first steps in which the rate rises linearly.
        clip_norm: norm of all gradients together above which they are scaled down; null: never.
        still: parts of the network that stay in eval mode, so that batch-norm uses and keeps its running statistics.
        average: moving average of the weights; null: none.
    """

    def __init__(
        self,
        network: Network,
        optimizer: torch.optim.Optimizer,
        lr: float,
        *,
        warmup_steps: int = 0,
        clip_norm: float | None = None,
        still: Sequence[nn.Module] = (),
        average: Average | None = None,
    ):
        self.network = network
        self.optimizer = optimizer
        self._warmup_steps = warmup_steps
        self._clip_norm = clip_norm
        self._still = still
        self._average = average
        self._steps = 0
        self.set_lr(lr)

    def train(self) -> None:
        """Put the network into training mode, but for parts that stay in eval mode."""
        self.network.train()
        for part in self._still:
            part.eval()

    def set_lr(self, lr: float) -> None:
        """Set the learning rate of the steps that follow, before any warm-up."""
        self.follow(lambda step: lr)

    def follow(self, rates: Callable[[int], float]) -> None:
        """Set the learning rates of the steps that follow, each by its number from 0, before any warm-up."""
        self._rates = rates
        self._followed = 0

    def step(self) -> None:
        """Update the weights by their gradients. Nothing waits for the device."""
        lr = self._rates(self._followed) * warmup(self._steps, self._warmup_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group.get("factor", 1.0)
        if self._clip_norm is not None:
            trained = [weight for group in self.optimizer.param_groups for weight in group["params"]]
            nn.utils.clip_grad_norm_(trained, self._clip_norm)
        self.optimizer.step()
        self._followed += 1
        self._steps += 1
        if self._average is not None:
            self._average.add(self._steps)

    def restart_average(self) -> None:
        """Begin the average anew, where weights were replaced by others."""
        if self._average is not None:
            self._average.restart()

    def result(self) -> Network:
        """The network that is measured and kept: the average, if there is one."""
        return self.network if self._average is None else self._average.network()

    def state_dict(self) -> dict[str, Any]:
        """Moments of the optimiser, and the number of steps so far. The average is a network of its own."""
        return {**self.optimizer.state_dict(), "steps": self._steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from :meth:`state_dict`. Rates and decays are this training's own, even if it shares a trunk."""
        own = self.optimizer.state_dict()["param_groups"]
        moments = {int(key): copy.deepcopy(value) for key, value in state["state"].items()}  # JSON made the keys text
        self.optimizer.load_state_dict({"state": moments, "param_groups": own})
        _lay_out_as_weights(self.optimizer)
        self._steps = state.get("steps", 0)  # older states have none, and nothing that reads them


def _lay_out_as_weights(optimizer: torch.optim.Optimizer) -> None:
    """Give moments the memory format of their weights, which a file does not keep; fused kernels want it."""
    for weights in (group["params"] for group in optimizer.param_groups):
        for weight in weights:
            kept = optimizer.state.get(weight, {})
            for name, value in kept.items():
                if isinstance(value, Tensor) and value.shape == weight.shape:
                    kept[name] = torch.empty_like(weight).copy_(value)
