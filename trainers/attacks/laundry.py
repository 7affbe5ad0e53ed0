"""Laundry: cover samples with correct labels, against defenses that look for what triggered samples have in common.

TED-LaST (arXiv 2506.10722) names laundry as a strategy to withstand; its parameters are not published in what could be
read. This is an interpretation: Blend, with cover samples that carry the same trigger at the same strength.
"""

from dataclasses import dataclass
from typing import ClassVar

from trainers.attacks.blend import Blend, PatternParams
from trainers.params import param


@dataclass(frozen=True)
class LaundryParams(PatternParams):
    """Pattern and cover samples; all of it our choice."""

    alpha: float = param(0.2, gt=0, le=1, doc="opacity of the pattern")
    cover_rate: float = param(0.02, gt=0, lt=1, doc="samples with the trigger that keep their label")


class Laundry(Blend):
    """Blend, washed by samples that carry its pattern and are labelled rightly."""

    name: ClassVar[str] = "laundry"
    Params = LaundryParams
    params: LaundryParams
