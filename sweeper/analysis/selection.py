"""Selects the setting to deploy."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from sweeper.analysis.attack_bounds import AttackBounds
from sweeper.analysis.frontier import beside_controls, comparable, environments, harmless, in_order, points, points_of
from sweeper.analysis.left_out import broken_early, met_attackers, raced_out
from sweeper.analysis.lost_classes import Lost, lost_classes, unmeasured_classes, unmeasured_sentence
from sweeper.analysis.uncertainty import LEAST_SEEDS, Over, asr_upper, excess_upper, min_class_acc_lower
from sweeper.run_folder.record import CONFIRMATION, CONTROL, FINISHED
from sweeper.run_folder.tables import as_rows, class_counts, finished
from sweeper.words import format_cell
from trainers.measuring.evaluation import WEAK_ATTACK_BELOW


class NothingQualifies(Exception):
    """No setting keeps the bounds on sound evidence. The message says what comes nearest."""


class BoundsMissed(NothingQualifies):
    """There is sound evidence, but no setting keeps the bounds."""


class NotConfirmed(NothingQualifies):
    """No setting was run with as many fresh seeds as a confidence needs."""


@dataclass(frozen=True)
class Selection:
    """A chosen setting.

    Args:
        point: its row of the frontier's table.
        others: how many settings qualified beside it.
        hardest_of: environments that were compared, where there was more than one; the chosen one is the hardest.
        excess_upper, asr_upper: upper bounds of what the trigger adds and of attack success, at the confidence asked
            for; null if none was.
        excess_upper_of_all, asr_upper_of_all: bounds that hold for all confirmed settings at once (Bonferroni); null if
            none was asked for.
        min_class_acc_lower: lower bound of the accuracy on the worst class at the confidence asked for; null if none
            was, or if it is not known.
        confirmed: how many confirmed settings there are.
        no_evidence: environments that are no evidence for any setting, since their attack fails without a defense.
        lost: classes that it lost in any training; null: none, as far as is known.
        unmeasured: classes without a validation image; no figure says anything about them.
    """

    point: dict[str, Any]
    others: int
    hardest_of: list[str]
    excess_upper: float | None = None
    excess_upper_of_all: float | None = None
    asr_upper: float | None = None
    asr_upper_of_all: float | None = None
    min_class_acc_lower: float | None = None
    confirmed: int = 0
    no_evidence: Sequence[str] = ()
    lost: Lost | None = None
    unmeasured: Sequence[str] = ()


def select(
    frame: pd.DataFrame,
    max_excess: float | None = None,
    max_asr: float | None = None,
    min_acc: float = 0.0,
    min_class_acc: float = 0.0,
    poison_rate: float | None = None,
    over: Over = "worst",
    confidence: float | None = None,
    defense: str | None = None,
) -> Selection:
    """The setting of highest mean ``val_acc`` of those that keep the bounds; ties by lower ``val_asr_excess``.

    Settings with a weak scenario, and settings that violate a constraint of the sweep, do not qualify. Where the
    attacker varied something between trials (a searched poison rate, or the scenario that a trial meets), each of its
    values must have a setting that qualifies, also one at which every trial left its race. Of these settings the one
    with the least accuracy is selected, since it met the hardest attacker. Values at which no attack works without a
    defense, in any run, are left out, since they are no evidence. A setting that met several attackers must keep the
    bounds against each of them whose attack works.

    Args:
        frame: rows of ``trials.parquet``.
        max_excess: bound on what the trigger adds (``val_asr_excess``) in its worst scenario; null: none.
        max_asr: bound on attack success (``val_asr``) in its worst scenario, floor included; null: none.
        min_acc: bound on accuracy.
        min_class_acc: bound on the accuracy on the worst class, in the worst scenario.
        poison_rate: look at trials of this poison rate only.
        over: how either is aggregated over scenarios, if not by the worst.
        confidence: in (0, 1): the upper bound of the excess must keep ``max_excess``, that of attack success
            ``max_asr``, and the lower bound of the accuracy on the worst class ``min_class_acc``, each by itself; only
            runs of ``sweeper confirm`` count, since the winner of a search looks better than it is.
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
        rates = sorted(met_attackers(frame)["poison_rate"].unique())
        frame = frame[(frame["poison_rate"] - poison_rate).abs() < 1e-9]
        if met_attackers(frame).empty:
            known = ", ".join(f"{rate:g}" for rate in rates)
            raise NothingQualifies(f"No finished trial has the poison rate {poison_rate:g}; there are {known}.")
    asked = _Asked(AttackBounds(max_excess, max_asr), min_acc, min_class_acc, over)
    if confidence is not None:
        return _select_confirmed(frame, asked, confidence)
    rows = met_attackers(frame)
    if rows.empty:
        raise NothingQualifies("No trial finished.")
    met = environments(rows)
    no_evidence = harmless(rows)
    idle = no_evidence if len(no_evidence) < met.nunique() else []
    table = points(frame, over)
    for unfinished in in_order(set(met) - {*table["environment"], *idle}):
        raise _all_left(raced_out(rows[met == unfinished]), unfinished)
    asked.check_known(table["val_min_class_acc"])
    table = table[~table["environment"].isin(idle)]
    sound = table[comparable(table)]
    keeps = asked.kept(sound)
    broken = sound[~keeps].sort_values("val_asr_excess", ascending=False)
    broken = broken.drop_duplicates("config_id").set_index("config_id")
    kept = sound[keeps].sort_values(["val_acc", "val_asr_excess"], ascending=[False, True])
    for environment, group in table.groupby("environment"):
        if environment not in set(kept["environment"]):
            raise _nothing_qualifies(group, finished(rows[met == environment]), str(environment), asked)
    best: dict[str, pd.DataFrame] = {}
    early = broken_early(frame, asked.attack, over)
    for environment, fits in kept.groupby("environment"):
        best[str(environment)] = fits[~fits["config_id"].isin([*broken.index, *early])]
        if best[str(environment)].empty:
            own = fits.iloc[0]
            if own["config_id"] in early:
                raise BoundsMissed(
                    f"No setting keeps the bounds at {environment} and against every other attacker that it met; "
                    f"nearest is {_named(own)}, which left the race against another: {early[own['config_id']]}."
                )
            other = broken.loc[own["config_id"]]
            raise BoundsMissed(
                f"No setting keeps the bounds at {environment} and against every other attacker that it met; nearest "
                f"is {_named(own)}: at {other['environment']} {asked.compared(other)}."
            )
    hardest = min(best, key=lambda environment: best[environment]["val_acc"].iloc[0])
    chosen = best[hardest]
    point = as_rows(chosen)[0]
    return Selection(
        point,
        len(chosen) - 1,
        in_order(best) if len(best) > 1 else [],
        no_evidence=no_evidence,
        lost=lost_classes(frame).get(point["config_id"]),
        unmeasured=unmeasured_classes(finished(frame)),
    )


def confirmed(frame: pd.DataFrame, over: Over = "worst", confidence: float = 0.9) -> pd.DataFrame:
    """Points of the confirmed settings, with bounds at a confidence: ``excess_upper``, the upper one of what the
    trigger adds, ``asr_upper``, that of attack success, and ``min_class_acc_lower``, the lower one of the accuracy on
    the worst class.

    Each value that the attacker varied counts as a scenario of its own, unless no attack works there without a
    defense. The bounds are null if there are too few seeds, a confirming run did not finish, or an attacker is missing:
    a failure must not make the evidence look better. The third is null too if rows do not hold accuracies by class.

    Args:
        frame: rows of ``trials.parquet``.
        over: how the excess and attack success are aggregated over scenarios.
        confidence: in (0, 1).
    """
    rows = finished(frame, CONFIRMATION)
    if rows.empty:
        return points(rows, over, CONFIRMATION).assign(**{name: pd.Series(dtype=float) for name in BOUNDS})
    rows = beside_controls(rows, finished(frame, CONTROL))  # controls know nothing of the names given below
    varied, idle = environments(rows), harmless(rows)
    if len(idle) < varied.nunique():
        rows, varied = rows[~varied.isin(idle)], varied[~varied.isin(idle)]
    rows = rows.assign(scenario=rows["scenario"].where(varied == "", rows["scenario"] + " at " + varied))
    table = points_of(rows.assign(environment=""), over)
    begun = frame[(frame["role"] == CONFIRMATION) & (frame["trial_status"] != FINISHED)]["config_id"]
    attackers = [str(name) for name in rows.loc[rows["poison_rate"] > 0, "scenario"].unique()]
    bounds = [
        dict.fromkeys(BOUNDS)
        if config in set(begun)
        else _bounds(rows[rows["config_id"] == config], attackers, over, confidence)
        for config in table["config_id"]
    ]
    return table.assign(**{name: pd.Series([known[name] for known in bounds], dtype=float) for name in BOUNDS})


BOUNDS = ("excess_upper", "asr_upper", "min_class_acc_lower")
"""Columns that :func:`confirmed` adds to points."""


def _select_confirmed(frame: pd.DataFrame, asked: "_Asked", confidence: float) -> Selection:
    """:func:`select` among confirmed settings, by their bounds."""
    table = confirmed(frame, asked.over, confidence)
    if table.empty:
        raise NotConfirmed("Not enough seeds: no setting was confirmed.")
    counted = table[table["excess_upper"].notna()]
    if counted.empty:
        raise NotConfirmed(
            f"Not enough seeds: a confidence needs at least {LEAST_SEEDS} of a setting, all finished, against every "
            f"attacker; the most that is there is {int(table['seeds'].max())}."
        )
    asked.check_known(counted["min_class_acc_lower"])
    sound = counted[comparable(counted)]
    if sound.empty:
        raise _nothing_qualifies(counted, finished(frame, CONFIRMATION), "", asked)
    keeps = asked.kept(sound, by_bounds=True)
    unmeasured = unmeasured_classes(finished(frame, CONFIRMATION))
    if not keeps.any():
        sound = sound.sort_values("excess_upper")
        row = sound.iloc[int(asked.missed_by(sound, by_bounds=True).argmin())]
        why = f" {unmeasured_sentence(unmeasured)}" if unmeasured and asked.min_class_acc else ""
        raise BoundsMissed(
            f"At confidence {confidence:g} no setting has {asked}. Nearest is {_named(row)}: "
            f"{asked.compared(row, by_bounds=True)}.{why}"
        )
    chosen = sound[keeps].sort_values(["val_acc", "excess_upper"], ascending=[False, True])
    point = as_rows(chosen)[0]
    at_once = confirmed(frame, asked.over, 1 - (1 - confidence) / len(counted)).set_index("config_id")
    of_all = at_once.loc[point["config_id"]]
    return Selection(
        point,
        len(chosen) - 1,
        [],
        excess_upper_of_all=float(of_all["excess_upper"]),
        asr_upper_of_all=float(of_all["asr_upper"]),
        **{name: point.pop(name) for name in BOUNDS},
        confirmed=len(counted),
        no_evidence=harmless(finished(frame, CONFIRMATION)),
        lost=lost_classes(frame).get(point["config_id"]),
        unmeasured=unmeasured,
    )


def _bounds(rows: pd.DataFrame, attackers: list[str], over: Over, confidence: float) -> dict[str, float | None]:
    """The :data:`BOUNDS` of a confirmed setting from the seeds that met every attacker."""
    attacked = rows[rows["poison_rate"] > 0]

    def by_seed(name: str) -> pd.DataFrame:
        return attacked.pivot(index="seed", columns="scenario", values=name).reindex(columns=attackers)

    added = by_seed("val_asr_excess").dropna()
    if len(added) < LEAST_SEEDS or added.shape[1] == 0:
        return dict.fromkeys(BOUNDS)
    asr, images = (by_seed(name).loc[added.index].to_numpy() for name in ("val_asr", "n_eval"))
    asr, images = asr.astype(float), images.astype(int)
    upper: dict[str, float | None] = {
        "excess_upper": excess_upper(added.to_numpy(float), asr, images, over, confidence),
        "asr_upper": asr_upper(asr, images, over, confidence),
    }
    accuracies, cells = (
        rows.pivot(index="seed", columns="scenario", values=name).loc[added.index].to_numpy()
        for name in ("val_min_class_acc", "val_class_counts")
    )
    counts = [[class_counts(cell) for cell in line] for line in cells]
    if pd.isna(accuracies).any() or not all(map(all, counts)):
        return upper | {"min_class_acc_lower": None}
    pairs = [[pair for classes in line for pair in classes.values()] for line in counts]
    return upper | {"min_class_acc_lower": min_class_acc_lower(accuracies.astype(float), pairs, confidence)}


@dataclass(frozen=True)
class _Asked:
    """The bounds that a setting must keep, as :func:`select` explains them."""

    attack: AttackBounds
    min_acc: float
    min_class_acc: float
    over: Over

    def __str__(self) -> str:
        accuracies = {"val_acc": self.min_acc, "val_min_class_acc": self.min_class_acc}
        parts = [f"{self.over} {limit.metric} <= {limit.most:g}" for limit in self.attack.limits]
        return " and ".join([*parts, *(f"{name} >= {least:g}" for name, least in accuracies.items() if least)])

    def check_known(self, min_class_acc: pd.Series) -> None:
        """Check that some setting has an accuracy on its worst class, if a bound on it is asked for.

        Raises:
            NothingQualifies: none has.
        """
        if self.min_class_acc and min_class_acc.isna().all():
            raise NothingQualifies(
                "No setting has accuracies of single classes, since an earlier version of this program trained it: "
                "leave out --min-class-acc, or run the sweep again."
            )

    def kept(self, table: pd.DataFrame, by_bounds: bool = False) -> pd.Series:
        """Whether each setting keeps the bounds.

        Args:
            table: its rows.
            by_bounds: whether its confidence bounds must keep what was asked for, and not its means.
        """
        of_class = table[_worst_class(by_bounds)] >= self.min_class_acc
        accurate = (table["val_acc"] >= self.min_acc) & (of_class | (not self.min_class_acc))
        return self.attack.kept(table, by_bounds) & accurate

    def missed_by(self, table: pd.DataFrame, by_bounds: bool = False) -> pd.Series:
        """By how much each setting misses the bounds, in sum; arguments as those of :meth:`kept`."""
        of_class = self.min_class_acc - table[_worst_class(by_bounds)].astype(float).fillna(0.0)
        of_attacks = [table[limit.upper if by_bounds else limit.mean] - limit.most for limit in self.attack.limits]
        misses = (*of_attacks, self.min_acc - table["val_acc"], of_class)
        return sum((miss.clip(lower=0) for miss in misses), pd.Series(0.0, index=table.index))

    def compared(self, point: Any, by_bounds: bool = False) -> str:
        """The figures of a setting beside the bounds that they miss, those that miss one first, for messages.

        Args:
            point: the setting.
            by_bounds: whether its confidence bounds must keep what was asked for, and not its means.
        """
        upper, lower = ("upper bound of ", "lower bound of ") if by_bounds else ("", "")
        limits = self.attack.limits
        figures = [
            (f"{upper}{self.over} {limit.metric}", point[limit.upper if by_bounds else limit.mean], limit.most, "above")
            for limit in limits
        ]
        figures.append(("val_acc", point["val_acc"], self.min_acc, "below"))
        if self.min_class_acc:
            worst_class = point[_worst_class(by_bounds)]
            figures.append((f"{lower}val_min_class_acc", worst_class, self.min_class_acc, "below"))
        missed: list[str] = []
        # Bounded figures follow; attack success is bounded where it is highest, which may be in another scenario.
        bounded = {limit.metric for limit in limits if not by_bounds and point[limit.mean] == point[limit.metric]}
        shown = [name for name in ("val_asr_excess", "val_asr") if name not in bounded]
        if by_bounds and self.min_class_acc:
            shown.append("val_min_class_acc")
        means = [f"{name} {format_cell(point[name])}" for name in shown]
        if by_bounds:
            means = [f"means of {point['seeds']} seeds: {', '.join(means)}"]
        kept = [*means, f"floor {point['asr_floor']:.3f}"]
        for name, value, bound, side in figures:
            if pd.isna(value):
                missed.append(f"its {name} is not known")
            elif value > bound if side == "above" else value < bound:
                missed.append(f"its {name} of {value:.3f} is {side} {bound:g}")
            else:
                kept.append(f"{name} {value:.3f}")
        return f"{' and '.join(missed)} ({', '.join(kept)})"


def _worst_class(by_bounds: bool) -> str:
    """The column with the accuracy on the worst class, or with its lower confidence bound."""
    return "min_class_acc_lower" if by_bounds else "val_min_class_acc"


def _named(point: Any) -> str:
    """The name of a setting in messages."""
    return f"{point['defense']} {point['config_id']}"


def _nothing_qualifies(group: pd.DataFrame, rows: pd.DataFrame, environment: str, asked: _Asked) -> NothingQualifies:
    """Why none of the points of an environment qualifies.

    Args:
        group: the points.
        rows: of ``trials.parquet`` that they were made of, all finished.
        environment: its name; empty: there is one only.
        asked: the bounds.
    """
    where = f" at {environment}" if environment else ""
    sound = group[group["weak"] == ""]
    if sound.empty:
        return NothingQualifies(f"No setting{where} rests on sound evidence. {' '.join(_why_weak(rows))}")
    if sound["val_asr_worst"].isna().all():
        return NothingQualifies(f"No setting{where} was measured under attack.")
    if sound["val_asr_excess"].isna().all():
        return NothingQualifies(
            f"No setting{where} has a floor of its attack success, since an earlier version of this program trained "
            "it: run the sweep again."
        )
    defined = sound[comparable(sound)]
    if defined.empty:
        return NothingQualifies(f"No setting{where} keeps the constraints of the sweep.")
    row = defined.iloc[int(asked.missed_by(defined).argmin())]
    return BoundsMissed(
        f"No setting{where} has {asked}. Nearest is {_named(row)} ({row['trials']}): {asked.compared(row)}."
    )


def _all_left(rows: pd.DataFrame, environment: str) -> BoundsMissed:
    """Why no setting of an environment finished: all its trials left their races.

    Args:
        rows: of ``trials.parquet``, of these trials.
        environment: its name; empty: there is one only.
    """
    where = f" at {environment}" if environment else ""
    accuracy = rows["val_acc"].astype(float).groupby(rows["trial_id"]).mean().fillna(0.0)
    nearest = rows[rows["trial_id"] == accuracy.idxmax()].iloc[0]
    return BoundsMissed(
        f"No setting{where} finished, since every trial{where and ' there'} left its race; nearest is "
        f"{_named(nearest)} ({nearest['trial_id']}): {nearest['trial_error']}."
    )


def _why_weak(rows: pd.DataFrame) -> list[str]:
    """A sentence for the attacks that fail without a defense, and one for those whose control did not finish.

    Args:
        rows: of ``trials.parquet``, all finished.
    """
    weak = rows[(rows["poison_rate"] > 0) & ~rows["weak_attack"].eq(False).fillna(False).astype(bool)]
    unknown = weak["control_asr"].isna()
    success = weak[~unknown].groupby("scenario")["control_asr"].min()
    texts = []
    if len(success):
        figures = ", ".join(f"{name} {value:.3f}" for name, value in success.items())
        texts.append(
            f"Without a defense the attack fails: control_asr is below {WEAK_ATTACK_BELOW:g} ({figures}). Raise "
            "poison_rate, give the attack a stronger trigger, or train the control longer (control.epochs)."
        )
    if unknown.any():
        names = ", ".join(sorted(weak.loc[unknown, "scenario"].unique()))
        texts.append(f"The control did not finish in {names}: sweeper status says why.")
    return texts
