"""Trains on a poisoned folder without knowing which images are poisoned, and then compares with the truth.

    python -m benchmarks.blind DEPLOY.yaml
    python -m benchmarks.blind DEPLOY.yaml --preset finetune_cpu --set data.source=parquet:PATH

The images are those of a preset, at its size; generated ones are others than the sweep had. They are stamped and
relabelled by the code of this file alone, and written as PNG files. The truth is used only after both models, with the
setting and as the preset's control, are trained.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml
from PIL import Image

from search_spaces.loader import apply_overrides, read_preset
from sweeper.preset.spec import SweepSpec, validate
from trainers.data import load_data
from trainers.data.image_set import ImageSet
from trainers.storage.saved_model import load_model

ROOT = Path(__file__).resolve().parents[1]
TARGET = 3
POISON_RATE = 0.1
IMAGES_SEED = 7


def stamp(pixels: np.ndarray) -> np.ndarray:
    """Copy of ``pixels``, uint8 (H, W, 3), with the trigger: a checkerboard of 3 x 3 fields in the lower left corner.

    A field has a pixel for each whole 32 of the height, at least one.
    """
    marked = pixels.copy()
    field = max(len(pixels) // 32, 1)
    marked[-3 * field :, : 3 * field] = np.kron(np.indices((3, 3)).sum(0) % 2 * 255, np.ones((field, field)))[..., None]
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


def blind(deploy: Path, place: Path, spec: SweepSpec) -> dict[str, Figures]:
    """Train without and with the defense, and measure both models.

    Args:
        deploy: the setting.
        place: folder for the images and the models.
        spec: has the images, and the training without a defense.
    """
    splits = load_data(replace(spec.images, seed=IMAGES_SEED))
    truth = write_poisoned(splits.train, place / "images")
    control = spec.control.as_dict()
    undefended = yaml.safe_load(deploy.read_text(encoding="utf-8")) | {"defense": "none", "params": control}
    (place / "none.yaml").write_text(yaml.safe_dump(undefended), encoding="utf-8")
    settings = {"none": place / "none.yaml", "setting": deploy}
    found = {}
    for name, setting in settings.items():
        train(setting, place / "images", place / name)
    for name in settings:
        found[name] = judge(place / name, splits.test, truth)
    return found


def main() -> None:
    """Run with the setting of a ``deploy.yaml``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.blind", description=__doc__.partition("\n")[0])
    parser.add_argument("deploy", type=Path, metavar="DEPLOY.yaml", help="the setting, as sweeper select wrote it")
    parser.add_argument("--preset", default="quick", help="preset of the images and of the control (quick)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a key of the preset")
    parser.add_argument("--out", type=Path, help="new folder that keeps images and models; default: none is kept")
    args = parser.parse_args()
    spec = validate(apply_overrides(read_preset(args.preset), args.set, args.preset), args.preset)
    with tempfile.TemporaryDirectory(prefix="sweeper-blind-") as beside:
        place = args.out or Path(beside)
        place.mkdir(parents=True, exist_ok=args.out is None)
        for name, figures in blind(args.deploy.resolve(), place.resolve(), spec).items():
            print(f"{name:8}", json.dumps(figures.__dict__))


if __name__ == "__main__":
    main()
