"""Stratified subsets: a smaller set, or two halves, with the classes in proportion."""

import torch
from torch import Tensor

from trainers.errors import ConfigError
from trainers.seeding import seeded


def stratified_indices(labels: Tensor, size: int, seed: int) -> Tensor:
    """``size`` indices into ``labels``, drawn without replacement, each class in proportion.

    Counts per class are rounded down; the classes with the largest remainders get one more (ties: lower class).

    Args:
        labels: int64 (N,).
        size: number of indices, from 1 to N.
        seed: seeds the draw.

    Returns:
        int64 (size,), ascending.

    Raises:
        ConfigError: ``size`` lies outside 1..N.
    """
    if not 1 <= size <= len(labels):
        raise ConfigError(f"A subset must hold from 1 to {len(labels)} images, but got {size}.")
    counts = torch.bincount(labels)
    exact = counts.double() * size / len(labels)
    quota = exact.floor().long()
    by_remainder = torch.sort(exact - quota, descending=True, stable=True).indices
    quota[by_remainder[: size - int(quota.sum())]] += 1
    order = torch.randperm(len(labels), generator=seeded(seed))
    chosen = [order[labels[order] == c][: int(quota[c])] for c in range(len(counts))]
    return torch.cat(chosen).sort().values


def stratified_halves(labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Indices of two disjoint stratified halves of ``labels``: int64 (N // 2,) and the rest, both ascending.

    Raises:
        ConfigError: there are fewer than two labels.
    """
    first = stratified_indices(labels, len(labels) // 2, seed)
    mask = torch.ones(len(labels), dtype=torch.bool)
    mask[first] = False
    return first, mask.nonzero().squeeze(1)
