import pytest
import torch
from torchvision.transforms import InterpolationMode, v2

from tests.trainers.data.images import random_images
from tests.trainers.data.test_colour import varied_images
from trainers.data.rand_augment import OPERATIONS, operated, rand_augment
from trainers.seeding import seeded

THEIRS = ("Identity", "ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast",
          "Sharpness", "Posterize", "Solarize", "AutoContrast", "Equalize")  # fmt: skip
WITHOUT_STRENGTH = ("autocontrast", "equalize")


def torchvisions(images: torch.Tensor, operation: int, magnitude: int, upward: bool) -> torch.Tensor:
    """The operation as torchvision's RandAugment does it, bilinear: uint8 (N, C, H, W)."""
    theirs, name = v2.RandAugment(interpolation=InterpolationMode.BILINEAR), THEIRS[operation]
    strengths, signed = theirs._AUGMENTATION_SPACE[name]
    found = strengths(31, *images.shape[2:])
    strength = 0.0 if found is None else float(found[magnitude])
    sign = -1 if signed and not upward else 1
    return theirs._apply_image_or_video_transform(
        images, name, sign * strength, interpolation=InterpolationMode.BILINEAR, fill=theirs._fill
    )


def all_of(images: torch.Tensor, operation: int, magnitude: int, upward: bool = True) -> torch.Tensor:
    count = len(images)
    return operated(images, torch.full((count,), operation), torch.full((count,), upward), magnitude)


@pytest.mark.parametrize("operation", range(len(OPERATIONS)), ids=OPERATIONS)
@pytest.mark.parametrize(("channels", "height", "width"), [(3, 32, 32), (1, 20, 33)])
def test_operations_against_torchvision(operation: int, channels: int, height: int, width: int) -> None:
    images = varied_images(channels, height, width)
    for magnitude in (1, 9, 17, 30):
        for upward in (True, False):
            found = all_of(images, operation, magnitude, upward)
            assert found.dtype == torch.uint8
            assert found.is_contiguous(memory_format=torch.channels_last)
            distance = (found.int() - torchvisions(images, operation, magnitude, upward).int()).abs()
            assert distance.max() <= 1, (magnitude, upward)
            # They differ where a rounding error decides between two levels: rare in noise, but for round factors.
            assert magnitude == 30 or (distance[0] > 0).float().mean() < 0.02, (magnitude, upward)


@pytest.mark.parametrize(("channels", "height", "width"), [(3, 32, 32), (1, 20, 33), (3, 1, 1), (2, 2, 5)])
def test_at_magnitude_0_nothing_that_has_a_strength_changes_an_image(channels: int, height: int, width: int) -> None:
    images = random_images(20, channels, height, width)
    images[:, :, 0, 0] = 255
    for operation, name in enumerate(OPERATIONS):
        if name not in WITHOUT_STRENGTH:
            assert all_of(images, operation, 0).equal(images), name


@pytest.mark.parametrize("magnitude", [1, 30])
def test_every_operation_but_identity_changes_something(magnitude: int) -> None:
    images = random_images(4, 3, 32, 32).clamp(min=60)
    unmoved = [name for place, name in enumerate(OPERATIONS) if all_of(images, place, magnitude).equal(images)]
    # At magnitude 1 a translation is less than a pixel, and posterize keeps all 8 bits.
    assert unmoved == (["identity"] if magnitude == 30 else ["identity", "translate_x", "translate_y", "posterize"])


def test_each_image_has_the_operation_and_the_sign_that_it_drew() -> None:
    count = 2 * len(OPERATIONS)
    images = random_images(1, 3, 24, 20).expand(count, -1, -1, -1)
    drawn, upward = torch.arange(count) % len(OPERATIONS), torch.arange(count) < len(OPERATIONS)
    together = operated(images, drawn, upward, 17)
    for place in range(count):
        alone = operated(*(value[place : place + 1] for value in (images, drawn, upward)), 17)
        assert together[place].equal(alone[0])
    first, second = together.chunk(2)
    signed = [(one != other).any().item() for one, other in zip(first, second, strict=True)]
    assert signed == [name not in ("identity", "posterize", "solarize", *WITHOUT_STRENGTH) for name in OPERATIONS]


def test_operations_follow_one_another() -> None:
    images, generator = random_images(8, 3, 16, 12), seeded(3)
    expected = images
    for _ in range(3):
        drawn = torch.randint(14, (8,), generator=generator)
        upward = torch.rand(8, generator=generator) < 0.5
        expected = operated(expected, drawn, upward, 12)
    assert rand_augment(images, 3, 12, seeded(3)).equal(expected)


def test_every_operation_comes_up_about_as_often() -> None:
    image = varied_images(3, 16, 16)[:1]
    views = rand_augment(image.expand(2800, -1, -1, -1), 1, 30, seeded(0))
    signed = (name not in ("identity", "posterize", "solarize", *WITHOUT_STRENGTH) for name in OPERATIONS)
    for operation, both in enumerate(signed):
        for upward in (True, False) if both else (True,):
            expected = 2800 / 14 / (2 if both else 1)
            found = int((views == all_of(image, operation, 30, upward)).all(3).all(2).all(1).sum())
            assert abs(found - expected) < 5 * expected**0.5, OPERATIONS[operation]


def test_no_operation_changes_nothing_and_draws_nothing() -> None:
    images, generator = random_images(4, 3, 8, 8), seeded(0)
    before = generator.get_state()
    assert rand_augment(images, 0, 30, generator).equal(images)
    assert generator.get_state().equal(before)
