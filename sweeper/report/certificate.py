"""What a test has certified, as text, and as the report shows it."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor
from statistics import fmean, stdev
from typing import Any

import pandas as pd

from sweeper.analysis.guarantee import Guarantee, guarantee
from sweeper.analysis.verdicts import how_it_stands, planned, verdict
from sweeper.run_folder.certificate import Certificate
from sweeper.run_folder.record import FINISHED, REPLICATE
from sweeper.words import format_cell

TEST_HEADINGS = ("pilots", "replicates", "stake", "wealth", "needed wealth", "verdict")


def guarantee_lines(known: Guarantee) -> list[str]:
    """Sentences on what a test guarantees of the setting that it certified, and what else its replicates show."""
    bound, upper = _at_least_two_decimals(known.bound), ceil(known.upper * 1000 - 1e-6) / 1000
    statement = (
        f"the trigger adds at most {bound} to the mean worst attack success ({known.metric})"
        if known.metric == "test_asr_excess"
        else f"the mean worst attack success ({known.metric}) is at most {bound}, floor included"
    )
    exceeding = ceil(known.exceedance_upper * 1000 - 1e-6) / 10
    accuracy = floor(known.accuracy_lower * 1000 + 1e-6) / 1000
    lines = [
        f"{known.setting.name} is certified.",
        f"Over fresh attacks and trainings, {statement}; this statement is wrong in at most "
        f"{round(100 * (1 - known.confidence), 6):g} of 100 sweeps.",
        f"The bound reached is {upper:.3f}, without assumptions on the distribution. Replicates: {known.replicates} "
        f"(pilots: {known.pilots}, failed: {known.failures}), mean {known.mean:.3f} ± {known.sd:.3f}.",
        f"Each at a confidence of {known.confidence:g} of its own, not jointly: at most {exceeding:g}% of further "
        f"trainings exceed {bound} ({known.exceeding} of {known.replicates} did); the mean accuracy is at least "
        f"{accuracy:.3f} (mean {known.accuracy:.3f} ± {known.accuracy_sd:.3f}).",
        f"Attacks that were tried: {'; '.join(known.attackers)}.",
    ]
    if known.left_out:
        lines.append(f"Left out, so nothing is certified about them: {'; '.join(known.left_out)}.")
    return lines


def _at_least_two_decimals(share: float) -> str:
    text = f"{share:.15g}"
    return f"{share:.2f}" if len(text.partition(".")[2]) < 2 else text


@dataclass(frozen=True)
class CertificateSection:
    """A test as the report shows it.

    Args:
        lines: the guarantee, or why there is none.
        headings, rows: of the candidates, as text.
        attackers: scenarios of each replicate.
        left_out: other scenarios, with the reason.
        described_headings, described: settings beside the candidates, as text.
        ahead: replicates that ran ahead, and were not needed.
        wealth: of each candidate that paid a stake: its name, wealth after each counted replicate from 0 on, and the
            wealth that it needs.
    """

    lines: list[str]
    headings: Sequence[str]
    rows: list[list[str]]
    attackers: list[str]
    left_out: list[str]
    described_headings: Sequence[str]
    described: list[list[str]]
    ahead: int
    wealth: list[dict[str, Any]]


def certificate_section(certificate: Certificate, frame: pd.DataFrame) -> CertificateSection:
    """What the report shows of a test.

    Args:
        certificate: the test.
        frame: rows of ``trials.parquet``.
    """
    known = guarantee(certificate)
    replicates = frame[frame["role"] == REPLICATE]
    counted = {certificate.seed(step.candidate, step.number) for step in certificate.steps}
    first_described = len(certificate.candidates)
    seeds = replicates["seed"].dropna().astype(int)
    ahead = {seed for seed in seeds if seed < certificate.seed(first_described, 0)} - counted
    paid = [
        (setting.name, standing)
        for setting, standing in zip(certificate.candidates, certificate.standings, strict=False)
        if standing.stake
    ]
    return CertificateSection(
        lines=[
            *(guarantee_lines(known) if known else [how_it_stands(certificate)]),
            *filter(None, [planned(certificate)]),
        ],
        headings=["setting", "val_acc", certificate.metric.replace("test_", "val_"), *TEST_HEADINGS],
        rows=[_candidate_row(certificate, number) for number in range(first_described)],
        attackers=[attacker.label for attacker in certificate.attackers],
        left_out=certificate.left_out,
        described_headings=["setting", "n", "test_acc", certificate.metric],
        described=[
            [setting.name, *_described(certificate, replicates, first_described + number)]
            for number, setting in enumerate(certificate.described)
        ],
        ahead=len(ahead),
        wealth=[
            {"name": name, "wealth": [1.0, *own.wealth], "needed": 1 / own.stake} for name, own in paid if own.stake
        ],
    )


def _candidate_row(certificate: Certificate, number: int) -> list[str]:
    setting, steps = certificate.candidates[number], certificate.steps_of(number)
    standing = certificate.standings[number] if number < len(certificate.standings) else None
    stake = None if standing is None else standing.stake
    return [
        setting.name,
        format_cell(setting.accuracy),
        format_cell(setting.attack),
        str(sum(step.pilot for step in steps)),
        str(len(steps)),
        "-" if stake is None else f"{stake:.4g}",
        "-" if stake is None or standing is None else f"{standing.wealth[-1] if standing.wealth else 1.0:.3g}",
        "-" if not stake else f"{1 / stake:.3g}",
        verdict(certificate, number),
    ]


def _described(certificate: Certificate, replicates: pd.DataFrame, setting: int) -> list[str]:
    """Number of replicates of a described setting, and mean and standard deviation of accuracy and attack figure.

    The attack figure of a replicate is the one in its worst scenario.

    Args:
        certificate: the test.
        replicates: rows of ``trials.parquet`` of replicates.
        setting: its number, after those of the candidates.
    """
    metric = certificate.metric
    own = replicates[replicates["seed"].between(certificate.seed(setting, 0), certificate.seed(setting + 1, 0) - 1)]
    whole = own.groupby("seed").filter(lambda rows: bool((rows["status"] == FINISHED).all()))
    by_seed = whole.astype({"test_acc": float, metric: float}).groupby("seed").agg({"test_acc": "mean", metric: "max"})
    return [str(len(by_seed)), *(_spread(by_seed[name].dropna().tolist()) for name in ("test_acc", metric))]


def _spread(values: list[float]) -> str:
    if not values:
        return "-"
    return format_cell(fmean(values)) + (f" ± {stdev(values):.3f}" if len(values) > 1 else "")
