"""What a test guarantees of the setting that it certified, and what else its replicates show."""

from dataclasses import dataclass
from statistics import fmean, stdev

from sweeper.analysis.betting import exceedance_upper, mean_upper
from sweeper.run_folder.certificate import CandidateSetting, Certificate


@dataclass(frozen=True)
class Guarantee:
    """Figures of the certified setting, over its replicates.

    The first bound is what the test guarantees. The others are statements of their own, each wrong with a probability
    of at most the test's error, but not all at once. Each divides the error evenly over all candidates (Bonferroni),
    since the setting was chosen among them.

    Args:
        setting: that was certified.
        metric: that is bounded.
        bound: that was asked for.
        confidence: that was asked for.
        upper: bound of the mean loss at the stake of the setting; at most ``bound``. It assumes no distribution.
        replicates: of the setting, pilots included.
        pilots: those before its stake, which the bounds on the mean do not count.
        failures: replicates that failed, and count as 1.
        mean, sd: of the loss, over all replicates.
        exceeding: replicates whose loss is above ``bound``.
        exceedance_upper: bound of the share of further trainings whose loss is above ``bound``.
        accuracy, accuracy_sd: mean and standard deviation of the replicates' mean ``test_acc``.
        accuracy_lower: bound of its mean; a failed replicate counts as 0.
        min_class_acc: mean of the replicates' lowest accuracy on a class; null where it is not known.
        attackers: scenarios of each replicate.
        left_out: scenarios that the guarantee says nothing of, with the reason.
        seeds: of the replicates.
    """

    setting: CandidateSetting
    metric: str
    bound: float
    confidence: float
    upper: float
    replicates: int
    pilots: int
    failures: int
    mean: float
    sd: float
    exceeding: int
    exceedance_upper: float
    accuracy: float
    accuracy_sd: float
    accuracy_lower: float
    min_class_acc: float | None
    attackers: list[str]
    left_out: list[str]
    seeds: list[int]


def guarantee(certificate: Certificate) -> Guarantee | None:
    """The guarantee of a test; null if it certified nothing."""
    number, setting = certificate.certified, certificate.winner
    if number is None or setting is None:
        return None
    steps = certificate.steps_of(number)
    stake = certificate.standings[number].stake
    assert stake is not None, "a certified setting has paid a stake"
    each = certificate.error / len(certificate.candidates)
    losses = [step.loss for step in steps]
    accuracies = [step.accuracy for step in steps if step.accuracy is not None]
    of_class = [step.min_class_acc for step in steps if step.min_class_acc is not None]
    return Guarantee(
        setting,
        certificate.metric,
        certificate.bound,
        certificate.confidence,
        mean_upper([step.loss for step in steps if not step.pilot], stake),
        len(steps),
        sum(step.pilot for step in steps),
        sum(step.failed is not None for step in steps),
        fmean(losses),
        stdev(losses) if len(losses) > 1 else 0.0,
        sum(loss > certificate.bound for loss in losses),
        exceedance_upper(losses, certificate.bound, each),
        fmean(accuracies),
        stdev(accuracies) if len(accuracies) > 1 else 0.0,
        1 - mean_upper([1 - (step.accuracy or 0.0) for step in steps], each),
        fmean(of_class) if len(of_class) == len(accuracies) else None,
        [attacker.label for attacker in certificate.attackers],
        list(certificate.left_out),
        [certificate.seed(number, step.number) for step in steps],
    )


def certificate_metrics(certificate: Certificate) -> dict[str, float]:
    """Figures of a test by which sweeps compare: whether a setting was certified, the trainings that were counted, and,
    of a certified setting, what is known of it.
    """
    known = guarantee(certificate)
    metrics = {"certified": float(known is not None)}
    if known is not None:
        metrics |= {
            "certified_mean": known.mean,
            "certified_sd": known.sd,
            "certified_upper": known.upper,
            "certified_bound": known.bound,
            "certified_confidence": known.confidence,
            "certified_replicates": float(known.replicates),
            "certified_accuracy": known.accuracy,
            "certified_accuracy_lower": known.accuracy_lower,
            "certified_exceedance_upper": known.exceedance_upper,
        }
    if certificate.plan is not None:
        metrics["certificate_trainings_planned"] = certificate.plan.trainings
    return metrics | {"certificate_trainings": float(sum(step.trainings for step in certificate.steps))}
