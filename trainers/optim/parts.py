"""Parts of a network that are frozen, or trained at a lower rate."""

from typing import Any

from torch import nn

from trainers.errors import ConfigError
from trainers.models import Network

FROZEN_DOC = (
    "none, stem, early (stem and first half of the stages), body (all but the last stage and the head), head, or parts "
    "joined by + (stem+stage1)"
)


def frozen_parts(key: str, frozen: str, network: Network) -> list[str]:
    """Roles of the parts that a parameter names in a network.

    Args:
        key: the parameter, for errors.
        frozen: its value, as ``FROZEN_DOC`` says.
        network: has the parts.

    Raises:
        ConfigError: the network has no such part, or no weight is left to train.
    """
    parts = network.parts()
    stages = [part for part in parts if part.startswith("stage")]
    known = {
        "none": [],
        "stem": ["stem"],
        "early": ["stem", *stages[: len(stages) // 2]],
        "body": ["stem", *stages[:-1]],
        "head": ["head"],
    }
    named = known.get(frozen, frozen.split("+"))
    unknown = [part for part in named if part not in parts]
    if unknown:
        raise ConfigError(
            f"{key} must be one of {', '.join(known)}, or parts of the network joined by + ({', '.join(parts)}), "
            f"but got {frozen!r}."
        )
    if not any(list(part.parameters()) for role, part in parts.items() if role not in named):
        raise ConfigError(f"{key} must leave a part to train, but {frozen!r} is the whole network.")
    return named


def freeze(network: Network, roles: list[str]) -> list[nn.Module]:
    """Exclude the weights of parts from training; returns these parts."""
    return [network.parts()[role].requires_grad_(False) for role in roles]


def weight_groups(network: Network, backbone_lr_factor: float) -> list[dict[str, Any]]:
    """Parameter groups of an optimiser: the weights that are trained, with the factor of their learning rate.

    Args:
        network: frozen parts have no gradient already.
        backbone_lr_factor: factor of everything but the head; at 1 there is one group.
    """
    trained = [weight for weight in network.parameters() if weight.requires_grad]
    if backbone_lr_factor == 1:
        return [{"params": trained, "factor": 1.0}]
    head = {id(weight) for weight in network.parts()["head"].parameters()}
    backbone = [weight for weight in trained if id(weight) not in head]
    own = [weight for weight in trained if id(weight) in head]
    groups = [{"params": backbone, "factor": backbone_lr_factor}, {"params": own, "factor": 1.0}]
    return [group for group in groups if group["params"]]
