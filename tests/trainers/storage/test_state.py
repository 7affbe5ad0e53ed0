import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import nn

import trainers.storage.state
from trainers.storage.files import write_with
from trainers.storage.state import StateError, load_state, save_state

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.uint8, torch.bool)
TENSORS = st.builds(
    lambda shape, dtype, seed: (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 9).to(dtype),
    st.lists(st.integers(0, 3), max_size=4),
    st.sampled_from(DTYPES),
    st.integers(0, 9),
)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**60), 2**60), st.floats(allow_nan=False), st.text(max_size=4)
)
KEYS = st.text(st.characters(codec="utf-8", exclude_characters="/$"), max_size=4)
TREES = st.dictionaries(
    KEYS,
    st.recursive(
        SCALARS | TENSORS, lambda t: st.lists(t, max_size=3) | st.dictionaries(KEYS, t, max_size=3), max_leaves=8
    ),
    max_size=4,
)


def same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and one.equal(other)
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list):
        return isinstance(other, list) and len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


@given(TREES)
@settings(max_examples=40)
def test_a_tree_comes_back_as_it_was(tree: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "a.safetensors"
        save_state(file, tree)
        assert same(tree, load_state(file))


def test_numbers_come_back_to_the_last_bit(tmp_path: Path) -> None:
    save_state(tmp_path / "a", {"x": 0.1 + 0.2, "t": torch.tensor([1e-45, float("inf"), float("nan"), -0.0])})
    loaded = load_state(tmp_path / "a")
    assert loaded["x"] == 0.1 + 0.2
    assert (
        loaded["t"].view(torch.int32).equal(torch.tensor([1e-45, float("inf"), float("nan"), -0.0]).view(torch.int32))
    )


def test_keys_with_a_slash_do_not_meet(tmp_path: Path) -> None:
    tree = {"a/b": torch.zeros(2), "a": {"b": torch.ones(2)}}
    save_state(tmp_path / "a", tree)
    assert same(tree, load_state(tmp_path / "a"))


def test_tensors_may_share_memory_or_lie_in_any_order(tmp_path: Path) -> None:
    base = torch.arange(24.0)
    channels_last = base.reshape(1, 2, 3, 4).contiguous(memory_format=torch.channels_last)
    tree = {"a": base, "b": base[::2], "c": base.reshape(4, 6).T, "d": channels_last, "e": base[3:3], "f": base[5]}
    save_state(tmp_path / "a", {**tree, "g": base.clone().requires_grad_()})
    loaded = load_state(tmp_path / "a")
    assert loaded["g"].equal(base)
    assert not loaded["g"].requires_grad
    assert all(loaded[key].equal(tree[key]) for key in tree)


@pytest.mark.parametrize(
    "make",
    [
        lambda parameters: torch.optim.SGD(parameters, 0.1, momentum=0.9, weight_decay=0.01),
        lambda parameters: torch.optim.Adam(parameters, 0.01),
    ],
)
def test_an_optimizer_goes_on_as_if_never_stopped(tmp_path: Path, make: Callable[[Any], torch.optim.Optimizer]) -> None:
    def train(network: nn.Linear, optimizer: torch.optim.Optimizer, steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            network(torch.ones(2, 3)).square().sum().backward()
            optimizer.step()

    torch.manual_seed(0)
    network = nn.Linear(3, 2)
    optimizer = make(network.parameters())
    train(network, optimizer, 3)
    save_state(tmp_path / "a", {"network": network.state_dict(), "optimizer": optimizer.state_dict()})
    train(network, optimizer, 3)

    saved = load_state(tmp_path / "a")
    second = nn.Linear(3, 2)
    second.load_state_dict(saved["network"])
    again = make(second.parameters())
    moments = {int(key): value for key, value in saved["optimizer"]["state"].items()}
    again.load_state_dict({**saved["optimizer"], "state": moments})
    train(second, again, 3)
    assert second.weight.equal(network.weight)
    assert second.bias.equal(network.bias)


def test_the_file_is_safetensors_with_json_in_its_header(tmp_path: Path) -> None:
    save_state(tmp_path / "a.safetensors", {"n": 1, "t": torch.tensor([1.0, 2.0])})
    content = (tmp_path / "a.safetensors").read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    state = json.loads(header.pop("__metadata__")["state"])
    assert state["n"] == 1
    (entry,) = header.values()
    assert (entry["dtype"], entry["shape"]) == ("F32", [2])
    assert content[8 + length :] == torch.tensor([1.0, 2.0]).numpy().tobytes()


def test_what_would_need_pickling_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        save_state(tmp_path / "a", {"x": object()})
    assert os.listdir(tmp_path) == []


def test_a_write_that_is_killed_leaves_the_old_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_state(tmp_path / "a", {"epoch": 1, "t": torch.ones(3)})

    def killed(path: Path, write: Any) -> None:
        def half(beside: Path) -> None:
            beside.write_bytes(b"half a header")
            raise KeyboardInterrupt

        write_with(path, half)

    monkeypatch.setattr(trainers.storage.state, "write_with", killed)
    with pytest.raises(KeyboardInterrupt):
        save_state(tmp_path / "a", {"epoch": 2, "t": torch.zeros(3)})
    assert same(load_state(tmp_path / "a"), {"epoch": 1, "t": torch.ones(3)})
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("kept", [0, 4, 8, 50, 0.5, 0.999])
def test_a_damaged_file_says_so(tmp_path: Path, kept: float) -> None:
    file = tmp_path / "a"
    save_state(file, {"t": torch.arange(1000.0)})
    content = file.read_bytes()
    file.write_bytes(content[: int(kept if kept >= 1 else kept * len(content))])
    with pytest.raises(SafetensorError):
        load_state(file)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_state(tmp_path / "a")


def test_tuples_come_back_as_lists_with_their_tensors(tmp_path: Path) -> None:
    """Adam's betas are a tuple; so may a pair of tensors be."""
    save_state(tmp_path / "a", {"betas": (0.9, 0.99), "pair": (torch.ones(2), {"deep": (torch.zeros(1),)})})
    expected = {"betas": [0.9, 0.99], "pair": [torch.ones(2), {"deep": [torch.zeros(1)]}]}
    assert same(load_state(tmp_path / "a"), expected)


@pytest.mark.parametrize("header", [None, {"format": "pt"}])
def test_tensors_of_another_program_are_no_state(tmp_path: Path, header: dict[str, str] | None) -> None:
    save_file({"weight": torch.ones(2)}, tmp_path / "model.safetensors", metadata=header)
    with pytest.raises(StateError, match=r"model\.safetensors holds tensors, but no state"):
        load_state(tmp_path / "model.safetensors")
