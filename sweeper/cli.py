"""The command line."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from threading import Event
from typing import Annotated

import torch
import typer
import yaml
from rich.console import Console

from search_spaces.loader import PresetError, apply_overrides, preset_names, read_preset
from sweeper.deployment import read_deployment
from sweeper.doctor import examine
from sweeper.frontier import points
from sweeper.gallery import show_attacks
from sweeper.jobs import folder_of, stop, submit
from sweeper.launch import Ended, begin, confirm, resume, track
from sweeper.model_tracking import ALIAS, track_model
from sweeper.predict import classify
from sweeper.report import write_report
from sweeper.roc import write_roc
from sweeper.run_folder import RunFolder
from sweeper.runner import SweepBroken
from sweeper.selection import NothingQualifies, deployment, select, setting_of
from sweeper.spec import validate
from sweeper.status import print_status, print_unfinished, read_status
from sweeper.summary import print_frontier, read_sweeps, write_frontier
from sweeper.summary_attacks import print_attackers, print_breaking
from sweeper.summary_comparison import print_comparison
from sweeper.tracking_store import attach, check_store, tracking_uri, without_secret
from sweeper.train import train
from sweeper.ui import serve
from sweeper.uncertainty import Over
from sweeper.words import spread
from trainers.compute import ComputeConfig
from trainers.data import DataConfig, load_untrusted
from trainers.defenses import DEFENSES
from trainers.errors import ConfigError, TrialError
from trainers.files import write_text
from trainers.saved_model import WEIGHTS, load_model

ALL_FAILED = BROKEN = 1
BAD_INPUT, NOTHING_QUALIFIES = 2, 3
DEFAULT_PRESET, ATTACKS_PRESET = "quick.yaml", "attacks_cpu.yaml"

DETACH = "Leave it to the cluster as a job, and return once it has begun."

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    help="Finds the hyperparameters with which an image classifier can be trained safely on data nobody vouches for.",
)
# A file or a pipe has no width; tables and lines are not to be cut for it.
console = Console(width=None if sys.stdout.isatty() else 200)
errors = Console(stderr=True, soft_wrap=True)


@contextmanager
def _one_sentence() -> Iterator[None]:
    """Turn what the user can mend into one sentence and exit code 2."""
    try:
        yield
    except (ConfigError, PresetError) as error:
        errors.print(str(error), markup=False, highlight=False)
        raise typer.Exit(BAD_INPUT) from error
    except SweepBroken as error:
        errors.print(f"{error} What was written before is whole; sweeper resume goes on from it.", highlight=False)
        raise typer.Exit(BROKEN) from error


@app.command()
def run(
    preset: Annotated[str, typer.Argument(help="A preset's path, or its bare name: " + ", ".join(preset_names()))],
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a key, e.g. search.trials=20.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; default: NAME-TIME in the storage.")] = None,
    storage: Annotated[
        Path, typer.Option(envvar="SWEEPER_STORAGE", help="Where run folders go; on a cluster, what all hosts see.")
    ] = Path("runs"),
    trials: Annotated[int | None, typer.Option(help="Trials, controls not counted.")] = None,
    time_budget: Annotated[float | None, typer.Option(help="Minutes after which the sweep ends.")] = None,
    detach: Annotated[bool, typer.Option("--detach", help=DETACH)] = False,
) -> None:
    """Run the sweep of a preset, and show its frontier."""
    with _one_sentence():
        overrides = list(set_ or [])
        overrides += [f"search.trials={trials}"] if trials is not None else []
        overrides += [f"search.time_budget={time_budget}"] if time_budget is not None else []
        content = apply_overrides(read_preset(preset), overrides, preset)
        path = out or storage / f"{validate(content, preset).name}-{datetime.now():%Y%m%d-%H%M%S}"
        if detach:
            given = str(Path(preset).resolve()) if Path(preset).exists() else preset
            changes = [word for override in overrides for word in ("--set", override)]
            _detach(["run", given, *changes, "--out", str(path.resolve())], path)
            return
        ended = begin(content, preset, path, console)
    _show(ended)


def _detach(arguments: list[str], path: Path) -> None:
    """Hand a command over to the cluster, and say where it is to be found."""
    job = submit(arguments, path.resolve())
    console.print(f"Job: {job}   results: {path.resolve()}", soft_wrap=True, highlight=False)
    console.print(f"How far it is: sweeper status {job}   what it says: ray job logs -f {job}", soft_wrap=True,
                  highlight=False)  # fmt: skip


@app.command(name="resume")
def resume_(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A run folder.")],
    trials: Annotated[int | None, typer.Option(help="Trials in all, with those that ran; default: as before.")] = None,
    time_budget: Annotated[float | None, typer.Option(help="Minutes from now after which the sweep ends.")] = None,
    detach: Annotated[bool, typer.Option("--detach", help=DETACH)] = False,
) -> None:
    """Go on with a sweep that was killed, interrupted or cut short."""
    with _one_sentence():
        if detach:
            more = ["--trials", str(trials)] if trials is not None else []
            more += ["--time-budget", str(time_budget)] if time_budget is not None else []
            _detach(["resume", str(folder.resolve()), *more], folder)
            return
        ended = resume(folder, console, trials, time_budget)
    _show(ended)


@app.command(name="confirm")
def confirm_(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A run folder.")],
    top: Annotated[int, typer.Option(min=1, help="How many leaders; of several defenses, of each.")] = 3,
    seeds: Annotated[int, typer.Option(min=1, help="How many fresh seeds for each.")] = 3,
    max_asr: Annotated[
        float | None, typer.Option(min=0, max=1, help="Settings that keep this attack success lead, by accuracy.")
    ] = None,
) -> None:
    """Run the leading settings, or attackers, again with fresh seeds; select --confidence rests on these runs."""
    with _one_sentence():
        ended = confirm(folder, console, top, seeds, max_asr)
    _show(ended)


@app.command(name="track")
def track_(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A run folder.")],
    to: Annotated[str | None, typer.Option(help="Tracking store; default: that of run.")] = None,
) -> None:
    """Write a sweep into a tracking store from its run folder; what is there already is not written again."""
    with _one_sentence():
        tracker = track(folder, to or tracking_uri(folder.resolve().parent))
    console.print(f"Written to {tracker.shown_uri}, run {tracker.parent}.", soft_wrap=True, highlight=False)


@app.command()
def status(
    sweep: Annotated[str, typer.Argument(metavar="DIR|JOB", help="A run folder, or a job of the cluster.")],
) -> None:
    """Show how far a sweep is, from anywhere that sees its folder."""
    with _one_sentence():
        folder = _folder(sweep)
        print_status(console, folder, read_status(folder))


@app.command(name="stop")
def stop_(
    sweep: Annotated[str, typer.Argument(metavar="DIR|JOB", help="A run folder, or a job of the cluster.")],
) -> None:
    """End a sweep that runs elsewhere, as Ctrl-C does; resume goes on with it."""
    with _one_sentence():
        folder = _folder(sweep)
        console.print(f"Stopping {stop(folder)}; go on with it: sweeper resume {folder.path}", soft_wrap=True,
                      highlight=False)  # fmt: skip


def _folder(sweep: str) -> RunFolder:
    """The run folder that is given, or that of a job."""
    is_job = sweep.startswith("raysubmit_") and not Path(sweep).exists()
    return RunFolder.open(folder_of(sweep) if is_job else Path(sweep))


def _show(ended: Ended) -> None:
    """Close a sweep on the screen."""
    path, outcome = ended.folder.path, ended.outcome
    if ended.attackers is not None:
        print_attackers(console, *ended.attackers)
    else:
        print_frontier(console, ended.frame, ended.table, ended.volumes)
        print_comparison(console, ended.frame, ended.table)
    print_breaking(console, ended.frame)
    for reason in outcome.failed:
        console.print(f"FAILED {reason}", markup=False, highlight=False)
    if outcome.interrupted:
        console.print(
            f"Not all trials ran: {outcome.interrupted}. What ended before is kept; go on: sweeper resume {path}",
            soft_wrap=True,
            highlight=False,
        )
    if ended.tracker.behind:
        console.print(
            f"MLflow lacks {', '.join(ended.tracker.behind)}; when it is back: sweeper track {path}",
            soft_wrap=True,
            highlight=False,
        )
    console.print(f"Results: {path}   page to decide from: {ended.folder.report}", soft_wrap=True, highlight=False)
    store = ended.tracker.shown_uri
    compare = store if store.startswith("http") else f"mlflow ui --backend-store-uri {store}"
    console.print(f"Compare runs: {compare}", soft_wrap=True, highlight=False)
    if ended.attackers is None:
        console.print(f"Pick a setting: sweeper select {path} --max-asr 0.15", soft_wrap=True, highlight=False)
    if outcome.finished == 0:
        errors.print("No trial finished.")
        raise typer.Exit(ALL_FAILED)


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
            roc = write_roc(RunFolder(folders[0]), frame, title, target) if len(folders) == 1 else None
            files += [roc] if roc else []
        except OSError as error:
            raise ConfigError(f"{target} cannot be written: {error.strerror}.") from error
    print_frontier(console, frame, table, volumes)
    print_comparison(console, frame, table)
    for path in folders:
        print_unfinished(console, RunFolder(path))
    console.print(f"Written: {', '.join(map(str, files))}", soft_wrap=True, highlight=False)


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A run folder.")],
) -> None:
    """Write report.html, one page to decide from that works offline."""
    with _one_sentence():
        run_folder = RunFolder.open(folder)
        frame = run_folder.read_trials()
        spec = validate(run_folder.read_sweep()["preset"], str(run_folder.sweep))
        try:
            path = write_report(run_folder, frame, points(frame), spec)
        except OSError as error:
            raise ConfigError(f"{run_folder.report} cannot be written: {error.strerror}.") from error
    console.print(f"Written: {path}", soft_wrap=True, highlight=False)


@app.command(name="select")
def select_(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A run folder.")],
    max_asr: Annotated[float, typer.Option(help="Highest attack success of the worst scenario.")],
    min_acc: Annotated[float, typer.Option(help="Lowest mean accuracy.")] = 0.0,
    poison_rate: Annotated[float | None, typer.Option(help="Look at trials of this poison rate only.")] = None,
    over: Annotated[
        Over, typer.Option(help="Attack success over scenarios: the worst, the mean, or the worst half (cvar).")
    ] = "worst",
    confidence: Annotated[
        float | None,
        typer.Option(help="Of the upper bound on attack success, e.g. 0.9; confirmed runs alone count."),
    ] = None,
    defense: Annotated[str | None, typer.Option(help="Of compared defenses, look at this one only.")] = None,
) -> None:
    """Pick the setting to deploy, and write deploy.yaml."""
    with _one_sentence():
        for name, value in (("max-asr", max_asr), ("min-acc", min_acc), ("poison-rate", poison_rate)):
            if value is not None and not 0 <= value <= 1:
                raise ConfigError(f"--{name} must lie in [0, 1], but got {value:g}.")
        if confidence is not None and not 0.5 <= confidence < 1:
            raise ConfigError(f"--confidence must lie in [0.5, 1), but got {confidence:g}.")
        run_folder = RunFolder.open(folder)
        frame, sweep = run_folder.read_trials(), run_folder.read_sweep()
        try:
            chosen = select(frame, max_asr, min_acc, poison_rate, over, confidence, defense)
        except NothingQualifies as error:
            left = f" {run_folder.deploy} is that of an earlier selection." if run_folder.deploy.exists() else ""
            errors.print(f"{error}{left}", markup=False, highlight=False)
            raise typer.Exit(NOTHING_QUALIFIES) from error
        bounds = {"max_asr": max_asr, "min_acc": min_acc, "poison_rate": poison_rate, "over": over,
                  "confidence": confidence, "defense": defense}  # fmt: skip
        content = deployment(chosen, frame, sweep, bounds)
        try:
            write_text(run_folder.deploy, yaml.safe_dump(content, sort_keys=False))
        except OSError as error:
            raise ConfigError(f"{run_folder.deploy} cannot be written: {error.strerror}.") from error
    point = chosen.point
    bound = "" if chosen.asr_upper is None else f", at most {chosen.asr_upper:.3f} at confidence {confidence:g}"
    console.print(
        f"{point['defense']} {point['config_id']} ({point['trials']}): val_acc {spread(point, 'val_acc')}, "
        f"{over} val_asr {spread(point, 'val_asr')}{bound} "
        f"(floor {point['asr_floor']:.3f}, control {point['control_asr']:.3f}); "
        f"{chosen.others} other{'s' if chosen.others != 1 else ''} qualified.",
        soft_wrap=True,
        highlight=False,
    )
    found = setting_of(validate(sweep["preset"], str(run_folder.sweep)), point["defense"], content["params"])
    if found:
        console.print(f"Found by the search: {found}", soft_wrap=True, highlight=False)
    print_unfinished(console, run_folder)
    if chosen.hardest_of:
        hardest = f"Hardest of {'; '.join(chosen.hardest_of)}: {point['environment']}."
        console.print(f"{hardest} This setting was measured there; not always at the others.", highlight=False)
    if chosen.no_evidence:
        console.print(
            f"No evidence about {'; '.join(chosen.no_evidence)}: the attack fails there without a defense.",
            soft_wrap=True,
            highlight=False,
        )
    if point["seeds"] == 1:
        console.print("It rests on one seed: how much the figures vary is not known.")
    if confidence is None:
        console.print(
            "The best of a search flatters itself; before deploying: "
            f"sweeper confirm {folder} --max-asr {max_asr:g}, and then sweeper select {folder} --max-asr {max_asr:g}"
            + (f" --min-acc {min_acc:g}" if min_acc else "") + (f" --defense {defense}" if defense else "")
            + " --confidence 0.9",
            soft_wrap=True,
            highlight=False,
        )  # fmt: skip
    attached = attach(tracking_uri(folder.resolve().parent), sweep, run_folder.deploy)
    console.print(
        f"Written: {run_folder.deploy}" + (" (and to the sweep's run in MLflow)" if attached else ""),
        soft_wrap=True,
        highlight=False,
    )
    kind = DEFENSES[point["defense"]]
    more = " --unlabelled SOURCE" if kind.unlabelled(kind.Params(**content["params"])) else ""
    train_with = f"Train with it: sweeper train {run_folder.deploy} --data SOURCE{more} --out DIR"
    console.print(train_with, soft_wrap=True, highlight=False)


@app.command(name="train")
def train_(
    deploy: Annotated[Path, typer.Argument(metavar="DEPLOY.yaml", help="The setting, as select wrote it.")],
    data: Annotated[str, typer.Option(help="Untrusted images: parquet:PATH, folder:PATH, cifar10 or shapes.")],
    out: Annotated[Path, typer.Option(help="Where model, scores and report go.")],
    image_size: Annotated[int | None, typer.Option(help="Resize images to this height and width.")] = None,
    unlabelled: Annotated[
        str | None,
        typer.Option(
            help="parquet:PATH or folder:PATH of images, labelled or not, for a defense that needs such (bcu)."
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto (a GPU if there is one), cpu or cuda.")] = "auto",
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = max(os.cpu_count() or 1, 1),
    seed: Annotated[int, typer.Option(min=0, help="Of every draw.")] = 0,
) -> None:
    """Train with a selected setting on images whose labels nobody vouches for."""
    with _one_sentence():
        deployment = read_deployment(deploy)
        compute = ComputeConfig(device, threads).open(float(torch.cuda.is_available()))
        config = DataConfig(source=data, image_size=image_size)
        console.print("Loading data ...", highlight=False)
        images = load_untrusted(config)
        deployment.check_fits(images)
        aside = deployment.unlabelled(unlabelled, image_size)
        folder = RunFolder(out)
        try:
            folder.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"{out} cannot be written: {error.strerror}.") from error
        folder.check_writable()
        if (out / WEIGHTS).exists():
            raise ConfigError(f"{out} already holds a model; give --out an empty or new folder.")
        uri = tracking_uri(out.resolve().parent)
        check_store(uri)
        console.print(f"{len(images)} images, {images.num_classes} classes. Results go to {out}.", highlight=False)
        with folder.lock():
            try:
                deployed = train(deployment, images, data, out, compute, seed, console, aside)
            except TrialError as error:
                errors.print(f"The training failed: {error}", markup=False, highlight=False)
                raise typer.Exit(BROKEN) from error
            except OSError as error:
                text = (
                    f"{out} cannot be written any more: {error.strerror}. The same command goes on from what is there."
                )
                errors.print(text, markup=False, highlight=False)
                raise typer.Exit(BROKEN) from error
    facts = {"data.source": data, "data.fingerprint": images.fingerprint, "images": len(images), "seed": seed}
    try:
        name, version = track_model(uri, deployment, deployed, facts)
        console.print(f"MLflow: model {name}, version {version}, alias {ALIAS}", soft_wrap=True, highlight=False)
    except ConfigError as error:
        errors.print(f"{error} The model and the report are written all the same.", markup=False, highlight=False)
    if deployed.review is not None:
        count = int((deployed.review["verdict"] == "suspicious").sum())
        seen = f": {out / 'suspicious.png'}" if count else ""
        console.print(f"{count} of {len(images)} images are suspicious{seen}", soft_wrap=True, highlight=False)
    console.print(f"Model: {out / WEIGHTS}   report: {out / 'report.md'}", soft_wrap=True, highlight=False)


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="What train wrote: its folder, or model.safetensors in it.")],
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Images of any format that Pillow reads.")],
    resize: Annotated[bool, typer.Option("--resize", help="Resize images to what the model takes.")] = False,
) -> None:
    """Classify images: a line for each, with its path, class and probability, separated by tabs."""
    with _one_sentence():
        for path, name, probability in classify(load_model(model), images, resize):
            print(f"{path}\t{name}\t{probability:.4f}")


@app.command()
def ui(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A run folder.")],
    port: Annotated[int, typer.Option(help="Of MLflow's UI; 0: any.")] = 5000,
    report_port: Annotated[int, typer.Option(help="Of the report; 0: any.")] = 0,
) -> None:
    """Serve the report and MLflow's UI on this machine alone, until Ctrl-C."""
    with _one_sentence():
        run_folder = RunFolder.open(folder)
        if not run_folder.report.exists():
            raise ConfigError(f"{run_folder.report} is not there; sweeper report {folder} writes it.")
        store = tracking_uri(folder.resolve().parent)
        with serve(run_folder.report, store, port, report_port) as (report_address, mlflow_address):
            console.print(f"Report: {report_address}", soft_wrap=True, highlight=False)
            console.print(f"MLflow: {without_secret(mlflow_address)}   (Ctrl-C ends)", soft_wrap=True, highlight=False)
            with suppress(KeyboardInterrupt):
                Event().wait()


@app.command(name="gallery")
def gallery_(
    data: Annotated[str | None, typer.Option(help="Images: shapes, cifar10, parquet:PATH or folder:PATH.")] = None,
    preset: Annotated[str, typer.Option(help="Whose attacks are shown.")] = ATTACKS_PRESET,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a key, e.g. data.train_size=500.")
    ] = None,
    out: Annotated[Path, typer.Option(help="The picture.")] = Path("runs/gallery.png"),
) -> None:
    """Draw what each attack does to an image, with what it changes and how much it shows."""
    with _one_sentence():
        changes = [*(set_ or []), *([] if data is None else [f"data.source={data}"])]
        content = apply_overrides(read_preset(preset), changes, preset)
        uri = show_attacks(content, preset, out, console)
    console.print(f"Written: {out}, and to MLflow: {without_secret(uri)}", soft_wrap=True, highlight=False)


@app.command()
def doctor(
    preset: Annotated[str, typer.Argument(help="The preset whose data is to be read.")] = DEFAULT_PRESET,
    runs: Annotated[Path, typer.Option(help="Where run folders go.")] = Path("runs"),
) -> None:
    """Check versions, GPUs, Ray, storage, tracking store and data, and say what to do."""
    ill = False
    for finding in examine(preset, runs):
        mark = "ok" if finding.fine else "NOT OK"
        remedy = f" -> {finding.remedy}" if finding.remedy else ""
        console.print(f"{mark:7}{finding.what}: {finding.found}{remedy}", markup=False, highlight=False, soft_wrap=True)
        ill = ill or not finding.fine
    if ill:
        raise typer.Exit(BAD_INPUT)


def main() -> None:
    """Entry point; without any argument, the default preset is run."""
    if len(sys.argv) == 1:
        sys.argv += ["run", DEFAULT_PRESET]
    app()
