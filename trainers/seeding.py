"""Seeds: every random draw comes from a generator seeded by what the draw is for."""

import hashlib
import json
from typing import Any

import torch

NUMERICS = 3
"""Version of the numerics, raised whenever the same configuration gives other numbers. Sweeps that do not record it (up
to commit 6f02d73) have version 1."""


def derive_seed(*parts: Any) -> int:
    """A 63-bit seed from JSON-like ``parts``: the same parts give the same seed on every machine."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def seeded(seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator on ``device`` that starts from ``seed``."""
    return torch.Generator(device=device).manual_seed(seed)
