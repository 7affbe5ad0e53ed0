from collections.abc import Callable
from dataclasses import fields
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import recall_score
from torch import Tensor, nn

from trainers.compute import Compute
from trainers.data import ImageSet
from trainers.defenses.base import Report
from trainers.errors import TrialError
from trainers.measuring.attack_cost import AttackCost
from trainers.measuring.evaluation import METRICS, Measurement, Monitor, share
from trainers.models import ModelConfig, ModelOutput
from trainers.scenario import GroundTruth, ProbeSet, Scenario

CPU = Compute(torch.device("cpu"))
NO_COST = AttackCost(0.0, None, None)


class Reader(nn.Module):
    """Predicts the class that is written into an image's first pixel; counts the images it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.shown = 0

    def forward(self, images: Tensor) -> ModelOutput:
        assert not self.training
        self.shown += len(images)
        # The training images are half black, half white, so a pixel was normalised to 2 * value / 255 - 1.
        written = ((images[:, 0, 0, 0] + 1) / 2 * 255).round().long()
        return ModelOutput(nn.functional.one_hot(written, 4).float(), images)


def written(predictions: list[int]) -> Tensor:
    """Images that a `Reader` takes for ``predictions``."""
    images = torch.zeros(len(predictions), 1, 4, 4, dtype=torch.uint8)
    images[:, 0, 0, 0] = torch.tensor(predictions)
    return images


def probe(
    labels: list[int], clean: list[int], eligible: list[int], triggered: list[int], targets: list[int]
) -> ProbeSet:
    """Held-out images by what is predicted for them."""
    return ProbeSet(
        written(clean), torch.tensor(labels), torch.tensor(eligible, dtype=torch.int64), written(triggered),
        torch.tensor(targets, dtype=torch.int64),
    )  # fmt: skip


def monitor(
    val: ProbeSet | None = None, test: ProbeSet | None = None, poisoned: list[bool] | None = None, attacked: bool = True
) -> Monitor:
    """Ten training images with labels 0, 0, 0, 0, 1, 1, 1, 2, 2, 3; the first three poisoned unless said otherwise."""
    images = torch.zeros(10, 1, 4, 4, dtype=torch.uint8)
    images[5:] = 255
    data = ImageSet(images, torch.tensor([0, 0, 0, 0, 1, 1, 1, 2, 2, 3]), ("a", "b", "c", "d"))
    mask = torch.tensor([True] * 3 + [False] * 7 if poisoned is None else poisoned)
    none = probe([0], [0], [], [], [])
    truth = GroundTruth(mask, torch.zeros(10, dtype=torch.bool), attacked, val or none, test or none)
    return Monitor(Scenario(data, truth, NO_COST), CPU, ModelConfig())


def measure(watching: Monitor, final: bool = False, **report: Any) -> Measurement:
    told = Report(0.5, 10, **report)
    return watching.measure(told, epoch=3, stage="mix", images_seen=30, seconds=1.5, final=final)


# Target class 0: five images of other classes are triggered.
VAL = probe(
    labels=[0, 0, 1, 1, 2, 3, 3],
    clean=[0, 1, 1, 0, 2, 0, 1],  # the first, third and fifth are right
    eligible=[2, 3, 4, 5, 6],
    triggered=[0, 0, 0, 3, 1],  # three as the attacker wants, one as it is, one neither
    targets=[0, 0, 0, 0, 0],
)
TEST = probe(labels=[0, 1], clean=[0, 1], eligible=[1], triggered=[1], targets=[0])


def test_figures_of_a_model_counted_by_hand() -> None:
    got = measure(monitor(VAL, TEST), model=Reader())
    assert (got.val_acc, got.val_asr, got.val_ra, got.asr_floor) == (3 / 7, 3 / 5, 1 / 5, 2 / 5)
    assert got.val_asr_excess == pytest.approx(1 / 5)
    assert (got.epoch, got.stage, got.loss, got.images_seen, got.seconds) == (3, "mix", 0.5, 30, 1.5)


def test_figures_of_the_classes_counted_by_hand() -> None:
    # Right: one of two, one of two, one of one, none of two; then one of one, twice.
    got = measure(monitor(VAL, TEST), final=True, model=Reader())
    assert (got.val_balanced_acc, got.val_min_class_acc) == ((0.5 + 0.5 + 1 + 0) / 4, 0.0)
    assert (got.test_balanced_acc, got.test_min_class_acc) == (1.0, 1.0)
    assert got.val_class_counts == [["a", 1, 2], ["b", 1, 2], ["c", 1, 1], ["d", 0, 2]]


def test_before_the_final_epoch_there_are_no_counts() -> None:
    got = measure(monitor(VAL, TEST), model=Reader())
    assert (got.val_min_class_acc, got.test_min_class_acc, got.val_class_counts) == (0.0, None, None)


def test_a_class_without_an_image_counts_in_no_figure() -> None:
    got = measure(monitor(probe([0, 0, 2], [0, 1, 2], [], [], []), TEST), final=True, model=Reader())
    assert (got.val_balanced_acc, got.val_min_class_acc) == (0.75, 0.5)
    assert got.val_class_counts == [["a", 1, 2], ["b", 0, 0], ["c", 1, 1], ["d", 0, 0]]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40))
@settings(max_examples=40)
def test_figures_of_the_classes_are_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    labels, predicted = map(list, zip(*pairs, strict=True))
    got = measure(monitor(probe(labels, predicted, [], [], [])), model=Reader())
    recalls = recall_score(labels, predicted, labels=sorted(set(labels)), average=None)
    assert got.val_balanced_acc == pytest.approx(recalls.mean())
    assert got.val_min_class_acc == pytest.approx(recalls.min())


def test_all_to_all_counts_each_image_by_its_own_target() -> None:
    val = probe([0, 1, 2, 3], clean=[1, 1, 2, 0], eligible=[0, 1, 2, 3], triggered=[1, 2, 2, 1], targets=[1, 2, 3, 0])
    got = measure(monitor(val), model=Reader())
    assert (got.val_acc, got.val_asr, got.val_ra, got.asr_floor) == (2 / 4, 2 / 4, 1 / 4, 2 / 4)
    assert got.val_asr_excess == 0


@pytest.mark.parametrize("final", [False, True])
def test_the_test_half_is_opened_at_the_final_epoch_only(final: bool) -> None:
    reader = Reader()
    got = measure(monitor(VAL, TEST), final, model=reader)
    figures = (got.test_acc, got.test_asr, got.test_ra, got.test_asr_floor, got.test_asr_excess)
    assert figures == ((1.0, 0.0, 1.0, 0.0, 0.0) if final else (None,) * 5)
    assert reader.shown == 7 + 5 + (2 + 1 if final else 0)
    assert got.val_acc == 3 / 7


def test_without_poison_attack_success_and_detection_are_undefined() -> None:
    credible = torch.tensor([True] * 5 + [False] * 5)
    watching = monitor(VAL, TEST, poisoned=[False] * 10, attacked=False)
    got = measure(watching, final=True, model=Reader(), credible=credible, suspicion=torch.rand(10))
    assert (got.val_acc, got.asr_floor, got.test_acc, got.credible_share) == (3 / 7, 2 / 5, 1.0, 0.5)
    assert (got.val_asr, got.val_ra, got.test_asr, got.test_ra) == (None,) * 4
    assert (got.val_asr_excess, got.test_asr_excess) == (None,) * 2
    assert (got.detection_auroc, got.detection_tpr, got.detection_fpr, got.poison_in_credible) == (None,) * 4


def test_fewer_hits_with_the_trigger_than_without_are_no_negative_excess() -> None:
    val = probe([1, 1, 2], clean=[0, 1, 2], eligible=[0, 1, 2], triggered=[1, 1, 2], targets=[0, 0, 0])
    got = measure(monitor(val), model=Reader())
    assert (got.val_asr, got.asr_floor, got.val_asr_excess) == (0.0, 1 / 3, 0.0)


def test_without_eligible_images_there_is_nothing_to_attack() -> None:
    got = measure(monitor(probe([0, 0], [0, 1], [], [], [])), model=Reader())
    assert (got.val_acc, got.val_asr, got.val_ra, got.asr_floor) == (0.5, None, None, None)


def test_a_report_without_model_scores_or_split() -> None:
    got = measure(monitor(VAL, TEST), final=True)
    always = {"epoch", "stage", "loss", "images_seen", "seconds", "seconds_shared"}
    assert all(getattr(got, f.name) is None for f in fields(Measurement) if f.name not in always)


class Broken(Reader):
    """Predicts nothing of the last image of each batch."""

    def forward(self, images: Tensor) -> ModelOutput:
        logits, features = super().forward(images)
        logits[-1, 2] = float("nan")
        return ModelOutput(logits, features)


def test_predictions_that_are_not_finite_are_no_figures() -> None:
    with pytest.raises(TrialError, match="The network's predictions are not finite"):
        measure(monitor(VAL, TEST), model=Broken())
    for value in (float("nan"), float("inf")):
        with pytest.raises(TrialError, match="The scores of the samples are not finite"):
            measure(monitor(VAL, TEST), suspicion=torch.tensor([0.0] * 9 + [value]))


class BrokenOnce(Reader):
    """Predicts nothing of the first image that it is shown."""

    def forward(self, images: Tensor) -> ModelOutput:
        first = self.shown == 0
        logits, features = super().forward(images)
        if first:
            logits[0] = float("inf")
        return ModelOutput(logits, features)


def test_one_prediction_of_many_batches_that_is_not_finite_is_enough() -> None:
    nothing = probe([0] * 2300, [0] * 2300, [], [], [])
    with pytest.raises(TrialError, match="The network's predictions are not finite"):
        measure(monitor(nothing), model=BrokenOnce())


class Exact(Reader):
    """Two classes apart by less than bfloat16 can tell."""

    def forward(self, images: Tensor) -> ModelOutput:
        apart = torch.tensor([[1.0, 1.001, 0.0, 0.0]])
        return ModelOutput(images.flatten(1)[:, :1] * 0 + torch.eye(1) @ apart, images)


def test_predictions_are_in_float32_whatever_was_trained_in() -> None:
    """As of a saved model. The product would be rounded to 1 and 1, and class 0 taken."""
    watching = monitor(VAL, TEST)
    watching._compute = Compute(torch.device("cpu"), amp=True)
    with watching._compute.autocast():
        assert (torch.eye(1) @ torch.tensor([[1.0, 1.001]])).argmax() == 0
    assert measure(watching, model=Exact()).val_acc == 2 / 7  # the share of class 1


def test_more_images_than_a_batch() -> None:
    labels = [i % 4 for i in range(2300)]
    val = probe(labels, clean=[0] * 2300, eligible=list(range(1, 2300)), triggered=labels[1:], targets=[0] * 2299)
    got = measure(monitor(val), model=Reader())
    assert (got.val_acc, got.val_ra, got.asr_floor) == (575 / 2300, 1.0, 1.0)
    assert got.val_asr == 574 / 2299


def test_the_split_counted_by_hand() -> None:
    # Kept: one poisoned image and six clean ones, with labels 0, 0, 1, 1, 2, 2, 3.
    credible = torch.tensor([True, False, False, True, True, True, False, True, True, True])
    got = measure(monitor(), credible=credible)
    assert (got.credible_share, got.credible_min_class_share, got.poison_in_credible) == (7 / 10, 1 / 7, 1 / 7)
    assert (got.detection_tpr, got.detection_fpr) == (2 / 3, 1 / 7)
    assert got.detection_auroc is None


def test_a_class_that_is_not_in_the_credible_set() -> None:
    credible = torch.tensor([True] * 9 + [False])
    assert measure(monitor(), credible=credible).credible_min_class_share == 0.0


@pytest.mark.parametrize(("kept", "tpr", "fpr", "within"), [(False, 1.0, 1.0, None), (True, 0.0, 0.0, 3 / 10)])
def test_all_suspicious_and_all_credible(kept: bool, tpr: float, fpr: float, within: float | None) -> None:
    got = measure(monitor(), credible=torch.full((10,), kept))
    assert (got.detection_tpr, got.detection_fpr, got.poison_in_credible) == (tpr, fpr, within)
    assert got.credible_share == float(kept)
    assert got.credible_min_class_share == (1 / 10 if kept else None)


def auroc_by_hand(scores: list[float], poisoned: list[bool]) -> float:
    """Share of pairs in which the poisoned image is the more suspicious one; ties count half."""
    positive = [s for s, p in zip(scores, poisoned, strict=True) if p]
    negative = [s for s, p in zip(scores, poisoned, strict=True) if not p]
    won = sum((a > b) + (a == b) / 2 for a in positive for b in negative)
    return won / (len(positive) * len(negative))


@given(
    st.lists(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 1.0]), min_size=10, max_size=10),
    st.lists(st.booleans(), min_size=10, max_size=10).filter(lambda mask: 0 < sum(mask) < 10),
)
@settings(max_examples=40)
def test_auroc_is_the_share_of_pairs_in_order(scores: list[float], poisoned: list[bool]) -> None:
    got = measure(monitor(poisoned=poisoned), suspicion=torch.tensor(scores))
    assert got.detection_auroc == pytest.approx(auroc_by_hand(scores, poisoned), abs=1e-6)


@pytest.mark.parametrize("scale", [1e-6, 50.0, 1e6])
def test_auroc_takes_scores_of_any_size(scale: float) -> None:
    # A defense may report losses, say: only the order counts.
    scores = [9.0, 8.0, 3.0, 1.0, 2.0, 4.0, 5.0, 6.0, 7.0, 0.5]
    got = measure(monitor(), suspicion=torch.tensor(scores) * scale)
    assert got.detection_auroc == pytest.approx(auroc_by_hand(scores, [True] * 3 + [False] * 7))


@pytest.mark.filterwarnings("error")
def test_auroc_is_undefined_where_every_image_is_poisoned() -> None:
    got = measure(monitor(poisoned=[True] * 10), suspicion=torch.rand(10), credible=torch.tensor([True, False] * 5))
    assert got.detection_auroc is None
    assert (got.detection_tpr, got.detection_fpr, got.poison_in_credible) == (0.5, None, 1.0)


def test_the_names_of_the_figures() -> None:
    designed = (
        "val_acc val_asr val_ra asr_floor detection_auroc detection_tpr detection_fpr credible_share "
        "credible_min_class_share poison_in_credible epoch images_seen seconds test_acc test_asr test_ra "
        "val_balanced_acc val_min_class_acc test_balanced_acc test_min_class_acc val_asr_excess test_asr_excess"
    )
    assert set(designed.split()) <= set(METRICS)
    assert not {"stage", "val_class_counts"} & set(METRICS), "they are no numbers"


@pytest.mark.parametrize(("hits", "expected"), [([], None), ([True], 1.0), ([True, False, False], 1 / 3)])
def test_share(hits: list[bool], expected: float | None) -> None:
    assert share(torch.tensor(hits, dtype=torch.bool)) == expected


def test_images_are_normalised_by_the_training_images_that_were_handed_over(noise: Callable[..., ImageSet]) -> None:
    class Keeper(nn.Module):
        def forward(self, images: Tensor) -> ModelOutput:
            self.seen = images
            return ModelOutput(torch.zeros(len(images), 4), images)

    data, keeper = noise(10), Keeper()
    held_out = noise(6, seed=1)
    nothing = torch.zeros(0, dtype=torch.int64)
    half = ProbeSet(held_out.images, held_out.labels, nothing, held_out.images[:0], nothing)
    truth = GroundTruth(torch.zeros(10, dtype=torch.bool), torch.zeros(10, dtype=torch.bool), False, half, half)
    measure(Monitor(Scenario(data, truth, NO_COST), CPU, ModelConfig()), model=keeper)
    pixels = data.images.double() / 255
    mean, deviation = pixels.mean((0, 2, 3), keepdim=True), pixels.std((0, 2, 3), keepdim=True, correction=0)
    assert keeper.seen.double().allclose((held_out.images / 255 - mean) / deviation, atol=1e-4)
