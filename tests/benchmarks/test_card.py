"""The script for a borrowed card, in miniature and without one."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import card, card_parts
from benchmarks.card_job import Job, random_images
from benchmarks.card_rates import ALONE_AND_TOGETHER, METHODS, Switches, flops, peak, sides, timed
from benchmarks.multi_process_service import CONTROL, multi_process_service
from trainers.data.augmentation import Augmentation
from trainers.models import ModelConfig

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
TINY = ModelConfig("tiny", width=4)


@pytest.mark.parametrize("switches", [s for s in ALONE_AND_TOGETHER if not s.compiled], ids=str)
def test_switches_decide_formats(switches: Switches) -> None:
    with switches.compute(CPU) as compute:
        assert torch.backends.cudnn.benchmark == switches.autotuned
        for side in sides(random_images(40, 16, seed=0), TINY, Augmentation(1), compute).values():
            batch = side.defense.view(torch.arange(8))
            output = side.defense.run_network(next(iter(side.defense.modules.values())), batch)
            assert batch.is_contiguous(memory_format=torch.channels_last) == switches.channels_last
            assert output.features.is_contiguous(memory_format=torch.channels_last) == switches.channels_last
            assert output.logits.dtype == (torch.bfloat16 if switches.amp else torch.float32)
    assert not torch.backends.cudnn.benchmark


def test_operations_are_those_of_the_network() -> None:
    """A control trains on each image once: forward, and twice that backward, but for the gradient of the images."""
    with Switches().compute(CPU) as compute:
        control = sides(random_images(20, 16, seed=0), TINY, Augmentation(1), compute)["control"]
    sizes = [(3, 4, 8), *[(4, 4, 8)] * 2, (4, 8, 4), (8, 8, 4), (8, 16, 4), (16, 16, 4)]  # 3x3: channels and map
    forward = sum(2 * 9 * before * after * side**2 for before, after, side in sizes)
    forward += 2 * 4 * 8 * 4**2 + 2 * 8 * 16 * 4**2 + 2 * 16 * 10  # shortcuts and head
    assert flops(control, "epoch") == 3 * forward - 2 * 9 * 3 * 4 * 8**2


def test_rates_and_seconds_agree() -> None:
    with Switches().compute(CPU) as compute:
        found = timed(sides(random_images(40, 16, seed=0), TINY, Augmentation(1), compute)["scoring"],
                      METHODS["scoring"], CPU, repeats=1)  # fmt: skip
    assert found["images/s"] * found["seconds"] == pytest.approx(40)
    assert found["peak GiB"] is None


def test_what_ended_is_kept(tmp_path: Path) -> None:
    job = Job(tmp_path, "ceilings", None, 8, small=True, until=0.0)
    assert job.is_over
    assert peak(tmp_path) is None
    job.add(figure="copy", value=1.0)
    job.add(figure="bf16 matrix product, TFLOP/s", value=2.0)
    assert [row["value"] for row in json.loads((tmp_path / "ceilings.json").read_text())] == [1.0, 2.0]
    assert peak(tmp_path) == 2.0


def test_images_are_cut_to_size(tmp_path: Path) -> None:
    for source in (None, "shapes"):
        splits = Job(tmp_path, "rates", source, 8, small=True, until=0.0).splits()
        assert (splits.train.images.shape, splits.test.images.shape) == ((100, 3, 8, 8), (20, 3, 8, 8))


def test_time_is_shared_by_the_parts_that_are_left() -> None:
    assert card.share(list(card.SECONDS), 720) == 30
    assert card.share(["side_by_side", "paper"], 98) == 14
    assert card.share(["paper"], 50) == 50
    assert card.share(["paper"], -3) == 0


@pytest.mark.long
def test_every_part_in_miniature(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert card.main(["--out", str(tmp_path), "--small", "--size", "16"]) == 0
    table = capfd.readouterr().out
    assert all(f"\n{part}\n" in table for part in card.SECONDS)
    rows = {part: json.loads((tmp_path / f"{part}.json").read_text()) for part in card.SECONDS}
    assert {row["what"] for row in rows["rates"]} == set(METHODS)
    assert {row["network and images"] for row in rows["rates"]} == {"tiny, 100 random images of 16x16"}
    assert [row["processes"] for row in rows["side_by_side"]][:2] == [1, 2]
    assert rows["paper"][-1]["stage"] == "whole training, all of it"
    assert len(rows["tests"]) == 1


def test_the_multi_process_service_is_started_and_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program, told = tmp_path / "bin" / CONTROL, tmp_path / "told"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@ $CUDA_MPS_PIPE_DIRECTORY $(cat)" >> {told}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", "before")
    with multi_process_service(tmp_path / "mps") as runs:
        assert runs
        assert os.environ["CUDA_MPS_LOG_DIRECTORY"] == str(tmp_path / "mps")
    assert told.read_text().split() == ["-d", str(tmp_path / "mps"), str(tmp_path / "mps"), "quit"]
    assert os.environ["CUDA_MPS_PIPE_DIRECTORY"] == "before"
    assert "CUDA_MPS_LOG_DIRECTORY" not in os.environ


def test_a_machine_without_the_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with multi_process_service(tmp_path / "mps") as runs:
        assert not runs


@pytest.mark.parametrize(
    ("size", "name", "count"),
    [(32, "resnet18", 50_000), (64, "imagenet_resnet18", 5000), (224, "imagenet_resnet18", 5000)],
)
def test_large_images_get_the_imagenet_stem(tmp_path: Path, size: int, name: str, count: int) -> None:
    job = Job(tmp_path, "rates", None, size, small=False, until=0.0)
    assert (job.model, job.count) == (ModelConfig(name), count)


def test_a_training_on_large_images_in_miniature(tmp_path: Path) -> None:
    card_parts.paper(Job(tmp_path, "paper", None, 64, small=True, until=math.inf))
    last = json.loads((tmp_path / "paper.json").read_text())[-1]
    assert last["stage"] == "whole training, all of it"
    assert last["network and images"] == "imagenet_resnet18, 20 random images of 64x64"


def test_without_a_card_it_says_so_and_needs_only_trainers(tmp_path: Path) -> None:
    # A module that is None in sys.modules cannot be imported.
    absent = ("ray", "optuna", "mlflow", "pandas", "pydantic", "rich", "typer", "sweeper", "search_spaces")
    code = (
        f"import runpy, sys; sys.modules.update(dict.fromkeys({absent!r})); "
        f"sys.argv = ['card', '--out', {str(tmp_path)!r}]; runpy.run_module('benchmarks.card', run_name='__main__')"
    )
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert done.stderr.strip() == "There is nothing to measure here: torch sees no CUDA device (--small runs without)."
