"""The terms of a test: made from the figures of a sweep, frozen in its certificate, and restored from there."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from math import isclose
from pathlib import Path
from typing import Any

import pandas as pd

from search_spaces.distributions import Searched
from sweeper.analysis.attack_bounds import AttackBounds
from sweeper.analysis.candidates import candidates
from sweeper.analysis.certification import Certification, Terms
from sweeper.analysis.cost import Cost, costs
from sweeper.analysis.frontier import points
from sweeper.preset.blocks import Block
from sweeper.preset.spec import SweepSpec
from sweeper.run_folder.certificate import FILE, Attacker, Budget, CandidateSetting, Certificate, Plan
from sweeper.run_folder.record import TrialRecord
from trainers.defenses import DEFENSES
from trainers.errors import ConfigError
from trainers.params import LARGEST
from trainers.trial import TrialConfig

METRICS = {"max-excess": "test_asr_excess", "max-asr": "test_asr"}
"""The figure that an option bounds. It is measured on the test half, which no search has seen."""
LENGTHS = ("epochs", "steps", "rounds")
"""Ends of the names of parameters that say how long a defense trains."""


@dataclass(frozen=True)
class Asked:
    """What a user asks a test for.

    Args:
        bounds: one bound, on what the trigger adds or on attack success.
        confidence: probability, at least, with which no setting is certified wrongly.
        min_acc: that the mean accuracy of the certified setting's replicates reaches.

    Raises:
        ConfigError: there is not one bound, or a number is out of range.
    """

    bounds: AttackBounds
    confidence: float
    min_acc: float = 0.0

    def __post_init__(self) -> None:
        if len(self.bounds.limits) != 1:
            raise ConfigError(
                "A test certifies one bound: give --max-excess, the most that a trigger may add, or --max-asr."
            )
        (limit,) = self.bounds.limits
        if not 0 < limit.most < 1:
            raise ConfigError(
                f"--{limit.option} must lie between 0 and 1, but got {limit.most:g}: no number of trainings certifies "
                "0."
            )
        if not 0.5 <= self.confidence < 1:
            raise ConfigError(f"--confidence must lie in [0.5, 1), but got {self.confidence:g}.")
        if not 0 <= self.min_acc <= 1:
            raise ConfigError(f"--min-acc must lie in [0, 1], but got {self.min_acc:g}.")


def new_certificate(
    spec: SweepSpec, frame: pd.DataFrame, records: Mapping[str, TrialRecord], asked: Asked, seed: int
) -> Certificate:
    """The test of a sweep that has ended, before its first replicate; it has no budget yet.

    Args:
        spec: the sweep.
        frame: rows of ``trials.parquet``.
        records: of all that has run.
        asked: bound and confidence.
        seed: the first of its replicates.

    Raises:
        ConfigError: the bound lies below the floor, or no attack of the sweep is evidence.
        NothingQualifies: no setting is a candidate.
    """
    (limit,) = asked.bounds.limits
    _refuse_below_floor(frame, asked.bounds)
    field = candidates(frame, records, asked.bounds, asked.min_acc)
    chosen = [
        CandidateSetting(
            name=f"{one.defense} {one.config_id}",
            config_id=one.config_id,
            accuracy=one.accuracy,
            attack=one.attack,
            config=_bare(one.config),
        )
        for one in field.candidates
    ]
    attackers = [
        Attacker(label=label, config=json.loads(json.dumps(asdict(scenario))))
        for label, scenario in field.attackers.items()
    ]
    return Certificate(
        metric=METRICS[limit.option],  # type: ignore[arg-type]
        bound=limit.most,
        confidence=asked.confidence,
        min_acc=asked.min_acc,
        candidates=chosen,
        described=_to_describe(spec, [one.config for one in field.candidates]),
        attackers=attackers,
        left_out=field.left_out,
        budgets=[],
        first_seed=seed,
        plan=_planned(costs(frame, records, limit.option, (limit.most,), asked.min_acc, (asked.confidence,))[0]),
    )


def _planned(cost: Cost) -> Plan | None:
    if cost.trainings is None or cost.high is None or cost.share is None:
        return None
    return Plan(trainings=cost.trainings, high=cost.high, certified=cost.share)


def _refuse_below_floor(frame: pd.DataFrame, bounds: AttackBounds) -> None:
    """Refuse a bound on attack success that no setting can keep.

    Raises:
        ConfigError: it lies below the floor of every setting.
    """
    floors = points(frame)["asr_floor"].astype(float)
    if bounds.max_asr is not None and bounds.max_asr < floors.min():
        raise ConfigError(
            f"--max-asr {bounds.max_asr:g} lies below the floor: {floors.min():.3f} of the clean images are predicted "
            "as the attacker wants, with no trigger. Nothing below the floor can be certified; give --max-excess, the "
            "most that a trigger may add to it."
        )


def refuse_other_terms(certificate: Certificate, asked: Asked, path: Path) -> None:
    """Refuse a second test in the same folder: the better of two would be less certain than it claims.

    Raises:
        ConfigError: the terms differ.
    """
    (limit,) = asked.bounds.limits
    same = (METRICS[limit.option], limit.most, asked.confidence, asked.min_acc)
    if same != (certificate.metric, certificate.bound, certificate.confidence, certificate.min_acc):
        least = f" --min-acc {certificate.min_acc:g}" if certificate.min_acc else ""
        raise ConfigError(
            f"{path} has a test already, with --{certificate.option} {certificate.bound:g} --confidence "
            f"{certificate.confidence:g}{least}. A run folder has one test, and only --budget may change: the best of "
            "several tests would be less certain than each claims."
        )


def check_budget(certificate: Certificate, budget: int | None) -> None:
    """Check that a budget suffices for any certificate.

    Raises:
        ConfigError: it does not.
    """
    terms = restored(certificate.model_copy(update={"steps": [], "budgets": [Budget(after=0, trainings=None)]})).terms
    least = terms.least_trainings() + certificate.described_trainings
    if budget is not None and budget > LARGEST:
        raise ConfigError(f"--budget must be at most {LARGEST}, but got {budget}.")
    if budget is not None and budget < least:
        raise ConfigError(
            f"--budget {budget} cannot suffice: a certificate needs at least {least} trainings, even if no attack ever "
            f"succeeds ({certificate.described_trainings} of them describe the defaults and no defense)."
        )


def restored(certificate: Certificate) -> Certification:
    """The test as its file tells it: what was counted is applied again, under the budget of the time."""
    terms = Terms(
        certificate.bound,
        certificate.error,
        len(certificate.candidates),
        certificate.min_acc,
        len(certificate.attackers),
    )
    aside = certificate.described_trainings
    budgets = {budget.after: budget.trainings for budget in certificate.budgets}
    test = Certification(terms, _less(budgets.get(0), aside))
    for done, step in enumerate(certificate.steps):
        if done and done in budgets:
            test.allow(_less(budgets[done], aside))
        if test.turn != (step.candidate, step.number):
            raise ConfigError(
                f"The test of this folder is damaged: replicate {done} was not the one whose turn it was."
            )
        test.apply(step.loss, step.accuracy, step.trainings, step.ended_by is not None)
    test.allow(_less(certificate.budgets[-1].trainings, aside))
    return test


def check_steps(certificate: Certificate) -> None:
    """Check that what a certificate says follows from its steps.

    Raises:
        ConfigError: it does not.
    """
    test = restored(certificate)
    stakes = [standing.stake for standing in certificate.standings]
    same = len(stakes) in (0, len(test.candidates)) and all(
        isclose(told or 0.0, own.stake or 0.0, abs_tol=1e-12)
        for told, own in zip(stakes, test.candidates, strict=False)
    )
    if not same or (test.certified, test.decided) != (certificate.certified, certificate.decided):
        raise ConfigError(f"{FILE} is damaged: what it says does not follow from its replicates.")


def _less(budget: int | None, aside: int) -> int | None:
    return None if budget is None else budget - aside


def _to_describe(spec: SweepSpec, chosen: list[TrialConfig]) -> list[CandidateSetting]:
    """The defaults of each defense among the candidates, and no defense."""
    described = []
    for block in spec.defense:
        own = next((config for config in chosen if config.defense == block.kind), None)
        if own is None:
            continue
        config = replace(own, params=_defaults(block))
        described.append(_setting(f"the defaults of {block.kind}", config))
    control = replace(chosen[0], defense="none", params=spec.control.as_dict())
    return [*described, _setting("no defense", control)]


def _setting(name: str, config: TrialConfig) -> CandidateSetting:
    return CandidateSetting(name=name, config_id=config.setting_key, accuracy=None, attack=None, config=_bare(config))


def _defaults(block: Block) -> dict[str, object]:
    """Parameters of a defense, with those that are searched at their defaults, and lengths within their ranges."""
    params: dict[str, object] = {}
    defaults = DEFENSES[block.kind].Params().as_dict()
    for key, value in block.values.items():
        if not isinstance(value, Searched):
            params[key] = value
        elif key.endswith(LENGTHS) and defaults[key] is not None:
            params[key] = _nearest(value, defaults[key])
    return params


def _nearest(searched: Searched, default: float) -> Any:
    """The value of a distribution that lies nearest to the default."""
    if searched.kind == "categorical":
        return min(searched.values, key=lambda value: abs(value - default))
    low, high = searched.values
    step = searched.step or (1 if searched.kind == "int" else None)
    within = min(max(default, low), high)
    return within if step is None else min(low + round((within - low) / step) * step, high)


def _bare(config: TrialConfig) -> dict[str, object]:
    """A setting's configuration without scenarios and seeds, as JSON."""
    known: dict[str, object] = json.loads(replace(config, scenarios=(), repeats=()).to_json())
    return known
