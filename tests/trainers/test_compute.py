from collections.abc import Iterator

import pytest
import torch

from trainers.compute import Compute, ComputeConfig
from trainers.errors import ConfigError
from trainers.models import ModelConfig, build_model


@pytest.fixture(autouse=True)
def _threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_the_thread_count_follows_the_configuration() -> None:
    ComputeConfig(device="cpu", threads=2).open()
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize(("device", "gpu_share"), [("cuda", 0.0), ("cuda", 1.0), ("auto", 0.5)])
def test_a_gpu_that_torch_cannot_see(monkeypatch: pytest.MonkeyPatch, device: str, gpu_share: float) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="set device to cpu"):
        ComputeConfig(device=device).open(gpu_share)


@pytest.mark.parametrize(
    ("device", "visible", "gpu_share", "opened"),
    [
        ("auto", False, 0.0, Compute(torch.device("cpu"))),
        ("cpu", True, 0.0, Compute(torch.device("cpu"))),
        ("cpu", False, 1.0, Compute(torch.device("cpu"))),
        ("auto", True, 0.5, Compute(torch.device("cuda"), amp=True)),
        ("cuda", True, 1.0, Compute(torch.device("cuda"), amp=True)),
    ],
)
def test_the_device_and_its_format(
    monkeypatch: pytest.MonkeyPatch, device: str, visible: bool, gpu_share: float, opened: Compute
) -> None:
    given: list[float] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: visible)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", given.append)
    assert ComputeConfig(device=device).open(gpu_share) == opened
    assert given == ([] if opened.device.type == "cpu" else [gpu_share])


def test_a_trial_with_whole_gpus_may_use_their_memory_again(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[float] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", given.append)
    for share in (0.25, 2.0, 0.0):
        ComputeConfig(device="cuda").open(share)
    assert given == [0.25, 1.0, 1.0]


def test_autocast_only_where_it_is_on() -> None:
    layer, x = torch.nn.Linear(2, 2), torch.ones(1, 2)
    with Compute(torch.device("cpu")).autocast():
        assert layer(x).dtype == torch.float32
    with Compute(torch.device("cpu"), amp=True).autocast():
        assert layer(x).dtype == torch.bfloat16


def test_networks_are_placed_channels_last() -> None:
    network = build_model(ModelConfig(width=4), 3, 2, 0)
    Compute(torch.device("cpu")).place(network)
    assert network.stages[0][0].conv1.weight.is_contiguous(memory_format=torch.channels_last)
