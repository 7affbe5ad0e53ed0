"""Measurement: the monitor, which alone knows the truth, turns reports of a defense into figures."""

from dataclasses import dataclass, fields, replace
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from trainers.compute import Compute
from trainers.data.batches import Normalizer
from trainers.data.stored import Gathered
from trainers.defenses.base import CHUNK, Report
from trainers.errors import TrialError
from trainers.models import ModelConfig, Network
from trainers.models.normalizer import normalizer_of
from trainers.placement import chunks
from trainers.scenario import ProbeSet, Scenario

WEAK_ATTACK_BELOW = 0.8
"""If the attack success of a control is below this, the attack itself does not work."""


@dataclass(frozen=True)
class Measurement:
    """The figures of one epoch. Shares lie in [0, 1]; null where undefined (attack success at poison rate 0).

    ``asr`` is the share of triggered eligible images predicted as the attacker wants, ``ra`` (robust accuracy) the
    share of them predicted as their true class, ``asr_floor`` the share of the *clean* eligible images that is
    predicted as the attacker wants: what ``asr`` would be without a backdoor. ``asr_excess`` is what the trigger adds,
    ``asr`` less ``asr_floor`` but at least 0. ``balanced_acc`` is the mean over classes
    of the share of each class's clean images predicted rightly, ``min_class_acc`` the lowest of these shares; a class
    without an image in the half counts in neither. ``seconds_shared`` is the part of ``seconds`` that another training
    took, at whose trunk this one began. ``val_class_counts``, of the final epoch, has for each class its
    name, how many of its clean validation images were predicted rightly, and how many there are.
    """

    epoch: int
    stage: str
    loss: float | None
    images_seen: int
    seconds: float
    seconds_shared: float = 0.0
    val_acc: float | None = None
    val_balanced_acc: float | None = None
    val_min_class_acc: float | None = None
    val_asr: float | None = None
    val_asr_excess: float | None = None
    val_ra: float | None = None
    asr_floor: float | None = None
    test_acc: float | None = None
    test_balanced_acc: float | None = None
    test_min_class_acc: float | None = None
    test_asr: float | None = None
    test_asr_excess: float | None = None
    test_ra: float | None = None
    test_asr_floor: float | None = None
    detection_auroc: float | None = None
    detection_tpr: float | None = None
    detection_fpr: float | None = None
    credible_share: float | None = None
    credible_min_class_share: float | None = None
    poison_in_credible: float | None = None
    val_class_counts: list[list[Any]] | None = None


def not_final(figures: Measurement) -> Measurement:
    """The figures of an epoch as if it were not the last one of its training."""
    of_the_last = (f.name for f in fields(figures) if f.name.startswith("test_") or f.name == "val_class_counts")
    unknown: dict[str, Any] = dict.fromkeys(of_the_last)
    return replace(figures, **unknown)


METRICS = tuple(f.name for f in fields(Measurement) if f.name not in ("stage", "val_class_counts"))
"""Names of the numbers in a measurement."""


class Monitor:
    """Measures what a defense reports on one scenario.

    Args:
        scenario: data and truth.
        compute: where to compute.
        model: the network that is measured.
    """

    def __init__(self, scenario: Scenario, compute: Compute, model: ModelConfig):
        self._truth = scenario.truth
        self._labels = scenario.data.labels
        self._class_names = scenario.data.class_names
        self._compute = compute
        self._normalise = normalizer_of(model, scenario.data.images, compute.device)

    def measure(
        self, report: Report, *, epoch: int, stage: str, images_seen: int, seconds: float, final: bool
    ) -> Measurement:
        """Measure a report. The test half is used at the ``final`` epoch only.

        Args:
            report: report of a defense after an epoch.
            epoch: number of the epoch over all stages, from 1.
            stage: name of the stage.
            images_seen: images trained on so far.
            seconds: seconds of training so far.
            final: whether this is the last epoch.

        Raises:
            TrialError: predictions or scores are not finite.
        """
        figures: dict[str, Any] = {}
        if report.model is not None:
            found, counts = self._probe(report.model, self._truth.val, "val_", "asr_floor")
            figures |= found
            if final:
                figures["val_class_counts"] = counts
                figures |= self._probe(report.model, self._truth.test, "test_", "test_asr_floor")[0]
        if report.credible is not None:
            figures |= self._split_figures(report.credible.cpu())
        if report.suspicion is not None and self._truth.attacked:
            poisoned = self._truth.poisoned
            if not report.suspicion.isfinite().all():
                raise TrialError("The scores of the samples are not finite.")
            if not poisoned.all():
                figures["detection_auroc"] = auroc(poisoned, report.suspicion)
        return Measurement(epoch, stage, report.loss, images_seen, seconds, **figures)

    def _probe(
        self, model: Network, probe: ProbeSet, prefix: str, floor: str
    ) -> tuple[dict[str, float | None], list[list[Any]]]:
        """Figures of one half, and for each class its name, images predicted rightly, and images."""
        clean = self._predict(model, probe.images)
        counts = class_counts(clean, probe.labels, len(self._class_names))
        shares = [right / images for right, images in counts if images]
        figures: dict[str, float | None] = {
            prefix + "acc": share(clean == probe.labels),
            prefix + "balanced_acc": fmean(shares) if shares else None,
            prefix + "min_class_acc": min(shares, default=None),
        }
        if len(probe.eligible):
            figures[floor] = share(clean[probe.eligible] == probe.targets)
        if len(probe.eligible) and self._truth.attacked:
            triggered = self._predict(model, probe.triggered)
            figures[prefix + "asr"] = share(triggered == probe.targets)
            figures[prefix + "asr_excess"] = excess(figures[prefix + "asr"], figures[floor])
            figures[prefix + "ra"] = share(triggered == probe.labels[probe.eligible])
        return figures, [[name, *pair] for name, pair in zip(self._class_names, counts, strict=True)]

    def _predict(self, model: Network, images: Tensor | Gathered) -> Tensor:
        return predict_classes(model, self._normalise, images, self._compute.device)

    def _split_figures(self, credible: Tensor) -> dict[str, float | None]:
        poisoned, kept = self._truth.poisoned, int(credible.sum())
        counts = torch.bincount(self._labels[credible], minlength=len(self._class_names))
        figures: dict[str, float | None] = {
            "credible_share": kept / len(credible),
            "credible_min_class_share": int(counts.min()) / kept if kept else None,
        }
        if self._truth.attacked:
            figures["detection_tpr"] = share(~credible[poisoned])
            figures["detection_fpr"] = share(~credible[~poisoned])
            figures["poison_in_credible"] = share(poisoned[credible]) if kept else None
        return figures


@torch.no_grad()
def predict_classes(
    model: Network,
    normalise: Normalizer,
    images: Tensor | Gathered,
    device: torch.device,
    batch_size: int = CHUNK,
) -> Tensor:
    """Predicted classes, in float32 like a saved model's: many bfloat16 logits tie, and ties favour low classes.

    Args:
        model: a network on ``device``; it is put into eval mode.
        normalise: of its images, on ``device``.
        images: uint8 (N, C, H, W), on any device.
        device: where to compute.
        batch_size: images at a time.

    Returns:
        int64 (N,), on the CPU.

    Raises:
        TrialError: a prediction is not finite.
    """
    model.eval()
    classes, finite = [], torch.ones((), dtype=torch.bool, device=device)
    for chunk in chunks(images, batch_size, device):
        logits = model(normalise(chunk)).logits
        finite &= logits.isfinite().all()
        classes.append(logits.argmax(1).cpu())
    if not finite:  # argmax turns NaN into class 0
        raise TrialError("The network's predictions are not finite.")
    return torch.cat(classes)


def auroc(truth: Tensor, scores: Tensor) -> float:
    """Area under the ROC curve; ties count half.

    Args:
        truth: bool (N,), with both values in it.
        scores: float (N,), higher if true is likelier.
    """
    # scikit-learn takes two seconds to import, which every command would pay.
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(truth.numpy(), scores.double().cpu().numpy()))


def class_counts(predicted: Tensor, labels: Tensor, num_classes: int) -> list[tuple[int, int]]:
    """For each class, how many of its images are predicted rightly, and how many there are.

    Args:
        predicted: int64 (N,).
        labels: int64 (N,), true.
        num_classes: how many classes there are.
    """
    images = torch.bincount(labels, minlength=num_classes)
    right = torch.bincount(labels[predicted == labels], minlength=num_classes)
    return list(zip(right.tolist(), images.tolist(), strict=True))


def excess(asr: float | None, floor: float | None) -> float | None:
    """Attack success above its floor; null where one of them is undefined."""
    return None if asr is None or floor is None else max(asr - floor, 0.0)


def share(hits: Tensor) -> float | None:
    """Mean of a bool tensor; null if it is empty."""
    return int(hits.sum()) / len(hits) if len(hits) else None
