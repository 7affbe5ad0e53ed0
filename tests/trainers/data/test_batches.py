from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch.nn import functional

from trainers.data import ImageSet
from trainers.data.batches import Augmentation, Normalizer, augment, cutout, shuffled_batches, spread
from trainers.seeding import seeded

DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=[
            pytest.mark.gpu,
            pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device"),
        ],
    ),
]


def possible_views(image: torch.Tensor, crop: int, flip: bool) -> list[bytes]:
    """Every crop of the padded image, and its mirror image: uint8 (C, H, W) each, one by one."""
    pixels = image.numpy()
    channels, height, width = pixels.shape
    padded = np.zeros((channels, height + 2 * crop, width + 2 * crop), dtype=np.uint8)
    padded[:, crop : crop + height, crop : crop + width] = pixels
    views = []
    for top in range(2 * crop + 1):
        for left in range(2 * crop + 1):
            view = padded[:, top : top + height, left : left + width]
            views.append(view.tobytes())
            if flip:
                views.append(view[:, :, ::-1].tobytes())
    return views


def pixels_of(images: torch.Tensor) -> list[bytes]:
    return [image.contiguous().numpy().tobytes() for image in images]


def random_images(count: int, channels: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(256, (count, channels, height, width), generator=seeded(seed), dtype=torch.uint8)


@given(
    st.integers(1, 5), st.sampled_from([1, 3]), st.integers(1, 7), st.integers(1, 7), st.integers(0, 4), st.booleans(),
    st.integers(0, 99),
)  # fmt: skip
@settings(max_examples=40)
def test_every_view_is_a_crop_of_its_own_image(
    count: int, channels: int, height: int, width: int, crop: int, flip: bool, seed: int
) -> None:
    images = random_images(count, channels, height, width)
    before = images.clone()
    views = augment(images, Augmentation(crop=crop, flip=flip), seeded(seed))
    assert views.dtype == torch.uint8
    assert views.shape == images.shape
    for image, view in zip(images, pixels_of(views), strict=True):
        assert view in possible_views(image, crop, flip)
    assert images.equal(before)


def plainly_augmented(images: torch.Tensor, how: Augmentation, generator: torch.Generator) -> torch.Tensor:
    """The draws and the crop, by indexing: uint8 (N, C, H, W), channels last."""
    count, _, height, width = images.shape
    rows, columns = (torch.arange(length, device=images.device).expand(count, -1) for length in (height, width))
    if how.flip:
        flipped = torch.rand(count, device=images.device, generator=generator) < 0.5
        columns = torch.where(flipped[:, None], columns.flip(1), columns)
    if how.crop:
        images = functional.pad(images, (how.crop,) * 4)
        shift = torch.randint(2 * how.crop + 1, (2, count, 1), device=images.device, generator=generator)
        rows, columns = rows + shift[0], columns + shift[1]
    sample = torch.arange(count, device=images.device)[:, None, None]
    return images[sample, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def plainly_normalised(images: torch.Tensor, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """The formula, one operation after the other: float (N, C, H, W), channels last."""
    scaled = images.to(torch.float32, memory_format=torch.channels_last) / 255
    return (scaled - mean[:, None, None]) / std[:, None, None]


def assert_same_bits(found: torch.Tensor, expected: torch.Tensor) -> None:
    """The same floats, also where they are zeros of either sign, at the same places in memory."""
    assert found.dtype == expected.dtype == torch.float32
    assert found.stride() == expected.stride() or not found.numel()
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert found.view(torch.int32).equal(expected.view(torch.int32))


@given(
    st.integers(0, 5), st.integers(1, 4), st.integers(1, 9), st.integers(1, 9), st.integers(0, 5), st.booleans(),
    st.booleans(), st.integers(0, 99),
)  # fmt: skip
@example(count=1, channels=1, height=1, width=1, crop=3, flip=True, channels_last=False, seed=0)
@example(count=1, channels=3, height=15, width=13, crop=2, flip=True, channels_last=False, seed=0)
@example(count=4, channels=3, height=32, width=32, crop=4, flip=True, channels_last=True, seed=0)
@settings(max_examples=60)
@pytest.mark.parametrize("device", DEVICES)
def test_views_have_the_bits_and_the_draws_of_the_plain_formulas(
    device: str, count: int, channels: int, height: int, width: int, crop: int, flip: bool, channels_last: bool,
    seed: int,
) -> None:  # fmt: skip
    images = random_images(count, channels, height, width, seed).to(device)
    if channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    how, here, there = Augmentation(crop, flip), seeded(seed, images.device), seeded(seed, images.device)
    normalise = Normalizer.fit(random_images(3, channels, 5, 5).to(device))
    for _ in range(2):
        found = normalise(augment(images, how, here))
        expected = plainly_augmented(images, how, there)
        assert_same_bits(found, plainly_normalised(expected, normalise.mean, normalise.std))
        assert here.get_state().equal(there.get_state())


@pytest.mark.parametrize(("crop", "flip", "possible"), [(1, True, 18), (1, False, 9), (0, True, 2)])
def test_every_possible_view_comes_up_about_as_often(crop: int, flip: bool, possible: int) -> None:
    image = random_images(1, 3, 5, 4)
    views = pixels_of(augment(image.expand(3600, -1, -1, -1), Augmentation(crop=crop, flip=flip), seeded(0)))
    every = possible_views(image[0], crop, flip)
    assert len(set(every)) == possible
    counts = np.array([views.count(view) for view in every])
    mean = 3600 / possible
    assert (np.abs(counts - mean) < 5 * np.sqrt(mean)).all()


def test_each_image_has_a_draw_of_its_own() -> None:
    image = random_images(1, 3, 8, 8)
    views = pixels_of(augment(image.expand(50, -1, -1, -1), Augmentation(), seeded(0)))
    assert len(set(views)) > 25


def test_the_generator_decides() -> None:
    images = random_images(6, 3, 8, 8)
    one, again, other = (augment(images, Augmentation(), seeded(seed)) for seed in (1, 1, 2))
    assert one.equal(again)
    assert not one.equal(other)


def test_no_augmentation_changes_nothing_and_draws_nothing() -> None:
    images, generator = random_images(4, 3, 8, 8), seeded(0)
    before = generator.get_state()
    assert augment(images, Augmentation(crop=0, flip=False), generator).equal(images)
    assert generator.get_state().equal(before)


def test_views_are_channels_last_in_memory() -> None:
    # Normalisation would otherwise copy each batch once more.
    views = augment(random_images(4, 3, 8, 6), Augmentation(), seeded(0))
    assert views.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("size", [1, 2, 3, 20])
def test_cutout_blackens_a_square_around_any_pixel(size: int) -> None:
    images = torch.full((3000, 3, 5, 4), 9, dtype=torch.uint8)
    cut = cutout(images, size, seeded(0))
    assert cut.dtype == torch.uint8
    assert images.eq(9).all()
    found = [view.tobytes() for view in cut.numpy()]
    possible = []
    for row in range(5):
        for column in range(4):
            view = np.full((3, 5, 4), 9, dtype=np.uint8)
            top, left = row - size // 2, column - size // 2
            view[:, max(top, 0) : top + size, max(left, 0) : left + size] = 0
            possible.append(view.tobytes())
    assert set(found) <= set(possible)
    for view in set(possible):
        expected = 3000 * possible.count(view) / 20
        assert abs(found.count(view) - expected) < 5 * np.sqrt(expected)


def test_no_cutout_changes_nothing_and_draws_nothing() -> None:
    images, generator = random_images(4, 3, 8, 8), seeded(0)
    before = generator.get_state()
    assert cutout(images, 0, generator).equal(images)
    assert generator.get_state().equal(before)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("count", [7, 2001])
def test_the_normaliser_against_numpy(channels: int, count: int) -> None:
    images = random_images(count, channels, 5, 4)
    images[:, 0] //= 3
    pixels = images.numpy().astype(np.float64) / 255
    mean, deviation = pixels.mean((0, 2, 3)), pixels.std((0, 2, 3))
    normalise = Normalizer.fit(images)
    assert np.allclose(normalise.mean.numpy(), mean, atol=1e-6)
    assert np.allclose(normalise.std.numpy(), deviation, atol=1e-6)
    batch = normalise(images[:3])
    expected = (pixels[:3] - mean[:, None, None]) / deviation[:, None, None]
    assert batch.dtype == torch.float32
    assert np.allclose(batch.numpy(), expected, atol=1e-5)
    assert batch.is_contiguous(memory_format=torch.channels_last)


def test_a_channel_that_never_varies_becomes_0() -> None:
    images = random_images(3, 3, 4, 4)
    images[:, 1] = 77
    normalise = Normalizer.fit(images)
    assert float(normalise.std[1]) == 1.0
    assert normalise(images)[:, 1].abs().max() < 1e-6
    one_pixel = torch.full((1, 1, 1, 1), 200, dtype=torch.uint8)
    assert float(Normalizer.fit(one_pixel)(one_pixel)) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("count", [1, 5])
def test_every_value_is_normalised_to_the_bits_of_the_plain_formula(device: str, channels: int, count: int) -> None:
    values = torch.arange(256, dtype=torch.uint8, device=device)
    varied = torch.stack([values.roll(7 * place) for place in range(count * channels)]).view(count, channels, 8, 32)
    steady = varied.clone()
    steady[:, -1] = 77
    for images in (varied, steady, varied.contiguous(memory_format=torch.channels_last), varied[:, :, 1:, 3:]):
        normalise = Normalizer.fit(images)
        for batch in (images, images.float(), images[:0], images[:, :, :7, :9]):
            before = batch.clone()
            assert_same_bits(normalise(batch), plainly_normalised(batch, normalise.mean, normalise.std))
            assert batch.equal(before)


@pytest.mark.parametrize("channels_last", [False, True])
def test_gradients_pass_the_normaliser_as_they_pass_the_plain_formula(channels_last: bool) -> None:
    images = random_images(4, 3, 5, 7).float()
    if channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    normalise, weight = Normalizer.fit(images), torch.rand(4, 3, 5, 7, generator=seeded(0))
    found, expected = (
        torch.autograd.grad((made * weight).sum(), leaf)[0]
        for leaf in (images.requires_grad_(),)
        for made in (normalise(leaf), plainly_normalised(leaf, normalise.mean, normalise.std))
    )
    assert found.stride() == expected.stride()
    assert found.equal(expected)


def test_the_normaliser_takes_an_empty_batch(noise: Callable[..., ImageSet]) -> None:
    images = noise(4).images
    assert Normalizer.fit(images)(images[:0]).shape == (0, 3, 8, 8)


@given(st.integers(2, 70), st.integers(2, 20), st.integers(0, 99))
@settings(max_examples=60)
def test_batches_hold_each_index_once(count: int, batch_size: int, seed: int) -> None:
    indices = torch.arange(count) * 3 + 5
    batches = list(shuffled_batches(indices, batch_size, seeded(seed)))
    assert torch.cat(batches).sort().values.equal(indices)
    sizes = [len(batch) for batch in batches]
    assert min(sizes) >= 2
    assert all(size == batch_size for size in sizes[:-1])
    assert sizes[-1] <= batch_size + 1


@pytest.mark.parametrize(
    ("count", "sizes"), [(8, [4, 4]), (9, [4, 5]), (10, [4, 4, 2]), (4, [4]), (5, [5]), (3, [3]), (2, [2])]
)
def test_a_last_batch_of_one_joins_the_one_before(count: int, sizes: list[int]) -> None:
    assert [len(batch) for batch in shuffled_batches(torch.arange(count), 4, seeded(0))] == sizes


def test_a_single_sample_is_doubled() -> None:
    assert [batch.tolist() for batch in shuffled_batches(torch.tensor([7]), 4, seeded(0))] == [[7, 7]]


def test_no_sample_no_batch() -> None:
    assert list(shuffled_batches(torch.arange(0), 4, seeded(0))) == []


def test_the_order_is_random_and_the_generator_decides() -> None:
    generator = seeded(0)
    first, second = (torch.cat(list(shuffled_batches(torch.arange(50), 8, generator))) for _ in range(2))
    again = torch.cat(list(shuffled_batches(torch.arange(50), 8, seeded(0))))
    assert first.equal(again)
    assert not first.equal(second)
    assert not first.equal(torch.arange(50))


@given(count=st.integers(0, 40), batches=st.integers(0, 12), seed=st.integers(0, 5))
def test_indices_are_dealt_out_evenly(count: int, batches: int, seed: int) -> None:
    indices = torch.arange(100, 100 + count)
    dealt = spread(indices, batches, seeded(seed))
    assert len(dealt) == batches
    size = max(count // batches, 1) if count and batches else 0
    assert [len(batch) for batch in dealt] == [size] * batches
    counts = torch.cat([*dealt, indices[:0]]).bincount(minlength=140)[100 : 100 + count]
    if batches and count:
        assert int(counts.max() - counts.min()) <= 1, "none comes twice before each came once"
    assert int(counts.sum()) == size * batches


def test_what_is_dealt_out_is_in_random_order_and_the_generator_decides() -> None:
    indices = torch.arange(60)
    one, again, other = (torch.cat(spread(indices, 6, seeded(seed))) for seed in (1, 1, 2))
    assert one.equal(again)
    assert not one.equal(other)
    assert not one.equal(indices)
