"""A preset as the data has it: classes by number, and without rates that poison too few images."""

from dataclasses import dataclass
from typing import Any

from sweeper.preset.class_numbers import with_class_numbers
from sweeper.preset.misfits import Misfits
from sweeper.preset.scarce_rates import without_scarce_rates
from sweeper.preset.spec import SweepSpec, validate
from trainers.data.image_set import ImageSet


@dataclass(frozen=True)
class Fitted:
    """A preset that was fitted to data.

    Args:
        spec: it, validated.
        preset: it, raw.
        left_out: a phrase for each scenario on the poison rates that were left out, and why.
    """

    spec: SweepSpec
    preset: dict[str, Any]
    left_out: list[str]


def fit_to_data(spec: SweepSpec, preset: dict[str, Any], train: ImageSet, misfits: Misfits) -> Fitted:
    """Replace names of classes by their numbers, and leave out scarce rates (``search.min_poisoned``).

    Args:
        spec: the sweep.
        preset: it was read from.
        train: the training split.
        misfits: gets the scenarios that do not fit.

    Raises:
        ConfigError: no scenario has a rate left.
        PresetError: the same class is given twice, by number and by name.
    """
    names = [block.values["name"] for block in spec.scenario_blocks]
    numbered = with_class_numbers(preset, names, train.class_names, misfits)
    if numbered != preset:
        spec = validate(numbered, spec.name)
    kept, left_out = without_scarce_rates(spec, numbered, train, misfits)
    if left_out:
        spec = validate(kept, spec.name)
    return Fitted(spec, kept, left_out)
