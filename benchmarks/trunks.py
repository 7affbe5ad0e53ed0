"""Runs a grid over the late parameters of every defense with trunks off and on, and compares the rows.

python -m benchmarks.trunks [--data parquet:PATH] [--out runs/trunks] [--small]

Four settings of each defense that differ only in what its last stages read, against BadNets and Blend, trained alone
and from trunks. The rows of ``trials.parquet`` and the curves must be the same but for the seconds.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from benchmarks.timing import table
from search_spaces.loader import apply_overrides, read_preset
from sweeper.launch import begin
from sweeper.preset.spec import validate
from sweeper.run_folder.folder import RunFolder
from sweeper.run_folder.record import TRIAL
from sweeper.run_folder.tables import read_table

LATE: dict[str, dict[str, Any]] = {
    "vab": {"suppression": {"categorical": ["suspicious", "both"]}, "late_weight": {"categorical": [0.2, 0.8]}},
    "pt": {"unlearning_weight": {"categorical": [0.02, 0.05, 0.1, 0.4]}},
    "dlp": {"unlabelled_weight": {"categorical": [0.5, 2.0]}, "mix_beta": {"categorical": [0.2, 0.75]}},
    "abl": {"unlearning_lr": {"categorical": [0.0001, 0.0005, 0.001, 0.003]}},
    "bcu": {"head_ratio": {"categorical": [0.1, 0.3]}, "final_temperature": {"categorical": [2.0, 4.0]}},
}
"""Of each defense, the parameters that are searched, with the values that are tried."""
OVERRIDES = (
    "data.train_size=1000", "data.test_size=500", "data.held_out_size=100", "search.defenses=free",
    "search.sampler=grid", "search.trials=20", "search.race=off", "constraints=[]",
    "scenarios=[{attack: badnets, poison_rate: 0.1}, {attack: blend, poison_rate: 0.1}]",
)  # fmt: skip
SMALL = ("data.train_size=200", "data.test_size=100", "data.held_out_size=50", "control.epochs=1", "model.width=4")
LENGTHS = ("epochs", "steps", "period")
"""Endings of the parameters that are cut down to 1 with ``--small``."""
OWN = ("trial_id", "attempt", "seconds", "seconds_shared", "reported_at")
"""Columns that depend on how a training was run."""


def preset_of(branches: int, data: str, small: bool) -> dict[str, Any]:
    """The sweep with this number of branches."""
    preset = read_preset("defenses_cifar10.yaml")
    preset["defense"] = [_narrow(block, small) for block in preset["defense"]]
    more = SMALL if small else ()
    return apply_overrides(preset, [f"data.source={data}", f"search.branches={branches}", *OVERRIDES, *more], "trunks")


def _narrow(block: dict[str, Any], small: bool) -> dict[str, Any]:
    """A defense whose late parameters alone are searched."""
    fixed = {key: _first(value) for key, value in block.items()} | LATE[block["name"]]
    if small:
        fixed |= {key: 1 for key in fixed if key.rpartition("_")[2] in LENGTHS}
    return fixed


def _first(value: Any) -> Any:
    return next(iter(value.values()))[0] if isinstance(value, dict) else value


def rows_of(path: Path) -> pd.DataFrame:
    """The rows of the trials of a table, without what depends on how they were run."""
    frame = read_table(path)
    frame = frame[frame["role"] == TRIAL]
    frame = frame.drop(columns=[name for name in OWN if name in frame])
    return frame.sort_values(["config_id", "scenario", "seed", "epoch"]).reset_index(drop=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run both sweeps, compare, and print a table; 1 if any row differs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.trunks", description=__doc__)
    parser.add_argument("--data", default="shapes", help="such as parquet:PATH of CIFAR-10 (shapes)")
    parser.add_argument("--out", type=Path, default=Path("runs/trunks"))
    parser.add_argument("--small", action="store_true", help="a few trainings of a second, to see that it runs")
    args = parser.parse_args(argv)
    folders: dict[int, RunFolder] = {}
    for branches in (1, 4):
        preset = preset_of(branches, args.data, args.small)
        out = args.out / str(branches)
        folders[branches] = begin(validate(preset, "trunks"), preset, out, Console(file=sys.stderr)).folder
    lines, differing = [], 0
    alone, shared = ({name: rows_of(getattr(f, name)) for name in ("trials", "curves")} for f in folders.values())
    for defense in LATE:
        same = []
        for name in ("trials", "curves"):
            one, other = (whole[name][whole[name]["defense"] == defense] for whole in (alone, shared))
            same.append(one.reset_index(drop=True).equals(other.reset_index(drop=True)))
        differing += not all(same)
        trained = [_seconds(folder, defense) for folder in folders.values()]
        count = len(alone["trials"][alone["trials"]["defense"] == defense])
        said = ["the same" if one else "DIFFER" for one in same]
        lines.append([defense, str(count), *said, f"{trained[0]:.0f}", f"{trained[1]:.0f}",
                      f"{trained[1] / trained[0]:.2f}"])  # fmt: skip
    header = ("defense", "trainings", "rows", "curves", "seconds, alone", "seconds, from trunks", "ratio")
    print(table(header, lines))
    return int(differing > 0)


def _seconds(folder: RunFolder, defense: str) -> float:
    """Seconds that the trainings of a defense computed themselves."""
    frame = folder.read_trials()
    own = frame[(frame["role"] == TRIAL) & (frame["defense"] == defense)]
    return float(own["seconds"].sum() - own["seconds_shared"].sum())


if __name__ == "__main__":
    sys.exit(main())
