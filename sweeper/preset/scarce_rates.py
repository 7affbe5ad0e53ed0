"""Leaves out poison rates that poison too few images to give meaningful figures."""

from typing import Any

from search_spaces.distributions import Searched
from sweeper.preset.blocks import Block, scenario_config
from sweeper.preset.misfits import Misfits
from sweeper.preset.spec import SweepSpec
from trainers.data.image_set import ImageSet
from trainers.errors import ConfigError, RateError


def without_scarce_rates(
    spec: SweepSpec, preset: dict[str, Any], train: ImageSet, misfits: Misfits
) -> tuple[dict[str, Any], list[str]]:
    """The preset without the poison rates that poison fewer than ``search.min_poisoned`` images; a rate of 0 stays.

    A rate that asks for more images than the attack can poison is left out too. A scenario that no other rate would
    mend does not fit the data, and stays as it is.

    Args:
        spec: the sweep.
        preset: the preset that the sweep was read from.
        train: the training split.
        misfits: gets the scenarios that do not fit.

    Returns:
        The preset, and a phrase for each scenario with the rates that were left out, and why.

    Raises:
        ConfigError: no scenario has a rate left, or a poison rate is searched without a step.
    """
    if spec.search.min_poisoned is None:
        return preset, []
    kept: list[Any] = []
    left_out: list[str] = []
    for raw, block in zip(spec.scenarios, spec.scenario_blocks, strict=True):
        value = block.values.get("poison_rate", 0.1)
        rates = value.grid() if isinstance(value, Searched) else (value,)
        if rates is None:
            raise ConfigError("search.min_poisoned needs poison rates with a step, or a list of them.")
        reasons: dict[float, str | None] | None = None
        with misfits.of_scenario(block.values["name"]):
            reasons = {rate: _scarce(block, rate, train, spec.search.min_poisoned) for rate in rates}
        if reasons is None:
            kept.append(raw)
            continue
        fine = [rate for rate, reason in reasons.items() if reason is None]
        scarce = [f"{rate:g} ({why})" for rate, why in reasons.items() if why]
        left_out += [f"{block.values['name']} at rate {', '.join(scarce)}"] if scarce else []
        if fine:
            kept.append(raw | {"poison_rate": {"categorical": fine}})
    if not kept:
        raise ConfigError(
            f"No scenario has a poison rate left that gives {spec.search.min_poisoned} poisoned images "
            f"(search.min_poisoned): {'; '.join(left_out)}."
        )
    return preset | {"scenarios": kept}, left_out


def _scarce(block: Block, rate: float, train: ImageSet, least: int) -> str | None:
    """Why a rate is left out; null if it is kept."""
    drawn = block.draw(lambda _name, searched: searched.corners()[0]) | {"poison_rate": rate}
    attack = scenario_config(block.kind, drawn).build_attack(train, seed=0)
    try:
        count, _ = attack.counts(train.labels, rate)
    except RateError as error:
        return str(error).rstrip(".")
    if rate > 0 and count < least:
        return f"{count} poisoned image{'s' if count != 1 else ''}"
    return None
