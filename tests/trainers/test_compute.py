from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from trainers.compute import CUDA_ITSELF, IMAGES_ON_CARD, IN_MEMORY, Compute, ComputeConfig
from trainers.data.memory import total_memory
from trainers.errors import ConfigError
from trainers.models import ModelConfig, build_model


def pretend_gpu(monkeypatch: pytest.MonkeyPatch, visible: bool = True) -> list[float]:
    """torch sees a GPU with eight times the memory that CUDA takes itself; returns the shares that it is limited to."""
    given: list[float] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: visible)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", given.append)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=8 * CUDA_ITSELF))
    return given


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
        ("auto", True, 0.5, Compute(torch.device("cuda"), amp=True, fused=True, pass_images=4096)),
        ("cuda", True, 1.0, Compute(torch.device("cuda"), amp=True, fused=True, pass_images=4096)),
    ],
)
def test_the_device_and_its_format(
    monkeypatch: pytest.MonkeyPatch, device: str, visible: bool, gpu_share: float, opened: Compute
) -> None:
    given = pretend_gpu(monkeypatch, visible)
    found = ComputeConfig(device=device).open(gpu_share)
    assert replace(found, image_room=opened.image_room) == opened
    allowed = gpu_share if gpu_share == 1 else gpu_share - 1 / 8
    on_a_card = found.device.type == "cuda"
    assert found.image_room == (IMAGES_ON_CARD * allowed * 8 * CUDA_ITSELF if on_a_card else IN_MEMORY * total_memory())
    assert given == ([] if opened.device.type == "cpu" else [allowed]), "beside what CUDA takes itself"


def test_a_trial_with_whole_gpus_may_use_their_memory_again(monkeypatch: pytest.MonkeyPatch) -> None:
    given = pretend_gpu(monkeypatch)
    for share in (0.25, 2.0, 0.0, 0.01):
        ComputeConfig(device="cuda").open(share)
    assert given == [0.125, 1.0, 1.0, 0.0]


@pytest.mark.parametrize("bfloat16", [False, True])
@pytest.mark.parametrize(
    ("amp", "on_cuda", "on_cpu"),
    [(None, True, False), ("on", True, True), ("off", False, False), ("auto", True, "as the processor does")],
)
def test_where_autocast_is_on(
    monkeypatch: pytest.MonkeyPatch, bfloat16: bool, amp: str | None, on_cuda: bool, on_cpu: bool | str
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": bfloat16, "amx_bf16": False})
    pretend_gpu(monkeypatch)
    config = ComputeConfig(amp=amp)
    expected = bfloat16 if isinstance(on_cpu, str) else on_cpu
    for each in (config, config.settled()):
        assert each.open(1.0).amp is on_cuda
        assert each.open(0.0).amp is expected
    assert config.settled().amp == (amp if amp != "auto" else "on" if bfloat16 else None)


@pytest.mark.parametrize("autotune", [True, False])
def test_autotuning_holds_for_one_training(monkeypatch: pytest.MonkeyPatch, autotune: bool) -> None:
    pretend_gpu(monkeypatch)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", not autotune)
    ComputeConfig(device="cuda", autotune=autotune).open()
    assert torch.backends.cudnn.benchmark is autotune


def test_graphs_are_of_compiled_networks() -> None:
    with pytest.raises(ConfigError, match="cuda_graphs needs compile: true"):
        ComputeConfig(cuda_graphs=True)
    assert ComputeConfig(cuda_graphs=True, compile=True).cuda_graphs


@pytest.mark.parametrize(
    ("most", "images", "passes"),
    [
        (None, 10**6, 1), (8, 0, 1), (8, 1, 1), (8, 8, 1), (8, 9, 2), (8, 17, 3),
    ],
)  # fmt: skip
def test_images_are_divided_into_passes(most: int | None, images: int, passes: int) -> None:
    assert Compute(torch.device("cpu"), pass_images=most).passes(images) == passes


def test_only_what_changes_digits_is_part_of_the_identity() -> None:
    plain = Compute(torch.device("cpu"))
    assert Compute(torch.device("cpu"), pass_images=8).identity == plain.identity
    others = [Compute(torch.device("cpu"), amp=True), Compute(torch.device("cpu"), compile=True)]
    others += [Compute(torch.device("cuda"), **{name: True}) for name in ("fused", "autotune")]
    assert len({str(each.identity) for each in (plain, Compute(torch.device("cuda")), *others)}) == 6


def test_a_format_is_named() -> None:
    assert str(Compute(torch.device("cuda"), amp=True)) == "bfloat16 autocast on CUDA"
    assert str(Compute(torch.device("cpu"))) == "float32 on CPUs"


def test_keys_are_those_of_earlier_versions() -> None:
    assert ComputeConfig().changed() == {}
    assert ComputeConfig(amp="off").changed() == {"amp": False}
    assert ComputeConfig(amp="on", pass_images=8).changed() == {"amp": "on", "pass_images": 8}


def test_autocast_only_where_it_is_on() -> None:
    layer, x = torch.nn.Linear(2, 2), torch.ones(1, 2)
    with Compute(torch.device("cpu")).autocast():
        assert layer(x).dtype == torch.float32
    with Compute(torch.device("cpu"), amp=True).autocast():
        assert layer(x).dtype == torch.bfloat16


def test_networks_are_placed_channels_last() -> None:
    network = build_model(ModelConfig(width=4), (3, 32, 32), 2, 0)
    Compute(torch.device("cpu")).place(network)
    assert network.stages[0][0].conv1.weight.is_contiguous(memory_format=torch.channels_last)
