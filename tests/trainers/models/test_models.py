import math

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional

from trainers.errors import ConfigError
from trainers.models import MODELS, ModelConfig, Network, build_model
from trainers.models.base import PreActBlock, Projection, ResidualBlock
from trainers.seeding import seeded


def config(name: str) -> ModelConfig:
    """As small as the family goes."""
    return ModelConfig(name, width=1, depth=10) if name == "wide_resnet" else ModelConfig(name, width=4)


# Channels of the last stage, and by how much its maps are smaller than the images, rounded up.
FEATURES = {
    "tiny": (16, 4),
    "resnet18": (32, 8),
    "preact_resnet18": (32, 8),
    "wide_resnet": (64, 4),
    "imagenet_resnet18": (32, 32),
}


def test_every_family_is_tested() -> None:
    assert set(FEATURES) == set(MODELS)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("size", [16, 32])
@pytest.mark.parametrize("channels", [1, 3])
def test_shapes(name: str, size: int, channels: int) -> None:
    network = build_model(config(name), (channels, 32, 32), 7, 0)
    images = torch.randn(2, channels, size, size, generator=seeded(0))
    logits, features = network(images)
    last, shrunk = FEATURES[name]
    assert logits.shape == (2, 7)
    side = math.ceil(size / shrunk)
    assert features.shape == (2, last, side, side)
    # The head is linear on the mean over the maps that are returned.
    pooled = features.double().mean((2, 3))
    expected = pooled @ network.head.weight.double().T + network.head.bias.double()
    assert logits.double().allclose(expected, atol=1e-5)
    logits.sum().backward()
    assert all(p.grad is not None for p in network.parameters())


@pytest.mark.parametrize("name", MODELS)
def test_parts_hold_every_parameter_once_from_input_to_output(name: str) -> None:
    network = build_model(config(name), (3, 32, 32), 5, 0)
    parts = network.parts()
    stages = len(network.stages)
    assert list(parts) == ["stem", *(f"stage{i}" for i in range(1, stages + 1)), "head"]
    held = [id(p) for part in parts.values() for p in part.parameters()]
    assert len(held) == len(set(held))
    assert set(held) == {id(p) for p in network.parameters()}
    norms = [id(m) for part in parts.values() for m in part.modules() if isinstance(m, nn.BatchNorm2d)]
    assert sorted(norms) == sorted(id(m) for m in network.modules() if isinstance(m, nn.BatchNorm2d))
    assert parts["head"] is network.head


def weights(network: Network) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in network.parameters()])


@pytest.mark.parametrize("name", MODELS)
def test_the_seed_decides_the_weights_and_the_global_generator_is_left_alone(name: str) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    one, again, other = (weights(build_model(config(name), (3, 32, 32), 5, seed)) for seed in (2**62, 2**62, 1))
    assert one.equal(again)
    assert not one.equal(other)
    assert torch.get_rng_state().equal(before)


@pytest.mark.parametrize(
    "model",
    [
        ModelConfig("tiny"),
        ModelConfig("resnet18"),
        ModelConfig("preact_resnet18"),
        ModelConfig("wide_resnet", width=4),
        ModelConfig("imagenet_resnet18"),
    ],
)
def test_every_convolution_starts_from_kaiming_s_fan_out(model: ModelConfig) -> None:
    network = build_model(model, (3, 32, 32), 10, 0)
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    stem = {(7, 7)} if model.name == "imagenet_resnet18" else set()
    assert {module.kernel_size for module in convolutions} == {(1, 1), (3, 3)} | stem
    for module in convolutions:
        weight = module.weight.detach().double()
        expected = math.sqrt(2 / (module.kernel_size[0] * module.kernel_size[1] * module.out_channels))
        # Of n normal draws the deviation varies by 1 / sqrt(2 n) of itself, their mean by 1 / sqrt(n) of it.
        assert weight.std().item() == pytest.approx(expected, rel=5 / math.sqrt(2 * weight.numel()))
        assert abs(weight.mean().item()) < 5 * expected / math.sqrt(weight.numel())
        assert weight.abs().max() > 2 * expected, "and not uniform, which ends at the root of 3"
        assert module.bias is None
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.weight.eq(1).all()
            assert module.bias.eq(0).all()
    # The head keeps torch's default: uniform up to the root of 1 / inputs.
    bound = 1 / math.sqrt(network.head.in_features)
    assert 0.9 * bound < network.head.weight.abs().max() <= bound


@pytest.mark.parametrize(
    ("model", "parameters"),
    [
        (ModelConfig("resnet18"), 11_173_962),
        (ModelConfig("wide_resnet"), 175_066),  # WRN-16-1
        (ModelConfig("wide_resnet", width=10, depth=28), 36_479_194),  # WRN-28-10, 36.5M in the paper's table 1
    ],
)
def test_sizes_known_from_the_literature(model: ModelConfig, parameters: int) -> None:
    with torch.device("meta"):
        network = build_model(model, (3, 32, 32), 10, 0)
    assert sum(p.numel() for p in network.parameters()) == parameters


def test_resnet18_with_the_imagenet_stem_is_torchvision_s() -> None:
    theirs, generator = torchvision.models.resnet18(), seeded(0)
    with torch.no_grad():
        for parameter in theirs.parameters():  # batch-norms that differ from each other
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.01)
    network = build_model(ModelConfig("imagenet_resnet18"), (3, 32, 32), 1000, 0)
    assert sum(p.numel() for p in network.parameters()) == 11_689_512
    network.load_state_dict(dict(zip(network.state_dict(), theirs.state_dict().values(), strict=True)))
    images = torch.randn(2, 3, 224, 224, generator=generator)
    for training in (True, False):  # the first pass moves the statistics that the second one takes
        logits, features = network.train(training)(images)
        assert features.shape == (2, 512, 7, 7)
        assert logits.allclose(theirs.train(training)(images), atol=1e-4)


def test_width_scales_every_family() -> None:
    for name in MODELS:
        narrow, wide = (build_model(ModelConfig(name, width=w), (3, 32, 32), 10, 0).head.in_features for w in (1, 2))
        assert wide == 2 * narrow


@pytest.mark.parametrize(("depth", "blocks"), [(10, 1), (16, 2), (28, 4)])
def test_depth_counts_layers(depth: int, blocks: int) -> None:
    network = build_model(ModelConfig("wide_resnet", width=1, depth=depth), (3, 32, 32), 2, 0)
    assert [len(list(stage.children())) for stage in network.stages] == [blocks] * 3


@pytest.mark.parametrize("depth", [11, 12, 15, 17])
def test_a_depth_that_is_not_6n_plus_4(depth: int) -> None:
    with pytest.raises(ConfigError, match=rf"depth must be 6 n \+ 4 .* but got {depth}"):
        ModelConfig("wide_resnet", depth=depth)


def test_other_bad_settings() -> None:
    with pytest.raises(ConfigError, match=r"depth must be .* at least 10"):
        ModelConfig("wide_resnet", depth=4)
    with pytest.raises(ConfigError, match="depth is for wide_resnet only, but the model is resnet18"):
        ModelConfig("resnet18", depth=16)
    with pytest.raises(ConfigError, match="name must be one of tiny, resnet18, preact_resnet18, wide_resnet"):
        ModelConfig("vgg")
    with pytest.raises(ConfigError, match=r"width must be .* at least 1"):
        ModelConfig(width=0)


@pytest.mark.parametrize("block", [ResidualBlock, PreActBlock])
@pytest.mark.parametrize(("channels", "stride", "projected"), [(4, 1, False), (8, 1, True), (4, 2, True), (8, 2, True)])
def test_blocks_change_channels_and_resolution(
    block: type[ResidualBlock] | type[PreActBlock], channels: int, stride: int, projected: bool
) -> None:
    made = block(4, channels, stride)
    size = math.ceil(6 / stride)
    assert made(torch.randn(2, 4, 6, 6, generator=seeded(0))).shape == (2, channels, size, size)
    one_by_one = [m for m in made.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (1, 1)]
    assert len(one_by_one) == projected


def test_a_residual_block_whose_branch_is_off_passes_its_input_on() -> None:
    maps = torch.randn(2, 4, 5, 5, generator=seeded(0))
    plain, pre = ResidualBlock(4, 4, 1).eval(), PreActBlock(4, 4, 1).eval()
    nn.init.zeros_(plain.conv2.weight)
    nn.init.zeros_(pre.conv2.weight)
    assert plain(maps).allclose(maps.clamp_min(0))  # ReLU after the sum
    assert pre(maps).allclose(maps)  # nothing after the sum


@pytest.mark.parametrize("channels", [1, 4, 7, 8])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_a_projection_is_a_strided_convolution(channels: int, stride: int) -> None:
    made = Projection(channels, 5, stride)
    maps = torch.randn(2, channels, 7, 8, generator=seeded(0))
    expected = torch.einsum("nchw,oc->nohw", maps, made.weight[:, :, 0, 0])[:, :, ::stride, ::stride]
    assert made(maps).allclose(expected, atol=1e-6)


@pytest.mark.parametrize("name", [n for n in MODELS if n != "wide_resnet"])  # wide_resnet has 16 channels at least
@pytest.mark.parametrize("width", [1, 2, 7])
def test_narrow_networks_train_with_channels_last(name: str, width: int) -> None:
    network = build_model(ModelConfig(name, width=width), (3, 32, 32), 4, 0).to(memory_format=torch.channels_last)
    images = torch.randn(4, 3, 16, 16, generator=seeded(0)).contiguous(memory_format=torch.channels_last)
    optimizer, losses = torch.optim.SGD(network.parameters(), 0.02), []
    for _ in range(15):
        loss = functional.cross_entropy(network(images).logits, torch.arange(4))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
