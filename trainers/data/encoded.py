"""The encoded images of a whole data set, decoded as its settings say."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from trainers.data.config import DataConfig
from trainers.data.decode import decode
from trainers.data.findings import Findings


@dataclass(frozen=True)
class Decoded:
    """Decoded images, and which of the encoded ones they are.

    Args:
        images: uint8 (M, C, H, W).
        kept: int64 (M,), ascending: the place of each among the items given.
    """

    images: Tensor
    kept: Tensor


def decode_all(items: Sequence[tuple[str, bytes | Path]], config: DataConfig, findings: Findings) -> Decoded:
    """Decode the images of a data set.

    Args:
        items: per image, the name that people know it by, and its encoded bytes or the file that holds them.
        config: how images are read.
        findings: gets what is left out, and warnings.

    Raises:
        ConfigError: as :func:`trainers.data.decode.decode`.
    """
    return Decoded(decode(items, config.image_size), torch.arange(len(items)))
