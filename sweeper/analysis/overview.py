"""A sweep in a few figures, by which sweeps are compared at a glance."""

from dataclasses import dataclass

import pandas as pd

from sweeper.analysis.frontier import comparable, hypervolumes
from sweeper.analysis.left_out import raced_out
from sweeper.preset.objectives import ATTACK_LEVELS
from sweeper.preset.spec import SweepSpec
from sweeper.run_folder.record import CONTROL, FINISHED, TRIAL


@dataclass(frozen=True)
class Best:
    """The most accurate setting below a bound. It was chosen from many by this figure, so it looks better than it is:
    ``sweeper confirm`` trains it with fresh seeds.

    Args:
        config_id: of the setting.
        acc: its mean ``val_acc``, in [0, 1].
        sd: standard deviation of ``val_acc`` over seeds; null with one seed.
        seeds: how many there are.
    """

    config_id: str
    acc: float
    sd: float | None
    seeds: int


@dataclass(frozen=True)
class Overview:
    """The search of a sweep in a few figures, all of the validation half. Runs that confirm or certify do not count.

    Args:
        volumes: by environment, the area that the frontier dominates between accuracy 0 and 1 and an excess
            (``val_asr_excess``) from 0 to ``search.interest``, as a share of it; empty for an attacker's sweep.
        trainings: that ran to their end, controls not counted.
        saved: trainings that were not needed, since their trials left their races or were stopped early.
        hours: computed by ``trainings`` and their controls. What a training computed that was stopped or failed is not
            known from the table, and not among them.
        hours_saved: of stages that several settings share and that were not computed again, which is measured, and of
            the trainings among ``saved`` that never began, which is an estimate: the mean of the finished trainings of
            their scenario, and 0 where none finished.
        best: by environment and bound of :data:`ATTACK_LEVELS`, the most accurate setting whose ``val_asr_excess``, in
            the worst scenario, is at most that; null if there is none. Empty for an attacker's sweep.
    """

    volumes: dict[str, float]
    trainings: int
    saved: int
    hours: float
    hours_saved: float
    best: dict[str, dict[float, Best | None]]


def overview(frame: pd.DataFrame, spec: SweepSpec, table: pd.DataFrame) -> Overview:
    """A sweep in a few figures.

    Args:
        frame: rows of ``trials.parquet``, as :meth:`sweeper.run_folder.folder.RunFolder.read_trials` has them.
        spec: the sweep.
        table: from :func:`~sweeper.analysis.frontier.points` of the same rows.
    """
    trained = frame["status"] == FINISHED
    ran = frame[trained & (frame["role"] == TRIAL)]
    controls = frame[trained & (frame["role"] == CONTROL) & frame["seed"].isin(spec.seeds)]  # not those of confirm
    left = raced_out(frame)
    saved = left[left["status"] != FINISHED]
    seconds, shared = (
        sum(float(_numbers(rows, name).sum()) for rows in (ran, controls)) for name in ("seconds", "seconds_shared")
    )
    by_scenario = _numbers(ran, "seconds").groupby(ran["scenario"]).mean()
    spared = saved.loc[saved["attempt"] == 0, "scenario"].map(by_scenario).astype(float).sum()
    return Overview(
        volumes={} if spec.attacking else hypervolumes(table, spec.search.interest),
        trainings=len(ran),
        saved=len(saved),
        hours=(seconds - shared) / 3600,
        hours_saved=(shared + float(spared)) / 3600,
        best={} if spec.attacking else _best(table),
    )


def _numbers(rows: pd.DataFrame, name: str) -> pd.Series:
    """A column as floats, with 0 for nulls and where tables of earlier versions lack it."""
    return rows[name].astype(float).fillna(0.0) if name in rows else pd.Series(0.0, index=rows.index)


def _best(table: pd.DataFrame) -> dict[str, dict[float, Best | None]]:
    """For each environment of a table from :func:`~sweeper.analysis.frontier.points`, the best below each bound."""
    found: dict[str, dict[float, Best | None]] = {}
    for environment, group in table.groupby("environment"):
        usable = group[comparable(group)]
        found[str(environment)] = {
            level: _most_accurate(usable[usable["val_asr_excess"] <= level]) for level in ATTACK_LEVELS
        }
    return found


def _most_accurate(rows: pd.DataFrame) -> Best | None:
    if rows.empty:
        return None
    row = rows.sort_values("val_acc", ascending=False, kind="stable").iloc[0]
    sd = None if pd.isna(row["val_acc_sd"]) else float(row["val_acc_sd"])
    return Best(str(row["config_id"]), float(row["val_acc"]), sd, int(row["seeds"]))
