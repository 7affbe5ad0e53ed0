"""Pictures of attacks, pixel by pixel; the command is in cli/test_gallery.py."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import Tensor

from sweeper.gallery import Example, _difference, draw_gallery, example_of
from trainers.compute import Compute
from trainers.data import DataConfig, Splits, load_data
from trainers.errors import ConfigError
from trainers.measuring.attack_cost import AttackCost
from trainers.scenario import ScenarioConfig, build_scenario

CPU = Compute(torch.device("cpu"))


@pytest.fixture(scope="module")
def splits() -> Splits:
    return load_data(DataConfig(train_size=100, test_size=40))


def scenario(attack: str, **changes: Any) -> ScenarioConfig:
    return ScenarioConfig(**{"name": attack, "attack": attack, "poison_rate": 0.1, **changes})


@pytest.mark.parametrize(
    ("before", "after", "shown"),
    [
        (100, 100, 128), (100, 101, 138), (100, 99, 118), (0, 12, 248), (0, 13, 255), (12, 0, 8), (13, 0, 0),
        (0, 255, 255), (255, 0, 0),
    ],
)  # fmt: skip
def test_a_difference_is_ten_times_itself_around_grey(before: int, after: int, shown: int) -> None:
    pair = [torch.full((1, 2, 2), value, dtype=torch.uint8) for value in (before, after)]
    found = _difference(*pair)
    assert found.dtype == torch.uint8
    assert found.tolist() == [[[shown] * 2] * 2]


def test_a_difference_is_that_of_each_pixel_and_channel() -> None:
    before = torch.randint(256, (3, 5, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    after = before.clone()
    after[1, 4, 0] = int(before[1, 4, 0]) ^ 1
    changed = (_difference(before, after) != 128).nonzero().tolist()
    assert changed == [[1, 4, 0]]


def test_the_training_image_is_the_one_of_median_change(splits: Splits, tmp_path: Path) -> None:
    config = scenario("slow_release", poison_rate=0.11, params={"low_alpha": 0.01, "alpha": 0.5})
    shown = example_of(config, splits, 3, CPU, tmp_path)
    made = build_scenario(config, splits, 3, 0, CPU)
    amounts = {}
    for index in made.truth.poisoned.nonzero().flatten().tolist():
        pair = splits.train.images[index].numpy().astype(int), made.data.images[index].numpy().astype(int)
        amounts[index] = np.abs(pair[1] - pair[0]).sum()
    median = sorted(amounts, key=lambda index: amounts[index])[5]  # of 11
    assert len(amounts) == 11
    assert shown.clean.equal(splits.train.images[median])
    assert shown.poisoned.equal(made.data.images[median])
    assert shown.cost == made.cost


def test_the_test_image_is_one_on_which_success_is_measured(splits: Splits, tmp_path: Path) -> None:
    shown = example_of(scenario("tact", params={"source": 3, "cover_rate": 0.1}), splits, 0, CPU, tmp_path)
    same = (splits.test.images == shown.test).flatten(1).all(1).nonzero().flatten().tolist()
    assert [int(splits.test.labels[index]) for index in same] == [3]
    patch = shown.triggered[:, -3:, -3:]
    assert patch.tolist() == [[[255, 0, 255], [0, 255, 0], [255, 0, 255]]] * 3
    rest = torch.ones(16, 16, dtype=torch.bool)
    rest[-3:, -3:] = False
    assert shown.triggered[:, rest].equal(shown.test[:, rest])


def test_an_attack_that_poisons_nothing_has_no_picture(splits: Splits, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="quiet has no image to show: its poison_rate is 0"):
        example_of(scenario("badnets", name="quiet", poison_rate=0.0), splits, 0, CPU, tmp_path)


def example(name: str, *values: int, channels: int = 3, cost: AttackCost | None = None, **changes: Any) -> Example:
    """An attack whose four images are each of one shade."""

    def plain(value: int) -> Tensor:
        return torch.full((channels, 4, 4), value, dtype=torch.uint8)

    clean, poisoned, test, triggered = map(plain, values)
    cost = cost or AttackCost(0.125, 31.44, 0.9876)
    return Example(scenario(**{"attack": "badnets", "name": name, **changes}), clean, poisoned, test, triggered, cost)


def test_a_row_for_each_attack_and_six_images_in_each(tmp_path: Path, drawn: list[Figure]) -> None:
    shown = [
        example("first", 10, 11, 50, 45),
        example("labels_$x", 7, 7, 0, 255, channels=1, cost=AttackCost(0.5, None, None), target=1),
        example("source", 1, 2, 3, 4, attack="tact", params={"source": 1}),
        example("tiny", 1, 2, 3, 4, cost=AttackCost(0.0001, 20.0, None), labels="all_to_all"),
    ]
    path = draw_gallery(shown, "Attacks on shapes", ("cat", "$dog$"), tmp_path / "gallery.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    (figure,) = drawn
    pixels = [np.unique(np.asarray(axes.images[0].get_array())).tolist() for axes in figure.axes]
    assert pixels[:6] == [[10], [11], [138], [50], [45], [78]]
    assert pixels[6:12] == [[7], [7], [128], [0], [255], [255]]
    assert {axes.images[0].get_clim() for axes in figure.axes} == {(0, 255)}, "a shade means the same in each"
    assert [axes.get_title() for axes in figure.axes[:6]] == [
        "clean", "poisoned", "difference x10", "test image", "triggered", "difference x10",
    ]  # fmt: skip
    assert [figure.axes[row].get_ylabel() for row in (0, 6, 12, 18)] == [
        "first\ntarget 0 (cat)\n12.50% changed\nPSNR 31.4 dB, SSIM 0.988",
        "labels_$x\ntarget 1 ($dog$)\n50.00% changed\nlabels only",
        "source\ntarget 0 (cat)\nsource 1 ($dog$)\n12.50% changed\nPSNR 31.4 dB, SSIM 0.988",
        "tiny\nall to all\n0.01% changed\nPSNR 20.0 dB",
    ]  # fmt: skip


@pytest.mark.parametrize("rows", [1, 14])
def test_the_title_stands_clear_of_the_heads(tmp_path: Path, drawn: list[Figure], rows: int) -> None:
    shown = [example(f"a{n}", 1, 2, 3, 4) for n in range(rows)]
    draw_gallery(shown, "Attacks on shapes", ("cat",), tmp_path / "gallery.png")
    (figure,) = drawn
    title = figure._suptitle.get_window_extent()  # type: ignore[attr-defined]
    assert all(axes.title.get_window_extent().y1 < title.y0 for axes in figure.axes[:6])
