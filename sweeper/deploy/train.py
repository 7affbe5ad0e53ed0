"""Trains a model with a selected setting on untrusted images, and writes a report of suspicious images."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml
from rich.console import Console

from sweeper.deploy.agreement_report import agreement_section
from sweeper.deploy.deployment import Deployment
from sweeper.deploy.replicates import Replicates, train_replicates, write_replicates
from sweeper.deploy.suspicious import draw_suspicious
from sweeper.deploy.training import Trainer
from sweeper.run_folder.provenance import provenance
from sweeper.run_folder.tables import as_rows, write_table
from trainers.blind import Trained
from trainers.compute import Compute
from trainers.data.class_order import in_class_order
from trainers.data.config import DataConfig
from trainers.data.image_set import ImageSet
from trainers.data.stored import Images
from trainers.storage.files import write_text
from trainers.text import printable

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
        seed: of the model.
        replicates: the models that it was chosen from; null if only one was to be trained.
    """

    folder: Path
    trained: Trained
    review: pd.DataFrame | None
    seed: int
    replicates: Replicates | None


def train(
    deployment: Deployment,
    data: ImageSet,
    read_as: DataConfig,
    folder: Path,
    compute: Compute,
    seed: int,
    console: Console,
    unlabelled: Images | None = None,
    replicates: int = 1,
    state_every_s: float = 60.0,
) -> Deployed:
    """Train, and write model, scores and report into ``folder``; of several models, the one nearest to the others.

    Trainings that were cut off there continue, if data, setting, seed, numeric format and kind of device are the same.

    Args:
        deployment: the setting.
        data: untrusted images.
        read_as: where they came from, and how they were read.
        folder: where results go.
        compute: where to compute.
        seed: of every draw.
        console: for progress.
        unlabelled: uint8 (M, C, H, W), for defenses that need images without labels.
        replicates: how many models to train, with the seeds from ``seed`` on.
        state_every_s: seconds between states.

    Raises:
        TrialError: a loss is not finite, in every model if there are several.
        OSError: results cannot be written.
    """
    trainer = Trainer(deployment, data, read_as, folder, compute, console, unlabelled, state_every_s)
    seeds, found = range(seed, seed + replicates), None
    if replicates > 1:

        def say(text: str) -> None:
            console.print(printable(text), markup=False, highlight=False, soft_wrap=True)

        found = train_replicates(seeds, trainer.train, data.images, compute.device, say)
        seed = found.chosen
    trained = trainer.train(seed)  # of several, as it was kept
    review = _review(data, trained, None if found is None else found.marked_by)
    if review is not None:
        write_table(folder / "suspicious.parquet", as_rows(review), REVIEW_COLUMNS)
        draw_suspicious(data, review, folder / "suspicious.png")
    if found is not None:
        write_replicates(found, data, folder)
    write_text(folder / "report.md", _report(deployment, data, read_as.source, review, trained, seed, found))
    trained.model.save(folder)  # last, since it shows that all the rest is there
    for each in seeds:
        trainer.forget(each)
    return Deployed(folder, trained, review, seed, found)


def _review(data: ImageSet, trained: Trained, marked_by: np.ndarray | None) -> pd.DataFrame | None:
    """A row per training image with the defense's verdict, the most suspicious first; null if it gives none.

    Args:
        data: the images.
        trained: the model and the scores.
        marked_by: share of the models that mark each image as suspicious, a further column; null: of a single model.
    """
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
    if marked_by is not None:
        frame = frame.assign(marked_by=marked_by)
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
    deployment: Deployment,
    data: ImageSet,
    source: str,
    review: pd.DataFrame | None,
    trained: Trained,
    seed: int,
    replicates: Replicates | None,
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
    if replicates is not None:
        lines += agreement_section(replicates, len(data))
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
