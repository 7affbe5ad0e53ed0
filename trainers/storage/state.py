"""Training state on disk: one safetensors file, whose header holds the JSON part. Nothing is pickled."""

import json
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from trainers.storage.files import local_copy, write_with
from trainers.storage.object_store import Place

TENSOR = "$tensor"


class StateError(ValueError):
    """A file is not a training state."""


def save_state(path: Place, state: dict[str, Any]) -> None:
    """Write ``state``, a tree of dictionaries (string keys), lists, tensors and JSON values, whole or not at all."""
    write_state(path, encode_state(state))


def encode_state(state: dict[str, Any]) -> bytes:
    """The content of the file of a state."""
    tensors: dict[str, Tensor] = {}
    text = json.dumps(_strip(state, tensors))
    return save(tensors, metadata={"state": text})


def write_state(path: Place, content: bytes) -> None:
    """Write what :func:`encode_state` gave, whole or not at all."""
    write_with(path, lambda beside: beside.write_bytes(content))  # safetensors' save_file hides a full disk's errno


def load_state(path: Place, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read what :func:`save_state` wrote; tensors come back on ``device``.

    Raises:
        OSError, safetensors.SafetensorError: the file is not there, or is damaged.
        StateError: the file is not a training state.
    """
    with local_copy(path) as here, safe_open(here, framework="pt", device=str(device)) as file:
        text = (file.metadata() or {}).get("state")
        if text is None:
            raise StateError(f"{path} holds tensors, but no state.")
        tree = json.loads(text)
        return _fill(tree, {name: file.get_tensor(name) for name in file.keys()})  # type: ignore[no-any-return]


def _strip(node: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(node, Tensor):
        # A copy, since safetensors refuses tensors that share memory.
        name = str(len(tensors))
        tensors[name] = node.detach().cpu().clone().contiguous()
        return {TENSOR: name}
    if isinstance(node, dict):
        return {str(key): _strip(value, tensors) for key, value in node.items()}
    if isinstance(node, (list, tuple)):
        return [_strip(value, tensors) for value in node]
    return node


def _fill(node: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(node, dict):
        if TENSOR in node:
            return tensors[node[TENSOR]]
        return {key: _fill(value, tensors) for key, value in node.items()}
    if isinstance(node, list):
        return [_fill(value, tensors) for value in node]
    return node
