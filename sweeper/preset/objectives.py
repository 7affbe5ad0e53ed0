"""Objectives and constraints: one figure per trial, aggregated over its scenarios and seeds."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Metric = Literal[
    "val_acc",
    "val_balanced_acc",
    "val_min_class_acc",
    "val_asr",
    "val_asr_excess",
    "val_ra",
    "detection_auroc",
    "detection_tpr",
    "detection_fpr",
    "control_asr",
    "poison_rate",
    "images_seen",
]
"""Figures that may be objectives or constraints. None of them is measured on the test split."""

ATTACK_SUCCESS = ("val_asr", "val_asr_excess")
"""Figures of what an attack achieves."""
ATTACK_LEVELS = (0.05, 0.1, 0.2)
"""Bounds on ``val_asr_excess``, below each of which the most accurate setting is named."""
UNDER_ATTACK = (*ATTACK_SUCCESS, "val_ra", "detection_auroc", "detection_tpr", "detection_fpr")
"""Figures that are undefined where nothing is poisoned."""
BELOW_CONTROL = ("val_acc", "val_balanced_acc")
"""Figures of which a control's own is a ceiling. A defense may well help the worst class."""
HEADROOM = 0.02
"""Accuracy above its control's that a training is allowed. An assumption: defenses cost accuracy."""
TOLERANCE = 0.005
"""Attack success by which two settings may differ and still count as equal; seeds alone make a larger difference. With
0.02, races over real trainings lost up to 6 % of the hypervolume below an interest of 0.2, with 0.01 at most 0.03 %;
with 0.005 they found most of it sooner than with 0.01 or 0 (``benchmarks/replay.py``)."""
WORST_BY_DEFAULT = (*ATTACK_SUCCESS, "control_asr", "val_min_class_acc")


class _Aggregated(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    metric: Metric = Field(description="the figure")
    aggregate: Literal["worst", "mean"] | None = Field(
        default=None,
        description="over scenarios; null: the worst for val_asr, val_asr_excess, control_asr and val_min_class_acc, "
        "the mean for all other figures",
    )

    def _reduce(self, rows: Iterable[Mapping[str, Any]], worst: Any) -> float | None:
        """Mean over the seeds of each scenario, then the aggregate over scenarios. Undefined figures are left out."""
        by_scenario: dict[str, list[float]] = {}
        for row in rows:
            if row[self.metric] is not None:
                by_scenario.setdefault(row["scenario"], []).append(row[self.metric])
        means = [fmean(values) for values in by_scenario.values()]
        if not means:
            return None
        how = self.aggregate or ("worst" if self.metric in WORST_BY_DEFAULT else "mean")
        return float(worst(means)) if how == "worst" else fmean(means)


class Objective(_Aggregated):
    """A figure to maximize or minimize. By default, attack success and the accuracy on the worst class are those of the
    worst scenario, and other figures the mean over scenarios.
    """

    direction: Literal["maximize", "minimize"] = Field(description="whether the figure is to be high or low")

    def value(self, rows: Sequence[Mapping[str, Any]]) -> float | None:
        """The objective of a trial, given its rows (one per scenario and seed); null if it is undefined."""
        return self._reduce(rows, min if self.direction == "maximize" else max)


class Constraint(_Aggregated):
    """A bound that a figure must keep: exactly one of ``max`` and ``min``."""

    max: float | None = Field(default=None, allow_inf_nan=False, description="upper bound")
    min: float | None = Field(default=None, allow_inf_nan=False, description="lower bound")

    @model_validator(mode="after")
    def _one_bound(self) -> "Constraint":
        if (self.max is None) == (self.min is None):
            raise ValueError("needs exactly one of max and min")
        return self

    def violation(self, rows: Sequence[Mapping[str, Any]]) -> float:
        """By how much the bound is violated; 0 or less if it is kept, infinite if the figure is undefined."""
        if self.max is not None:
            value = self._reduce(rows, max)
            return float("inf") if value is None else value - self.max
        assert self.min is not None
        value = self._reduce(rows, min)
        return float("inf") if value is None else self.min - value
