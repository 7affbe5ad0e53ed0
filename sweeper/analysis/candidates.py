"""Which settings of a sweep are worth a test, against which attackers, from the search's figures."""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from sweeper.analysis.attack_bounds import AttackBounds
from sweeper.analysis.frontier import comparable, environments, points
from sweeper.analysis.left_out import broken_early, met_attackers
from sweeper.analysis.selection import BoundsMissed, NothingQualifies
from sweeper.preset.objectives import TOLERANCE
from sweeper.run_folder.record import CONTROL, FINISHED, TRIAL, TrialRecord
from trainers.errors import ConfigError
from trainers.measuring.evaluation import WEAK_ATTACK_BELOW
from trainers.scenario import ScenarioConfig
from trainers.trial import TrialConfig

MOST = 10
"""Most candidates of a test: each further one costs the others a part of their stakes."""


@dataclass(frozen=True)
class Candidate:
    """A setting that may be certified.

    Args:
        config: of one of its trials.
        config_id: of the setting.
        defense: its name.
        accuracy: mean ``val_acc`` in the search, against the attacker that left it the least.
        attack: its attack figure in the search, in the worst scenario of the worst attacker.
    """

    config: TrialConfig
    config_id: str
    defense: str
    accuracy: float
    attack: float


@dataclass(frozen=True)
class Field:
    """What a test is between.

    Args:
        candidates: the most accurate first.
        attackers: scenarios in which an attack works without a defense, by label, the hardest first.
        left_out: the other scenarios, each with the reason.
    """

    candidates: list[Candidate]
    attackers: dict[str, ScenarioConfig]
    left_out: list[str]


def candidates(
    frame: pd.DataFrame, records: Mapping[str, TrialRecord], bounds: AttackBounds, min_acc: float = 0.0
) -> Field:
    """The settings on the frontier that keep the bound and the least accuracy in the search, near-equal ones once.

    Scenarios whose attack is weak without a defense in all controls, or of which no control finished, are left out
    before the frontier is made: they are no evidence. Where attackers differ between trials, a setting must have kept
    the bound against each that it met, and is tested against all.

    Args:
        frame: rows of ``trials.parquet``.
        records: of all that has run.
        bounds: one bound, on the excess or on attack success.
        min_acc: least mean ``val_acc``.

    Raises:
        ConfigError: every attack is weak.
        NothingQualifies: no setting has sound evidence.
        BoundsMissed: no setting keeps the bounds in the search.
    """
    (limit,) = bounds.limits
    rows = met_attackers(frame)
    rows = rows[rows["trial_id"].isin(list(records))]  # the record of a trial may be damaged
    if rows.empty:
        raise NothingQualifies("No trial finished, so there is nothing to certify.")
    labels = _labels(rows)
    left_out = _no_evidence(rows.assign(label=labels))
    sound = ~labels.isin(list(left_out))
    if not sound.any():
        why = "; ".join(f"{label}: {reason}" for label, reason in left_out.items())
        raise ConfigError(f"No attack of this sweep is evidence, so nothing can be certified ({why}).")
    # A control that was weak once among others that were not is no reason to leave the attack out.
    frame = pd.concat([rows[sound].assign(weak_attack=False), frame[frame["role"] == CONTROL]])
    table = points(frame)
    table = table[comparable(table)]
    broken = broken_early(frame, bounds, "worst")
    worst = table.groupby("config_id").agg(
        defense=("defense", "first"),
        accuracy=("val_acc", "min"),
        attack=(limit.mean, "max"),
        front=("on_frontier", "any"),
    )
    worst = worst[worst["front"] & ~worst.index.isin(list(broken))]
    if worst.empty:
        raise NothingQualifies("No setting with sound evidence is on the frontier, so there is nothing to certify.")
    kept = worst[(worst["attack"] <= limit.most) & (worst["accuracy"] >= min_acc)]
    if kept.empty:
        near = worst.assign(
            missed=(worst["attack"] - limit.most).clip(lower=0) + (min_acc - worst["accuracy"]).clip(lower=0)
        )
        row = near.sort_values("missed").iloc[0]
        least = f" and val_acc >= {min_acc:g}" if min_acc else ""
        raise BoundsMissed(
            f"No setting on the frontier has {limit.metric} <= {limit.most:g}{least} in the search, so none is a "
            f"candidate. Nearest is {row['defense']} {row.name}: {limit.metric} {row['attack']:.3f}, val_acc "
            f"{row['accuracy']:.3f}."
        )
    settings = {
        r.config_id: r.config for r in records.values() if r.role == TRIAL and r.status == FINISHED and r.config
    }
    chosen = [
        Candidate(settings[name], str(name), str(row["defense"]), float(row["accuracy"]), float(row["attack"]))
        for name, row in _thinned(kept).iterrows()
        if name in settings
    ]
    return Field(
        chosen,
        _hardest_first(
            rows.assign(label=labels)[sound], records, limit.metric, limit.most, {c.config_id for c in chosen}
        ),
        [f"{label} ({reason})" for label, reason in left_out.items()],
    )


def _labels(rows: pd.DataFrame) -> pd.Series:
    """A name for the attacker of each row: its scenario, with what varies between trials."""
    varied = environments(rows)
    names = rows["scenario"].astype(str)
    return names.where(varied == "", names + " at " + varied)


def _no_evidence(rows: pd.DataFrame) -> dict[str, str]:
    """Attackers that are no evidence, each with the reason."""
    reasons: dict[str, str] = {}
    for label, own in rows.groupby("label", sort=True):
        known = own["weak_attack"]
        if (own["poison_rate"] == 0).all():
            reasons[str(label)] = "it poisons nothing"
        elif known.notna().any() and known.dropna().eq(True).all():
            least = own["control_asr"].astype(float).max()
            reasons[str(label)] = (
                f"its attack is weak without a defense, {least:.3f} where {WEAK_ATTACK_BELOW:g} is asked for"
            )
        elif known.isna().all():
            reasons[str(label)] = "its control did not finish"
    return reasons


def _thinned(table: pd.DataFrame) -> pd.DataFrame:
    """The settings in order of accuracy, at most :data:`MOST`; of near-equal ones the safest."""
    ordered = table.sort_values(["accuracy", "attack"], ascending=[False, True])
    apart = TOLERANCE
    while True:
        groups: list[list[str]] = []
        for name, accuracy in ordered["accuracy"].items():
            if groups and ordered["accuracy"][groups[-1][0]] - accuracy <= apart:
                groups[-1].append(str(name))
            else:
                groups.append([str(name)])
        if len(groups) <= MOST:
            return ordered.loc[[ordered.loc[group, "attack"].idxmin() for group in groups]]
        apart *= 2


def _hardest_first(
    rows: pd.DataFrame, records: Mapping[str, TrialRecord], metric: str, bound: float, chosen: set[str]
) -> dict[str, ScenarioConfig]:
    """The attackers in the order in which a replicate meets them: those that broke the bound most often come first, of
    equal ones those with the highest mean figure against the candidates.
    """
    trained = rows[rows["status"] == FINISHED]
    figure = trained[metric].astype(float)
    order = pd.DataFrame(
        {
            "broke": (figure > bound).groupby(trained["label"]).mean(),
            "figure": figure.where(trained["config_id"].isin(chosen)).groupby(trained["label"]).mean(),
        }
    )
    known: dict[str, ScenarioConfig] = {}
    for label in order.sort_values(["broke", "figure"], ascending=False).index:
        row = rows[rows["label"] == label].iloc[0]
        config = records[row["trial_id"]].config
        assert config is not None
        known[str(label)] = next(s for s in config.scenarios if s.name == row["scenario"])
    different: dict[str, ScenarioConfig] = {}
    for label, scenario in known.items():
        if scenario not in different.values():
            different[label] = scenario
    return different
