"""Commands that run, resume, confirm, track, show and stop sweeps."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from search_spaces.loader import apply_overrides, preset_names, read_preset
from sweeper.analysis.attack_bounds import UNBOUNDED, AttackBounds
from sweeper.analysis.uncertainty import LEAST_SEEDS
from sweeper.cli.folders import RunDir, RunDirOrJob, folder_or_job, place_run_folder, resolve_run_folder
from sweeper.cli.screen import ALL_FAILED, complain, console, one_sentence, say, say_where_programs_are

if TYPE_CHECKING:
    from sweeper.launch import Ended

DETACH = "Submit the command to the Ray cluster as a job, and return once its sweep has begun."

app = typer.Typer()


@app.command()
def run(
    preset: Annotated[str, typer.Argument(help="Path of a preset, or one of: " + ", ".join(preset_names()))],
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Set a preset key, e.g. search.trials=20; may be repeated."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="New run folder; default: NAME-TIME in --storage.")] = None,
    storage: Annotated[
        str,
        typer.Option(
            envvar="SWEEPER_STORAGE",
            help="Folder or s3:// address for run folders; on a cluster, all hosts must see it.",
        ),
    ] = "runs",
    trials: Annotated[
        int | None, typer.Option(help="Number of trials, not counting controls; default: the preset's.")
    ] = None,
    time_budget: Annotated[float | None, typer.Option(help="Time limit in minutes; default: the preset's.")] = None,
    detach: Annotated[bool, typer.Option("--detach", help=DETACH)] = False,
) -> None:
    """Run the sweep of a preset in a new run folder, and print its frontier."""
    with one_sentence():
        overrides = list(set_ or [])
        overrides += [f"search.trials={trials}"] if trials is not None else []
        overrides += [f"search.time_budget={time_budget}"] if time_budget is not None else []
        content = apply_overrides(read_preset(preset), overrides, preset)
        from sweeper.preset.spec import validate

        spec = validate(content, preset)
        path, store = place_run_folder(storage, out, spec.name)
        if detach:
            given = str(Path(preset).resolve()) if Path(preset).exists() else preset
            changes = [word for override in overrides for word in ("--set", override)]
            # Always passed: the environment of the job may name another storage.
            where = storage if store is not None else str(Path(storage).resolve())
            _detach(["run", given, *changes, "--out", str(path.resolve()), "--storage", where], path)
            return
        from sweeper.launch import begin

        ended = begin(spec, content, path, console, store)
    _show(ended)


def _detach(arguments: list[str], path: Path) -> None:
    """Submit a command to the cluster as a job, and print how to follow it."""
    from sweeper.cluster.jobs import submit

    submitted = submit(arguments, path.resolve())
    job = submitted.job
    say(f"Job: {job}   results: {path.resolve()}")
    if not submitted.begun:
        say("The sweep has not begun yet, and may still be refused.")
    say(f"Progress: sweeper status {job}   log: ray job logs -f {job}")


@app.command(name="resume")
def resume_(
    folder: RunDir,
    trials: Annotated[
        int | None, typer.Option(help="Total number of trials, earlier ones included; default: as before.")
    ] = None,
    time_budget: Annotated[float | None, typer.Option(help="Time limit in minutes from now; default: none.")] = None,
    detach: Annotated[bool, typer.Option("--detach", help=DETACH)] = False,
) -> None:
    """Continue a sweep that was killed, interrupted or stopped early; trials that ended are not run again."""
    with one_sentence():
        path = resolve_run_folder(folder)
        if detach:
            more = ["--trials", str(trials)] if trials is not None else []
            more += ["--time-budget", str(time_budget)] if time_budget is not None else []
            _detach(["resume", str(path.resolve()), *more], path)
            return
        from sweeper.launch import resume

        ended = resume(path, console, trials, time_budget)
    _show(ended)


@app.command(name="confirm")
def confirm_(
    folder: RunDir,
    top: Annotated[int, typer.Option(min=1, help="Number of leading settings (per defense) or attackers to run.")] = 3,
    seeds: Annotated[int, typer.Option(min=1, help="Number of fresh seeds per setting or attacker.")] = LEAST_SEEDS,
    max_excess: Annotated[
        float | None, typer.Option(help="Rank settings whose trigger adds at most this (val_asr_excess) first.")
    ] = None,
    max_asr: Annotated[
        float | None, typer.Option(help="Rank settings with at most this attack success (val_asr) first.")
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", help=DETACH)] = False,
) -> None:
    """Run the leading settings (or attackers) again with fresh seeds, as select --confidence requires."""
    with one_sentence():
        most = AttackBounds(max_excess, max_asr)
        path = resolve_run_folder(folder)
        if detach:
            more = [word for limit in most.limits for word in (f"--{limit.option}", str(limit.most))]
            _detach(["confirm", str(path.resolve()), "--top", str(top), "--seeds", str(seeds), *more], path)
            return
        from sweeper.launch import confirm

        ended = confirm(path, console, top, seeds, most)
    _show(ended, most)


@app.command(name="track")
def track_(
    folder: RunDir,
    to: Annotated[
        str | None,
        typer.Option(
            help="Address of the tracking store; default: MLFLOW_TRACKING_URI, or mlflow.db beside the folder."
        ),
    ] = None,
) -> None:
    """Write a sweep from its run folder to MLflow's tracking store; what is there already is not sent again."""
    from sweeper.launch import track
    from sweeper.tracking.store import tracking_uri

    with one_sentence():
        path = resolve_run_folder(folder)
        tracker = track(path, to or tracking_uri(path.resolve().parent))
    say(f"Written to {tracker.shown_uri}, run {tracker.parent}.")


@app.command()
def status(sweep: RunDirOrJob) -> None:
    """Show the progress of a sweep, on any machine that can read its run folder."""
    from sweeper.cli.tables import print_status
    from sweeper.run_folder.status import read_status

    with one_sentence():
        folder = folder_or_job(sweep)
        print_status(console, folder, read_status(folder))


@app.command(name="stop")
def stop_(sweep: RunDirOrJob) -> None:
    """Stop a running sweep as Ctrl-C does; sweeper resume continues it."""
    from sweeper.cluster.jobs import stop
    from sweeper.words import command

    with one_sentence():
        folder = folder_or_job(sweep)
        say(f"Stopping {stop(folder)}; to continue: {command('resume', folder.path)}")


def _show(ended: "Ended", most: AttackBounds = UNBOUNDED) -> None:
    """Print the tables of a sweep, what failed, and what to do next, for the bounds that the user gave, if any."""
    from sweeper.cli.next_step import next_lines
    from sweeper.cli.tables import print_attackers, print_breaking, print_comparison, print_frontier, print_left_out
    from sweeper.words import command, lacking

    path, outcome = ended.folder.path, ended.outcome
    if ended.attackers is not None:
        print_attackers(console, *ended.attackers)
    else:
        print_frontier(console, ended.frame, ended.table, ended.volumes)
        print_comparison(console, ended.frame, ended.table)
    print_left_out(console, ended.frame, ended.folder)
    print_breaking(console, ended.frame)
    for reason in outcome.failed:
        say(f"FAILED {reason}")
    if outcome.interrupted:
        say(f"Not all trials ran: {outcome.interrupted}. Ended trials are kept; to continue: {command('resume', path)}")
    if ended.tracker.behind:
        say(lacking(ended.tracker.behind, path))
    if ended.not_copied is not None:
        say(f"{ended.folder.store} is not up to date ({ended.not_copied}); once it answers: {command('resume', path)}")
    elif ended.folder.store is not None:
        say(f"Copy: {ended.folder.store}")
    say(f"Results: {path}   report: {ended.folder.report}")
    store = ended.tracker.shown_uri
    compare = store if store.startswith("http") else command("ui", path)
    say(f"Compare runs: {compare}")
    if ended.attackers is None and ended.table["on_frontier"].any():
        for line in next_lines(path, ended.frame, most):
            say(line)
    say_where_programs_are()
    if outcome.finished == 0:
        complain("No trial finished.")
        raise typer.Exit(ALL_FAILED)
