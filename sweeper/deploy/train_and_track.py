"""Trains a model from ``deploy.yaml`` and untrusted images, and registers it in MLflow."""

from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console

from sweeper.decoding import decoding_shown
from sweeper.deploy.deployment import read_deployment
from sweeper.deploy.model_run import Registered, track_model
from sweeper.deploy.train import Deployed, train
from sweeper.run_folder.folder import RunFolder
from sweeper.tracking.store import check_store, tracking_uri, without_secret
from trainers.compute import ComputeConfig
from trainers.data import Findings, load_untrusted
from trainers.data.config import REFUSE
from trainers.errors import ConfigError, TrialError
from trainers.placement import placement
from trainers.seeding import NUMERICS
from trainers.storage.saved_model import WEIGHTS
from trainers.text import printable


class TrainingBroken(Exception):
    """The training ended early. The message is a sentence for the user."""


@dataclass(frozen=True)
class Tracked:
    """A trained model, and its version in MLflow.

    Args:
        deployed: results of the training.
        images: how many images it was trained on.
        store: address of the tracking store, without user and password.
        version: the registered model; null if the store failed.
        error: why the store failed; null if it did not.
    """

    deployed: Deployed
    images: int
    store: str
    version: Registered | None
    error: str | None = None


def train_and_track(
    deploy: Path,
    source: str,
    out: Path,
    console: Console,
    *,
    image_size: int | None,
    image_column: str | None,
    label_column: str | None,
    unlabelled: str | None,
    device: str,
    threads: int,
    seed: int,
    replicates: int = 1,
    unreadable: str = REFUSE,
) -> Tracked:
    """Train with a selected setting on untrusted images, and register the model in MLflow.

    Everything is checked before the training begins: the setting, the images, the folder and the tracking store. If
    the store fails afterwards, the model is kept.

    Args:
        deploy: path of ``deploy.yaml``.
        source: of the images, as ``data.source`` of a preset.
        out: folder for model, scores and report.
        console: for progress.
        image_size: resize images to this height and width; null: as the sweep did.
        image_column, label_column: of Parquet files; null: as for the sweep that found the setting.
        unlabelled: source of images without labels; null: what the setting names.
        device: auto, cpu or cuda.
        threads: of the CPU.
        seed: of every draw.
        replicates: how many models to train, with the seeds from ``seed`` on; the one nearest to the others is kept.
        unreadable: what to do with images that cannot be read: refuse them, or leave_out.

    Raises:
        ConfigError: the training cannot begin.
        TrainingBroken: the training failed, or the folder cannot be written any more.
    """
    deployment = read_deployment(deploy)
    if deployment.numerics != NUMERICS:
        text = (
            f"This setting was found with numerics {deployment.numerics}, and this program trains with {NUMERICS}: its "
            "evidence may not hold for a model trained now."
        )
        console.print(text, highlight=False, soft_wrap=True)
    asked = ComputeConfig(device, threads, deployment.amp, pass_images=deployment.pass_images)
    compute = asked.open(float(torch.cuda.is_available()))
    found_in = deployment.computed_in
    other = "" if found_in in (None, str(compute)) else f"; the setting was found in {found_in}"
    console.print(f"Training in {compute}{other}.", highlight=False, soft_wrap=True)
    config = deployment.data(source, image_size, unreadable, image_column, label_column)
    console.print("Loading data ...", highlight=False)
    findings = Findings()
    with decoding_shown(console):
        data = load_untrusted(config, findings)
        deployment.check_fits(data)
        without_labels = deployment.unlabelled(unlabelled, config, findings)
    folder = _model_folder(out)
    # Beside the sweep that found the setting, where MLflow shows both.
    sweep = deploy.resolve().parent
    uri = tracking_uri((sweep if (sweep / "sweep.yaml").exists() else out.resolve()).parent)
    check_store(uri)
    sizes = f"{len(data)} images, {data.num_classes} classes. Results go to {out}."
    console.print(printable(sizes), highlight=False, soft_wrap=True)
    where = placement(data.images, compute.image_room, compute.device.type == "cpu")
    console.print(where, markup=False, highlight=False, soft_wrap=True)
    with folder.lock():
        try:
            for line in folder.write_data_findings(findings):
                console.print(printable(line), markup=False, highlight=False, soft_wrap=True)
            deployed = train(deployment, data, config, out, compute, seed, console, without_labels, replicates)
        except TrialError as error:
            raise TrainingBroken(f"The training failed: {error}") from error
        except OSError as error:
            raise TrainingBroken(
                f"{out} cannot be written any more: {error.strerror}. Run the same command again to continue."
            ) from error
    facts = {"data.source": source, "data.fingerprint": data.fingerprint, "images": len(data), "seed": deployed.seed}
    if replicates > 1:
        facts |= {"replicates": replicates, "replicates.first_seed": seed}
    try:
        version, failure = track_model(uri, deployment, deployed, facts), None
    except ConfigError as error:
        version, failure = None, str(error)
    return Tracked(deployed, len(data), without_secret(uri), version, failure)


def _model_folder(path: Path) -> RunFolder:
    """Make the folder for a new model, and check that it can be written.

    Raises:
        ConfigError: the folder cannot be written, or holds a model.
    """
    folder = RunFolder(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}.") from error
    folder.check_writable()
    if (path / WEIGHTS).exists():
        raise ConfigError(f"{path} already holds a model; give --out an empty or new folder.")
    return folder
