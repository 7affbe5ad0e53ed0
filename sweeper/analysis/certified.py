"""Selects the setting that the test of a run folder certified."""

import pandas as pd

from sweeper.analysis.attack_bounds import AttackBounds
from sweeper.analysis.frontier import comparable, points
from sweeper.analysis.guarantee import Guarantee, guarantee
from sweeper.analysis.lost_classes import lost_classes, unmeasured_classes
from sweeper.analysis.selection import BoundsMissed, NotConfirmed, NothingQualifies, Selection
from sweeper.analysis.uncertainty import Over
from sweeper.analysis.verdicts import how_it_stands, terms
from sweeper.run_folder.certificate import Certificate
from sweeper.run_folder.record import CONFIRMATION
from sweeper.run_folder.tables import as_rows, finished


def select_certified(
    frame: pd.DataFrame,
    certificate: Certificate | None,
    confidence: float,
    max_excess: float | None = None,
    max_asr: float | None = None,
    min_acc: float = 0.0,
    min_class_acc: float = 0.0,
    poison_rate: float | None = None,
    over: Over = "worst",
    defense: str | None = None,
) -> Selection:
    """The certified setting, if what was certified implies what is asked for.

    The bound of a test is on the mean over replicates of the worst scenario. So it implies a higher bound, a lower
    confidence, a mean over scenarios, and the scenarios of one poison rate that were among the attackers. Bounds on
    accuracy must be kept by the means over the replicates.

    Args:
        frame: rows of ``trials.parquet``.
        certificate: the test of the run folder; null if none was begun.
        confidence: that is asked for, in (0, 1).
        max_excess, max_asr: as of :func:`sweeper.analysis.selection.select`; the one that the test is about.
        min_acc: least mean ``test_acc``.
        min_class_acc: least mean accuracy on the worst class (``test_min_class_acc``).
        poison_rate: that an attacker of the test must have; null: any.
        over: how figures of the search are aggregated over scenarios, if not by the worst.
        defense: that the certified setting must have; null: any.

    Raises:
        NotConfirmed: no test was begun, or it is not decided.
        BoundsMissed: no setting was certified, or its replicates miss a bound on accuracy.
        NothingQualifies: what was certified does not imply what is asked for.
    """
    if certificate is None:
        told = "" if finished(frame, CONFIRMATION).empty else " What confirm --top trained is described, not counted."
        raise NotConfirmed(f"No setting is certified, since no test was begun in this run folder.{told}")
    _check_implied(certificate, AttackBounds(max_excess, max_asr), confidence, poison_rate)
    if not certificate.decided:
        raise NotConfirmed(how_it_stands(certificate))
    known = guarantee(certificate)
    if known is None or certificate.certified is None:
        raise BoundsMissed(how_it_stands(certificate))
    if defense is not None and certificate.settings()[certificate.certified].defense != defense:
        raise NothingQualifies(f"The certified setting is {known.setting.name}: leave out --defense {defense}.")
    _check_accurate(known, min_acc, min_class_acc)
    table = points(frame, over)
    own = table[table["config_id"] == known.setting.config_id]
    if own.empty:
        raise NothingQualifies(f"No finished trial has the certified setting {known.setting.name}.")
    own = own[comparable(own)] if comparable(own).any() else own
    # Where the search tried it against several attackers, its figures are those of the hardest.
    point = as_rows(own.sort_values(["val_acc", "val_asr_excess"], ascending=[True, False]))[0]
    lost, unmeasured = lost_classes(frame).get(point["config_id"]), unmeasured_classes(finished(frame))
    return Selection(point, 0, [], lost=lost, unmeasured=unmeasured, guarantee=known)


def _check_implied(
    certificate: Certificate, attack: AttackBounds, confidence: float, poison_rate: float | None
) -> None:
    about = f"The test of this run folder is about {terms(certificate)}"
    if certificate.winner is not None:
        about = f"{certificate.winner.name} was certified for {terms(certificate)}"
    hint = f"A run folder has one test: use --{certificate.option} {certificate.bound:g}"
    for limit in attack.limits:
        if limit.option != certificate.option:
            raise NothingQualifies(f"{about}, and --{limit.option} was not tested. {hint} alone.")
        if limit.most < certificate.bound or confidence > certificate.confidence:
            raise NothingQualifies(
                f"{about}, which does not imply {limit.most:g} at confidence {confidence:g}. {hint} --confidence "
                f"{certificate.confidence:g}, or values that are less strict."
            )
    rates = sorted({scenario.poison_rate for scenario in certificate.scenarios()})
    if poison_rate is not None and not any(abs(rate - poison_rate) < 1e-9 for rate in rates):
        known = ", ".join(f"{rate:g}" for rate in rates)
        raise NothingQualifies(f"No attacker of the test has the poison rate {poison_rate:g}; there are {known}.")


def _check_accurate(known: Guarantee, min_acc: float, min_class_acc: float) -> None:
    if min_class_acc and known.min_class_acc is None:
        raise NothingQualifies(
            f"The accuracy on the worst class is not known of all replicates of {known.setting.name}: leave out "
            "--min-class-acc."
        )
    figures = [("test_acc", known.accuracy, min_acc), ("test_min_class_acc", known.min_class_acc or 0.0, min_class_acc)]
    missed = [f"{name} of {value:.3f} is below {least:g}" for name, value, least in figures if value < least]
    if missed:
        raise BoundsMissed(
            f"{known.setting.name} is certified, but over its {known.replicates} replicates its mean "
            f"{' and its mean '.join(missed)}."
        )
