"""The command line: ``sweeper run``, ``sweeper frontier``, ``sweeper select``."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console

from search_spaces.loader import PresetError, apply_overrides, preset_names, read_preset
from sweeper.provenance import git_commit
from sweeper.results import RunFolder
from sweeper.runner import run_sweep
from sweeper.selection import NothingQualifies, deployment, select
from sweeper.spec import SweepSpec, resolve, validate
from sweeper.summary import print_frontier, read_sweeps, write_frontier
from sweeper.tracking import Tracker, tracking_uri
from trainers.data import load_data
from trainers.errors import ConfigError
from trainers.files import write_text

ALL_FAILED, BAD_INPUT, NOTHING_QUALIFIES = 1, 2, 3
DEFAULT_PRESET = "quick.yaml"

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    help="Finds the hyperparameters with which an image classifier can be trained safely on data nobody vouches for.",
)
console = Console()
errors = Console(stderr=True, soft_wrap=True)


@contextmanager
def _one_sentence() -> Iterator[None]:
    """Turn what the user can mend into one sentence and exit code 2."""
    try:
        yield
    except (ConfigError, PresetError) as error:
        errors.print(str(error), markup=False, highlight=False)
        raise typer.Exit(BAD_INPUT) from error


@app.command()
def run(
    preset: Annotated[str, typer.Argument(help="A preset's path, or its bare name: " + ", ".join(preset_names()))],
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a key, e.g. search.trials=20.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; default: runs/NAME-TIME.")] = None,
    trials: Annotated[int | None, typer.Option(help="Trials, controls not counted.")] = None,
    time_budget: Annotated[float | None, typer.Option(help="Minutes after which the sweep ends.")] = None,
) -> None:
    """Run the sweep of a preset, and show its frontier."""
    with _one_sentence():
        overrides = list(set_ or [])
        overrides += [f"search.trials={trials}"] if trials is not None else []
        overrides += [f"search.time_budget={time_budget}"] if time_budget is not None else []
        content = apply_overrides(read_preset(preset), overrides, preset)
        spec = validate(content, preset)
        console.print("Loading data ...", highlight=False)
        splits = load_data(spec.data)
        spec.check_against(splits)
        path = out or Path("runs") / f"{spec.name}-{datetime.now():%Y%m%d-%H%M%S}"
        folder = RunFolder.create(path)
        tracker = Tracker(tracking_uri(folder.path.parent), spec.name, folder, *_labels(spec, splits.fingerprint))
        sizes = f"{len(splits.train)} training and {len(splits.test)} test images, {splits.train.num_classes} classes"
        console.print(f"{spec.data.source}: {sizes}. Results go to {path}.", highlight=False)
        try:
            outcome = run_sweep(spec, resolve(spec, content), splits, folder, tracker, console)
        except OSError as error:
            tracker.sweep_ended([], {}, failed=True)
            raise ConfigError(f"{path} cannot be written any more: {error.strerror}.") from error
        except BaseException:
            tracker.sweep_ended([], {}, failed=True)
            raise
    frame = folder.read_trials()
    table, volumes, files = write_frontier(frame, spec.name, path)
    artifacts = [*files, folder.sweep, folder.trials, folder.curves]
    figures = {f"hypervolume{_suffix(name)}": value for name, value in volumes.items()}
    tracker.sweep_ended(artifacts, figures, failed=outcome.finished == 0)
    print_frontier(console, frame, table, volumes)
    for reason in outcome.failed:
        console.print(f"FAILED {reason}", markup=False, highlight=False)
    if outcome.interrupted:
        console.print(f"Not all trials ran: {outcome.interrupted}. What ended before is kept.")
    console.print(f"Results: {path}   picture: {path / 'frontier.png'}", soft_wrap=True, highlight=False)
    store = tracker.shown_uri
    compare = store if store.startswith("http") else f"mlflow ui --backend-store-uri {store}"
    console.print(f"Compare runs: {compare}", soft_wrap=True, highlight=False)
    console.print(f"Pick a setting: sweeper select {path} --max-asr 0.15", soft_wrap=True, highlight=False)
    if outcome.finished == 0:
        errors.print("No trial finished.")
        raise typer.Exit(ALL_FAILED)


def _suffix(environment: str) -> str:
    """MLflow allows few characters in a metric's name."""
    return f"/{environment.replace('=', ' ').replace(',', '')}" if environment else ""


def _labels(spec: SweepSpec, fingerprint: str) -> tuple[dict[str, str], dict[str, Any]]:
    """Tags and parameters of the sweep's own MLflow run."""
    tags = {"sweep": spec.name, "data_fingerprint": fingerprint, "git_commit": git_commit() or "unknown"}
    params = {
        "data.source": spec.data.source,
        "model": spec.model.name,
        "sampler": spec.search.sampler,
        "scheduler": spec.search.scheduler,
        "trials": spec.search.trials,
        "seeds": spec.seeds,
        "objectives": ", ".join(f"{o.direction} {o.metric}" for o in spec.objectives),
    }
    return tags, params


@app.command()
def frontier(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Run folders.")],
    out: Annotated[Path | None, typer.Option(help="Where to write; default: the first run folder.")] = None,
) -> None:
    """Draw the frontier of one sweep, or of several together."""
    with _one_sentence():
        frame = read_sweeps(folders)
        target = out or folders[0]
        try:
            target.mkdir(parents=True, exist_ok=True)
            title = ", ".join(path.resolve().name for path in folders)
            table, volumes, files = write_frontier(frame, title, target)
        except OSError as error:
            raise ConfigError(f"{target} cannot be written: {error.strerror}.") from error
    print_frontier(console, frame, table, volumes)
    console.print(f"Written: {', '.join(map(str, files))}", soft_wrap=True, highlight=False)


@app.command(name="select")
def select_(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A run folder.")],
    max_asr: Annotated[float, typer.Option(help="Highest attack success of the worst scenario.")],
    min_acc: Annotated[float, typer.Option(help="Lowest mean accuracy.")] = 0.0,
    poison_rate: Annotated[float | None, typer.Option(help="Look at trials of this poison rate only.")] = None,
) -> None:
    """Pick the setting to deploy, and write deploy.yaml."""
    with _one_sentence():
        for name, value in (("max-asr", max_asr), ("min-acc", min_acc), ("poison-rate", poison_rate)):
            if value is not None and not 0 <= value <= 1:
                raise ConfigError(f"--{name} must lie in [0, 1], but got {value:g}.")
        run_folder = RunFolder.open(folder)
        frame, sweep = run_folder.read_trials(), run_folder.read_sweep()
        try:
            chosen = select(frame, max_asr, min_acc, poison_rate)
        except NothingQualifies as error:
            errors.print(str(error), markup=False, highlight=False)
            raise typer.Exit(NOTHING_QUALIFIES) from error
        bounds = {"max_asr": max_asr, "min_acc": min_acc, "poison_rate": poison_rate}
        content = deployment(chosen, frame, sweep, bounds)
        try:
            write_text(run_folder.deploy, yaml.safe_dump(content, sort_keys=False))
        except OSError as error:
            raise ConfigError(f"{run_folder.deploy} cannot be written: {error.strerror}.") from error
    point = chosen.point
    console.print(
        f"{point['config_id']} ({point['trials']}): val_acc {point['val_acc']:.3f}, "
        f"worst val_asr {point['val_asr']:.3f} (floor {point['asr_floor']:.3f}, control {point['control_asr']:.3f}); "
        f"{chosen.others} others qualified.",
        soft_wrap=True,
        highlight=False,
    )
    if chosen.hardest_of:
        hardest = f"Hardest of {'; '.join(chosen.hardest_of)}: {point['environment']}."
        console.print(f"{hardest} This setting was measured there; not always at the others.", highlight=False)
    if point["seeds"] == 1:
        console.print("It rests on one seed: how much the figures vary is not known.")
    console.print(f"Written: {run_folder.deploy}", soft_wrap=True, highlight=False)


def main() -> None:
    """Entry point; without any argument, the default preset is run."""
    if len(sys.argv) == 1:
        sys.argv += ["run", DEFAULT_PRESET]
    app()
