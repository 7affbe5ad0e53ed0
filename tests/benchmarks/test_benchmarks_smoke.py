from pathlib import Path

import pytest
import torch

from benchmarks import parity, shapes_hardness, throughput
from benchmarks.customary import CustomaryVab, attention_mix_one_by_one, entropies_one_by_one
from benchmarks.project import ProjectVab
from trainers.defenses.parts.entropy import prediction_entropy
from trainers.defenses.parts.mixing import attention_maps, attention_mix
from trainers.seeding import seeded

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def sides() -> tuple[ProjectVab, CustomaryVab]:
    return throughput.build(images=60, size=8, model="tiny", threads=1)


def test_customary_attention_mix_is_the_projects() -> None:
    generator = seeded(0)
    images, targets = torch.randn(7, 3, 8, 8, generator=generator), torch.rand(7, 4, generator=generator)
    features = torch.randn(7, 5, 3, 3, generator=generator).relu()
    features[2], features[3] = 0.0, 0.3  # maps without contrast
    partner = torch.randperm(7, generator=generator)
    attention = attention_maps(features, (8, 8), "bilinear")
    expected = attention_mix(images, targets, attention, partner, mask_threshold=0.1)
    found = attention_mix_one_by_one(images, targets, features, partner, mask_threshold=0.1)
    assert not torch.equal(expected[0], images)
    torch.testing.assert_close(found[0], expected[0])
    torch.testing.assert_close(found[1], expected[1])


def test_customary_entropy_is_the_projects() -> None:
    logits = torch.randn(6, 10, generator=seeded(0)) * 5
    logits[0] = torch.tensor([1e4] + [0.0] * 9)  # p = 0 for the others
    found = torch.tensor(entropies_one_by_one(logits))
    torch.testing.assert_close(found, prediction_entropy(logits), atol=1e-7, rtol=1e-4)


def test_both_sides_score_the_same_images_alike(sides: tuple[ProjectVab, CustomaryVab]) -> None:
    # Through loader, transforms, normalisation and network.
    project, customary = sides
    project.reset()
    customary.reset()
    found = customary.entropies()
    assert found.std() > 0
    torch.testing.assert_close(found, project.entropies(), atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("method", throughput.PARTS.values())
def test_both_sides_do_as_many_images(sides: tuple[ProjectVab, CustomaryVab], method: str) -> None:
    counts = []
    for side in sides:
        side.reset()
        counts.append(getattr(side, method)())
    assert counts[0] == counts[1] > 0


def test_reset_goes_back(sides: tuple[ProjectVab, CustomaryVab]) -> None:
    for side in sides:
        side.reset()
        before = side.entropies()
        side.suppression_epoch()
        assert not torch.equal(side.entropies(), before)
        side.reset()
        assert torch.equal(side.entropies(), before)


def test_throughput_prints_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert throughput.main(["--images", "40", "--size", "8", "--repeats", "1"]) == 0
    out = capsys.readouterr().out
    assert all(part in out for part in throughput.PARTS)
    assert "ratio" in out


def test_shapes_hardness_prints_every_seed(capsys: pytest.CaptureFixture[str]) -> None:
    options = "--seeds 3 4 --warmup-steps 2 3 --epochs 1 --train-size 60 --test-size 40"
    assert shapes_hardness.main(options.split()) == 0
    out = capsys.readouterr().out
    for attack in ("badnets", "blend"):
        assert all(out.count(f"{attack}, {row}") == 3 for row in ("seed 3", "seed 4", "mean ± sd"))
    assert all(name in out for name in shapes_hardness.CONTROL_FIGURES + shapes_hardness.SPLIT_FIGURES)


def test_parity_prints_every_seed_and_the_mean(capsys: pytest.CaptureFixture[str]) -> None:
    assert parity.main(["--seeds", "3", "--train-size", "60", "--test-size", "40"]) == 0
    out = capsys.readouterr().out
    for label in (*parity.AUGMENTATIONS, "ratio_scale 5"):
        assert all(f"{label}, {row}" in out for row in ("seed 3", "mean ± sd"))
    assert all(name in out for name in parity.ABL_FIGURES)
