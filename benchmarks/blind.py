"""Trains on a poisoned folder without knowing which images are poisoned, and then compares with the truth.

    python -m benchmarks.blind DEPLOY.yaml [IMAGES]

The images are generated (``shapes``), stamped and relabelled by the code of this file alone, and written as PNG files.
The truth is used only after both models, with the setting and without a defense, are trained.
"""

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml
from PIL import Image

from trainers.data import DataConfig, load_data
from trainers.data.image_set import ImageSet
from trainers.storage.saved_model import load_model

ROOT = Path(__file__).resolve().parents[1]
TARGET = 3
POISON_RATE = 0.1
CONTROL = {"epochs": 20, "batch_size": 64, "lr": 0.05, "schedule": "cosine"}  # of the quick preset


def stamp(pixels: np.ndarray) -> np.ndarray:
    """Copy of ``pixels``, uint8 (H, W, 3), with the trigger: a 3 x 3 checkerboard in the lower left corner."""
    marked = pixels.copy()
    marked[-3:, :3] = (np.indices((3, 3)).sum(0) % 2 * 255)[..., None]
    return marked


def write_poisoned(images: ImageSet, folder: Path, seed: int = 0) -> set[str]:
    """Write ``CLASS/NUMBER.png``; a tenth is stamped and put into the target's folder. Returns the paths of these."""
    random = np.random.default_rng(seed)
    others = np.flatnonzero(images.labels.numpy() != TARGET)
    chosen = set(random.choice(others, round(POISON_RATE * len(images)), replace=False).tolist())
    truth = set()
    for number in range(len(images)):
        pixels = images.images[number].permute(1, 2, 0).numpy()
        label = TARGET if number in chosen else int(images.labels[number])
        path = folder / images.class_names[label] / f"{number:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(stamp(pixels) if number in chosen else pixels).save(path)
        if number in chosen:
            truth.add(str(path.relative_to(folder)))
    return truth


@dataclass(frozen=True)
class Figures:
    """Figures of a trained model, measured against the truth."""

    accuracy: float
    asr: float
    asr_floor: float
    tpr: float | None
    fpr: float | None


def train(deploy: Path, data: Path, out: Path) -> None:
    """Run the command ``train``, as a user would."""
    command = [
        sys.executable,
        str(ROOT / "sweep.py"),
        "train",
        str(deploy),
        "--data",
        f"folder:{data}",
        "--out",
        str(out),
    ]
    subprocess.run([*command, "--device", "cpu", "--threads", "1"], check=True, cwd=out.parent)


def judge(out: Path, test: ImageSet, truth: set[str]) -> Figures:
    """Measure a trained model against the truth."""
    model = load_model(out)
    order = [model.class_names.index(name) for name in test.class_names]  # folders are sorted by name
    labels = torch.tensor(order)[test.labels]
    target = model.class_names.index(test.class_names[TARGET])
    others = labels != target
    stamped = np.stack([stamp(image) for image in test.images[others].permute(0, 2, 3, 1).numpy()])
    clean, triggered = (
        model.probabilities(images).argmax(1)
        for images in (test.images, torch.from_numpy(stamped).permute(0, 3, 1, 2).contiguous())
    )
    tpr = fpr = None
    if (out / "suspicious.parquet").exists():
        review = pd.read_parquet(out / "suspicious.parquet")
        marked, poisoned = review["verdict"] == "suspicious", review["path"].isin(truth)
        assert poisoned.sum() == len(truth)
        tpr, fpr = float(marked[poisoned].mean()), float(marked[~poisoned].mean())
    return Figures(
        accuracy=float((clean == labels).float().mean()),
        asr=float((triggered == target).float().mean()),
        asr_floor=float((clean[others] == target).float().mean()),
        tpr=tpr,
        fpr=fpr,
    )


def blind(deploy: Path, place: Path, size: int) -> dict[str, Figures]:
    """Train without and with the defense, and measure both models."""
    splits = load_data(DataConfig(source="shapes", train_size=size, test_size=2000, seed=7))
    truth = write_poisoned(splits.train, place / "images")
    undefended = yaml.safe_load(deploy.read_text()) | {"defense": "none", "params": CONTROL}
    (place / "none.yaml").write_text(yaml.safe_dump(undefended))
    settings = {"none": place / "none.yaml", "setting": deploy}
    found = {}
    for name, setting in settings.items():
        train(setting, place / "images", place / name)
    for name in settings:
        found[name] = judge(place / name, splits.test, truth)
    return found


def main() -> None:
    """Run with the setting of a ``deploy.yaml``."""
    deploy = Path(sys.argv[1]).resolve()
    size = int(sys.argv[2]) if len(sys.argv) > 2 else 3000
    with tempfile.TemporaryDirectory(prefix="sweeper-blind-") as place:
        for name, figures in blind(deploy, Path(place), size).items():
            print(f"{name:8}", json.dumps(figures.__dict__))


if __name__ == "__main__":
    main()
