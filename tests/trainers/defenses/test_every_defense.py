"""What holds for every defense but V&B and none, which have tests of their own."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainers.defenses.small_defenses import ISOLATING, SMALL, row, small, task, trace, weights
from trainers.data import ImageSet
from trainers.defenses.parts import isolating_defense as isolating
from trainers.defenses.parts.entropy import split_by_mixture
from trainers.errors import TrialError
from trainers.storage.state import load_state, save_state

Noise = Callable[..., ImageSet]

VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in SMALL),
    ("pt", {"score": "entropy", "isolation": "gmm", "clean_start": "partial", "frozen": "stem+stage1"}),
    ("dlp", {"filter": "strip", "isolation": "gmm", "guesses": 1}),
    ("abl", {"ascent": "batch", "schedule": "cosine", "unlearning_rest": True}),
    ("dlp", {"isolation": "gmm", "split_scope": "class"}),
    ("abl", {"split_scope": "class"}),
]


@pytest.mark.parametrize(("name", "changes"), VARIANTS)
def test_a_state_loaded_between_any_two_epochs_goes_on_with_the_same_numbers(
    noise: Noise, tmp_path: Path, name: str, changes: dict[str, Any]
) -> None:
    told = task(noise(40))
    whole = small(name, told, **changes)
    save_state(tmp_path / "0", whole.state())
    expected: list[tuple[Any, ...]] = []
    for stage, report in whole.epochs():
        expected.append(row(stage, report))
        save_state(tmp_path / str(len(expected)), whole.state())
    assert len({line[0] for line in expected}) == len(whole.stages(whole.params))
    for trained in range(len(expected) + 1):
        again = small(name, told, **changes)
        again.load(load_state(tmp_path / str(trained)))
        assert trace(again) == expected[trained:]
        assert weights(again).equal(weights(whole))


@pytest.mark.parametrize("scope", ["set", "class"])
@pytest.mark.parametrize("name", ISOLATING)
def test_it_ends_with_a_model_scores_and_a_split(noise: Noise, name: str, scope: str) -> None:
    defense = small(name, task(unequal(noise)), split_scope=scope)
    *_, (_, last) = defense.epochs()
    assert last.model is not None
    assert last.suspicion is not None
    assert last.credible is not None
    assert (last.suspicion.min(), last.suspicion.max()) == (0, 1)
    assert 0 < int((~last.credible).sum()) < 40
    assert last.suspicion[~last.credible].min() >= last.suspicion[last.credible].max()


def unequal(noise: Noise) -> ImageSet:
    """40 images: 25, 10, 4 and 1 of the classes."""
    return replace(noise(40), labels=torch.arange(4).repeat_interleave(torch.tensor([25, 10, 4, 1])))


@pytest.mark.parametrize("name", ISOLATING)
def test_within_each_label_the_lowest_share_is_isolated(
    noise: Noise, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fifth of 25, 10, 4 and 1 samples, whatever the labels' scores are beside each other."""
    given: list[torch.Tensor] = []
    mark = isolating.Isolating.mark
    monkeypatch.setattr(
        isolating.Isolating, "mark", lambda self, scores, *how: (given.append(scores), mark(self, scores, *how))[1]
    )
    defense: Any = small(name, task(unequal(noise)), isolation_rate=0.2, split_scope="class")
    *_, (_, last) = defense.epochs()
    scores, suspicious = given[-1], ~last.credible
    for label, count in enumerate((5, 2, 1, 0)):
        own = (defense.labels == label).nonzero().squeeze(1)
        lowest = own[scores[own].argsort(stable=True)[:count]]
        assert set(own[suspicious[own]].tolist()) == set(lowest.tolist())


@pytest.mark.parametrize("name", ["pt", "dlp"])
def test_a_mixture_within_labels_divides_scores_that_are_normalised_there(noise: Noise, name: str) -> None:
    """A score of each label is 0, and one is 1, but for the label of a single sample."""
    defense: Any = small(name, task(unequal(noise)), isolation="gmm", split_scope="class")
    trace(defense)
    scores = defense.tensors["scores"]
    ends = [(float(scores[defense.labels == c].min()), float(scores[defense.labels == c].max())) for c in range(3)]
    assert ends == [(0.0, 1.0)] * 3
    assert defense.tensors["credible"].equal(split_by_mixture(scores, defense.task.seed))


@pytest.mark.parametrize("name", ISOLATING)
@pytest.mark.parametrize(("count", "classes", "channels"), [(2, 2, 3), (9, 3, 1), (33, 4, 3)])
def test_two_images_one_channel_and_a_last_batch_of_one(
    noise: Noise, name: str, count: int, classes: int, channels: int
) -> None:
    defense = small(name, task(noise(count, classes=classes, channels=channels)), isolation_rate=1 / count)
    *_, (_, last) = defense.epochs()
    assert last.credible is not None
    assert int((~last.credible).sum()) == 1
    assert weights(defense).isfinite().all()


@pytest.mark.parametrize(
    ("name", "rate", "stage"),
    [
        ("pt", "finetune_lr", "finetuning"),
        ("dlp", "unlearning_lr", "unlearning"),
        ("abl", "unlearning_lr", "unlearning"),
    ],
)
def test_an_unlearning_rate_that_diverges_is_a_failure_with_its_reason(
    noise: Noise, name: str, rate: str, stage: str
) -> None:
    """The ascent is bounded, so it takes a rate that breaks the descent beside it."""
    defense = small(name, task(noise(40)), **{rate: 1e30})
    with pytest.raises(TrialError, match=rf"^The loss is (nan|inf) in epoch \d of stage {stage}\.$"):
        trace(defense)


@pytest.mark.parametrize("name", ["pt", "dlp"])
def test_where_every_sample_is_suspicious_nothing_is_trained(
    noise: Noise, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a mixture may have it."""
    monkeypatch.setattr(isolating, "isolate", lambda scores, *_: torch.ones(len(scores), dtype=torch.bool))
    reports = [report for _, report in small(name, task(noise(30))).epochs()]
    assert reports[-1].loss is None
    assert reports[-1].images_seen == 0
    assert reports[-1].model is not None


@pytest.mark.parametrize("name", SMALL)
def test_seeds_differ_and_equal_ones_do_not(noise: Noise, name: str) -> None:
    one, same, other = (small(name, task(noise(30), seed=seed)) for seed in (1, 1, 2))
    first, again, different = trace(one), trace(same), trace(other)
    assert first == again
    assert first != different


@pytest.mark.parametrize("name", SMALL)
def test_nobody_is_told_more_than_images_and_labels(noise: Noise, name: str) -> None:
    """Data whose poison mask does not exist."""
    data = noise(30)
    assert not hasattr(data, "poisoned")
    defense = small(name, task(data))
    trace(defense)
    known = {key for owner in (defense, defense.task, defense.task.data) for key in vars(owner)}
    assert not {key for key in known if "poison" in key or "truth" in key}
    assert defense.labels.equal(data.labels), "and labels are left as they were"
    assert torch.equal(defense.images, data.images)
