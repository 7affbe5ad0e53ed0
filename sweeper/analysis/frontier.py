"""The robustness frontier: the settings that no other one dominates in clean accuracy and in what the trigger adds."""

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import moocore
import numpy as np
import numpy.typing as npt
import pandas as pd

from sweeper.analysis.controls import of_control
from sweeper.analysis.left_out import met_attackers
from sweeper.analysis.lost_classes import lost_by_training
from sweeper.analysis.uncertainty import Over, bootstrap, how_many
from sweeper.run_folder.class_columns import shown_values
from sweeper.run_folder.record import CONTROL, EXCESS, TRIAL
from sweeper.run_folder.tables import finished
from trainers.data.class_order import in_class_order

POINT_COLUMNS = (
    "config_id", "environment", "defense", "trials", "seeds", "val_acc", "val_acc_sd", "val_acc_low", "val_acc_high",
    "val_balanced_acc", "val_balanced_acc_sd", "val_min_class_acc", "val_min_class_acc_sd", "val_asr_excess",
    "val_asr_excess_sd", "val_asr_excess_low", "val_asr_excess_high", "val_asr", "val_asr_sd", "asr_floor",
    "val_asr_worst", "test_acc", "test_balanced_acc", "test_min_class_acc", "test_asr_excess", "test_asr",
    "test_asr_floor", "control_acc", "control_asr", "control_asr_excess", "lost_classes", "weak", "constraints_kept",
    "on_frontier", "frontier_share",
)  # fmt: skip

REFERENCE = (0.0, 1.0)
"""Accuracy, and what the trigger adds, of the worst possible setting: the reference point of the hypervolume."""

ENVIRONMENT_KEYS = ("poison_rate", "target")
KEYS = ["config_id", "environment"]
"""Columns that identify a point."""

RESAMPLES = 1000
"""Bootstrap samples of the seeds."""
INTERVAL = (0.025, 0.975)


def points(frame: pd.DataFrame, over: Over = "worst", role: str = TRIAL) -> pd.DataFrame:
    """One row per setting and environment, from the rows of ``trials.parquet``.

    A setting is a defense with its parameters (``config_id``). Its environment is what the attacker varied between
    trials (a searched poison rate, say): settings are compared within one environment only. Figures are means over
    seeds, then aggregated over scenarios: accuracy by the mean, and ``val_asr_excess``, what the trigger adds, by
    ``over``. The scenarios that count are those with the highest excess (of equal ones, those with the highest attack
    success), and ``val_asr`` and ``asr_floor`` are means
    over the same scenarios, so that the figures of a row belong together: the scenario with the highest attack success
    may be another, whose floor is higher. ``val_asr_worst`` is attack success aggregated by itself, at least
    ``val_asr``: a bound on attack success must hold in that scenario too. ``test_asr_excess``, ``test_asr`` and
    ``test_asr_floor`` are likewise of the scenarios with the highest excess on the test half.
    ``control_asr`` and ``control_asr_excess`` are those of the control that has the lowest.
    The accuracy on the worst class is that of the worst scenario, whatever ``over`` is. Accuracies by class are null
    unless every training has them: rows of earlier versions do not. ``lost_classes`` names the classes that any
    training lost (:mod:`sweeper.analysis.lost_classes`), joined by commas; null where that is not known.

    ``*_sd`` is the standard deviation over seeds, of the mean accuracy, and of the others in the scenarios that count;
    ``*_low`` and ``*_high`` are the 95 % interval of a bootstrap over seeds, and ``frontier_share`` the share of its
    samples whose frontier holds the setting. They are null with one seed.

    ``weak`` names scenarios whose control failed or stayed weak: they are no evidence. Settings with such scenarios,
    settings that violate a constraint of the sweep, and settings without an excess (no poison, or no floor in a table
    of an earlier version) are excluded from the frontier (``on_frontier``).

    Args:
        frame: rows of ``trials.parquet``.
        over: how the excess is aggregated over scenarios.
        role: of the rows that count.
    """
    trials = finished(frame, role)
    if trials.empty:
        kinds = {"on_frontier": bool, "constraints_kept": bool, "weak": str}
        return pd.DataFrame(columns=list(POINT_COLUMNS)).astype(kinds)
    trials = beside_controls(trials, finished(frame, CONTROL))
    # A confirmed setting meets every attacker: they are scenarios of one environment.
    return points_of(with_environments(trials, frame) if role == TRIAL else trials.assign(environment=""), over)


def beside_controls(trials: pd.DataFrame, controls: pd.DataFrame) -> pd.DataFrame:
    """The rows with ``control_acc`` and ``control_asr_excess``, the accuracy of each row's control and what the trigger
    adds there, and ``lost``, the classes that the row's training lost.

    Args:
        trials: rows of ``trials.parquet``, all finished.
        controls: rows of it, of controls that finished.
    """
    return trials.assign(
        control_acc=of_control(trials, controls, "val_acc"),
        control_asr_excess=of_control(trials, controls, "val_asr_excess"),
        lost=lost_by_training(trials, controls),
    )


def points_of(trials: pd.DataFrame, over: Over) -> pd.DataFrame:
    """The points of :func:`points` from rows of finished trainings.

    Args:
        trials: rows from :func:`beside_controls`, at least one, with the environment of each.
        over: how the excess is aggregated over scenarios.
    """
    trials = trials.astype(dict.fromkeys((*SHOWN, *OF_CONTROLS), float))
    table = _figures(trials, over)
    table["on_frontier"] = False
    for _, group in table.groupby("environment"):
        usable = group[comparable(group)]
        best = usable.index[non_dominated(*axes_of(usable))]
        table.loc[best, "on_frontier"] = True
    table = _with_intervals(table, trials, over)
    return table[list(POINT_COLUMNS)].sort_values(
        ["environment", "val_asr_excess", "val_acc"], ascending=[True, True, False], ignore_index=True
    )


def axes_of(table: pd.DataFrame) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The figures by which points of a table from :func:`points` are compared: ``val_acc`` and ``val_asr_excess``,
    float (N,) each.
    """
    return table["val_acc"].to_numpy(float), table["val_asr_excess"].to_numpy(float)


def comparable(table: pd.DataFrame) -> pd.Series:
    """Whether each point of a table from :func:`points` may be on a frontier: bool, with the index of ``table``."""
    known = table["val_asr_excess"].notna() & table["val_acc"].notna()
    return (table["weak"] == "") & table["constraints_kept"] & known


def harmless(trials: pd.DataFrame) -> list[str]:
    """Environments in which no attack works without a defense, in any run, so that they are no evidence.

    An environment with a control that did not finish is not among them.

    Args:
        trials: rows of ``trials.parquet`` of one role, all finished.
    """
    attacked = trials[trials["poison_rate"] > 0]
    fails = attacked["weak_attack"].eq(True).fillna(False).astype(bool)
    return [str(name) for name, everywhere in fails.groupby(environments(trials)).all().items() if everywhere]


def environments(trials: pd.DataFrame) -> pd.Series:
    """The environment of each row: what the attacker varied between trials (``poison_rate=0.05``), or nothing.

    Where trials meet different scenarios, the scenario comes first: ``blend, poison_rate=0.05``.
    """
    keys = [*ENVIRONMENT_KEYS, *sorted(c for c in trials.columns if c.startswith("param.scenario."))]
    per_scenario = trials.groupby("scenario")
    varied = {key: per_scenario[key].nunique(dropna=False) > 1 for key in keys}
    met = trials.groupby("trial_id")["scenario"].agg(lambda names: "/".join(sorted(set(names))))
    label = met if met.nunique() > 1 else met.map(lambda _: "")
    one_each = met.nunique() > 1
    for key in (key for key, where in varied.items() if where.any()):
        values = trials[["trial_id", "scenario"]].assign(value=shown_values(trials, key)).drop_duplicates()
        if one_each:  # parameters that vary only in other scenarios do not matter
            values = values[values["scenario"].map(varied[key])]
        several = values.groupby("trial_id")["value"].transform("nunique") > 1
        # It matters which scenario has which value: two scenarios with swapped rates are another attacker.
        values["value"] = values["value"].where(~several, values["scenario"] + " " + values["value"])
        values = values[["trial_id", "value"]].drop_duplicates().sort_values("value")
        shown = values.groupby("trial_id")["value"].agg("/".join)
        text = (f"{key.removeprefix('param.scenario.')}=" + shown).reindex(label.index, fill_value="")
        label = label.where((label == "") | (text == ""), label + ", ") + text
    return trials["trial_id"].map(label)


def with_environments(trials: pd.DataFrame, frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of FINISHED trials with a column ``environment``, as a table from :func:`points` names it.

    Environments differ by all attackers that were met, also by one at which every trial left its race.

    Args:
        trials: the rows.
        frame: rows of ``trials.parquet``.
    """
    met = met_attackers(frame)
    names = dict(zip(met["trial_id"], environments(met), strict=True))
    return trials.assign(environment=trials["trial_id"].map(names))


def in_order(environments: Iterable[str]) -> list[str]:
    """Environments as people read them: values that are numbers by number (``poison_rate=1e-05`` before
    ``poison_rate=0.1``), other labels as names of classes are.
    """
    labels = in_class_order(environments)
    with suppress(ValueError):
        labels.sort(key=lambda label: (label.rpartition("=")[0], float(label.rpartition("=")[2])))
    return labels


def _figures(trials: pd.DataFrame, over: Over) -> pd.DataFrame:
    by_point, by_scenario = trials.groupby(KEYS, sort=False), trials.groupby([*KEYS, "scenario"], sort=False)
    table = by_point.agg(defense=("defense", "first"), seeds=("seed", "nunique"))
    table["trials"] = (
        trials[[*KEYS, "trial_id"]].drop_duplicates().sort_values("trial_id").groupby(KEYS)["trial_id"].agg(", ".join)
    )
    means = by_scenario[[*SHOWN, *OF_CONTROLS]].mean()
    for name in ("val_acc", "val_balanced_acc", "test_acc", "test_balanced_acc", "control_acc"):
        table[name] = means.groupby(KEYS)[name].mean()
    for name in ("val_min_class_acc", "test_min_class_acc"):
        worst = means[_counted(-means[[name]], "worst")]
        table[name] = worst.groupby(KEYS)[name].mean()
        table[f"{name}_sd"] = _spread(_in_scenarios(trials, worst), name)
    for name in ("control_asr", "control_asr_excess"):
        table[name] = means.groupby(KEYS)[name].min()
    for excess, (asr, floor) in EXCESS.items():
        counted = means[_counted(means[[excess, asr]], over)]
        table[[excess, asr, floor]] = counted.groupby(KEYS)[[excess, asr, floor]].mean()
        if excess == "val_asr_excess":
            for name in (excess, asr):
                table[f"{name}_sd"] = _spread(_in_scenarios(trials, counted), name)
    table["val_asr_worst"] = means[_counted(means[["val_asr"]], over)].groupby(KEYS)["val_asr"].mean()
    for name in ("val_acc", "val_balanced_acc"):
        table[f"{name}_sd"] = _spread(trials, name)
    whole = trials[[*KEYS]].join(trials[[*BY_CLASS]].notna()).groupby(KEYS).all()
    for name in BY_CLASS:
        table[name] = table[name].where(whole[name])
    table["lost_classes"] = by_point["lost"].agg(_named_once)
    if "constraints_kept" not in trials:
        trials = trials.assign(constraints_kept=True)
    table["constraints_kept"] = trials.groupby(KEYS)["constraints_kept"].min().astype(bool)
    known = trials.assign(sound=trials["weak_attack"].eq(False).fillna(False).astype(bool))
    sound = known.groupby([*KEYS, "scenario"], sort=False).agg(rate=("poison_rate", "max"), sound=("sound", "min"))
    weak = sound[(sound["rate"] > 0) & ~sound["sound"]].reset_index().sort_values("scenario")
    table["weak"] = weak.groupby(KEYS)["scenario"].agg(", ".join)
    return table.fillna({"weak": ""}).reset_index()


BY_CLASS = ("val_balanced_acc", "val_min_class_acc", "test_balanced_acc", "test_min_class_acc")
UNDER_ATTACK = tuple(name for excess, parts in EXCESS.items() for name in (excess, *parts))
OF_CONTROLS = ("control_acc", "control_asr", "control_asr_excess")
SHOWN = ("val_acc", "test_acc", *UNDER_ATTACK, *BY_CLASS)


def _named_once(lists: pd.Series) -> str | None:
    """Names in any of the lists, joined; null where there is no list."""
    known = lists.dropna()
    return ", ".join(dict.fromkeys(name for names in known for name in names)) if len(known) else None


def _in_scenarios(trials: pd.DataFrame, counted: pd.DataFrame) -> pd.DataFrame:
    """The rows of the scenarios that count, as the index of ``counted`` has them."""
    rows = trials.join(counted[[]].assign(counts=True), on=[*KEYS, "scenario"])
    return rows[rows["counts"].notna()]


def _counted(figures: pd.DataFrame, over: Over) -> pd.Series:
    """Whether a scenario counts for a setting: bool, with the same index.

    Args:
        figures: means over seeds of each scenario; the highest in the first column come first, those that are equal in
            it by the second.
        over: how many count of those that have the first.
    """
    first = figures.iloc[:, 0]
    known = figures[first.notna()].sort_values(list(figures.columns), ascending=False, kind="stable")
    places = known.groupby(KEYS).cumcount().reindex(figures.index)  # null where the figure is
    return places < first.groupby(KEYS).transform("count").map(lambda n: how_many(over, int(n)))


def _spread(rows: pd.DataFrame, name: str) -> pd.Series:
    """Standard deviation over seeds of the mean over scenarios."""
    return rows.groupby([*KEYS, "seed"])[name].mean().groupby(KEYS).std(ddof=1)


def _with_intervals(table: pd.DataFrame, trials: pd.DataFrame, over: Over) -> pd.DataFrame:
    """Add the intervals of a bootstrap over seeds, and the share of its samples whose frontier holds each setting."""
    names = ["val_acc_low", "val_acc_high", "val_asr_excess_low", "val_asr_excess_high", "frontier_share"]
    table[names] = np.nan
    for environment, group in table.groupby("environment"):
        rows = trials[trials["environment"] == environment]
        settings = pd.Index(group["config_id"])
        acc, added = (_cube(rows, settings, name) for name in ("val_acc", "val_asr_excess"))
        if acc.shape[1] < 2:
            continue
        usable = comparable(group).to_numpy()
        intervals = bootstrap(acc, added, usable, over, RESAMPLES, INTERVAL, non_dominated)
        single = (group["seeds"] < 2).to_numpy()
        table.loc[group.index, names] = np.where(single[:, None], np.nan, intervals)
    return table


def _cube(rows: pd.DataFrame, settings: pd.Index, name: str) -> np.ndarray[Any, Any]:
    """A figure by setting, seed and scenario: float (K, S, C), NaN where it is missing."""
    seeds, scenarios = sorted(rows["seed"].unique()), sorted(rows["scenario"].unique())
    cube = np.full((len(settings), len(seeds), len(scenarios)), np.nan)
    where = (
        settings.get_indexer(pd.Index(rows["config_id"])),
        pd.Index(seeds).get_indexer(pd.Index(rows["seed"])),
        pd.Index(scenarios).get_indexer(pd.Index(rows["scenario"])),
    )
    cube[where] = rows[name].to_numpy(float, na_value=np.nan)
    return cube


def non_dominated(acc: np.ndarray[Any, Any], added: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Whether each point is non-dominated, with high accuracy and a low excess: bool (N,). Equal points stay."""
    if len(acc) == 0:
        return np.zeros(0, dtype=bool)
    return np.asarray(moocore.is_nondominated(np.column_stack([-acc, added]), keep_weakly=True), dtype=bool)


def hypervolume(acc: npt.ArrayLike, added: npt.ArrayLike, interest: float = REFERENCE[1]) -> float:
    """Share of the area between accuracy 0 and 1 and an excess from 0 to ``interest`` that points dominate; 1 is a
    setting with accuracy 1, to which no trigger adds anything.

    Args:
        acc: accuracies, float (N,).
        added: excesses, float (N,); a point at ``interest`` or above dominates nothing.
        interest: above which nobody would deploy a setting.
    """
    losses = np.column_stack([1 - np.asarray(acc, float), np.asarray(added, float)])
    if len(losses) == 0:
        return 0.0
    return float(moocore.hypervolume(losses, ref=[1 - REFERENCE[0], interest])) / interest


def hypervolumes(table: pd.DataFrame, interest: float = REFERENCE[1]) -> dict[str, float]:
    """The hypervolume of the frontier of each environment, below an interest."""
    volumes = {}
    for environment, group in table.groupby("environment"):
        front = group[group["on_frontier"]]
        volumes[str(environment)] = hypervolume(*axes_of(front), interest)
    return volumes
