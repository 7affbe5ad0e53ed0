"""Commands that show what a sweep found."""

from contextlib import ExitStack, suppress
from pathlib import Path
from threading import Event
from typing import Annotated

import typer

from sweeper.cli.folders import RunDir, keep_copy, resolve_run_folder
from sweeper.cli.screen import console, one_sentence, say

app = typer.Typer()


@app.command()
def frontier(
    folders: Annotated[list[str], typer.Argument(metavar="DIR...", help="Run folders, or their copies (s3://).")],
    out: Annotated[Path | None, typer.Option(help="Folder to write to; default: the first run folder.")] = None,
) -> None:
    """Print and draw the frontier of one sweep, or of several sweeps together."""
    from sweeper.cli.tables import print_comparison, print_frontier, print_left_out, print_reading_notes
    from sweeper.report.summary import write_joint_frontier
    from sweeper.run_folder.folder import RunFolder

    with one_sentence():
        paths = [resolve_run_folder(folder) for folder in folders]
        written = write_joint_frontier(paths, out or paths[0])
        print_frontier(console, written.frame, written.table, written.volumes)
        print_comparison(console, written.frame, written.table)
        for path in paths:
            print_left_out(console, RunFolder(path).read_trials(), RunFolder(path))
            print_reading_notes(console, RunFolder(path))
    say(f"Written: {', '.join(map(str, written.files))}")
    if out is None:
        keep_copy(RunFolder.open(paths[0]), written.files)


@app.command()
def report(folder: RunDir) -> None:
    """Write report.html: all results of a sweep on one page, which works offline."""
    from sweeper.report.page import rewrite_report
    from sweeper.run_folder.folder import RunFolder

    with one_sentence():
        run_folder = RunFolder.open(resolve_run_folder(folder))
        path = rewrite_report(run_folder)
    say(f"Written: {path}")
    keep_copy(run_folder, [path])


@app.command()
def ui(
    context: typer.Context,
    folder: RunDir,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of MLflow's UI; 0: any free port.")] = 5000,
    report_port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of the page and report; 0: any free port.")
    ] = 0,
) -> None:
    """Serve a page to watch a running sweep, which becomes its report, and MLflow's UI, to this machine only."""
    from sweeper.report.server import serve_sweep
    from sweeper.run_folder.folder import RunFolder
    from sweeper.tracking.store import tracking_uri, why_away, without_secret
    from sweeper.tracking.ui import PortTaken, serve_mlflow
    from sweeper.tracking.view import link_to_view
    from trainers.errors import ConfigError

    source = context.get_parameter_source("port")
    asked = source is not None and source.name != "DEFAULT"
    with one_sentence():
        run_folder = RunFolder.open(resolve_run_folder(folder))
        store = tracking_uri(run_folder.path.resolve().parent)
        with serve_sweep(run_folder, report_port) as page_address:
            say(f"Sweep: {page_address}   (Ctrl-C ends)")
            with ExitStack() as stack, suppress(KeyboardInterrupt):
                try:
                    mlflow_address = stack.enter_context(serve_mlflow(store, port))
                except ConfigError as error:
                    if isinstance(error, PortTaken) and asked:
                        raise
                    say(f"MLflow's UI is not served, only the page: {error}")
                else:
                    away = why_away(mlflow_address)
                    say(f"MLflow: {without_secret(mlflow_address)}{f', but {away}' if away else ''}")
                    shown = without_secret(mlflow_address)
                    link = None if away else link_to_view(store, run_folder.read_sweep(), shown)
                    if link is not None:
                        say(f"Charts of this sweep's trials: {link}")
                Event().wait()
