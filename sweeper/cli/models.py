"""Commands from a sweep to a model that is used."""

import os
from pathlib import Path
from typing import Annotated

import typer
import yaml

from sweeper.analysis.uncertainty import Over
from sweeper.cli.folders import RunDir, keep_copy, resolve_run_folder
from sweeper.cli.screen import BROKEN, NOTHING_QUALIFIES, complain, console, one_sentence, say
from trainers.errors import ConfigError, TrialError

app = typer.Typer()


@app.command(name="select")
def select_(
    folder: RunDir,
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
    from sweeper.analysis.selection import NothingQualifies, confirmed, select
    from sweeper.cli.tables import print_unfinished, selection_lines
    from sweeper.deploy.deployment import deployment
    from sweeper.preset.spec import validate
    from sweeper.report.tables import setting_of
    from sweeper.run_folder.folder import RunFolder
    from sweeper.run_folder.tables import as_rows
    from sweeper.tracking.store import attach, tracking_uri
    from sweeper.words import spread
    from trainers.defenses import DEFENSES
    from trainers.storage.files import write_text

    with one_sentence():
        for name, value in (("max-asr", max_asr), ("min-acc", min_acc), ("poison-rate", poison_rate)):
            if value is not None and not 0 <= value <= 1:
                raise ConfigError(f"--{name} must lie in [0, 1], but got {value:g}.")
        if confidence is not None and not 0.5 <= confidence < 1:
            raise ConfigError(f"--confidence must lie in [0.5, 1), but got {confidence:g}.")
        run_folder = RunFolder.open(resolve_run_folder(folder))
        frame, sweep = run_folder.read_trials(), run_folder.read_sweep()
        try:
            chosen = select(frame, max_asr, min_acc, poison_rate, over, confidence, defense)
        except NothingQualifies as error:
            left = f" {run_folder.deploy} is that of an earlier selection." if run_folder.deploy.exists() else ""
            complain(f"{error}{left}")
            raise typer.Exit(NOTHING_QUALIFIES) from error
        bounds = {"max_asr": max_asr, "min_acc": min_acc, "poison_rate": poison_rate, "over": over,
                  "confidence": confidence, "defense": defense}  # fmt: skip
        content = deployment(chosen, frame, sweep, bounds)
        spec = validate(sweep["preset"], str(run_folder.sweep))
        found = setting_of(spec, chosen.point["defense"], content["params"])
        earlier = run_folder.deploy.exists()
        try:
            write_text(run_folder.deploy, yaml.safe_dump(content, sort_keys=False))
        except OSError as error:
            raise ConfigError(f"{run_folder.deploy} cannot be written: {error.strerror}.") from error
    for line in selection_lines(chosen, over, confidence, found):
        say(line)
    print_unfinished(console, run_folder)
    if confidence is None:
        again = confirmed(frame, over)
        again = again[again["config_id"] == chosen.point["config_id"]]
        for row in as_rows(again):
            say(
                f"With {row['seeds']} fresh seed{'s' if row['seeds'] > 1 else ''}, which count for a confidence alone: "
                f"val_acc {spread(row, 'val_acc')}, {over} val_asr {spread(row, 'val_asr')}."
            )
        bounds_given = f"--max-asr {max_asr:g}" + (f" --min-acc {min_acc:g}" if min_acc else "")
        bounds_given += f" --defense {defense}" if defense else ""
        first = f"sweeper confirm {run_folder.path} --max-asr {max_asr:g}, and then " if again.empty else ""
        say(
            f"The best of a search flatters itself; before deploying: {first}sweeper select {run_folder.path} "
            f"{bounds_given} --confidence 0.9"
        )
    attached = attach(tracking_uri(run_folder.path.resolve().parent), sweep, run_folder.deploy)
    instead = ", in the place of an earlier selection" if earlier else ""
    say(f"Written: {run_folder.deploy}{instead}" + (" (and to the sweep's run in MLflow)" if attached else ""))
    keep_copy(run_folder, [run_folder.deploy])
    kind = DEFENSES[chosen.point["defense"]]
    more = " --unlabelled SOURCE" if kind.unlabelled(kind.Params(**content["params"])) else ""
    say(f"Train with it: sweeper train {run_folder.deploy} --data SOURCE{more} --out DIR")


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
    import torch

    from sweeper.deploy.deployment import read_deployment
    from sweeper.deploy.model_run import ALIAS, track_model
    from sweeper.deploy.train import lost_classes, train
    from sweeper.run_folder.folder import RunFolder
    from sweeper.tracking.store import check_store, tracking_uri, without_secret
    from trainers.compute import ComputeConfig
    from trainers.data import DataConfig, load_untrusted
    from trainers.storage.saved_model import WEIGHTS

    with one_sentence():
        if deploy.is_dir():
            raise ConfigError(f"{deploy} is a folder; give {deploy / 'deploy.yaml'}, which sweeper select writes.")
        deployment = read_deployment(deploy)
        compute = ComputeConfig(device, threads, deployment.amp).open(float(torch.cuda.is_available()))
        config = DataConfig(source=data, image_size=image_size)
        say("Loading data ...")
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
        # Beside the sweep that found the setting, where MLflow shows both.
        sweep = deploy.resolve().parent
        uri = tracking_uri((sweep if (sweep / "sweep.yaml").exists() else out.resolve()).parent)
        check_store(uri)
        say(f"{len(images)} images, {images.num_classes} classes. Results go to {out}.")
        with folder.lock():
            try:
                deployed = train(deployment, images, data, out, compute, seed, console, aside)
            except TrialError as error:
                complain(f"The training failed: {error}")
                raise typer.Exit(BROKEN) from error
            except OSError as error:
                again = "The same command goes on from what is there."
                complain(f"{out} cannot be written any more: {error.strerror}. {again}")
                raise typer.Exit(BROKEN) from error
    facts = {"data.source": data, "data.fingerprint": images.fingerprint, "images": len(images), "seed": seed}
    try:
        name, version = track_model(uri, deployment, deployed, facts)
        say(f"MLflow: model {name}, version {version}, alias {ALIAS}, in {without_secret(uri)}")
    except ConfigError as error:
        complain(f"{error} The model and the report are written all the same.")
    if deployed.review is not None:
        count = int((deployed.review["verdict"] == "suspicious").sum())
        seen = f": {out / 'suspicious.png'}" if count else ""
        say(f"{count} of {len(images)} images are suspicious{seen}")
        for name, share in lost_classes(deployed.review).items():
            say(f"{share:.0%} of the class {name} were not learned as labelled: the model may not know it.")
    say(f"Model: {out / WEIGHTS}   report: {out / 'report.md'}")


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="What train wrote: its folder, or model.safetensors in it.")],
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Images of any format that Pillow reads.")],
    resize: Annotated[bool, typer.Option("--resize", help="Resize images to what the model takes.")] = False,
) -> None:
    """Classify images: a line for each, with its path, class and probability, separated by tabs."""
    from sweeper.deploy.predict import classify
    from trainers.storage.saved_model import load_model
    from trainers.text import printable

    with one_sentence():
        for path, name, probability in classify(load_model(model), images, resize):
            print(f"{printable(str(path))}\t{printable(name)}\t{probability:.4f}")
