"""What an attack costs, against the formulas worked out pixel by pixel."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from trainers.attacks import PoisonedSet
from trainers.data import ImageSet
from trainers.measuring.attack_cost import AttackCost


def images(count: int, *shape: int, seed: int = 0) -> ImageSet:
    pixels = torch.randint(256, (count, *shape), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    return ImageSet(pixels, torch.zeros(count, dtype=torch.int64), ("a", "b"))


def handed_over(clean: ImageSet, pixels: Tensor | None = None, labels: Tensor | None = None) -> PoisonedSet:
    nobody = torch.zeros(len(clean), dtype=torch.bool)
    data = ImageSet(clean.images if pixels is None else pixels, clean.labels if labels is None else labels, ("a", "b"))
    return PoisonedSet(data, nobody, nobody)


def psnr(before: Tensor, after: Tensor) -> float:
    errors = [(int(b) - int(a)) ** 2 for b, a in zip(before.flatten(), after.flatten(), strict=True)]
    return 10 * math.log10(255**2 / (sum(errors) / len(errors)))


def ssim(before: Tensor, after: Tensor) -> float:
    """Wang et al., 2004: a Gaussian window, 11x11 and of deviation 1.5, around each pixel; edges are mirrored."""
    distances = np.arange(11) - 5.0
    line = np.exp(-(distances**2) / (2 * 1.5**2))
    window = np.outer(line, line) / line.sum() ** 2
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    found = []
    for channels in zip(before.numpy().astype(float), after.numpy().astype(float), strict=True):
        x, y = (np.pad(channel, 5, mode="reflect") for channel in channels)
        for row in range(x.shape[0] - 10):
            for column in range(x.shape[1] - 10):
                a, b = (image[row : row + 11, column : column + 11] for image in (x, y))
                mean_a, mean_b = (window * a).sum(), (window * b).sum()
                var_a, var_b = (window * a**2).sum() - mean_a**2, (window * b**2).sum() - mean_b**2
                both = (window * a * b).sum() - mean_a * mean_b
                found.append(
                    (2 * mean_a * mean_b + c1) * (2 * both + c2)
                    / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
                )  # fmt: skip
    return float(np.mean(found))


def test_psnr_and_ssim_are_means_over_the_images_whose_pixels_differ() -> None:
    clean = images(5, 3, 12, 14)
    pixels = clean.images.clone()
    pixels[1, :, :3, :3] = 0  # shows much, on few pixels
    pixels[3] ^= 4  # shows little, on all pixels
    cost = AttackCost.measure(clean, handed_over(clean, pixels))
    pairs = [(clean.images[i], pixels[i]) for i in (1, 3)]
    assert cost.psnr == pytest.approx(np.mean([psnr(*pair) for pair in pairs]), abs=1e-4)
    assert cost.ssim == pytest.approx(np.mean([ssim(*pair) for pair in pairs]), abs=1e-4)
    # Of all pixels together it would be another figure.
    assert abs(cost.psnr - psnr(clean.images[[1, 3]], pixels[[1, 3]])) > 0.5


def test_one_pixel_by_one_step_is_the_formula() -> None:
    clean = ImageSet(torch.zeros(4, 1, 8, 8, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64), ("a", "b"))
    pixels = clean.images.clone()
    pixels[2, 0, 5, 5] = 1
    cost = AttackCost.measure(clean, handed_over(clean, pixels))
    assert cost.psnr == pytest.approx(10 * math.log10(255**2 * 64))
    assert cost.changed_share == 1 / 4


def test_a_changed_label_counts_once_whether_or_not_pixels_change_too() -> None:
    clean = images(10, 3, 12, 12)
    pixels, labels = clean.images.clone(), clean.labels.clone()
    pixels[[0, 1]] = 255 - pixels[[0, 1]]
    labels[[1, 2, 3]] = 1
    assert AttackCost.measure(clean, handed_over(clean, pixels, labels)).changed_share == 4 / 10


def test_labels_alone_have_no_psnr() -> None:
    clean = images(4, 3, 12, 12)
    cost = AttackCost.measure(clean, handed_over(clean, labels=torch.tensor([0, 1, 0, 0])))
    assert cost == AttackCost(1 / 4, None, None)
    assert AttackCost.measure(clean, handed_over(clean)) == AttackCost(0.0, None, None)


@pytest.mark.parametrize(("height", "width", "known"), [(11, 11, True), (10, 32, False), (32, 10, False)])
def test_images_smaller_than_the_window_have_no_ssim(height: int, width: int, known: bool) -> None:
    clean = images(3, 1, height, width)
    cost = AttackCost.measure(clean, handed_over(clean, 255 - clean.images))
    assert (cost.ssim is not None) == known
    assert cost.psnr is not None


def test_more_images_than_one_batch_are_the_same_mean() -> None:
    clean = images(501, 1, 11, 11)  # 500 are compared at a time
    pixels = clean.images.clone()
    pixels[:500, :, 0, 0] ^= 1
    pixels[500] = 255 - pixels[500]
    cost = AttackCost.measure(clean, handed_over(clean, pixels))
    each = [psnr(clean.images[i], pixels[i]) for i in (0, 500)]
    assert cost.psnr == pytest.approx((500 * each[0] + each[1]) / 501, abs=1e-4)
    rest = AttackCost.measure(clean, handed_over(clean, torch.cat([pixels[:500], clean.images[500:]])))
    assert rest.ssim is not None
    assert cost.ssim == pytest.approx((500 * rest.ssim + ssim(clean.images[500], pixels[500])) / 501, abs=1e-4)
