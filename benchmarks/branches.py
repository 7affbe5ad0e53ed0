"""Searches V&B's suppression with and without trunks, side by side with the same time on one core each.

python -m benchmarks.branches --data parquet:PATH [--out runs/branches] [--minutes 40] [--small]

V&B on 5,000 CIFAR-10 images at 16x16 pixels, against BadNets and Adaptive-Blend; only what its last stage reads is
searched: which samples are suppressed, the weights of suspicious samples, and the temperature. Hypervolumes are those
below the interest, as a share of the area there, measured on each half of the test split.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.races import below
from benchmarks.timing import table
from search_spaces.loader import apply_overrides, read_preset
from sweeper.analysis.frontier import comparable, points
from sweeper.launch import begin
from sweeper.preset.spec import validate
from sweeper.run_folder.folder import RunFolder
from sweeper.run_folder.record import FINISHED, TRIAL

BRANCHES = (1, 4)
OVERRIDES = (
    "data.image_size=16", "search.trials=1000", "search.workers=1", "search.defenses=free", "constraints=[]",
    "scenarios=[{attack: badnets, poison_rate: 0.1}, "
    "{attack: adaptive_blend, poison_rate: 0.1, cover_rate: 0.01, train_alpha: 0.2, alpha: 0.25}]",
)  # fmt: skip
VAB = {
    "warmup_steps": 250, "threshold": 0.2, "mixing": "attention",
    "suppression": {"categorical": ["both", "credible", "suspicious", "none", "filter"]},
    "temperature": {"float": [1.0, 10.0], "log": True},
    "early_weight": {"float": [0.02, 1.0], "log": True},
    "late_weight": {"float": [0.1, 2.0], "log": True},
}  # fmt: skip
SMALL = (
    "data.train_size=200", "data.test_size=100", "data.held_out_size=null", "search.trials=4", "control.epochs=1",
    "model.width=4",
)  # fmt: skip


def preset_of(branches: int, data: str, minutes: float, small: bool) -> dict[str, Any]:
    """The sweep with this number of branches."""
    preset = read_preset("defenses_cifar10.yaml")
    (vab,) = (block for block in preset["defense"] if block["name"] == "vab")
    lengths = {"mix_epochs": 1, "suppression_epochs": 1, "warmup_steps": 2} if small else {}
    preset["defense"] = vab | VAB | lengths
    own = [f"data.source={data}", f"search.branches={branches}", f"search.time_budget={minutes}"]
    return apply_overrides(preset, [*OVERRIDES, *own, *(SMALL if small else ())], "branches")


def row(branches: int, folder: RunFolder) -> list[str]:
    """What a sweep tried, what that cost, and what it found."""
    frame, interest = folder.read_trials(), folder.spec().search.interest
    ran = frame[frame["status"] == FINISHED]
    trials = frame[frame["role"] == TRIAL]
    ended = trials[trials["trial_status"].isin(["FINISHED", "PRUNED"])]
    complete = trials[trials["trial_status"] == "FINISHED"]
    seconds, shared = float(ran["seconds"].sum()), float(ran["seconds_shared"].sum())
    settings = points(frame)
    usable = settings[comparable(settings)]
    volumes = [below(usable, half, interest) for half in ("val", "test")]
    done = ran[ran["role"] == TRIAL]
    return [
        str(branches), str(ended["trial_id"].nunique()), str(complete["trial_id"].nunique()),
        f"{len(done)}, {int((done['seconds_shared'] > 0).sum())} from a trunk", f"{(seconds - shared) / 60:.1f}",
        f"{shared / 60:.1f}", *(f"{volume:.3f}" for volume in volumes),
    ]  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run both sweeps at once, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.branches", description=__doc__)
    parser.add_argument("--data", required=True, help="of CIFAR-10, such as parquet:PATH")
    parser.add_argument("--out", type=Path, default=Path("runs/branches"))
    parser.add_argument("--minutes", type=float, default=40.0, help="of each sweep (40)")
    parser.add_argument("--small", action="store_true", help="a few trainings of a second, to see that it runs")
    parser.add_argument("--only", type=int, choices=BRANCHES, help="run this one alone, and print nothing")
    args = parser.parse_args(argv)
    if args.only is not None:
        preset = preset_of(args.only, args.data, args.minutes, args.small)
        begin(validate(preset, "branches"), preset, args.out / str(args.only) / "sweep", Console(file=sys.stderr))
        return 0
    given = [str(argument) for argument in (sys.argv[1:] if argv is None else argv)]
    command = [sys.executable, "-m", "benchmarks.branches", *given, "--only"]
    running = [subprocess.Popen([*command, str(branches)]) for branches in BRANCHES]
    if sum(process.wait() != 0 for process in running):  # all are waited for
        return 1
    rows = [row(branches, RunFolder.open(args.out / str(branches) / "sweep")) for branches in BRANCHES]
    header = ("branches", "settings ended", "complete", "trainings", "minutes computed", "minutes shared",
              "hypervolume, val", "hypervolume, test")  # fmt: skip
    print(table(header, rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
