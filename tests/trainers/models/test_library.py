"""Networks of timm and torchvision: parts by role, feature maps, and what is refused."""

import pytest
import timm
import torch
import torchvision
from torch import nn

from trainers.errors import ConfigError
from trainers.models import ModelConfig, build_model, check_model
from trainers.models.library import as_maps
from trainers.seeding import seeded

NAMES = ("timm:resnet18", "timm:vit_tiny_patch16_224", "timm:mobilenetv3_small_100", "torchvision:resnet18")


@pytest.mark.parametrize("name", NAMES)
def test_each_parameter_is_in_one_part_from_input_to_output(name: str) -> None:
    network = build_model(ModelConfig(name), (3, 32, 32), 5, 0)
    parts = network.parts()
    assert list(parts) == ["stem", *(f"stage{i}" for i in range(1, len(parts) - 1)), "head"]
    held = [id(parameter) for part in parts.values() for parameter in part.parameters()]
    assert sorted(held) == sorted(id(parameter) for parameter in network.parameters())
    logits, maps = network(torch.zeros(2, 3, 32, 32))
    assert (logits.shape, maps.ndim, len(maps)) == ((2, 5), 4, 2)
    stages = {id(parameter) for parameter in parts["stage1"].parameters()}
    gradients = torch.autograd.grad(maps.sum(), [p for p in network.parameters() if id(p) in stages], allow_unused=True)
    assert any(gradient is not None for gradient in gradients), "the maps come after the stages"


def test_a_resnet_is_divided_as_torchvision_names_its_layers() -> None:
    for name in ("timm:resnet18", "torchvision:resnet18"):
        parts = build_model(ModelConfig(name), (3, 32, 32), 5, 0).parts()
        sizes = [sum(p.numel() for p in part.parameters()) for part in parts.values()]
        plain = torchvision.models.resnet18(num_classes=5)
        layers = (plain.layer1, plain.layer2, plain.layer3, plain.layer4, plain.fc)
        stem = sum(p.numel() for module in (plain.conv1, plain.bn1) for p in module.parameters())
        assert sizes == [stem, *(sum(p.numel() for p in layer.parameters()) for layer in layers)]


def test_torchvisions_network_computes_what_torchvision_does() -> None:
    network = build_model(ModelConfig("torchvision:resnet18"), (3, 64, 64), 5, 0).eval()
    plain = torchvision.models.resnet18(num_classes=5).eval()
    plain.load_state_dict({name.removeprefix("inner."): value for name, value in network.state_dict().items()})
    images = torch.randn(2, 3, 64, 64, generator=seeded(0))
    with torch.no_grad():
        logits, maps = network(images)
        assert torch.equal(logits, plain(images))
    assert maps.shape == (2, 512, 2, 2)


def test_tokens_become_a_grid_row_by_row_without_those_that_are_no_places() -> None:
    network = nn.Module()
    network.num_prefix_tokens, network.patch_embed = 2, nn.Module()  # type: ignore[assignment]
    network.patch_embed.grid_size = (2, 3)  # type: ignore[assignment]
    tokens = torch.arange(2 * 8 * 4.0).view(2, 8, 4)
    maps = as_maps(tokens, network)
    assert maps.shape == (2, 4, 2, 3)
    for row in range(2):
        for column in range(3):
            assert torch.equal(maps[:, :, row, column], tokens[:, 2 + 3 * row + column])
    with pytest.raises(ValueError, match="the 5 tokens of its last stage are no grid"):
        as_maps(torch.zeros(2, 7, 4), network)


def test_maps_with_channels_last_become_maps_with_channels_first() -> None:
    network = nn.Module()
    network.output_fmt = "NHWC"  # type: ignore[assignment]
    last = torch.randn(2, 3, 5, 7, generator=seeded(0))
    assert torch.equal(as_maps(last, network)[1, 6, 2, 4], last[1, 2, 4, 6])


def test_a_seed_gives_the_same_network() -> None:
    one, again, other = (
        [p.clone() for p in build_model(ModelConfig("timm:resnet10t"), (1, 32, 32), 3, seed).parameters()]
        for seed in (1, 1, 2)
    )
    assert all(map(torch.equal, one, again))
    assert not all(map(torch.equal, one, other))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("timm:resnet99", r"name must be a network of timm [\d.]+, but got 'timm:resnet99'. Did you mean resnet50\?"),
        (
            "timm:resnet50.a1_in1",
            r"has a tag that timm [\d.]+ does not know: 'timm:resnet50.a1_in1'. Did you mean resnet50.a1_in1k\?",
        ),
        ("torchvision:vgg11", "name must be one of torchvision:resnet18, torchvision:resnet34, torchvision:resnet50, "),
        ("resnet", "must be one of tiny, .*timm:NAME or torchvision:NAME, but got 'resnet'"),
    ],
)
def test_an_unknown_name(name: str, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        ModelConfig(name)


def test_a_size_that_the_network_refuses() -> None:
    for name, size in (("timm:vit_tiny_patch16_224", 30), ("timm:efficientformer_l1", 32)):
        with pytest.raises(ConfigError, match=rf"^model.name: {name} does not take images of {size}x{size} pixels: "):
            check_model(ModelConfig(name), (3, size, size), 4)


@pytest.mark.parametrize(
    ("name", "size"), [("timm:xcit_nano_12_p16_224", 32), ("timm:efficientvit_m0", 64), ("timm:pvt_v2_b0", 36)]
)
def test_patches_that_overlap_cover_any_size(name: str, size: int) -> None:
    check_model(ModelConfig(name), (3, size, size), 4)


def test_a_network_that_has_no_groups_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(timm.models.resnet.ResNet, "group_matcher")
    with pytest.raises(ConfigError, match=r"timm:resnet18 cannot be divided into a stem, stages and a head"):
        check_model(ModelConfig("timm:resnet18"), (3, 32, 48), 4)


def test_width_is_for_own_networks() -> None:
    with pytest.raises(ConfigError, match=r"model.width is for tiny, .* only, but the model is timm:resnet18"):
        ModelConfig("timm:resnet18", width=4)
