"""What a selection shows on the screen."""

from sweeper.selection import Selection
from sweeper.uncertainty import Over, may_fail
from sweeper.words import spread


def selection_lines(chosen: Selection, over: Over, confidence: float | None, found: str) -> list[str]:
    """The chosen setting, its figures, and what they do not say.

    Args:
        chosen: from :func:`sweeper.selection.select`.
        over: how attack success was aggregated over scenarios.
        confidence: that was asked for; null: none.
        found: what the search chose of the setting; empty: nothing.
    """
    point = chosen.point
    bound = "" if chosen.asr_upper is None else f", at most {chosen.asr_upper:.3f} at confidence {confidence:g}"
    others = f"{chosen.others} other{'s' if chosen.others != 1 else ''} qualified"
    lines = [
        f"{point['defense']} {point['config_id']} ({point['trials']}): val_acc {spread(point, 'val_acc')}, "
        f"{over} val_asr {spread(point, 'val_asr')}{bound} "
        f"(floor {point['asr_floor']:.3f}, control {point['control_asr']:.3f}); {others}."
    ]
    if found:
        lines.append(f"Found by the search: {found}")
    if confidence is not None:
        if chosen.asr_upper_of_all is not None and chosen.confirmed > 1:
            lines.append(
                f"That bound is of this setting alone; one that holds for all {chosen.confirmed} confirmed settings at "
                f"once is {chosen.asr_upper_of_all:.3f}."
            )
        lines.append(
            f"The bound takes seeds for normally distributed. Whatever their distribution, {point['seeds']} seeds "
            f"cannot exclude that {may_fail(point['seeds'], confidence):.0%} of trainings do worse than all of them."
        )
    if chosen.hardest_of:
        lines.append(
            f"Hardest of {'; '.join(chosen.hardest_of)}: {point['environment']}. This setting was measured there; not "
            "always at the others."
        )
    if chosen.no_evidence:
        failing = "; ".join(chosen.no_evidence)
        lines.append(f"No evidence about {failing}: no attack works there without a defense.")
    if point["seeds"] == 1:
        lines.append("It rests on one seed: how much the figures vary is not known.")
    return lines
