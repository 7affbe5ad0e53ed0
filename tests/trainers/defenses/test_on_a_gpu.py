"""Every defense on a card, from the poison to the figures."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from tests.trainers.defenses import small_defenses, vab_small
from tests.trainers.devices import DEVICES
from trainers.compute import ComputeConfig
from trainers.data import ImageSet, Splits
from trainers.data.augmentation import Augmentation
from trainers.defenses import DEFENSES
from trainers.models import ModelConfig
from trainers.scenario import ScenarioConfig
from trainers.storage.state_store import StateStore
from trainers.trial import EpochResult, TrialConfig, run_trial

SMALL: dict[str, dict[str, Any]] = {
    "none": {"epochs": 3, **small_defenses.COMMON},
    "vab": vab_small.SMALL,
    **{name: small_defenses.COMMON | params for name, params in small_defenses.SMALL.items()},
}


def test_every_defense_has_a_small_setting() -> None:
    assert set(SMALL) == set(DEFENSES)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", SMALL)
def test_a_training_that_is_cut_off_goes_on_and_ends_with_figures(
    noise: Callable[..., ImageSet], tmp_path: Path, name: str, device: str
) -> None:
    splits = Splits(noise(60), noise(40, seed=1), held_out=noise(20, seed=2))
    config = TrialConfig(
        data_fingerprint="f", model=ModelConfig("tiny", width=4), augmentation=Augmentation(crop=1), defense=name,
        params=SMALL[name], scenarios=(ScenarioConfig(name="patch", attack="badnets", poison_rate=0.2),), repeats=(0,),
        sweep_seed=0, compute=ComputeConfig(device=device),
    )  # fmt: skip

    def train() -> Iterator[EpochResult]:
        return run_trial(config, splits, StateStore(tmp_path, 0.0), float(device == "cuda"))

    begun, results = list(islice(train(), 2)), list(train())
    known = [replace(r.measurement, seconds=0.0) for r in begun]
    assert [replace(r.measurement, seconds=0.0) for r in results[:2]] == known
    last = results[-1]
    assert last.final
    assert 0 <= (last.measurement.val_acc or 0) <= 1
    assert last.measurement.val_asr is not None
    if last.scores is not None:
        assert {len(column) for column in last.scores.values()} == {60}
        assert {column.device.type for column in last.scores.values()} == {"cpu"}
