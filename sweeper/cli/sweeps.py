"""Commands that run a sweep, and look after one that runs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from search_spaces.loader import apply_overrides, preset_names, read_preset
from sweeper.cli.folders import RunDir, RunDirOrJob, folder_or_job, place_run_folder, resolve_run_folder
from sweeper.cli.screen import ALL_FAILED, complain, console, one_sentence, say, say_where_programs_are

if TYPE_CHECKING:
    from sweeper.launch import Ended

DETACH = "Leave it to the cluster as a job, and return once it has begun."

app = typer.Typer()


@app.command()
def run(
    preset: Annotated[str, typer.Argument(help="A preset's path, or its bare name: " + ", ".join(preset_names()))],
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a key, e.g. search.trials=20.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; default: NAME-TIME in the storage.")] = None,
    storage: Annotated[
        str,
        typer.Option(
            envvar="SWEEPER_STORAGE", help="Where run folders go; on a cluster, what all hosts see: a folder, or s3://."
        ),
    ] = "runs",
    trials: Annotated[int | None, typer.Option(help="Trials, controls not counted.")] = None,
    time_budget: Annotated[float | None, typer.Option(help="Minutes after which the sweep ends.")] = None,
    detach: Annotated[bool, typer.Option("--detach", help=DETACH)] = False,
) -> None:
    """Run the sweep of a preset, and show its frontier."""
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
            # Said in any case: the environment of the job may name another.
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
        say("It has not begun yet, and may still be refused.")
    say(f"How far it is: sweeper status {job}   what it says: ray job logs -f {job}")


@app.command(name="resume")
def resume_(
    folder: RunDir,
    trials: Annotated[int | None, typer.Option(help="Trials in all, with those that ran; default: as before.")] = None,
    time_budget: Annotated[float | None, typer.Option(help="Minutes from now after which the sweep ends.")] = None,
    detach: Annotated[bool, typer.Option("--detach", help=DETACH)] = False,
) -> None:
    """Go on with a sweep that was killed, interrupted or cut short."""
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
    top: Annotated[int, typer.Option(min=1, help="How many leaders; of several defenses, of each.")] = 3,
    seeds: Annotated[int, typer.Option(min=1, help="How many fresh seeds for each.")] = 3,
    max_asr: Annotated[
        float | None, typer.Option(min=0, max=1, help="Settings that keep this attack success lead, by accuracy.")
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", help=DETACH)] = False,
) -> None:
    """Run the leading settings, or attackers, again with fresh seeds; select --confidence rests on these runs."""
    with one_sentence():
        path = resolve_run_folder(folder)
        if detach:
            more = ["--max-asr", str(max_asr)] if max_asr is not None else []
            _detach(["confirm", str(path.resolve()), "--top", str(top), "--seeds", str(seeds), *more], path)
            return
        from sweeper.launch import confirm

        ended = confirm(path, console, top, seeds, max_asr)
    _show(ended)


@app.command(name="track")
def track_(
    folder: RunDir,
    to: Annotated[str | None, typer.Option(help="Tracking store; default: that of run.")] = None,
) -> None:
    """Write a sweep into a tracking store from its run folder; what is there already is not written again."""
    from sweeper.launch import track
    from sweeper.tracking.store import tracking_uri

    with one_sentence():
        path = resolve_run_folder(folder)
        tracker = track(path, to or tracking_uri(path.resolve().parent))
    say(f"Written to {tracker.shown_uri}, run {tracker.parent}.")


@app.command()
def status(sweep: RunDirOrJob) -> None:
    """Show how far a sweep is, from anywhere that sees its folder."""
    from sweeper.cli.tables import print_status
    from sweeper.run_folder.status import read_status

    with one_sentence():
        folder = folder_or_job(sweep)
        print_status(console, folder, read_status(folder))


@app.command(name="stop")
def stop_(sweep: RunDirOrJob) -> None:
    """End a sweep that runs elsewhere, as Ctrl-C does; resume goes on with it."""
    from sweeper.cluster.jobs import stop

    with one_sentence():
        folder = folder_or_job(sweep)
        say(f"Stopping {stop(folder)}; go on with it: sweeper resume {folder.path}")


def _show(ended: "Ended") -> None:
    """Print the tables of a sweep, what failed, and what to do next."""
    from sweeper.cli.tables import print_attackers, print_breaking, print_comparison, print_frontier
    from sweeper.run_folder.record import CONFIRMATION
    from sweeper.run_folder.tables import finished

    path, outcome = ended.folder.path, ended.outcome
    if ended.attackers is not None:
        print_attackers(console, *ended.attackers)
    else:
        print_frontier(console, ended.frame, ended.table, ended.volumes)
        print_comparison(console, ended.frame, ended.table)
    print_breaking(console, ended.frame)
    for reason in outcome.failed:
        say(f"FAILED {reason}")
    if outcome.interrupted:
        say(f"Not all trials ran: {outcome.interrupted}. What ended before is kept; go on: sweeper resume {path}")
    if ended.tracker.behind:
        say(f"MLflow lacks {', '.join(ended.tracker.behind)}; when it is back: sweeper track {path}")
    if ended.not_copied is not None:
        say(f"{ended.folder.store} is not up to date ({ended.not_copied}); when it is back: sweeper resume {path}")
    elif ended.folder.store is not None:
        say(f"Copy: {ended.folder.store}")
    say(f"Results: {path}   page to decide from: {ended.folder.report}")
    store = ended.tracker.shown_uri
    compare = store if store.startswith("http") else f"mlflow ui --backend-store-uri {store}"
    say(f"Compare runs: {compare}")
    if ended.attackers is None and ended.table["on_frontier"].any():
        again = "" if finished(ended.frame, CONFIRMATION).empty else " --confidence 0.9"
        say(f"Pick a setting: sweeper select {path} --max-asr 0.15{again}")
    say_where_programs_are()
    if outcome.finished == 0:
        complain("No trial finished.")
        raise typer.Exit(ALL_FAILED)
