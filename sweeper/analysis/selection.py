"""Picks the setting to deploy."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from sweeper.analysis.frontier import comparable, environments, harmless, points
from sweeper.analysis.uncertainty import LEAST_SEEDS, Over, asr_upper
from sweeper.run_folder.record import CONFIRMATION, CONTROL, FINISHED
from sweeper.run_folder.tables import as_rows, finished


class NothingQualifies(Exception):
    """No setting keeps the bounds on sound evidence. The message says what comes nearest."""


@dataclass(frozen=True)
class Selection:
    """A chosen setting.

    Args:
        point: its row of the frontier's table.
        others: how many settings qualified beside it.
        hardest_of: environments that were compared, where there was more than one; the chosen one is the hardest.
        asr_upper: upper bound of attack success at the confidence asked for; null if none was.
        asr_upper_of_all: the same, if it is to hold for all confirmed settings at once (Bonferroni); null if none was.
        confirmed: how many confirmed settings there are.
        no_evidence: environments that say nothing of any setting, since their attack fails without a defense.
    """

    point: dict[str, Any]
    others: int
    hardest_of: list[str]
    asr_upper: float | None = None
    asr_upper_of_all: float | None = None
    confirmed: int = 0
    no_evidence: Sequence[str] = ()


def select(
    frame: pd.DataFrame,
    max_asr: float,
    min_acc: float = 0.0,
    poison_rate: float | None = None,
    over: Over = "worst",
    confidence: float | None = None,
    defense: str | None = None,
) -> Selection:
    """The setting of highest mean val_acc of those whose worst val_asr is at most ``max_asr``; ties by lower val_asr.

    Settings with a weak scenario, or that break a constraint of the sweep, do not qualify. Where the attacker varied
    something between trials (a searched poison rate, or the scenario that a trial meets), each of its values must have
    a setting that qualifies, and the one from the value that leaves the least accuracy is taken: evidence from an
    easier attacker earns nothing. Values at which no attack works without a defense, in any run, are left out: they
    threaten nobody, and are no evidence. A setting that met several attackers must keep the bounds against each of them
    whose attack works.

    Args:
        frame: rows of ``trials.parquet``.
        max_asr: bound on attack success.
        min_acc: bound on accuracy.
        poison_rate: look at trials of this poison rate only.
        over: how attack success is aggregated over scenarios.
        confidence: in (0, 1): the upper bound of attack success must keep ``max_asr``, and only runs of
            ``sweeper confirm`` count, since the winner of a search looks better than it is.
        defense: look at settings of this defense only; null: of any.

    Raises:
        NothingQualifies: no setting qualifies, or not for every environment.
    """
    if defense is not None:
        there = sorted(finished(frame)["defense"].unique())
        if defense not in there:
            raise NothingQualifies(f"No trial with the defense {defense} finished; there are {', '.join(there)}.")
        frame = frame[(frame["defense"] == defense) | (frame["role"] == CONTROL)]
    if poison_rate is not None:
        rates = sorted(finished(frame)["poison_rate"].unique())
        frame = frame[(frame["poison_rate"] - poison_rate).abs() < 1e-9]
        if finished(frame).empty:
            known = ", ".join(f"{rate:g}" for rate in rates)
            raise NothingQualifies(f"No finished trial has the poison rate {poison_rate:g}; there are {known}.")
    if confidence is not None:
        return _select_confirmed(frame, max_asr, min_acc, over, confidence)
    table = points(frame, over)
    if table.empty:
        raise NothingQualifies("No trial finished.")
    no_evidence = harmless(finished(frame))
    if len(no_evidence) < table["environment"].nunique():
        table = table[~table["environment"].isin(no_evidence)]
    sound = table[comparable(table)]
    keeps = (sound["val_asr"] <= max_asr) & (sound["val_acc"] >= min_acc)
    broken = sound[~keeps].sort_values("val_asr", ascending=False).drop_duplicates("config_id").set_index("config_id")
    kept = sound[keeps].sort_values(["val_acc", "val_asr"], ascending=[False, True])
    for environment, group in table.groupby("environment"):
        if environment not in set(kept["environment"]):
            raise NothingQualifies(_nearest(group, str(environment), max_asr, min_acc, over))
    best: dict[str, pd.DataFrame] = {}
    for environment, fits in kept.groupby("environment"):
        best[str(environment)] = fits[~fits["config_id"].isin(broken.index)]
        if best[str(environment)].empty:
            own, other = fits.iloc[0], broken.loc[fits["config_id"].iloc[0]]
            raise NothingQualifies(
                f"No setting keeps the bounds at {environment} and against every other attacker that it met; nearest "
                f"is {_named(own)}, which at {other['environment']} has val_asr {other['val_asr']:.3f} (floor "
                f"{other['asr_floor']:.3f}) and val_acc {other['val_acc']:.3f}."
            )
    hardest = min(best, key=lambda environment: best[environment]["val_acc"].iloc[0])
    chosen = best[hardest]
    return Selection(
        as_rows(chosen)[0], len(chosen) - 1, sorted(best) if len(best) > 1 else [], no_evidence=no_evidence
    )


def confirmed(frame: pd.DataFrame, over: Over = "worst", confidence: float = 0.9) -> pd.DataFrame:
    """Points of the confirmed settings, with ``asr_upper``, the upper bound of attack success at a confidence.

    What the attacker varied counts as more scenarios; where no attack works without a defense, as none. The bound is
    null on too few seeds, and where a confirming run did not finish or an attacker is missing: what went wrong must
    not make the evidence better.

    Args:
        frame: rows of ``trials.parquet``.
        over: how attack success is aggregated over scenarios.
        confidence: in (0, 1).
    """
    rows = finished(frame, CONFIRMATION)
    if rows.empty:
        return points(rows, over, CONFIRMATION).assign(asr_upper=[])
    varied, idle = environments(rows), harmless(rows)
    if len(idle) < varied.nunique():
        rows, varied = rows[~varied.isin(idle)], varied[~varied.isin(idle)]
    rows = rows.assign(scenario=rows["scenario"].where(varied == "", rows["scenario"] + " at " + varied))
    table = points(rows, over, CONFIRMATION)
    begun = frame[(frame["role"] == CONFIRMATION) & (frame["status"] != FINISHED)]["config_id"]
    attackers = [str(name) for name in rows.loc[rows["poison_rate"] > 0, "scenario"].unique()]
    bounds = [
        None if config in set(begun) else _upper(rows[rows["config_id"] == config], attackers, over, confidence)
        for config in table["config_id"]
    ]
    return table.assign(asr_upper=pd.Series(bounds, dtype=float))


def _select_confirmed(frame: pd.DataFrame, max_asr: float, min_acc: float, over: Over, confidence: float) -> Selection:
    """:func:`select` among confirmed settings, by their upper bounds."""
    table = confirmed(frame, over, confidence)
    if table.empty:
        raise NothingQualifies("Not enough seeds: no setting was confirmed; run sweeper confirm on the run folder.")
    counted = table[table["asr_upper"].notna()]
    if counted.empty:
        raise NothingQualifies(
            f"Not enough seeds: a confidence needs at least {LEAST_SEEDS} of a setting, all finished, against every "
            f"attacker; the most that is there is {int(table['seeds'].max())}. Run sweeper confirm with more --seeds."
        )
    sound = counted[comparable(counted)]
    if sound.empty:
        raise NothingQualifies(_nearest(counted, "", max_asr, min_acc, over))
    keeps = (sound["asr_upper"] <= max_asr) & (sound["val_acc"] >= min_acc)
    if not keeps.any():
        row = sound.sort_values("asr_upper").iloc[0]
        raise NothingQualifies(
            f"At confidence {confidence:g} no setting has {over} val_asr <= {max_asr:g}"
            + (f" and val_acc >= {min_acc:g}" if min_acc else "")
            + f"; nearest is {_named(row)} with an upper bound of {row['asr_upper']:.3f} (mean "
            f"{row['val_asr']:.3f}, {row['seeds']} seeds, floor {row['asr_floor']:.3f}) and val_acc "
            f"{row['val_acc']:.3f}."
        )
    chosen = sound[keeps].sort_values(["val_acc", "asr_upper"], ascending=[False, True])
    point = as_rows(chosen)[0]
    of_all = confirmed(frame, over, 1 - (1 - confidence) / len(counted)).set_index("config_id")["asr_upper"]
    return Selection(
        point,
        len(chosen) - 1,
        [],
        asr_upper=point.pop("asr_upper"),
        asr_upper_of_all=float(of_all[point["config_id"]]),
        confirmed=len(counted),
        no_evidence=harmless(finished(frame, CONFIRMATION)),
    )


def _upper(rows: pd.DataFrame, attackers: list[str], over: Over, confidence: float) -> float | None:
    """Upper bound of a confirmed setting's attack success, from the seeds that met every attacker."""
    attacked = rows[rows["poison_rate"] > 0]
    asr = attacked.pivot(index="seed", columns="scenario", values="val_asr").reindex(columns=attackers).dropna()
    if len(asr) < LEAST_SEEDS or asr.shape[1] == 0:
        return None
    images = attacked.pivot(index="seed", columns="scenario", values="n_eval").loc[asr.index, asr.columns]
    return asr_upper(asr.to_numpy(float), images.to_numpy(int), over, confidence)


def _named(point: Any) -> str:
    """The name of a setting in messages."""
    return f"{point['defense']} {point['config_id']}"


def _nearest(group: pd.DataFrame, environment: str, max_asr: float, min_acc: float, over: Over) -> str:
    where = f" at {environment}" if environment else ""
    wanted = f"{over} val_asr <= {max_asr:g}" + (f" and val_acc >= {min_acc:g}" if min_acc else "")
    sound = group[group["weak"] == ""]
    if sound.empty:
        weak = ", ".join(sorted(set(", ".join(group["weak"]).split(", "))))
        return (
            f"No setting{where} rests on sound evidence: without a defense the attack fails, or its control did not "
            f"finish, in {weak}."
        )
    if sound["val_asr"].isna().all():
        return f"No setting{where} was measured under attack."
    defined = sound[comparable(sound)]
    if defined.empty:
        return f"No setting{where} keeps the constraints of the sweep."
    miss = (defined["val_asr"] - max_asr).clip(lower=0) + (min_acc - defined["val_acc"]).clip(lower=0)
    row = defined.iloc[int(miss.argmin())]
    return (
        f"No setting{where} has {wanted}; nearest is {_named(row)} ({row['trials']}) with {over} val_asr "
        f"{row['val_asr']:.3f} (floor {row['asr_floor']:.3f}) and val_acc {row['val_acc']:.3f}."
    )
