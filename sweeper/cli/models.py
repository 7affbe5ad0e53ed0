"""Commands that turn a sweep into a model: ``select``, ``train`` and ``predict``."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sweeper.analysis.uncertainty import Over
from sweeper.cli.folders import RunDir, keep_copy, resolve_run_folder
from sweeper.cli.screen import BAD_INPUT, BROKEN, NOTHING_QUALIFIES, complain, console, one_sentence, say

if TYPE_CHECKING:
    from sweeper.deploy.train_and_track import Tracked

app = typer.Typer()


@app.command(name="select")
def select_(
    folder: RunDir,
    max_excess: Annotated[
        float | None,
        typer.Option(
            help="Most that a trigger may add to the floor (val_asr_excess); see --over. This or --max-asr is needed."
        ),
    ] = None,
    max_asr: Annotated[
        float | None, typer.Option(help="Highest attack success (val_asr), floor included; see --over.")
    ] = None,
    min_acc: Annotated[float, typer.Option(help="Lowest mean accuracy (val_acc) to accept.")] = 0.0,
    min_class_acc: Annotated[
        float, typer.Option(help="Lowest accuracy on the worst class, in the worst scenario, to accept.")
    ] = 0.0,
    poison_rate: Annotated[float | None, typer.Option(help="Use only trials with this poison rate.")] = None,
    over: Annotated[
        Over, typer.Option(help="How either is aggregated over scenarios; cvar: the mean of the worst half.")
    ] = "worst",
    confidence: Annotated[
        float | None,
        typer.Option(
            help="Select the setting that sweeper confirm has certified at this confidence (e.g. 0.95), or at a higher "
            "one."
        ),
    ] = None,
    defense: Annotated[str | None, typer.Option(help="Use only settings of this defense.")] = None,
) -> None:
    """Select the most accurate setting within the limits, and write it to deploy.yaml."""
    from sweeper.analysis.selection import NothingQualifies
    from sweeper.cli.next_step import confirmation_lines
    from sweeper.cli.tables import print_reading_notes, selection_lines
    from sweeper.deploy.bounds import Bounds
    from sweeper.deploy.select import select_setting
    from sweeper.run_folder.folder import RunFolder
    from sweeper.run_folder.status import reading_notes
    from sweeper.words import command

    with one_sentence():
        bounds = Bounds(max_excess, max_asr, min_acc, min_class_acc, poison_rate, over, confidence, defense)
        run_folder = RunFolder.open(resolve_run_folder(folder))
        try:
            selected = select_setting(run_folder, bounds)
        except NothingQualifies as error:
            for text in (str(error), *reading_notes(run_folder)):
                complain(text)
            raise typer.Exit(NOTHING_QUALIFIES) from error
        for line in selection_lines(selected.selection, bounds, selected.searched):
            say(line)
        say(f"Attacked classes: {selected.classes}.")
        print_reading_notes(console, run_folder)
        if confidence is None:
            for line in confirmation_lines(run_folder, selected):
                say(line)
    instead = ", replacing an earlier selection" if selected.replaced else ""
    say(f"Written: {run_folder.deploy}{instead}" + (" (and to the sweep's run in MLflow)" if selected.tracked else ""))
    keep_copy(run_folder, [run_folder.deploy])
    more = " --unlabelled SOURCE" if selected.unlabelled else ""
    say(f"Train with it: {command('train', run_folder.deploy)} --data SOURCE{more} --out DIR")


@app.command(name="train")
def train_(
    deploy: Annotated[Path, typer.Argument(metavar="DEPLOY.yaml", help="deploy.yaml, as written by sweeper select.")],
    data: Annotated[str, typer.Option(help="Untrusted training images, e.g. folder:PATH, as data.source names them.")],
    out: Annotated[Path, typer.Option(help="Folder for the model, the scores and the report.")],
    image_size: Annotated[
        int | None, typer.Option(help="Resize images to this height and width; default: as the sweep did.")
    ] = None,
    image_column: Annotated[
        str | None,
        typer.Option(help="Column of the images in Parquet files; default: that of the sweep, if it named one."),
    ] = None,
    label_column: Annotated[
        str | None, typer.Option(help="Column of the labels in Parquet files; default: that of the sweep, likewise.")
    ] = None,
    unlabelled: Annotated[
        str | None,
        typer.Option(
            help="For a defense that needs unlabelled images (bcu): parquet:PATH or folder:PATH; labels are ignored."
        ),
    ] = None,
    unreadable: Annotated[
        str,
        typer.Option(
            help="What to do with images that cannot be read, and rows without image or label: refuse them, or "
            "leave_out, and list them."
        ),
    ] = "refuse",
    device: Annotated[str, typer.Option(help="auto (a GPU if there is one), cpu or cuda.")] = "auto",
    threads: Annotated[
        int, typer.Option(min=1, help="Number of CPU threads.", show_default="as many as the machine has CPUs")
    ] = max(os.cpu_count() or 1, 1),
    seed: Annotated[int, typer.Option(min=0, help="Seed of all random draws.")] = 0,
    replicates: Annotated[
        int,
        typer.Option(
            min=1,
            help="Number of models to train, with seeds from --seed on; reports how far they agree, and keeps the one "
            "nearest to the others.",
        ),
    ] = 1,
) -> None:
    """Train a model with the selected setting on untrusted images."""
    from sweeper.deploy.train_and_track import TrainingBroken, train_and_track

    with one_sentence():
        try:
            tracked = train_and_track(
                deploy, data, out, console,
                image_size=image_size, image_column=image_column, label_column=label_column, unlabelled=unlabelled,
                device=device, threads=threads, seed=seed, replicates=replicates, unreadable=unreadable,
            )  # fmt: skip
        except TrainingBroken as error:
            complain(str(error))
            raise typer.Exit(BROKEN) from error
    _show_training(tracked)


def _show_training(tracked: "Tracked") -> None:
    """Print where the model is, and what to review before using it."""
    from sweeper.deploy.agreement_report import agreement_lines
    from sweeper.deploy.model_run import ALIAS
    from sweeper.deploy.train import doubtful_classes
    from trainers.storage.saved_model import WEIGHTS

    folder, review = tracked.deployed.folder, tracked.deployed.review
    if tracked.version is not None:
        model = tracked.version
        alias = f"alias {ALIAS}" if model.selected else f"without the alias {ALIAS}, since it may not know a class"
        say(f"MLflow: model {model.name}, version {model.version}, {alias}, in {tracked.store}")
    else:
        complain(f"{tracked.error} The model and the report were written nevertheless.")
    if review is not None:
        count = int((review["verdict"] == "suspicious").sum())
        seen = f": {folder / 'suspicious.png'}" if count else ""
        say(f"{count} of {tracked.images} images are suspicious{seen}")
        for name, share in doubtful_classes(review).items():
            say(f"{share:.0%} of the class {name} were not learned as labelled: the model may not know it.")
    if tracked.deployed.replicates is not None:
        for line in agreement_lines(tracked.deployed.replicates):
            say(line)
    say(f"Model: {folder / WEIGHTS}   report: {folder / 'report.md'}")


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="Folder written by sweeper train, or model.safetensors in it.")],
    images: Annotated[
        list[Path],
        typer.Argument(metavar="IMAGE...", help="Images of any format that Pillow reads, and folders of such images."),
    ],
    resize: Annotated[
        bool, typer.Option("--resize", help="Resize images to the model's size, even if its training images were not.")
    ] = False,
) -> None:
    """Classify images; print path, class and probability of each, separated by tabs.

    Images that cannot be read, and what is left out of folders, are named at the end; all others are classified.
    """
    from sweeper.deploy.predict import classify, image_paths
    from trainers.data.findings import Findings
    from trainers.storage.saved_model import load_model
    from trainers.text import printable

    unreadable: list[str] = []
    findings = Findings()
    with one_sentence():
        classifier, paths = load_model(model), image_paths(images, findings)
        for path, name, probability in classify(classifier, paths, resize, unreadable.append):
            print(f"{printable(str(path))}\t{printable(name)}\t{probability:.4f}")
    for text in [*findings.lines(), *unreadable]:
        complain(text)
    if unreadable:
        raise typer.Exit(BAD_INPUT)
