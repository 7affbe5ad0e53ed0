"""Networks of timm and torchvision, with the parts and feature maps that defenses need."""

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from trainers.errors import ConfigError
from trainers.models.base import ModelOutput, Network
from trainers.models.roles import check_groups, parts_of
from trainers.text import did_you_mean

TIMM, TORCHVISION = "timm:", "torchvision:"
TORCHVISION_NAMES = ("resnet18", "resnet34", "resnet50")


class LibraryNetwork(Network):
    """A network of a library.

    Args:
        inner: the network.
        groups: names of its parameters: of the stem, of each stage, and of the head.
        features: turns images into what the last stage gives.
        classify: turns that into logits.
    """

    def __init__(
        self,
        inner: nn.Module,
        groups: list[list[str]],
        features: Callable[[Any, Tensor], Tensor],
        classify: Callable[[Any, Tensor], Tensor],
    ):
        super().__init__()
        self.inner = inner
        self._groups = groups
        self._features = features
        self._classify = classify

    def forward(self, images: Tensor) -> ModelOutput:
        """Classify normalised ``images``: float (N, C, H, W)."""
        last = self._features(self.inner, images)
        return ModelOutput(self._classify(self.inner, last), as_maps(last, self.inner))

    def parts(self) -> dict[str, nn.Module]:
        """The parts by role, as the library divides the network for rates by layer."""
        return parts_of(self.inner, self._groups)


def as_maps(last: Tensor, network: nn.Module) -> Tensor:
    """What the last stage gives, as feature maps: float (N, K, h, w).

    Args:
        last: maps (N, K, h, w), or (N, h, w, K) if the network's ``output_fmt`` is NHWC; or tokens (N, L, K), of which
            the first ``num_prefix_tokens`` are no places of the image, and the others its places row by row.
        network: of timm or torchvision.

    Raises:
        ValueError: the tokens are no grid.
    """
    if last.ndim == 4:
        return last.permute(0, 3, 1, 2) if str(getattr(network, "output_fmt", "NCHW")) == "NHWC" else last
    if last.ndim != 3:
        raise ValueError(f"its last stage gives a tensor of {last.ndim} dimensions")
    tokens = last[:, int(getattr(network, "num_prefix_tokens", 0) or 0) :]
    rows, columns = getattr(getattr(network, "patch_embed", None), "grid_size", None) or (0, 0)
    if rows * columns != tokens.shape[1]:  # later stages have fewer places than there are patches
        rows = columns = math.isqrt(tokens.shape[1])
    if rows * columns != tokens.shape[1]:
        raise ValueError(f"the {tokens.shape[1]} tokens of its last stage are no grid")
    return tokens.transpose(1, 2).reshape(len(tokens), -1, rows, columns)


def check_name(name: str) -> None:
    """See that a library has this network.

    Raises:
        ConfigError: it does not, or ``name`` names no library.
    """
    own = name.partition(":")[2]
    if name.startswith(TORCHVISION):
        if own not in TORCHVISION_NAMES:
            known = ", ".join(TORCHVISION + known for known in TORCHVISION_NAMES)
            raise ConfigError(f"must be one of {known}, but got {name!r}.")
        return
    import timm

    if not timm.is_model(own):
        close = did_you_mean(own.partition(".")[0], timm.list_models())
        raise ConfigError(f"must be a network of timm {timm.__version__}, but got {name!r}.{close}")
    try:
        timm_config(name)
    except RuntimeError as error:
        close = did_you_mean(own, timm.list_pretrained())
        raise ConfigError(f"has a tag that timm {timm.__version__} does not know: {name!r}.{close}") from error


def library_network(
    name: str, shape: tuple[int, int, int], num_classes: int, weights: str | None = None
) -> LibraryNetwork:
    """A network of a library, initialised as it does from torch's generator.

    Args:
        name: ``timm:NAME`` or ``torchvision:NAME``.
        shape: channels, height and width of the images.
        num_classes: outputs; the last linear layer is always new.
        weights: path of a safetensors file with the other weights, which has been checked; null: none.

    Raises:
        ConfigError: the network does not take images of this shape, or cannot be divided.
    """
    make = _timm if name.startswith(TIMM) else _torchvision
    return make(name, shape, num_classes, weights)


def _timm(name: str, shape: tuple[int, int, int], num_classes: int, weights: str | None) -> LibraryNetwork:
    import timm
    from timm.models import group_parameters

    own = name.removeprefix(TIMM)
    options: dict[str, Any] = {"num_classes": num_classes, "in_chans": shape[0]}
    if weights is not None:  # no number of classes is that of the file: its last layer is left out
        overlay = {"file": weights, "num_classes": -1, "custom_load": False}
        options |= {"pretrained": True, "pretrained_cfg_overlay": overlay}
    if timm_config(name).get("fixed_input_size"):
        options["img_size"] = shape[1:]
    try:
        inner: Any = timm.create_model(own, **options)
    except TypeError as error:
        raise ConfigError(f"model.name: {name} takes images of one size alone.") from error
    except (AssertionError, ValueError, RuntimeError) as error:
        raise _refused(name, shape, error) from error
    if weights is not None and hasattr(inner, "reset_classifier"):
        # As timm's fine-tuning does. The first head is initialised for a whole training: with few classes some
        # families draw it so wide that its gradients destroy what the weights know.
        inner.reset_classifier(num_classes)
    if not all(hasattr(inner, what) for what in ("group_matcher", "forward_head", "get_classifier")):
        check_groups(name, inner, [], set())
    groups = [list(names) for _, names in sorted(group_parameters(inner, inner.group_matcher(coarse=True)).items())]
    check_groups(name, inner, groups, _names_of(inner, inner.get_classifier()))
    return LibraryNetwork(inner, groups, type(inner).forward_features, type(inner).forward_head)


@cache
def timm_config(name: str) -> dict[str, Any]:
    """What timm says of the weights of a network: mean, std, interpolation, and so on."""
    import timm

    config = timm.get_pretrained_cfg(name.removeprefix(TIMM))
    return {} if config is None else dict(config.to_dict())  # type: ignore[no-untyped-call]


def _names_of(network: nn.Module, classifier: Any) -> set[str]:
    layers = classifier if isinstance(classifier, (tuple, list)) else [classifier]
    own = {id(parameter) for layer in layers for parameter in layer.parameters()}
    return {name for name, parameter in network.named_parameters() if id(parameter) in own}


def _torchvision(name: str, shape: tuple[int, int, int], num_classes: int, weights: str | None) -> LibraryNetwork:
    from torchvision import models

    inner = getattr(models, name.removeprefix(TORCHVISION))(weights=None, num_classes=num_classes)
    if shape[0] != 3:
        first = inner.conv1
        inner.conv1 = nn.Conv2d(shape[0], first.out_channels, 7, 2, 3, bias=False)
        nn.init.kaiming_normal_(inner.conv1.weight, mode="fan_out", nonlinearity="relu")
    if weights is not None:
        from safetensors.torch import load_file

        inner.load_state_dict({k: v for k, v in load_file(weights).items() if not k.startswith("fc.")}, strict=False)
    stages = [f"layer{i}" for i in range(1, 5)]
    groups: list[list[str]] = [[] for _ in range(6)]
    for parameter, _ in inner.named_parameters():
        part = parameter.partition(".")[0]
        groups[5 if part == "fc" else stages.index(part) + 1 if part in stages else 0].append(parameter)
    return LibraryNetwork(inner, groups, _resnet_features, _resnet_head)


def _resnet_features(inner: Any, images: Tensor) -> Tensor:
    maps: Tensor = inner.maxpool(inner.relu(inner.bn1(inner.conv1(images))))
    for stage in (inner.layer1, inner.layer2, inner.layer3, inner.layer4):
        maps = stage(maps)
    return maps


def _resnet_head(inner: Any, maps: Tensor) -> Tensor:
    logits: Tensor = inner.fc(torch.flatten(inner.avgpool(maps), 1))
    return logits


def check_takes(name: str, network: LibraryNetwork, shape: tuple[int, int, int], num_classes: int) -> None:
    """See that a network turns images of this shape into logits and feature maps.

    Raises:
        ConfigError: it does not.
    """
    patches = getattr(getattr(network.inner, "patch_embed", None), "proj", None)
    if (
        isinstance(patches, nn.Conv2d)
        and patches.stride == patches.kernel_size
        and any(side % own for side, own in zip(shape[1:], patches.stride, strict=True))
    ):
        # timm leaves out what is over at the right and below, where a trigger may lie.
        raise _refused(name, shape, ValueError(f"patches of {'x'.join(map(str, patches.stride))} do not cover them"))
    network.eval()
    try:
        with torch.no_grad():
            logits, maps = network(torch.zeros(2, *shape))
    except (AssertionError, ValueError, RuntimeError, AttributeError, IndexError, TypeError) as error:
        raise _refused(name, shape, error) from error
    if tuple(logits.shape) != (2, num_classes) or maps.ndim != 4 or 0 in maps.shape:
        raise ConfigError(f"model.name: {name} gives no logits and feature maps of images of {shape[1]}x{shape[2]}.")


def _refused(name: str, shape: tuple[int, int, int], error: Exception) -> ConfigError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
    return ConfigError(f"model.name: {name} does not take images of {shape[1]}x{shape[2]} pixels: {reason}.")
