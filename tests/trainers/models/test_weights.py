"""Weights from a file: what fits is loaded, and what does not is said."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import save_file

from trainers.data.batches import Normalizer
from trainers.errors import ConfigError, HostError
from trainers.models import ModelConfig, build_model, check_model, interpolation_of, settle
from trainers.models.normalizer import normalizer_of
from trainers.models.weights import from_hub
from trainers.seeding import seeded

SHAPE = (3, 32, 32)
CPU = torch.device("cpu")
NAME = "timm:mobilenetv3_small_050"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a network with seven classes."""
    path = tmp_path_factory.mktemp("weights") / "seven.safetensors"
    torch.manual_seed(5)
    save_file(timm.create_model(NAME.removeprefix("timm:"), num_classes=7).state_dict(), path)
    return path


def with_weights(file: Path, **fields: object) -> ModelConfig:
    return ModelConfig(NAME, weights=str(file), **fields)  # type: ignore[arg-type]


def test_all_but_the_head_comes_from_the_file(file: Path) -> None:
    config = with_weights(file)
    check_model(config, SHAPE, 3)
    one, other, without = (
        build_model(c, SHAPE, 3, seed) for c, seed in ((config, 1), (config, 2), (config.architecture, 1))
    )
    same = {name for name, tensor in one.state_dict().items() if torch.equal(tensor, other.state_dict()[name])}
    heads = {"inner.classifier.weight", "inner.classifier.bias"}
    assert same == set(one.state_dict()) - heads
    assert len(one.state_dict()["inner.classifier.weight"]) == 3
    assert not torch.equal(one.state_dict()["inner.conv_stem.weight"], without.state_dict()["inner.conv_stem.weight"])
    torch.manual_seed(5)
    before = timm.create_model(NAME.removeprefix("timm:"), num_classes=7)
    assert torch.equal(one.state_dict()["inner.conv_stem.weight"], before.conv_stem.weight)


def test_a_new_head_is_too_small_to_harm_the_rest(file: Path) -> None:
    """Its outputs begin near 0; mobilenet's own first head of two classes has weights up to 0.7."""
    head = build_model(with_weights(file), SHAPE, 2, 1).inner.classifier
    assert head.weight.abs().max() <= head.in_features**-0.5
    assert build_model(ModelConfig(NAME), SHAPE, 2, 1).inner.classifier.weight.abs().max() > 0.5


def test_as_many_classes_as_the_file_has_get_a_new_head_too(file: Path) -> None:
    torch.manual_seed(5)
    before = timm.create_model(NAME.removeprefix("timm:"), num_classes=7)
    after = build_model(with_weights(file), SHAPE, 7, 1)
    assert not torch.equal(after.inner.classifier.weight, before.classifier.weight)


def test_a_vision_transformer_gets_its_places_resampled(tmp_path: Path) -> None:
    name = "vit_tiny_patch16_224"
    plain = timm.create_model(name)
    save_file(plain.state_dict(), tmp_path / "vit.safetensors")
    config = ModelConfig(f"timm:{name}", weights=str(tmp_path / "vit.safetensors"))
    check_model(config, (3, 64, 64), 4)
    network = build_model(config, (3, 64, 64), 4, 0)
    assert network.inner.pos_embed.shape == (1, 1 + 4 * 4, 192)
    assert torch.equal(network.inner.blocks[3].attn.qkv.weight, plain.blocks[3].attn.qkv.weight)


def test_what_the_weights_say_is_written_out(file: Path) -> None:
    config = settle(with_weights(file), 3)
    known = timm.get_pretrained_cfg(NAME.removeprefix("timm:"))
    assert (config.mean, config.std) == (tuple(known.mean), tuple(known.std))
    assert interpolation_of(config) == known.interpolation == "bicubic"
    assert config == settle(config, 3)
    moved = ModelConfig(**config.as_dict() | {"weights": "/elsewhere.safetensors"})
    assert moved.changed() == config.changed(), "weights go by what they are"
    images = torch.randint(256, (4, *SHAPE), generator=seeded(0)).byte()
    assert normalizer_of(config, images, CPU).mean.tolist() == pytest.approx(known.mean)
    own = Normalizer.fit(images)
    assert torch.equal(normalizer_of(config.architecture, images, CPU).mean, torch.tensor(known.mean))
    assert torch.equal(normalizer_of(ModelConfig(NAME), images, CPU).mean, own.mean)
    assert settle(ModelConfig("tiny"), 3) == ModelConfig("tiny")
    assert settle(with_weights(file, mean=(0.1, 0.2, 0.3), std=(1, 1, 1)), 3).mean == (0.1, 0.2, 0.3)


def test_own_networks_take_a_file_too(tmp_path: Path) -> None:
    before = build_model(ModelConfig(width=4), SHAPE, 9, 3)
    save_file(before.state_dict(), tmp_path / "own.safetensors")
    config = ModelConfig(width=4, weights=str(tmp_path / "own.safetensors"))
    check_model(config, SHAPE, 2)
    network = build_model(config, SHAPE, 2, 0)
    assert torch.equal(network.stem[0].weight, before.stem[0].weight)
    assert len(network.head.bias) == 2
    assert settle(config, 3).mean is None, "nothing is known of how its images were normalised"


def test_weights_of_another_network_are_refused_by_their_tensors(file: Path, tmp_path: Path) -> None:
    text = r"seven.safetensors is not of timm:resnet18: it lacks \(conv1.weight, .* and \d+ more\), and has others \("
    with pytest.raises(ConfigError, match=text):
        check_model(ModelConfig("timm:resnet18", weights=str(file)), SHAPE, 3)
    own = tmp_path / "own.safetensors"
    save_file(build_model(ModelConfig(width=4), SHAPE, 9, 3).state_dict(), own)
    with pytest.raises(ConfigError, match=r"it has other shapes \(stage.* for \["):
        check_model(ModelConfig(width=8, weights=str(own)), SHAPE, 2)


def test_files_that_are_no_weights(tmp_path: Path) -> None:
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"x" * 100)
    for path, text in (
        (tmp_path / "away.safetensors", "away.safetensors cannot be read: No such file or directory."),
        (broken, "broken.safetensors cannot be read: "),
    ):
        with pytest.raises(ConfigError) as error:
            check_model(with_weights(path), SHAPE, 3)
        assert text in str(error.value)


def test_another_kind_of_file_is_refused_before_data_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"model.weights must be a .safetensors file, or hub, but got .*model.pt'?\."):
        with_weights(tmp_path / "model.pt")


def test_grey_images_get_the_mean_of_the_statistics(file: Path) -> None:
    config = settle(with_weights(file), 1)
    known = timm.get_pretrained_cfg(NAME.removeprefix("timm:"))
    assert config.mean == (pytest.approx(sum(known.mean) / 3),)
    assert config.std == (pytest.approx(sum(known.std) / 3),)
    check_model(config, (1, 32, 32), 4)


def test_a_file_that_has_changed_since_the_sweep_began_is_refused(file: Path, tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    path.write_bytes(file.read_bytes())
    config = settle(with_weights(path), 3)
    path.write_bytes(file.read_bytes()[:-1] + b"\1")
    with pytest.raises(ConfigError, match="holds other weights than when the sweep began"):
        build_model(config, SHAPE, 3, 0)


@pytest.mark.parametrize("change", [Path.unlink, lambda path: path.write_bytes(b"other")])
def test_another_host_may_have_a_file_whose_digest_is_known(
    file: Path, tmp_path: Path, change: Callable[[Path], object]
) -> None:
    path = tmp_path / "own.safetensors"
    path.write_bytes(file.read_bytes())
    config = settle(with_weights(path), 3)
    check_model(config, SHAPE, 3)
    change(path)
    for use in (lambda: build_model(config, SHAPE, 3, 0), lambda: check_model(config, SHAPE, 3)):
        with pytest.raises(HostError, match=r"own.safetensors (cannot be read|holds other weights)"):
            use()
    with pytest.raises(ConfigError) as caught:
        settle(with_weights(tmp_path / "away.safetensors"), 3)
    assert not isinstance(caught.value, HostError)


def test_the_hub_is_asked_once_and_not_about_weights_that_are_known(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    cached = False

    def fetch(*_: object, local_files_only: bool = False) -> str:
        asked.append(local_files_only)
        if local_files_only and not cached:
            raise LocalEntryNotFoundError("not in the cache")
        return str(file)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fetch)
    from_hub.cache_clear()
    config = settle(ModelConfig(NAME, weights="hub"), 3)
    assert asked == [False]
    for seed in range(3):
        build_model(config, SHAPE, 3, seed)
    assert asked == [False, True, False], "a host whose cache lacks them fetches them, once"
    from_hub.cache_clear()
    cached = True
    build_model(config, SHAPE, 3, 0)
    assert asked[3:] == [True]
    from_hub.cache_clear()


def test_a_hub_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> None:
        raise OSError("Temporary failure in name resolution")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", away)
    text = (
        "model.weights: hub has no timm/mobilenetv3_small_050.lamb_in1k that can be fetched from here "
        "(Temporary failure in name resolution); give the path of"
    )
    with pytest.raises(ConfigError, match=re.escape(text)):
        settle(ModelConfig(NAME, weights="hub"), 3)
    with pytest.raises(ConfigError, match="has networks of timm and torchvision only"):
        ModelConfig("tiny", weights="hub")


def test_statistics_and_digests_that_cannot_be() -> None:
    for fields, text in (
        ({"mean": (123.0,), "std": (0.5,)}, "mean must be a number at least 0 and at most 1"),
        ({"mean": (-0.5,), "std": (0.5,)}, "mean must be a number at least 0 and at most 1"),
        ({"mean": (0.5,), "std": (58.0,)}, "std must be a number above 0 and at most 1"),
        ({"weights_digest": "0" * 16}, "model.weights_digest is that of model.weights, which is missing"),
    ):
        with pytest.raises(ConfigError, match=text):
            ModelConfig(**fields)  # type: ignore[arg-type]


def test_mean_and_std_go_together() -> None:
    with pytest.raises(ConfigError, match=r"model.mean and model.std go together"):
        ModelConfig(mean=(0.5,))
    with pytest.raises(ConfigError, match=r"model.mean has 1 numbers, but the images have 3 channels"):
        check_model(ModelConfig(mean=(0.5,), std=(0.5,)), SHAPE, 2)
