"""Selects the setting to deploy."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from sweeper.analysis.attack_bounds import AttackBounds
from sweeper.analysis.frontier import comparable, environments, harmless, in_order, points
from sweeper.analysis.guarantee import Guarantee
from sweeper.analysis.left_out import broken_early, met_attackers, raced_out
from sweeper.analysis.lost_classes import Lost, lost_classes, unmeasured_classes
from sweeper.analysis.uncertainty import Over
from sweeper.run_folder.record import CONTROL
from sweeper.run_folder.tables import as_rows, finished
from sweeper.words import format_cell
from trainers.measuring.evaluation import WEAK_ATTACK_BELOW


class NothingQualifies(Exception):
    """No setting keeps the bounds on sound evidence. The message says what comes nearest."""


class BoundsMissed(NothingQualifies):
    """There is sound evidence, but no setting keeps the bounds."""


class NotConfirmed(NothingQualifies):
    """No test has been decided that could certify a setting."""


@dataclass(frozen=True)
class Selection:
    """A chosen setting.

    Args:
        point: its row of the frontier's table.
        others: how many settings qualified beside it.
        hardest_of: environments that were compared, where there was more than one; the chosen one is the hardest.
        no_evidence: environments that are no evidence for any setting, since their attack fails without a defense.
        lost: classes that it lost in any training; null: none, as far as is known.
        unmeasured: classes without a validation image; no figure says anything about them.
        guarantee: what a test guarantees of it; null if no confidence was asked for.
    """

    point: dict[str, Any]
    others: int
    hardest_of: list[str]
    no_evidence: Sequence[str] = ()
    lost: Lost | None = None
    unmeasured: Sequence[str] = ()
    guarantee: Guarantee | None = None


def select(
    frame: pd.DataFrame,
    max_excess: float | None = None,
    max_asr: float | None = None,
    min_acc: float = 0.0,
    min_class_acc: float = 0.0,
    poison_rate: float | None = None,
    over: Over = "worst",
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

    def kept(self, table: pd.DataFrame) -> pd.Series:
        """Whether each setting keeps the bounds."""
        of_class = table["val_min_class_acc"] >= self.min_class_acc
        accurate = (table["val_acc"] >= self.min_acc) & (of_class | (not self.min_class_acc))
        return self.attack.kept(table) & accurate

    def missed_by(self, table: pd.DataFrame) -> pd.Series:
        """By how much each setting misses the bounds, in sum."""
        of_class = self.min_class_acc - table["val_min_class_acc"].astype(float).fillna(0.0)
        of_attacks = [table[limit.mean] - limit.most for limit in self.attack.limits]
        misses = (*of_attacks, self.min_acc - table["val_acc"], of_class)
        return sum((miss.clip(lower=0) for miss in misses), pd.Series(0.0, index=table.index))

    def compared(self, point: Any) -> str:
        """The figures of a setting beside the bounds that they miss, those that miss one first, for messages."""
        limits = self.attack.limits
        figures = [(f"{self.over} {limit.metric}", point[limit.mean], limit.most, "above") for limit in limits]
        figures.append(("val_acc", point["val_acc"], self.min_acc, "below"))
        if self.min_class_acc:
            figures.append(("val_min_class_acc", point["val_min_class_acc"], self.min_class_acc, "below"))
        missed: list[str] = []
        # Bounded figures follow; attack success is bounded where it is highest, which may be in another scenario.
        bounded = {limit.metric for limit in limits if point[limit.mean] == point[limit.metric]}
        shown = [name for name in ("val_asr_excess", "val_asr") if name not in bounded]
        kept = [*(f"{name} {format_cell(point[name])}" for name in shown), f"floor {point['asr_floor']:.3f}"]
        for name, value, bound, side in figures:
            if pd.isna(value):
                missed.append(f"its {name} is not known")
            elif value > bound if side == "above" else value < bound:
                missed.append(f"its {name} of {value:.3f} is {side} {bound:g}")
            else:
                kept.append(f"{name} {value:.3f}")
        return f"{' and '.join(missed)} ({', '.join(kept)})"


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
