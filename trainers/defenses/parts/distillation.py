"""Distillation into a student that was partly re-initialised (BCU, arXiv 2211.12044)."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainers.models import Network


def temperature_at(epoch: int, epochs: int, final: float) -> float:
    """Temperature ``1 + (final - 1) / epochs * (1 + epoch)``, from about 1 to ``final`` (authors' code: 4).

    Args:
        epoch: from 0.
        epochs: at least 1.
        final: temperature of the last epoch.
    """
    return 1 + (final - 1) / epochs * (1 + epoch)


def distillation_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """``KL(softmax(teacher / T) || softmax(student / T))``, mean over the batch, without the usual factor T^2.

    Args:
        student, teacher: logits, float (M, C).
        temperature: above 0.

    Returns:
        float scalar.
    """
    wanted = functional.log_softmax(teacher.float() / temperature, dim=1)
    got = functional.log_softmax(student.float() / temperature, dim=1)
    return functional.kl_div(got, wanted, reduction="batchmean", log_target=True)


def layer_ratios(parts: list[str], base: float, growth: float, head: float, scale: float) -> dict[str, float]:
    """Probability that a weight is re-initialised, by the role of its layer.

    The authors' values for ResNet-18 are stem 0.01, stages 0.01, 0.03, 0.09, 0.27, head 0.10: base 0.01, growth 3.
    Networks with another number of stages follow the same rule.

    Args:
        parts: ``stem``, ``stage1``, ..., ``head``.
        base: probability in the stem and the first stage.
        growth: factor from one stage to the next.
        head: probability in the head.
        scale: factor of all probabilities; products above 1 become 1.
    """
    stages = [name for name in parts if name.startswith("stage")]
    ratios = {"stem": base, "head": head} | {name: base * growth**i for i, name in enumerate(stages)}
    return {name: min(ratios[name] * scale, 1.0) for name in parts}


@torch.no_grad()
def reinitialise(network: Network, fresh: Network, ratios: dict[str, float], generator: torch.Generator) -> None:
    """Replace each weight by that of ``fresh`` with its layer's probability. Batch-norm is not changed.

    Args:
        network: changed in place.
        fresh: the same network, newly initialised, on the same device.
        ratios: probability by role, in [0, 1].
        generator: on the device; draws a Bernoulli mask for each tensor, convolutions and linear layers in order.
    """
    for role, part in network.parts().items():
        ours, theirs = (_weighted(p) for p in (part, fresh.parts()[role]))
        for own, new in zip(ours, theirs, strict=True):
            mask = torch.rand(own.shape, device=own.device, generator=generator) < ratios[role]
            own.copy_(torch.where(mask, new, own))


def _weighted(part: nn.Module) -> list[Tensor]:
    """Weights and biases of convolutions and linear layers."""
    layers = [layer for layer in part.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    return [parameter for layer in layers for parameter in layer.parameters(recurse=False)]
