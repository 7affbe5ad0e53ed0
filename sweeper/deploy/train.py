"""Trains a model with a selected setting on untrusted images, and writes a report of suspicious images."""

import re
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import yaml
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor

from sweeper.deploy.deployment import Deployment
from sweeper.deploy.suspicious import draw_suspicious
from sweeper.run_folder.provenance import provenance
from sweeper.run_folder.tables import as_rows, write_table
from trainers.blind import Trained, train_blind
from trainers.compute import Compute
from trainers.data.class_order import in_class_order
from trainers.data.config import DataConfig
from trainers.data.image_set import ImageSet, pixels_fingerprint
from trainers.defenses import DEFENSES
from trainers.seeding import NUMERICS, derive_seed
from trainers.storage.files import remove_tree, write_text
from trainers.storage.state_store import StateStore

DOUBTED_ABOVE = 0.5
"""A model may not know a class if more than this share of its images is suspicious."""
REVIEW_COLUMNS = ("index", "path", "label", "score", "verdict")


@dataclass(frozen=True)
class Deployed:
    """Results of a training.

    Args:
        folder: with ``model.safetensors``, ``model.json``, ``suspicious.parquet``, ``suspicious.png``, ``report.md``.
        trained: the model and the scores.
        review: a row per training image, the most suspicious first; null if the defense marks none.
    """

    folder: Path
    trained: Trained
    review: pd.DataFrame | None


def train(
    deployment: Deployment,
    data: ImageSet,
    read_as: DataConfig,
    folder: Path,
    compute: Compute,
    seed: int,
    console: Console,
    unlabelled: Tensor | None = None,
    state_every_s: float = 60.0,
) -> Deployed:
    """Train, and write model, scores and report into ``folder``.

    A training that was cut off there continues, if data, setting, seed, numeric format and kind of device are the same.

    Args:
        deployment: the setting.
        data: untrusted images.
        read_as: where they came from, and how they were read.
        folder: where results go.
        compute: where to compute.
        seed: of every draw.
        console: for progress.
        unlabelled: uint8 (M, C, H, W), for defenses that need images without labels.
        state_every_s: seconds between states.

    Raises:
        TrialError: a loss is not finite.
        OSError: results cannot be written.
    """
    params = DEFENSES[deployment.defense].Params(**deployment.params)
    setting = [deployment.defense, params.changed(), deployment.model.changed(), deployment.augment.changed()]
    key = derive_seed(
        seed,
        "deploy",
        NUMERICS,
        setting,
        compute.device.type,  # a CPU's generator states do not fit a GPU
        compute.amp,
        data.fingerprint,
        None if unlabelled is None else pixels_fingerprint(unlabelled),
        *[size for size in (deployment.pass_images,) if size is not None],  # a key that was added later
    )
    states = folder / "states" / f"{key:x}"
    store = StateStore(states, state_every_s)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("training", total=None)

        def show(stage: str, epoch: int, total: int, loss: float | None) -> None:
            text = f"{stage}, loss {loss:.3f}" if loss is not None else stage
            progress.update(task, description=text, completed=epoch, total=total)
            if not console.is_terminal and (epoch == total or epoch % max(total // 10, 1) == 0):
                console.print(f"epoch {epoch} of {total}: {text}", highlight=False)

        trained = train_blind(deployment.setting, data, compute, seed, store, show, unlabelled)
    trained = replace(trained, model=replace(trained.model, rendering=read_as.rendering))
    review = _review(data, trained)
    if review is not None:
        write_table(folder / "suspicious.parquet", as_rows(review), REVIEW_COLUMNS)
        draw_suspicious(data, review, folder / "suspicious.png")
    write_text(folder / "report.md", _report(deployment, data, read_as.source, review, trained, seed))
    trained.model.save(folder)  # last, since it shows that all the rest is there
    remove_tree(states)
    with suppress(OSError):  # another training's states, or other files
        states.parent.rmdir()
    return Deployed(folder, trained, review)


def _review(data: ImageSet, trained: Trained) -> pd.DataFrame | None:
    """A row per training image with the defense's verdict, the most suspicious first; null if it gives none."""
    if trained.suspicion is None or trained.credible is None:
        return None
    frame = pd.DataFrame(
        {
            "index": range(len(data)),
            "path": data.names or [None] * len(data),
            "label": [data.class_names[label] for label in data.labels.tolist()],
            "score": trained.suspicion.double().tolist(),
            "verdict": ["credible" if kept else "suspicious" for kept in trained.credible.tolist()],
        }
    )
    suspicious = frame["verdict"] == "suspicious"
    return (
        frame.assign(first=~suspicious).sort_values(["first", "score"], ascending=[True, False]).drop(columns="first")
    )


def doubtful_classes(review: pd.DataFrame) -> dict[str, float]:
    """Classes that the model may not know, since most of their images are suspicious; with the suspicious share.

    Args:
        review: rows of ``suspicious.parquet``.
    """
    shares = (review["verdict"] == "suspicious").groupby(review["label"]).mean()
    return {
        name: float(shares[name]) for name in in_class_order(map(str, shares.index)) if shares[name] > DOUBTED_ABOVE
    }


def _report(
    deployment: Deployment, data: ImageSet, source: str, review: pd.DataFrame | None, trained: Trained, seed: int
) -> str:
    counts = torch.bincount(data.labels, minlength=data.num_classes).tolist()
    lines = [
        f"# A {deployment.model.name} trained with {deployment.defense}",
        "",
        f"{len(data)} images of `{source}`, {data.num_classes} classes, fingerprint `{data.fingerprint}`. "
        f"{len(trained.losses)} epochs, seed {seed}. No image of it was known to be clean or poisoned, so nothing here "
        "says how accurate or how safe the model is: the evidence for the setting is that of the sweep, below.",
        "",
    ]
    if review is None:
        lines += [f"{deployment.defense} marks no samples: there is nothing to review.", ""]
    else:
        marked = review[review["verdict"] == "suspicious"]["label"].value_counts()
        lines += (
            ["No image is suspicious.", ""]
            if marked.empty
            else [
                f"{int(marked.sum())} images ({marked.sum() / len(data):.1%}) are suspicious; the model did not learn "
                "their labels as they are. Most of them may be clean images that are hard to learn: look at "
                "`suspicious.png` and `suspicious.parquet` (the most suspicious first), above all where a class stands "
                "out.",
                "",
                "| class | images | suspicious | share |",
                "|---|---|---|---|",
            ]
        )
        for name, count in zip(data.class_names, counts, strict=True):
            suspicious = int(marked.get(name, 0))
            lines.append(f"| {_escape_markdown(name)} | {count} | {suspicious} | {suspicious / max(count, 1):.1%} |")
        lines.append("")
        for name, share in doubtful_classes(review).items():
            lines += [
                f"**{share:.0%} of the class {_escape_markdown(name)} were not learned as labelled: the model may not "
                "know it.**",
                "",
            ]
    lines += ["## Setting", "", "```yaml", _yaml(deployment), "```", ""]
    lines += ["## Use", "", "    sweeper predict MODEL_FOLDER IMAGE...", ""]
    lines += [
        "`model.safetensors` holds the weights, `model.json` architecture, classes and normalisation; neither runs "
        "code when it is read.",
        "",
    ]
    return "\n".join(lines)


def _escape_markdown(name: str) -> str:
    """The name with all that Markdown would interpret escaped."""
    return re.sub(r"([\\`*_\[\]<>|#!&])", r"\\\1", name)


def _yaml(deployment: Deployment) -> str:
    content: dict[str, Any] = {
        "defense": deployment.defense,
        "params": deployment.params,
        "model": deployment.model.as_dict(),
        "augment": deployment.augment.as_dict(),
        "found by": deployment.source,
        "trained with": provenance(),
    }
    return yaml.safe_dump(content, sort_keys=False).rstrip()
