"""How a test stands, in words."""

from sweeper.run_folder.certificate import Certificate

NOT_TESTED, UNDER_TEST = "not tested", "under test"
"""Where a candidate stands that has no verdict."""


def terms(certificate: Certificate) -> str:
    """What a test is about: ``mean worst test_asr_excess <= 0.1 at confidence 0.95``."""
    least = f" with test_acc >= {certificate.min_acc:g}" if certificate.min_acc else ""
    return f"mean worst {certificate.metric} <= {certificate.bound:g}{least} at confidence {certificate.confidence:g}"


def budget(certificate: Certificate) -> int | None:
    """Trainings that a test may take in all, as it was said last; null: any number."""
    return certificate.budgets[-1].trainings if certificate.budgets else None


def planned(certificate: Certificate) -> str | None:
    """A sentence on what a test was expected to take, and what it has taken; null if it was not planned."""
    plan = certificate.plan
    if plan is None:
        return None
    counted = sum(step.trainings for step in certificate.steps)
    return (
        f"Planned: {plan.trainings:.0f} trainings (9 of 10 tests take at most {plan.high:.0f}, {plan.certified:.0%} "
        f"certify a setting), {certificate.described_trainings} of them for settings that are described; if replicates "
        f"come out as the seeds of the search. Counted so far: {counted}."
    )


def verdict(certificate: Certificate, candidate: int) -> str:
    """The verdict on a candidate, or where it stands without one.

    Args:
        certificate: the test.
        candidate: its number.
    """
    known = certificate.standings[candidate].verdict if candidate < len(certificate.standings) else None
    if known is not None:
        return known
    return UNDER_TEST if certificate.steps_of(candidate) and not certificate.decided else NOT_TESTED


def how_it_stands(certificate: Certificate) -> str:
    """A sentence on what a test has decided, or how far it is, with the verdict on each candidate."""
    if certificate.winner is not None:
        return f"{certificate.winner.name} is certified: {terms(certificate)}."
    if certificate.decided:
        return f"Nothing was certified for {terms(certificate)}: {_verdicts(certificate)}."
    counted, most = sum(step.trainings for step in certificate.steps), budget(certificate)
    of = "" if most is None else f", with a budget of {most}"
    return (
        f"The test is not decided ({terms(certificate)}) after {counted} counted trainings{of}: "
        f"{_verdicts(certificate)}."
    )


def _verdicts(certificate: Certificate) -> str:
    parts = []
    for number, setting in enumerate(certificate.candidates):
        steps = certificate.steps_of(number)
        failed = sum(step.failed is not None for step in steps)
        after = f" after {len(steps)} replicate{'s' * (len(steps) != 1)}" if steps else ""
        parts.append(f"{setting.name} {verdict(certificate, number)}{after}{f' ({failed} failed)' if failed else ''}")
    return ", ".join(parts)
