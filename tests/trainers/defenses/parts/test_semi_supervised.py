"""MixMatch's parts, against its equations."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainers.defenses.parts.semi_supervised import guess_labels, keep_share, ramp, sharpen, unlabelled_loss


def softmax(values: np.ndarray) -> np.ndarray:
    raised = np.exp(values - values.max(1, keepdims=True))
    return raised / raised.sum(1, keepdims=True)


def test_a_guess_is_the_sharpened_mean_over_augmentations() -> None:
    one, two = np.array([[1.0, 0.0, -2.0]]), np.array([[0.0, 3.0, 0.0]])
    mean = (softmax(one) + softmax(two)) / 2
    expected = mean**2 / (mean**2).sum()  # T = 0.5
    found = guess_labels([torch.tensor(one), torch.tensor(two)], 0.5)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5)


@given(st.lists(st.floats(0.01, 1), min_size=2, max_size=6), st.floats(0.1, 0.9))
def test_sharpening_keeps_the_order_and_lowers_the_entropy(values: list[float], temperature: float) -> None:
    shares = torch.tensor([values], dtype=torch.float64)
    shares = shares / shares.sum()
    sharp = sharpen(shares, temperature)
    assert sharp.sum().item() == pytest.approx(1)
    assert (sharp.max() >= shares.max() - 1e-9).item()
    assert sharpen(shares, 1.0).allclose(shares)


def test_sharpening_bears_a_share_of_0() -> None:
    assert sharpen(torch.tensor([[1.0, 0.0]]), 0.5).tolist() == [[1.0, 0.0]]


def test_a_mixed_sample_stays_closer_to_its_own() -> None:
    draws = torch.tensor([0.0, 0.25, 0.5, 0.875])
    assert keep_share(draws).tolist() == [1.0, 0.75, 0.5, 0.875]


def test_the_unlabelled_loss_is_a_squared_distance_of_shares() -> None:
    logits, targets = np.array([[1.0, -1.0], [0.0, 2.0]]), np.array([[0.2, 0.8], [1.0, 0.0]])
    expected = ((softmax(logits) - targets) ** 2).mean()
    found = unlabelled_loss(torch.tensor(logits), torch.tensor(targets, dtype=torch.float32))
    assert found.item() == pytest.approx(expected, rel=1e-5)
    assert unlabelled_loss(torch.zeros(0, 2), torch.zeros(0, 2)).item() == 0


def test_the_weight_rises_and_stays() -> None:
    assert [ramp(epoch, 4) for epoch in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]
    assert ramp(0, 0) == 1
