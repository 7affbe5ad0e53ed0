"""What races and asha left out of a sweep, and what its frontier assumes."""

import pandas as pd

from sweeper.analysis.attack_bounds import AttackBounds
from sweeper.analysis.uncertainty import Over
from sweeper.preset.objectives import ATTACK_SUCCESS, HEADROOM, TOLERANCE
from sweeper.preset.spec import SweepSpec
from sweeper.run_folder.record import FINISHED, PRUNED, TRIAL

ASSUMPTIONS = {
    "bounds": f"that no training is more accurate than its control plus {HEADROOM:g}",
    "learned": f"that no training is more accurate than its control plus {HEADROOM:g}, or than the first trainings of "
    "its trial let expect",
}
"""By ``search.race``: what a frontier assumes of the trainings that did not run."""


def raced_out(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of trials that left their races or were stopped by asha, from the rows of ``trials.parquet``."""
    left = (frame["role"] == TRIAL) & (frame["trial_status"] == PRUNED) & frame["trial_error"].notna()
    return frame[left]


def met_attackers(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of trials that FINISHED, left their races or were stopped by asha, from the rows of ``trials.parquet``.

    Which attackers a sweep holds must be read from these: an attacker that broke every setting has no FINISHED trial.
    """
    left = (frame["trial_status"] == PRUNED) & frame["trial_error"].notna()
    return frame[(frame["role"] == TRIAL) & (left | (frame["trial_status"] == FINISHED))]


def left_out(frame: pd.DataFrame, spec: SweepSpec) -> str | None:
    """A sentence on what races and asha left out, with the assumption behind it; null if they left out nothing.

    Args:
        frame: rows of ``trials.parquet``.
        spec: the sweep.
    """
    trials, left = frame[frame["role"] == TRIAL], raced_out(frame)
    if left.empty:
        return None
    missing = int((left["status"] != FINISHED).sum())
    count, whole = left["trial_id"].nunique(), trials["trial_id"].nunique()
    if spec.search.scheduler == "asha":
        return (
            f"{count} of {whole} trials left their races or were stopped by asha, so {missing} of {len(trials)} "
            "trainings did not run to their end. The frontier may lack settings that asha stopped (docs: racing)."
        )
    said = f"{count} of {whole} trials left their races, so {missing} of {len(trials)} trainings were not needed."
    to_within = f"to within {TOLERANCE:g} of attack success"
    if spec.attacking:
        return f"{said} The leading attackers are those of all trainings, {to_within} (docs: racing)."
    attack = next((o.metric for o in spec.objectives if o.metric in ATTACK_SUCCESS), None)
    limited = attack is not None and spec.search.interest < 1
    below = f" below a {attack} of {spec.search.interest:g}" if limited else ""
    assumed = ASSUMPTIONS[spec.race or "bounds"]
    return f"{said} The frontier is that of all trials{below}, {to_within}; it assumes {assumed} (docs: racing)."


def broken_early(frame: pd.DataFrame, bounds: AttackBounds, over: Over) -> dict[str, str]:
    """Settings of trials that left their races after an attack had exceeded a bound for sure: even if their missing
    trainings had come out at 0. By ``config_id``, with the reason why the trial left.

    Args:
        frame: rows of ``trials.parquet``.
        bounds: on what attacks achieve.
        over: how figures are aggregated over scenarios; of any but the worst, the mean is a lower bound.
    """
    rows = raced_out(frame)
    rows = rows[rows["weak_attack"].ne(True).fillna(True)]
    broken: dict[str, str] = {}
    for limit in bounds.limits:
        known = rows[limit.metric].astype(float).where(rows["status"] == FINISHED).fillna(0.0)
        by_scenario = known.groupby([rows["trial_id"], rows["scenario"]]).mean().groupby("trial_id")
        least = by_scenario.max() if over == "worst" else by_scenario.mean()
        sure = rows[rows["trial_id"].isin(least.index[least > limit.most])].drop_duplicates("trial_id")
        broken |= dict(zip(sure["config_id"].astype(str), sure["trial_error"].astype(str), strict=True))
    return broken
