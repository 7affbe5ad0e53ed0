"""The breaking point: the smallest poison rate at which an attack's trigger works, with a defense and without one."""

from dataclasses import dataclass

import pandas as pd

from sweeper.analysis.left_out import raced_out
from sweeper.run_folder.class_columns import shown_values
from sweeper.run_folder.record import CONTROL, FINISHED, TRIAL
from sweeper.run_folder.tables import as_rows

SUCCEEDS_AT = 0.5
"""What the trigger must add (``val_asr_excess``) for a defense to count as broken. Where a model has collapsed onto the
target class, attack success is high too, but the trigger has no part in it."""


def has_rates(frame: pd.DataFrame) -> bool:
    """Whether an attack was run, with all else equal, at more than one poison rate above 0."""
    rows = _measured(frame)
    return bool((rows[rows["role"] == TRIAL].groupby("scenario")["poison_rate"].nunique() > 1).any())


def success_by_rate(frame: pd.DataFrame) -> pd.DataFrame:
    """Attack success by poison rate: a row for each scenario, rate and setting; of controls ``config_id`` is null.

    Columns ``scenario``, ``poison_rate``, ``config_id``, ``defense``, ``val_acc``, ``val_asr_excess``,
    ``val_asr_excess_sd``, ``val_asr``, ``val_asr_sd``, ``asr_floor``, ``seeds`` (means over seeds, and the standard
    deviation over them) and ``sound`` (whether the attack works without a defense in every seed). Other parameters
    that vary in a scenario become a part of its name: ``blend, alpha=0.2``.

    Args:
        frame: rows of ``trials.parquet``.
    """
    rows = _measured(frame)
    sound = rows["weak_attack"].eq(False).fillna(False).astype(bool)
    rows = rows.assign(config_id=rows["config_id"].where(rows["role"] == TRIAL), sound=sound)
    by = ["scenario", "poison_rate", "config_id", "defense"]
    names = {name: (name, "mean") for name in ("val_acc", "val_asr_excess", "val_asr", "asr_floor")}
    # A setting may have been proposed twice.
    seeds = rows.groupby([*by, "seed"], dropna=False).agg(**names, sound=("sound", "min")).reset_index()
    spread = seeds.groupby(by, dropna=False).agg(
        **names,
        val_asr_excess_sd=("val_asr_excess", "std"),
        val_asr_sd=("val_asr", "std"),
        seeds=("seed", "nunique"),
        sound=("sound", "min"),
    )
    return spread.reset_index()


def _least_by_rate(frame: pd.DataFrame) -> pd.DataFrame:
    """What the trigger adds at the least where trials left their races: a row for each scenario, rate and setting.

    Columns ``scenario``, ``poison_rate``, ``config_id``, ``defense`` and ``least``, the mean over seeds if the missing
    trainings had come out at 0.
    """
    rows = raced_out(_attacked(frame))
    known = rows["val_asr_excess"].astype(float).where(rows["status"] == FINISHED).fillna(0.0)
    by = ["scenario", "poison_rate", "config_id", "defense"]
    return rows.assign(least=known).groupby(by)["least"].mean().reset_index()


def _measured(frame: pd.DataFrame) -> pd.DataFrame:
    """Those of the rows of :func:`_attacked` that have figures of whole trials."""
    rows = _attacked(frame)
    return rows[rows["trial_status"] == FINISHED]


def _attacked(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows under attack of controls and trials that finished, and of trials that left their races; scenario names hold
    parameters that vary, except the rate.
    """
    ended = (frame["trial_status"] == FINISHED) | frame.index.isin(raced_out(frame).index)
    rows = frame[ended & frame["role"].isin([TRIAL, CONTROL]) & (frame["poison_rate"] > 0)]
    name = rows["scenario"]
    for key in ("target", *sorted(c for c in rows.columns if c.startswith("param.scenario."))):
        varied = rows.groupby("scenario")[key].nunique(dropna=False) > 1
        if varied.any():
            text = f", {key.removeprefix('param.scenario.')}=" + shown_values(rows, key)
            name = name + text.where(rows["scenario"].map(varied), "")
    return rows.assign(scenario=rows["sweep"] + "/" + name if "sweep" in rows else name)


@dataclass(frozen=True)
class Break:
    """Where what the trigger adds first reaches 0.5 as the poison rate grows, with means over seeds.

    Args:
        rate: the smallest rate tried at which it reaches 0.5; null if there is none.
        below: the next smaller one tried; null if there is none.
        highest: the largest one tried; null if none was.
        val_asr_excess, val_asr_excess_sd, val_asr, val_asr_sd, asr_floor, val_acc: figures at ``rate``; null if
            ``rate`` is, or if the trial left its race there.
        seeds: the fewest at any rate that was measured.
        left: rates below ``rate``, or all if that is null, at which the trial left its race before it was known
            whether 0.5 is reached. They do not count as tried.
    """

    rate: float | None = None
    below: float | None = None
    highest: float | None = None
    val_asr_excess: float | None = None
    val_asr_excess_sd: float | None = None
    val_asr: float | None = None
    val_asr_sd: float | None = None
    asr_floor: float | None = None
    val_acc: float | None = None
    seeds: int = 0
    left: tuple[float, ...] = ()

    @classmethod
    def of(cls, rows: pd.DataFrame) -> "Break":
        """The break of one scenario, and one setting or the controls.

        Args:
            rows: of :func:`success_by_rate`; where trials left their races ``least``, what the trigger adds at the
                least, is the only figure.
        """
        rows = rows.sort_values("poison_rate")
        added = rows["val_asr_excess"].astype(float)
        reached = (added >= SUCCEEDS_AT) | (rows["least"] >= SUCCEEDS_AT)
        tried, broken = rows[added.notna() | reached], rows[reached]
        left = rows.loc[rows["least"] < SUCCEEDS_AT, "poison_rate"].astype(float)
        if tried.empty:
            return cls(left=tuple(left))
        highest = float(tried["poison_rate"].max())
        seeds = int(tried["seeds"].min()) if tried["seeds"].notna().any() else 0
        if broken.empty:
            return cls(highest=highest, seeds=seeds, left=tuple(left))
        at = as_rows(broken.head(1))[0]
        smaller = tried.loc[tried["poison_rate"] < at["poison_rate"], "poison_rate"]
        below = None if smaller.empty else float(smaller.max())
        figures = ("val_asr_excess", "val_asr_excess_sd", "val_asr", "val_asr_sd", "asr_floor", "val_acc")
        own = {name: at[name] for name in figures}
        left = left[left < at["poison_rate"]]
        return cls(rate=at["poison_rate"], below=below, highest=highest, seeds=seeds, left=tuple(left), **own)

    def __str__(self) -> str:
        """The rate as text.

        If the attack succeeds at the lowest rate tried, that rate is only an upper bound; if it succeeds at none, the
        highest rate is a lower bound. Rates that were not measured, since a trial left its race there, are named.
        """
        if self.highest is None:
            text = "-"
        elif self.rate is None:
            text = f"not up to {self.highest:g}"
        else:
            text = f"{self.rate:g} or less" if self.below is None else f"{self.rate:g} (not {self.below:g})"
        return f"{text}; left its race at {', '.join(f'{rate:g}' for rate in self.left)}" if self.left else text


@dataclass(frozen=True)
class BreakingPoint:
    """The breaking point of a scenario against one setting of a defense, and without a defense."""

    scenario: str
    config_id: str
    defense: str
    defended: Break
    undefended: Break


def breaking_points(frame: pd.DataFrame) -> list[BreakingPoint]:
    """The breaking point of each scenario against each setting that met it at several poison rates.

    Args:
        frame: rows of ``trials.parquet``.
    """
    by = ["scenario", "poison_rate", "config_id", "defense"]
    table = success_by_rate(frame).merge(_least_by_rate(frame), how="outer", on=by)
    # A setting may have been proposed twice: what a whole trial shows counts.
    table["least"] = table["least"].where(table["val_asr_excess"].isna())
    points = []
    for scenario, rows in table.groupby("scenario"):
        control = Break.of(rows[rows["config_id"].isna()])
        for config, own in rows[rows["config_id"].notna()].groupby("config_id"):
            if own["poison_rate"].nunique() > 1:
                defense = str(own["defense"].iloc[0])
                points.append(BreakingPoint(str(scenario), str(config), defense, Break.of(own), control))
    return points
