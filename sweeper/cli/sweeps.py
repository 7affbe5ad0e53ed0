"""Commands that run, resume, track, show and stop sweeps."""

from pathlib import Path
from typing import Annotated

import typer

from search_spaces.loader import apply_overrides, preset_names, read_preset
from sweeper.cli.endings import detach_command, show_ended, show_test
from sweeper.cli.folders import RunDir, RunDirOrJob, folder_or_job, place_run_folder, resolve_run_folder
from sweeper.cli.screen import console, one_sentence, say

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
            detach_command(["run", given, *changes, "--out", str(path.resolve()), "--storage", where], path)
            return
        from sweeper.launch import begin

        ended = begin(spec, content, path, console, store)
    show_ended(ended)


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
            detach_command(["resume", str(path.resolve()), *more], path)
            return
        from sweeper.certify import go_on, is_open
        from sweeper.launch import resume

        if trials is None and is_open(path):
            show_test(*go_on(path, console, time_budget))
            return
        ended = resume(path, console, trials, time_budget)
    show_ended(ended)


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
