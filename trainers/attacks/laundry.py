"""Laundry: cover samples with correct labels, against defenses that look for what triggered samples have in common.

TED-LaST (arXiv 2506.10722) names laundry as a strategy that defenses must withstand; the parts of the paper that could
be read give no parameters. This is an interpretation: Blend, with cover samples that carry the same trigger at the same
opacity.
"""

from dataclasses import dataclass
from typing import ClassVar

from trainers.attacks.blend import Blend, PatternParams
from trainers.params import param


@dataclass(frozen=True)
class LaundryParams(PatternParams):
    """Pattern and cover samples; all values are our choice."""

    alpha: float = param(0.2, gt=0, le=1, doc="opacity of the pattern")
    cover_rate: float = param(0.02, gt=0, lt=1, doc="cover samples (trigger, true label), as a share of the whole set")


class Laundry(Blend):
    """Blend with cover samples that carry the pattern and keep their true label."""

    name: ClassVar[str] = "laundry"
    Params = LaundryParams
    params: LaundryParams
