"""Runs a comparison of three defenses twice, with races off and with the default, and sets them side by side.

python -m benchmarks.races --data parquet:PATH [--out runs/races] [--small]

24 settings of V&B, PT and BCU in turns, on 5,000 CIFAR-10 images at 16x16 pixels, against BadNets, Blend, SIG and
Adaptive-Blend, with two seeds, from the same seed of the search. Both sweeps stay in the folder, and one that was cut
off is resumed. Hypervolumes are those of the frontier below the interest, as a share of the rectangle there, measured
on each half of the test split.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from rich.console import Console

from benchmarks.timing import table
from search_spaces.loader import apply_overrides, read_preset
from sweeper.analysis.frontier import comparable, hypervolume, points
from sweeper.launch import Ended, begin, resume
from sweeper.preset.spec import validate
from sweeper.run_folder.folder import RunFolder
from sweeper.run_folder.record import FINISHED, TRIAL

DEFENSES = ("vab", "pt", "bcu")
OVERRIDES = ("seeds=[0, 1]", "search.trials=24", "data.image_size=16")
SMALL = ("data.train_size=200", "data.test_size=100", "data.held_out_size=50", "search.trials=3", "control.epochs=1")
LENGTHS = ("epochs", "steps", "period")
"""Endings of the parameters that are cut down to 1 with ``--small``."""


def run(race: str, data: str, out: Path, small: bool) -> RunFolder:
    """Run the sweep with races off or on, or resume it."""
    console = Console(file=sys.stderr)
    if (out / "sweep.yaml").exists():
        return _whole(resume(out, console))
    preset = read_preset("defenses_cifar10.yaml")
    preset["defense"] = [block for block in preset["defense"] if block["name"] in DEFENSES]
    if small:
        for block in preset["defense"]:
            block |= {key: 1 for key in block if key.rpartition("_")[2] in LENGTHS and key != "partial_epochs"}
    changes = [f"data.source={data}", f"search.race={race}", *OVERRIDES, *(SMALL if small else ())]
    preset = apply_overrides(preset, changes, "races")
    return _whole(begin(validate(preset, "races"), preset, out, console))


def _whole(ended: Ended) -> RunFolder:
    """The run folder of a sweep that ran to its end.

    Raises:
        SystemExit: it was interrupted; the same command goes on with it.
    """
    if ended.outcome.interrupted is not None:
        raise SystemExit(f"{ended.folder.path} has not ended, since {ended.outcome.interrupted}.")
    return ended.folder


@dataclass(frozen=True)
class Outcome:
    """What a sweep cost and found.

    Args:
        trainings: that finished, controls not counted.
        of: how many there would be without races.
        images: seen in training, in millions, by all trainings and controls, those that were stopped included.
        seconds: of computing, likewise.
        minutes: from the first proposal to the last end.
        below: by half of the test split, the hypervolume below the interest, in [0, 1].
        broken: share of the complete settings whose attack objective is above the interest.
    """

    trainings: int
    of: int
    images: float
    seconds: float
    minutes: float
    below: dict[str, float]
    broken: float

    @classmethod
    def of_folder(cls, folder: RunFolder) -> "Outcome":
        """The outcome of a sweep that has ended."""
        frame, interest = folder.read_trials(), folder.spec().search.interest
        trials = frame[frame["role"] == TRIAL]
        done = trials[trials["status"] == FINISHED]
        records = folder.read_records().values()
        minutes = (max(r.ended_at or 0 for r in records) - min(r.began_at for r in records)) / 60
        last = [record.final(run) for record in records for run in record.trainings]
        images, seconds = (sum(figures.get(name, 0) for figures in last) for name in ("images_seen", "seconds"))
        table = points(frame)
        usable = table[comparable(table)]
        volumes = {half: below(usable, half, interest) for half in ("val", "test")}
        broken = float((usable["val_asr_excess"] > interest).mean()) if len(usable) else 0.0
        return cls(len(done), len(trials), images / 1e6, seconds, minutes, volumes, broken)


def below(usable: pd.DataFrame, half: str, interest: float) -> float:
    """The hypervolume below the interest of the settings that the validation half puts on the frontier."""
    front = usable[usable["on_frontier"] & (usable["val_asr_excess"] <= interest)]
    return hypervolume(front[f"{half}_acc"].tolist(), front[f"{half}_asr_excess"].tolist(), interest)


def main(argv: Sequence[str] | None = None) -> int:
    """Run both sweeps, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.races", description=__doc__)
    parser.add_argument("--data", required=True, help="of CIFAR-10, such as parquet:PATH")
    parser.add_argument("--out", type=Path, default=Path("runs/races"))
    parser.add_argument("--small", action="store_true", help="a few trainings of a second, to see that it runs")
    args = parser.parse_args(argv)
    rows = []
    for race in ("off", "learned"):
        found = Outcome.of_folder(run(race, args.data, args.out / race, args.small))
        rows.append([
            race, f"{found.trainings} of {found.of}", f"{found.images:.1f}", f"{found.seconds:.0f}",
            f"{found.minutes:.1f}", f"{found.below['val']:.3f}", f"{found.below['test']:.3f}", f"{found.broken:.2f}",
        ])  # fmt: skip
    header = (
        "race",
        "trainings",
        "million images",
        "seconds",
        "minutes",
        "hypervolume, val",
        "hypervolume, test",
        "settings broken",
    )
    print(table(header, rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
