"""Certificates made by hand: a bound of 0.1 at confidence 0.95, unless a test says otherwise."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from sweeper.analysis.certificate_terms import restored
from sweeper.run_folder.certificate import Attacker, Budget, CandidateSetting, Certificate, Step, Tested, replicate_seed
from tests.sweeper.small import epoch_figures, record_of, row_with
from trainers.defenses import DEFENSES
from trainers.trial import TrialConfig

STAKE = 0.05
"""Of a candidate that is alone; it needs a wealth of 20."""


def setting_named(config_id: str, defense: str = "vab") -> CandidateSetting:
    """A setting, without scenarios and seeds."""
    config = record_of().config
    assert config is not None
    params = config.params if defense == "vab" else DEFENSES[defense].Params().as_dict()
    bare = replace(config, scenarios=(), repeats=(), defense=defense, params=params)
    return CandidateSetting(
        name=f"{defense} {config_id}", config_id=config_id, accuracy=0.8, attack=0.05, config=json.loads(bare.to_json())
    )


def step(number: int, loss: float = 0.0, candidate: int = 0, **changes: Any) -> Step:
    """A replicate of one training."""
    known = {"pilot": False, "accuracy": 0.7, "min_class_acc": 0.5, "trainings": 1} | changes
    return Step(candidate=candidate, number=number, loss=loss, **known)


def attacker(label: str = "badnets", **changes: Any) -> Attacker:
    """The scenario of the small preset."""
    config = record_of().config
    assert config is not None
    return Attacker(label=label, config=json.loads(json.dumps(asdict(config.scenarios[0]) | changes)))


def certificate_of(steps: Sequence[Step], certified: int | None = 0, **changes: Any) -> Certificate:
    """A test of one candidate called ``a``, or of those given; the wealth of each is worked out here."""
    known: dict[str, Any] = {
        "metric": "test_asr_excess", "bound": 0.1, "confidence": 0.95, "min_acc": 0.0,
        "candidates": [setting_named("a")], "described": [], "attackers": [attacker()], "left_out": [],
        "budgets": [Budget(after=0, trainings=None)], "decided": True,
    } | changes  # fmt: skip
    standings = []
    for number in range(len(known["candidates"])):
        wealth, after = 1.0, []
        for one in steps:
            if one.candidate == number and not one.pilot:
                wealth *= 1 + 0.9 / (1 - known["bound"]) * (known["bound"] - one.loss)
                after.append(wealth)
        verdict = "certified" if number == certified else "given up" if known["decided"] else None
        standings.append(Tested(verdict=verdict, stake=STAKE if after else None, wealth=after))
    return Certificate(steps=list(steps), certified=certified, **{"standings": standings} | known)


def good(count: int = 32, **changes: Any) -> Certificate:
    """A certified setting whose trigger never added anything; 32 replicates are the fewest."""
    return certificate_of([step(number) for number in range(count)], **changes)


def replicate_rows(
    config: str, losses: Sequence[float], setting: int = 0, defense: str = "vab", **changes: Any
) -> list[dict[str, Any]]:
    """Rows of ``trials.parquet``, one for each replicate of a setting."""
    figures = {name: value for name, value in epoch_figures(4).items() if name not in ("stage", "loss")}
    return [
        row_with(
            f"r{setting}{number:03d}", config, role="replicate", defense=defense, seed=replicate_seed(setting, number),
            **figures | {"control_asr": None, "weak_attack": None, "test_asr_excess": loss, "test_acc": 0.7} | changes,
        )
        for number, loss in enumerate(losses)
    ]  # fmt: skip


def after_losses(*losses: list[float], bound: float = 0.1, confidence: float = 0.95, **changes: Any) -> Certificate:
    """The real test of settings of the small preset, after these losses of each candidate, pilots among them."""
    trial, control = record_of().config, record_of("c0000", "control").config
    assert trial is not None
    assert control is not None

    def setting(name: str, config: TrialConfig, accuracy: float | None) -> CandidateSetting:
        bare = json.loads(replace(config, scenarios=(), repeats=()).to_json())
        return CandidateSetting(
            name=name, config_id=config.setting_key, accuracy=accuracy, attack=accuracy and 0.02, config=bare
        )

    searched = [
        setting(f"vab {n}", replace(trial, params=trial.params | {"threshold": 0.1 + n / 100}), 0.9 - n / 10)
        for n in range(len(losses))
    ]
    attackers = [
        Attacker(label=scenario.name, config=json.loads(json.dumps(asdict(scenario)))) for scenario in trial.scenarios
    ]
    certificate = Certificate(
        metric="test_asr_excess",
        bound=bound,
        confidence=confidence,
        min_acc=0.0,
        candidates=searched,
        described=[setting("the defaults of vab", trial, None), setting("no defense", control, None)],
        attackers=attackers,
        left_out=[],
        budgets=[Budget(after=0, trainings=None)],
    )
    certificate = Certificate(**certificate.model_dump() | changes)
    test = restored(certificate)
    for own in losses:
        for loss in own:
            turn = test.turn
            assert turn is not None, "the test was decided before"
            pilot = test.candidates[turn[0]].stake is None
            test.apply(loss, 0.8, 1)
            certificate.steps.append(
                Step(candidate=turn[0], number=turn[1], pilot=pilot, loss=loss, accuracy=0.8, min_class_acc=0.4,
                     trainings=1)
            )  # fmt: skip
    certificate.standings = [Tested(verdict=c.verdict, stake=c.stake, wealth=c.wealth) for c in test.candidates]
    certificate.certified, certificate.decided = test.certified, test.decided
    return certificate
