"""``certificate.json``: the one test of a run folder that certifies a setting, as far as it has come."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sweeper.run_folder.record import EXCESS
from trainers.errors import ConfigError
from trainers.params import LARGEST
from trainers.scenario import ScenarioConfig
from trainers.seeding import derive_seed
from trainers.storage.files import write_text
from trainers.trial import TrialConfig

REPLICATE_SEEDS = 1_000_000_000
"""The first seed of replicates; seeds of a preset and of confirming runs are below it."""
SEEDS_APART = 1_000_000
"""Seeds of each setting: more than any has replicates."""
SEEDS_OF_A_TEST = 1_000_000_000
"""Seeds of each test: more than its settings have."""
TESTS = 1_000_000
"""Blocks of seeds from which that of a sweep is drawn. All are below 2**53, so that every reader of JSON keeps them."""
DESCRIBED = 3
"""Replicates of each setting that is only described."""
FILE = "certificate.json"

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0, le=LARGEST)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class CandidateSetting(_Part):
    """A setting that may be certified, or that is described beside.

    Args:
        name: what people call it: ``vab 1f3a...``, ``the default of vab``, ``no defense``.
        config_id: of the setting.
        accuracy: its mean ``val_acc`` in the search; null if it was not searched.
        attack: its attack figure in the search, likewise (mean over seeds, in its worst scenario).
        config: its configuration without scenarios and seeds (:class:`trainers.trial.TrialConfig`).
    """

    name: str
    config_id: str
    accuracy: Share | None
    attack: Share | None
    config: dict[str, Any]


class Attacker(_Part):
    """A scenario of each replicate.

    Args:
        label: its name, with what the attacker varied between trials.
        config: the scenario (:class:`trainers.scenario.ScenarioConfig`).
    """

    label: str
    config: dict[str, Any]


class Budget(_Part):
    """From when a budget held.

    Args:
        after: how many replicates had been counted.
        trainings: the budget; null: no limit.
    """

    after: Count
    trainings: Count | None


class Step(_Part):
    """A replicate that was counted, or that was a pilot.

    Args:
        candidate: its number, from 0.
        number: of the replicate, from 0, pilots included.
        pilot: whether it came before the candidate's stake.
        loss: the attack figure in the worst scenario; 1 if it failed or ended early.
        accuracy: mean ``test_acc`` over the scenarios that ran; null if it failed.
        min_class_acc: lowest ``test_min_class_acc`` of them; null likewise.
        trainings: that it took.
        failed: why it failed; null if it did not.
        ended_by: the scenario after which it ended early, since the candidate was out; null if it did not.
    """

    candidate: Count
    number: Count
    pilot: bool
    loss: Share
    accuracy: Share | None
    min_class_acc: Share | None
    trainings: Count
    failed: str | None = None
    ended_by: str | None = None


class Plan(_Part):
    """What a test was expected to take before it began, as the search's figures let expect.

    Args:
        trainings: mean number, those of described settings included.
        high: number that nine of ten tests keep.
        certified: share of tests that certify a setting.
    """

    trainings: Annotated[float, Field(ge=0)]
    high: Annotated[float, Field(ge=0)]
    certified: Share


class Tested(_Part):
    """How a candidate stands, for people: it follows from the steps.

    Args:
        verdict: null if it is being tested, or was not.
        stake: its part of the error; null if it has paid none.
        wealth: after each counted replicate; it is certified at 1 / stake.
    """

    verdict: str | None
    stake: Share | None
    wealth: list[Annotated[float, Field(ge=0)]]


class Certificate(_Part):
    """The test: its terms, frozen when it began, and what has happened.

    Args:
        metric: the figure that is bounded, on the test half.
        bound: on its mean over replicates, in the worst scenario of each.
        confidence: probability, at least, with which no setting is certified wrongly.
        min_acc: that the mean ``test_acc`` of the certified setting's replicates reaches.
        candidates: in the order in which they are tested.
        described: settings with three replicates each that nothing depends on.
        attackers: the scenarios of each replicate, the hardest first.
        left_out: scenarios that are no evidence, with the reason.
        budgets: each with its beginning.
        first_seed: of its replicates. Each sweep has others: tests of two sweeps of one preset must be independent.
        plan: what was expected of it; null if it was not planned.
        steps: replicates in the order in which they were counted.
        standings: of the candidates.
        certified: number of the certified candidate; null if there is none.
        decided: whether the test has ended.
    """

    version: Literal[1] = 1
    metric: Literal["test_asr_excess", "test_asr"]
    bound: Share
    confidence: Share
    min_acc: Share
    candidates: list[CandidateSetting]
    described: list[CandidateSetting]
    attackers: list[Attacker]
    left_out: list[str]
    budgets: list[Budget]
    first_seed: Count = REPLICATE_SEEDS
    plan: Plan | None = None
    steps: list[Step] = []
    standings: list[Tested] = []
    certified: Count | None = None
    decided: bool = False

    @model_validator(mode="after")
    def _check_relations(self) -> "Certificate":
        if not (0 < self.bound < 1 and 0 < self.confidence < 1):
            raise ValueError("bound and confidence must lie between 0 and 1")
        if not (self.candidates and self.attackers):
            raise ValueError("it has no candidates or no attackers")
        many = len(self.candidates)
        if len(self.standings) not in (0, many) or any(step.candidate >= many for step in self.steps):
            raise ValueError("its standings or steps are not those of its candidates")
        if self.certified is not None and (self.certified >= len(self.standings) or not self.steps_of(self.certified)):
            raise ValueError("what it certifies was not tested")
        if any(standing.stake == 0 for standing in self.standings):
            raise ValueError("a stake is 0")
        if self.certified is not None and self.standings[self.certified].stake is None:
            raise ValueError("what it certifies has paid no stake")
        return self

    @property
    def error(self) -> float:
        """Probability, at most, with which a setting is certified wrongly."""
        return 1 - self.confidence

    @property
    def option(self) -> str:
        """The option that gives the bound."""
        return "max-excess" if self.metric in EXCESS else "max-asr"

    @property
    def winner(self) -> CandidateSetting | None:
        """The certified setting; null if there is none."""
        return None if self.certified is None else self.candidates[self.certified]

    @property
    def described_trainings(self) -> int:
        """Trainings of the described settings, which are set aside from a budget."""
        return DESCRIBED * len(self.described) * len(self.attackers)

    def seed(self, setting: int, number: int) -> int:
        """The seed of a replicate, as of :func:`replicate_seed`."""
        return replicate_seed(setting, number, self.first_seed)

    def steps_of(self, candidate: int) -> list[Step]:
        """The replicates of a candidate, in their order."""
        return [step for step in self.steps if step.candidate == candidate]

    def settings(self) -> list[TrialConfig]:
        """The configurations of the candidates and of the described settings, without scenarios and seeds."""
        return [_trial(setting.config) for setting in (*self.candidates, *self.described)]

    def scenarios(self) -> list[ScenarioConfig]:
        """The scenarios of each replicate, the hardest first."""
        return [ScenarioConfig(**attacker.config) for attacker in self.attackers]


def first_seed(sweep_id: str) -> int:
    """The first seed of the replicates of a sweep's test."""
    return REPLICATE_SEEDS + derive_seed("replicates", sweep_id) % TESTS * SEEDS_OF_A_TEST


def replicate_seed(setting: int, number: int, first: int = REPLICATE_SEEDS) -> int:
    """The seed of a replicate.

    Args:
        setting: number of the candidate or described setting.
        number: of its replicate.
        first: of the test's seeds.
    """
    return first + setting * SEEDS_APART + number


def write_certificate(folder: Path, certificate: Certificate) -> None:
    """Write it into a run folder, whole or not at all."""
    write_text(folder / FILE, certificate.model_dump_json(indent=1))


def read_certificate(folder: Path) -> Certificate | None:
    """Read it from a run folder; null if no test was begun there.

    Raises:
        ConfigError: it is damaged.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        known = Certificate.model_validate_json(path.read_text(encoding="utf-8"))
        known.settings(), known.scenarios()
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        if isinstance(error, ValidationError):
            problem = error.errors()[0]
            reason = f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
        else:
            reason = str(error).splitlines()[0]
        raise ConfigError(f"{path} is damaged: {reason.rstrip('.')}.") from error
    return known


def _trial(config: dict[str, Any]) -> TrialConfig:
    return TrialConfig.from_json(json.dumps(config))
