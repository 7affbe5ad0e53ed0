"""A trained classifier on disk: weights as safetensors, and a JSON file with everything needed to use them."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from trainers.data.batches import Normalizer
from trainers.data.config import RENDERED, DataConfig
from trainers.data.pixels import AS_IT_IS, Rendering
from trainers.errors import ConfigError
from trainers.models import ModelConfig, Network, build_model
from trainers.storage.files import write_text, write_with

WEIGHTS, DESCRIPTION = "model.safetensors", "model.json"
VERSION = 1


@dataclass(frozen=True)
class SavedModel:
    """A classifier of raw images, which it normalises itself.

    Args:
        network: the network, in eval mode, on the CPU.
        config: architecture of the network.
        normalise: statistics of the images that the network was trained on.
        image_shape: channels, height, width.
        class_names: names of the classes by label.
        rendering: how the image files were read that it was trained on.
    """

    network: Network
    config: ModelConfig
    normalise: Normalizer
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    rendering: Rendering = AS_IT_IS

    @torch.no_grad()
    def probabilities(self, images: Tensor, batch_size: int = 500) -> Tensor:
        """Class probabilities.

        Args:
            images: uint8 (N, C, H, W).
            batch_size: images at a time.

        Returns:
            Float (N, classes).

        Raises:
            ConfigError: the images have another shape or type than those that the model was trained on.
        """
        if images.dtype != torch.uint8 or tuple(images.shape[1:]) != self.image_shape:
            given = f"{images.dtype} {tuple(images.shape[1:])}"
            raise ConfigError(f"The model takes uint8 images of shape {self.image_shape}, but got {given}.")
        self.network.eval()
        logits = [self.network(self.normalise(chunk)).logits for chunk in images.split(batch_size)]
        return torch.cat(logits).softmax(1) if logits else torch.empty(0, len(self.class_names))

    def save(self, folder: Path) -> None:
        """Write ``model.safetensors`` and ``model.json`` into ``folder``."""
        weights = {name: tensor.contiguous() for name, tensor in self.network.state_dict().items()}
        description = {
            "version": VERSION,
            "architecture": self.config.architecture.as_dict(),  # no path of this machine
            "image_shape": list(self.image_shape),
            "class_names": list(self.class_names),
            "mean": self.normalise.mean.tolist(),
            "std": self.normalise.std.tolist(),
            **asdict(self.rendering),
            "input": "uint8 (N, C, H, W); the network gets images / 255, less mean, over std, per channel",
        }
        write_with(folder / WEIGHTS, lambda beside: beside.write_bytes(save(weights)))
        write_text(folder / DESCRIPTION, json.dumps(description, indent=2) + "\n")


def load_model(path: Path) -> SavedModel:
    """Read what :meth:`SavedModel.save` wrote.

    Args:
        path: the folder, or its ``model.safetensors``.

    Raises:
        ConfigError: the files are missing, damaged or do not belong together.
    """
    folder = path.parent if path.name == WEIGHTS else path
    try:
        known: dict[str, Any] = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        weights = load_file(folder / WEIGHTS)
    except FileNotFoundError as error:
        raise ConfigError(f"{folder} holds no model: {WEIGHTS} and {DESCRIPTION} must be there.") from error
    except (OSError, ValueError, SafetensorError) as error:
        raise ConfigError(f"The model in {folder} cannot be read: {str(error).splitlines()[0]}.") from error
    if not isinstance(known, dict) or known.get("version") != VERSION:
        raise ConfigError(f"{folder / DESCRIPTION} is of another version; this program reads version {VERSION}.")
    try:
        config = ModelConfig(**known["architecture"])
        channels, height, width = known["image_shape"]
        names = tuple(known["class_names"])
        normalise = Normalizer(torch.tensor(known["mean"]), torch.tensor(known["std"]))
        read_as = {key: known[key] for key in RENDERED if key in known}
        rendering = DataConfig(**read_as).rendering
        network = build_model(config.architecture, (channels, height, width), len(names), seed=0)
        network.load_state_dict(weights)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0].rstrip(".:")
        raise ConfigError(f"{DESCRIPTION} and {WEIGHTS} in {folder} do not fit together: {reason}.") from error
    network.eval()
    return SavedModel(network, config, normalise, (channels, height, width), names, rendering)
