"""Kills parts of sweeps that share trunks, at the moments when a trunk is at risk, and compares the rows.

python -m benchmarks.kills_of_trunks [--kills 24] [--seed 0]

A grid of six settings is run once alone, without trunks. Then it is run with trunks, and parts of it are killed as in
:mod:`benchmarks.kills`: while a trunk is trained, as one is written, as a training begins at one, as one is removed.
Each time every figure must be that of the sweep without trunks, and no trunk may be left.
"""

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.faults import PRESET, Sweep, agree
from benchmarks.killing import KILLS_OF_A_SWEEP, Moment, hit, kills_in
from benchmarks.kills import SHORT
from sweeper.run_folder.record import TRIAL

GRID: dict[str, Any] = SHORT | {
    "defense": PRESET["defense"]
    | {
        "threshold": {"categorical": [0.1, 0.3]}, "late_weight": {"categorical": [0.2, 0.5, 0.8]},
        "mix_epochs": 6, "suppression_epochs": 4,
    },
    "search": {
        "sampler": "grid", "trials": 6, "workers": 2, "race": "off", "branches": 3, "retries": KILLS_OF_A_SWEEP
    },
}  # fmt: skip
GLANCE_S = 0.002
"""Seconds between two looks for a moment."""
OWN = ("seconds", "seconds_shared", "reported_at")
"""Figures that depend on how a training was run."""


def _await(sweep: Sweep, has_come: Callable[[], bool]) -> bool:
    """Wait for something to happen; returns whether the sweep still runs then."""
    assert sweep.process is not None
    while sweep.process.poll() is None:
        if has_come():
            return True
        time.sleep(GLANCE_S)
    return False


def _names(folder: Path) -> set[str]:
    try:
        return {path.name for path in folder.iterdir()}
    except FileNotFoundError:
        return set()


def _trunks(sweep: Sweep) -> set[str]:
    return _names(sweep.folder.path / "trunks")


def _begun(sweep: Sweep) -> set[str]:
    """Trainings of trials that a worker has begun, with their attempts."""
    return {str(path) for path in (sweep.folder.path / "states").glob("t*/began.*.txt")}


def while_one_is_trained(sweep: Sweep, draw: random.Random) -> str | None:
    """Within two seconds after a training of a trial begins."""
    before = _begun(sweep)
    if not _await(sweep, lambda: bool(_begun(sweep) - before)):
        return None
    late = draw.uniform(0.0, 2.0)
    until = time.monotonic() + late
    return f"{late:.1f} s after a training began" if _await(sweep, lambda: time.monotonic() >= until) else None


def as_one_is_written(sweep: Sweep, _: random.Random) -> str | None:
    """When a file appears among the trunks, be it half-written."""
    before = _trunks(sweep)
    came = _await(sweep, lambda: bool(_trunks(sweep) - before))
    return "as a trunk is written" if came else None


def as_one_is_read(sweep: Sweep, _: random.Random) -> str | None:
    """When a training begins while there are trunks."""
    if not _await(sweep, lambda: bool(_trunks(sweep))):
        return None
    before = _begun(sweep)
    came = _await(sweep, lambda: bool(_begun(sweep) - before) and bool(_trunks(sweep)))
    return "as a training begins at a trunk" if came else None


def as_one_is_removed(sweep: Sweep, _: random.Random) -> str | None:
    """When a trunk has gone."""
    seen: set[str] = set()

    def gone() -> bool:
        now = {name for name in _trunks(sweep) if not name.startswith(".")}
        seen.update(now)
        return bool(seen - now)

    return "as a trunk is removed" if _await(sweep, gone) else None


MOMENTS: list[Moment] = [while_one_is_trained, as_one_is_written, as_one_is_read, as_one_is_removed]


def at_a_trunk(sweep: Sweep, draw: random.Random) -> str | None:
    """One of the moments."""
    return draw.choice(MOMENTS)(sweep, draw)


def alone(place: Path) -> Sweep:
    """The sweep without trunks, which nobody kills."""
    sweep = Sweep(place, changes=GRID | {"search": GRID["search"] | {"branches": 1}})
    code, shown = sweep.start().end()
    assert code == 0, shown
    return sweep


def run_killed(place: Path, wanted: int, draw: random.Random) -> tuple[list[str], Sweep]:
    """Run the sweep with trunks to its end, and kill a part of it a few times on the way.

    Args:
        place: folder for all files of the sweep.
        wanted: how many kills, if it does not end before.
        draw: chooses victims and moments.

    Returns:
        A line for each kill, and the sweep.
    """
    sweep = Sweep(place, changes=GRID).start()
    return hit(sweep, wanted, draw, at_a_trunk, lambda sweep, _: sweep.start("resume")), sweep


def rows(sweep: Sweep) -> dict[tuple[Any, ...], dict[str, Any]]:
    """All figures of each training of a trial, by setting, scenario, seed and epoch.

    Raises:
        AssertionError: something is open, doubled or left.
    """
    agree(sweep.folder, sweep.store)
    assert not sweep.folder.trunks.exists(), "trunks are left"
    assert not sweep.folder.states.exists(), "states are left"
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for record in sweep.folder.read_records().values():
        assert record.status == "FINISHED", f"{record.trial_id} is {record.status}: {record.error}"
        for run, epochs in record.epochs.items() if record.role == TRIAL else ():
            for epoch, figures in epochs.items():
                key = (record.config_id, *run, epoch)
                assert key not in found, f"{key} is there twice"
                found[key] = {name: value for name, value in figures.items() if name not in OWN}
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run, kill, compare and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kills_of_trunks", description=__doc__)
    parser.add_argument("--kills", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    draw, done, began = random.Random(args.seed), 0, time.monotonic()
    moments: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="sweeper-kills-") as folder:
        place = Path(folder) / "alone"
        place.mkdir()
        expected = rows(alone(place))
        print(f"Without trunks and kills: {len({key[:3] for key in expected})} trainings", flush=True)
        while done < args.kills:
            place = Path(folder) / f"killed-{done}"
            place.mkdir()
            lines, sweep = run_killed(place, min(KILLS_OF_A_SWEEP, args.kills - done), draw)
            found = rows(sweep)
            differing = [key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key)]
            assert not differing, f"other figures: {differing[:3]}"
            print("\n".join([*lines, "  the same rows"]), flush=True)
            done += max(kills_in(lines), 1)
            moments.update(line.partition(") ")[2].lstrip("0123456789. s") for line in lines if line[0] != " ")
    print(f"{done} kills in {(time.monotonic() - began) / 60:.1f} min: the same rows each time; {dict(moments)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
