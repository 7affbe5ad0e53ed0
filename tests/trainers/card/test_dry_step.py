"""The bytes of a step, against those worked out by hand."""

import pytest
import torch
from torch import Tensor, nn

from trainers.card.dry_step import MANY, NetworkBytes, model_bytes, network_bytes
from trainers.models import ModelConfig, ModelOutput, build_model

SHAPE = (3, 8, 8)
MAP = 4 * 8 * 8
"""Values of one image's feature maps: 4 channels of 8x8."""
CLASSES = 10


class Hand(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, images: Tensor) -> ModelOutput:
        maps = torch.relu(self.norm(self.conv(images)))
        return ModelOutput(self.head(maps.mean((2, 3))), maps)


def by_hand(bytes_of_a_value: int) -> int:
    """Of one image, where the backward pass is at the ReLU: the maps that were kept (output of the convolution, which
    batch-norm keeps, and of the ReLU), and the gradients behind and before the ReLU.
    """
    return 4 * MAP * bytes_of_a_value


@pytest.mark.parametrize(("amp", "size"), [(False, 4), (True, 2)])
def test_activations_are_those_worked_out_by_hand(amp: bool, size: int) -> None:
    found = network_bytes(Hand, SHAPE, amp)
    logits = 4 * CLASSES * 4  # at most: logits, in float32 too, their softmax and gradient
    images = 3 * 8 * 8 * 2 if amp else 0  # autocast makes a copy of them, which the convolution keeps
    assert by_hand(size) <= found.step_per_image - images <= by_hand(size) + logits
    assert 0 <= found.step_fixed < 4 * found.weights


def test_a_prediction_keeps_two_maps_at_a_time() -> None:
    assert network_bytes(Hand, SHAPE, amp=True).prediction_per_image == pytest.approx(2 * MAP * 4, rel=0.01)


def test_weights_and_buffers_by_formula() -> None:
    found = network_bytes(Hand, SHAPE, amp=False)
    assert found.weights == 4 * (4 * 3 * 9 + 2 * 4 + 4 * CLASSES + CLASSES)
    assert found.buffers == 4 * 2 * 4 + 8  # means and variances in float32, and a counter in int64


def test_bytes_grow_with_the_images() -> None:
    size = NetworkBytes(1, 1, 1, 10.0, 3.0, 2.0)
    assert [size.step(images) for images in (0, 1, 100)] == [0, 13, 310]
    assert size.prediction(7) == 14


@pytest.mark.parametrize("name", ["tiny", "resnet18", "preact_resnet18", "wide_resnet"])
def test_amp_takes_about_half_on_every_network(name: str) -> None:
    whole, half = (model_bytes(ModelConfig(name, width=None), (3, 16, 16), 10, amp) for amp in (False, True))
    assert 0.45 < half.step(MANY) / whole.step(MANY) < 0.6
    assert half.weights == whole.weights
    assert half.prediction(9) == whole.prediction(9), "predictions are measured in float32"


def test_a_vision_transformer_of_timm() -> None:
    name, shape = "timm:vit_tiny_patch16_224", (3, 32, 32)
    found = model_bytes(ModelConfig(name), shape, CLASSES, amp=False)
    network = build_model(ModelConfig(name), shape, CLASSES, seed=0)
    assert found.weights == found.trained == sum(weight.nbytes for weight in network.parameters())
    tokens, width, blocks = 1 + 2 * 2, 192, 12
    least = blocks * tokens * (4 + 2) * width * 4  # the inputs and outputs of its layers' MLPs are kept
    assert least < found.step_per_image < 10 * least


def test_the_random_numbers_of_others_stay_as_they_are() -> None:
    before = torch.get_rng_state()
    network_bytes(Hand, SHAPE, amp=False)
    assert torch.equal(before, torch.get_rng_state())
