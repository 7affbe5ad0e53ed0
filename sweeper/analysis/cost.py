"""What a certificate would cost: tests simulated with replicates as the search's seeds came out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, log

import numpy as np
import pandas as pd

from sweeper.analysis.attack_bounds import AttackBounds
from sweeper.analysis.betting import growth
from sweeper.analysis.candidates import Candidate, candidates
from sweeper.analysis.certification import Certification, Terms
from sweeper.analysis.selection import NothingQualifies
from sweeper.run_folder.certificate import DESCRIBED
from sweeper.run_folder.record import FINISHED, TRIAL, TrialRecord

BOUNDS = (0.05, 0.1, 0.15, 0.2)
CONFIDENCES = (0.9, 0.95)
SIMULATED = 200
"""Tests simulated for each bound and confidence."""


@dataclass(frozen=True)
class Cost:
    """What a test is expected to cost.

    Args:
        bound: that is certified.
        confidence: with which.
        candidates: settings that keep the bound in the search.
        share: of the simulated tests that certified a setting; null without a candidate.
        trainings: their mean number, those of described settings included; null likewise.
        high: the number that nine of ten tests keep; null likewise.
        hours: of the mean number, one training after another; null likewise.
        reason: why there is no candidate; null if there is one.
    """

    bound: float
    confidence: float
    candidates: int
    share: float | None = None
    trainings: float | None = None
    high: float | None = None
    hours: float | None = None
    reason: str | None = None


def costs(
    frame: pd.DataFrame,
    records: Mapping[str, TrialRecord],
    option: str,
    bounds: Sequence[float],
    min_acc: float,
    confidences: Sequence[float] = CONFIDENCES,
) -> list[Cost]:
    """What tests of a sweep are expected to cost, if fresh replicates come out as the seeds of the search did.

    A few seeds show no failure that is rarer than one in as many: see :func:`cost_of_failure`.

    Args:
        frame: rows of ``trials.parquet``.
        records: of all that has run.
        option: ``max-excess`` or ``max-asr``.
        bounds: on the mean.
        min_acc: least mean accuracy.
        confidences: for each of which a test is planned.
    """
    found: list[Cost] = []
    for bound in bounds:
        asked = AttackBounds(**{option.replace("-", "_"): bound})
        try:
            field = candidates(frame, records, asked, min_acc)
        except NothingQualifies as error:
            found += [Cost(bound, confidence, 0, reason=str(error)) for confidence in confidences]
            continue
        (limit,) = asked.limits
        seen = [_replicates(frame, one, limit.metric) for one in field.candidates]
        described = DESCRIBED * len(field.attackers) * (1 + len({one.defense for one in field.candidates}))
        seconds = float(np.mean([own[2] for own in seen]))
        for confidence in confidences:
            terms = Terms(bound, 1 - confidence, len(field.candidates), min_acc, len(field.attackers))
            random = np.random.default_rng(0)
            ran = [_simulated(terms, [own[:2] for own in seen], random) for _ in range(SIMULATED)]
            trainings = np.array([test.spent for test in ran]) + described
            found.append(
                Cost(
                    bound,
                    confidence,
                    len(field.candidates),
                    float(np.mean([test.certified is not None for test in ran])),
                    float(trainings.mean()),
                    float(np.quantile(trainings, 0.9)),
                    float(trainings.mean()) * seconds / 3600,
                )
            )
    return found


def cost_of_failure(bound: float) -> int:
    """Replicates that one replicate with a loss of 1 costs more."""
    return ceil(1 + log(1 / growth(1.0, bound)) / log(growth(0.0, bound)))


def _replicates(frame: pd.DataFrame, candidate: Candidate, metric: str) -> tuple[list[float], list[float], float]:
    """The worst attack figure and the accuracy of each seed of a setting in the search, and its seconds a training."""
    rows = frame[
        (frame["role"] == TRIAL)
        & (frame["trial_status"] == FINISHED)
        & (frame["config_id"] == candidate.config_id)
        & frame["weak_attack"].eq(False).fillna(False).astype(bool)
    ]
    by_seed = rows.astype({metric: float, "val_acc": float, "seconds": float}).groupby("seed")
    worst = by_seed[metric].max().fillna(1.0).clip(0, 1)
    return worst.tolist(), by_seed["val_acc"].mean().tolist(), float(rows["seconds"].astype(float).mean())


def _simulated(
    terms: Terms, seen: Sequence[tuple[list[float], list[float]]], random: np.random.Generator
) -> Certification:
    test = Certification(terms)
    while (turn := test.turn) is not None:
        losses, accuracies = seen[turn[0]]
        drawn = int(random.integers(len(losses)))
        ended = test.ends(losses[drawn])
        test.apply(1.0 if ended else losses[drawn], accuracies[drawn], 1 if ended else terms.trainings)
    return test
