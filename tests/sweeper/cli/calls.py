"""Calls of the command line, what is said on stderr, and folders to call it on."""

from pathlib import Path
from typing import Any

import numpy as np
import yaml
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

from sweeper.cli.main import app
from sweeper.run_folder.folder import RunFolder
from tests.sweeper.small import (
    control_row,
    preset_with,
    row_with,
    sweep_with,
    write_rows,
)
from trainers.defenses import DEFENSES

SWEEP = sweep_with(augment={"crop": 0})

SMALL = ("--set", "data.train_size=200", "--set", "data.test_size=100")


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def sentence(result: Result, code: int = 2) -> str:
    """The one line on stderr."""
    assert result.exit_code == code, (result.exit_code, result.output, result.exception)
    assert isinstance(result.exception, SystemExit)
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert "Traceback" not in result.output
    return lines[0]


def write_preset(path: Path, **changes: Any) -> str:
    path.write_text(yaml.safe_dump(preset_with(**changes)), encoding="utf-8")
    return str(path)


def picture(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def image_folder(root: Path, classes: int = 2) -> Path:
    for split in ("train", "test"):
        for label in range(classes):
            for number in range(4):
                picture(root / split / f"class{label}" / f"{number}.png", seed=number)
    return root


def params(**changes: Any) -> dict[str, Any]:
    values = DEFENSES["vab"].Params(**changes).as_dict()
    return {f"param.defense.{key}": list(v) if isinstance(v, tuple) else v for key, v in values.items()}


def sweep_at(path: Path, **changes: Any) -> Path:
    folder = RunFolder.create(path)
    folder.write_sweep(SWEEP)
    points = [(0.9, 0.4, 0.1), (0.8, 0.1, 0.2), (0.7, 0.05, 0.3)]
    rows = [
        row_with(f"t000{i}", f"config{i}", **({"val_acc": acc, "val_asr": asr} | params(threshold=t) | changes))
        for i, (acc, asr, t) in enumerate(points)
    ]
    write_rows(folder, [control_row(), *rows])
    return path
