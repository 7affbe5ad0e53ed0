from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainers.data.images import assert_same_bits, plainly_normalised, random_images
from tests.trainers.devices import DEVICES
from trainers.data import ImageSet
from trainers.data.batches import Normalizer, shuffled_batches, spread
from trainers.seeding import seeded


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
