"""This program's own networks, by name."""

from collections.abc import Callable

from trainers.models.base import Network
from trainers.models.preact_resnet import preact_resnet18
from trainers.models.resnet import imagenet_resnet18, resnet18
from trainers.models.tiny import tiny
from trainers.models.wide_resnet import wide_resnet

MODELS: dict[str, Callable[..., Network]] = {
    "tiny": tiny,
    "resnet18": resnet18,
    "preact_resnet18": preact_resnet18,
    "wide_resnet": wide_resnet,
    "imagenet_resnet18": imagenet_resnet18,
}
