"""Builds networks, with the weights that they begin with."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from trainers.errors import ConfigError, HostError
from trainers.models.base import Network
from trainers.models.config import ModelConfig
from trainers.models.families import MODELS
from trainers.models.library import TIMM, TORCHVISION, check_takes, library_network, timm_config
from trainers.models.weights import HUB, Shapes, check_fit, digest_of, from_hub, read_shapes

Shape = tuple[int, int, int]


def build_model(config: ModelConfig, shape: Shape, num_classes: int, seed: int) -> Network:
    """A network on the CPU that has not been trained; the same ``seed`` gives the same one.

    Args:
        config: which, and its weights.
        shape: channels, height and width of the images.
        num_classes: of the data.
        seed: of all that does not come from weights; the head never does.

    Raises:
        ConfigError: the network does not take such images, or the weights are not there, or of another network.
        HostError: this host does not have the weights whose digest is known.
    """
    path = None if config.weights is None else _same_file(config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if config.name in MODELS:
            return _own(config, shape, num_classes, path)
        return library_network(config.name, shape, num_classes, None if path is None else str(path))


def _own(config: ModelConfig, shape: Shape, num_classes: int, path: Path | None) -> Network:
    options = {key: value for key in ("width", "depth") if (value := getattr(config, key)) is not None}
    network = MODELS[config.name](shape[0], num_classes, **options)
    if path is not None:
        known = {name: tensor for name, tensor in load_file(path).items() if not name.startswith("head.")}
        network.load_state_dict(known, strict=False)
    return network


def _same_file(config: ModelConfig) -> Path:
    """The file of the weights.

    Raises:
        ConfigError: it cannot be read.
        HostError: their digest is known, and this host has no such file; another one may have it.
    """
    if config.weights_digest is None:
        return _file(config)
    try:
        path = _file(config)
        same = digest_of(path) == config.weights_digest
    except ConfigError as error:
        raise HostError(str(error)) from error
    if not same:
        raise HostError(f"model.weights: {path} holds other weights than when the sweep began.")
    return path


def _file(config: ModelConfig) -> Path:
    assert config.weights is not None
    if config.weights != HUB:
        return Path(config.weights)
    if config.name.startswith(TORCHVISION):
        repository = f"timm/{config.name.removeprefix(TORCHVISION)}.tv_in1k"
    else:
        repository = timm_config(config.name).get("hf_hub_id") or ""
    if not repository:
        raise ConfigError(f"model.weights: {HUB} has none of {config.name}; give a file.")
    return from_hub(repository, known=config.weights_digest is not None)


def settle(config: ModelConfig, channels: int) -> ModelConfig:
    """The network with what its weights say written out: their digest, mean and standard deviation.

    Args:
        config: the network.
        channels: of the images; grey ones get the mean of each statistic over the channels.

    Raises:
        ConfigError: there are no such weights.
    """
    if config.weights is None:
        return config
    own = vars(config) | {"weights_digest": digest_of(_same_file(config))}
    if config.mean is None:
        known = _described(config)
        for name in ("mean", "std"):
            each = known.get(name)
            own[name] = (sum(each) / len(each),) if each and channels == 1 else each
    return ModelConfig(**own)


def interpolation_of(config: ModelConfig) -> str | None:
    """How the images were resized with which the weights were trained; null without weights, or if it is not known."""
    return None if config.weights is None else _described(config).get("interpolation")


def _described(config: ModelConfig) -> dict[str, Any]:
    if config.name in MODELS:
        return {}
    name = config.name if config.name.startswith(TIMM) else f"timm:{config.name.removeprefix(TORCHVISION)}.tv_in1k"
    return timm_config(name)


def check_model(config: ModelConfig, shape: Shape, num_classes: int) -> None:
    """See that a network takes the images, and that its weights are its own, before anything is trained.

    Raises:
        ConfigError: it does not, or they are not.
        HostError: this host does not have the weights whose digest is known.
    """
    if config.mean is not None and len(config.mean) != shape[0]:
        raise ConfigError(f"model.mean has {len(config.mean)} numbers, but the images have {shape[0]} channels.")
    path = None if config.weights is None else _same_file(config)
    _check_built(config, shape, num_classes, path, None if path is None else digest_of(path))


@lru_cache(maxsize=8)
def _check_built(config: ModelConfig, shape: Shape, num_classes: int, path: Path | None, _digest: str | None) -> None:
    if path is not None:
        wanted, head = _wanted(config, shape)
        check_fit(path, config.name, read_shapes(path), wanted, head)
    if config.name not in MODELS:
        with torch.random.fork_rng(devices=[]):
            check_takes(config.name, library_network(config.name, shape, num_classes), shape, num_classes)


def check_other(key: str, name: str, shape: Shape, num_classes: int) -> None:
    """As :func:`check_model`, for a network beside the model, which is named by another key.

    Raises:
        ConfigError: it does not take the images.
    """
    try:
        check_model(ModelConfig(name), shape, num_classes)
    except ConfigError as error:
        raise ConfigError(str(error).replace("model.name", key, 1)) from error


def _wanted(config: ModelConfig, shape: Shape) -> tuple[Shapes, tuple[str, ...]]:
    """Shapes of a network's tensors, and how the names of its head begin."""
    with torch.device("meta"):
        if config.name.startswith(TIMM):  # timm fits its weights to other sizes and channels
            import timm

            network: Any = timm.create_model(config.name.removeprefix(TIMM))
            found = timm_config(config.name).get("classifier") or ()
            head = (found,) if isinstance(found, str) else tuple(found)
        else:
            network = build_model(config.architecture, shape, 2, 0)
            network, head = (network, ("head",)) if config.name in MODELS else (network.inner, ("fc",))
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}, tuple(f"{h}." for h in head)
