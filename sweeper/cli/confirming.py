"""The command that confirms what a sweep found."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.table import Table

from sweeper.analysis.attack_bounds import AttackBounds
from sweeper.cli.endings import detach_command, show_ended, show_test
from sweeper.cli.folders import RunDir, resolve_run_folder
from sweeper.cli.screen import NOTHING_QUALIFIES, complain, console, one_sentence, say
from sweeper.cli.sweeps import DETACH
from trainers.errors import ConfigError

TOP = SEEDS = 3
"""Leading settings that are trained again, and fresh seeds of each, unless the user says otherwise."""

app = typer.Typer()


@app.command(name="confirm")
def confirm_(
    folder: RunDir,
    max_excess: Annotated[
        float | None,
        typer.Option(help="Most that the trigger may add to the floor (excess over asr_floor) in the worst scenario."),
    ] = None,
    max_asr: Annotated[
        float | None, typer.Option(help="Highest attack success, floor included, likewise; nothing below the floor.")
    ] = None,
    confidence: Annotated[
        float | None,
        typer.Option(help="Certify a setting: the claim is wrong in at most 1 - confidence of sweeps, e.g. 0.95."),
    ] = None,
    min_acc: Annotated[float | None, typer.Option(help="Lowest mean accuracy of the certified setting.")] = None,
    budget: Annotated[
        int | None,
        typer.Option(min=1, help="Most trainings that the test counts; default: no limit."),
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Train nothing; print the trainings and hours that a certificate would take.")
    ] = False,
    top: Annotated[
        int | None,
        typer.Option(
            min=1, help=f"Without --confidence: leading settings or attackers to train again; default: {TOP}."
        ),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help=f"Without --confidence: fresh seeds of each; default: {SEEDS}.")
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", help=DETACH)] = False,
) -> None:
    """Certify a setting with fresh replicates (--confidence), or train the leading settings or attackers again."""
    with one_sentence():
        bounds = AttackBounds(max_excess, max_asr)
        path = resolve_run_folder(folder)
        given = {"--min-acc": min_acc, "--budget": budget, "--top": top, "--seeds": seeds}
        _refuse_mixed(confidence, plan, given | {"--confidence": confidence, "--detach": detach})
        if plan:
            _show_plan(path, bounds, min_acc or 0.0)
            return
        if detach:
            given = {"confidence": confidence, "min-acc": min_acc, "budget": budget, "top": top, "seeds": seeds}
            more = [word for limit in bounds.limits for word in (f"--{limit.option}", str(limit.most))]
            more += [word for name, value in given.items() if value is not None for word in (f"--{name}", str(value))]
            detach_command(["confirm", str(path.resolve()), *more], path)
            return
        if confidence is not None:
            from sweeper.analysis.certificate_terms import Asked
            from sweeper.analysis.selection import NothingQualifies
            from sweeper.certify import certify

            try:
                show_test(*certify(path, console, Asked(bounds, confidence, min_acc or 0.0), budget))
            except NothingQualifies as error:
                complain(str(error))
                raise typer.Exit(NOTHING_QUALIFIES) from error
            return
        from sweeper.launch import confirm

        ended = confirm(path, console, top or TOP, seeds or SEEDS, bounds)
    show_ended(ended, bounds)


def _refuse_mixed(confidence: float | None, plan: bool, given: Mapping[str, object]) -> None:
    """Refuse options that have no meaning beside the others.

    Raises:
        ConfigError: there is one.
    """
    for name, value in given.items():
        if value in (None, False):
            continue
        if plan and name != "--min-acc":
            raise ConfigError(f"{name} has no meaning beside --plan, which trains nothing, and shows 0.9 and 0.95.")
        if confidence is not None and name in ("--top", "--seeds"):
            raise ConfigError(
                f"{name} is for runs without --confidence; a test decides itself how many replicates it needs."
            )
        if confidence is None and name in ("--min-acc", "--budget") and not plan:
            raise ConfigError(f"{name} is for a test; give --confidence too, e.g. --confidence 0.95.")


def _show_plan(path: Path, bounds: AttackBounds, min_acc: float) -> None:
    """Print what tests of a sweep are expected to cost."""
    from sweeper.certify import plan

    planned = plan(path, bounds, min_acc)
    many = f"{planned.places} training{'s' * (planned.places > 1)} at a time"
    table = Table(title=f"Expected cost of a certificate ({many})", box=box.SIMPLE)
    for heading in (
        f"--{planned.option}",
        "--confidence",
        "candidates",
        "certified",
        "trainings",
        "9 of 10 below",
        "hours",
    ):
        table.add_column(heading, justify="right")
    for cost in planned.costs:
        figures = ["-"] * 4
        if cost.trainings is not None:
            figures = [f"{cost.share:.0%}", f"{cost.trainings:.0f}", f"{cost.high:.0f}", f"{cost.hours:.2g}"]
        table.add_row(f"{cost.bound:g}", f"{cost.confidence:g}", str(cost.candidates), *figures)
    console.print(table)
    for line in planned.notes:
        say(line)
