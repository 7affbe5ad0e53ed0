"""What ships with the package is usable and is what its name says."""

import pytest

from search_spaces.loader import preset_names, read_preset
from sweeper.spec import SweepSpec, validate
from sweeper.study import grid_points
from trainers.data.image_set import ImageSet, Splits
from trainers.data.shapes import make_shapes
from trainers.defenses import DEFENSES


def spec(name: str) -> SweepSpec:
    return validate(read_preset(name), name)


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_is_valid_and_named_as_its_file(name: str) -> None:
    found = spec(name)
    assert f"{found.name}.yaml" == name
    assert found.space(), "a sweep searches something"


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_fits_its_data(name: str) -> None:
    found = spec(name)
    size = 16 if found.data.source == "shapes" else 32
    shapes = make_shapes(found.data.train_size or 3000, 100, 0, 16)
    images = shapes.train.images.repeat(1, 1, size // 16, size // 16)
    train = ImageSet(images, shapes.train.labels, shapes.train.class_names)
    found.check_against(Splits(train, train))


@pytest.mark.parametrize("name", preset_names())
@pytest.mark.parametrize("pick", [0, -1])
def test_both_corners_of_a_preset_make_a_trial(name: str, pick: int) -> None:
    config = spec(name).trial(lambda _name, searched: searched.corners()[pick], "data")
    assert DEFENSES[config.defense].Params(**config.params).as_dict() == config.params


def test_what_the_presets_are_for() -> None:
    quick, cpu, paper, ablation = (spec(n) for n in ("quick", "cifar10_cpu", "cifar10", "ablation"))
    assert (quick.data.source, len(quick.scenarios), quick.seeds, quick.search.trials) == ("shapes", 1, [0], 8)
    assert (cpu.data.train_size, cpu.model.name) == (5000, "tiny")
    assert [block.kind for block in cpu.scenario_blocks] == ["badnets", "blend"]
    assert {"vab.threshold", "vab.early_weight", "vab.late_weight"} <= set(cpu.space())
    assert len(cpu.environment()["scenario.poison_rate"].grid() or ()) <= 4
    assert (paper.model.name, paper.resources.gpu > 0) == ("resnet18", True)
    drawn = paper.trial(lambda _name, searched: searched.corners()[0], "data")
    assert drawn.params["mix_epochs"] + drawn.params["suppression_epochs"] == 200
    assert ablation.search.sampler == "grid"
    assert set(ablation.space()) == {"vab.mixing", "vab.suppression", "vab.split"}
    assert len(grid_points(ablation)) == ablation.search.trials == 4 * 4 * 2
