"""Kills parts of short sweeps at random moments, and checks that nothing is lost, doubled or stuck.

python -m benchmarks.kills [--kills 24] [--seed 0]

A kill is SIGKILL to the driver, to a worker, to one of the services of Ray's head, or to every process at once. Each
sweep is hit up to four times, and resumed where that ended it; then table, study and MLflow must agree
(:func:`benchmarks.faults.agree`), and every trial must have all of its trainings, or a reason to do without.
"""

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import killing
from benchmarks.faults import PRESET, Sweep, agree
from benchmarks.killing import KILLS_OF_A_SWEEP, hit, kills_in, sleeps
from sweeper.run_folder.record import TRIAL

SHORT: dict[str, Any] = {
    "name": "kills",
    "defense": {**PRESET["defense"], "mix_epochs": 6, "suppression_epochs": 4},
    "scenarios": [{"attack": "badnets", "poison_rate": 0.1, "target": 0}, {"attack": "blend", "poison_rate": 0.1}],
    "search": {"sampler": "random", "trials": 4, "workers": 2, "race": "learned", "retries": KILLS_OF_A_SWEEP},
    "state_every_s": 0.3,
}


def check(sweep: Sweep) -> Counter[str]:
    """Check a sweep that has ended, and count how its trials ended.

    Raises:
        AssertionError: something was lost or doubled, or is open.
    """
    agree(sweep.folder, sweep.store)
    records = sweep.folder.read_records()
    trials = [record for record in records.values() if record.role == TRIAL]
    assert [record.trial_id for record in trials] == [f"t{number:04d}" for number in range(SHORT["search"]["trials"])]
    keys = [key for record in records.values() if record.role != TRIAL for key in record.controls.values()]
    assert len(keys) == len(set(keys)) == 4, f"controls: {keys}"
    for record in records.values():
        assert not record.open, f"{record.trial_id} is open"
        words = {state.status for state in record.trainings.values()}
        assert words == {"FINISHED"} or (record.raced_out and words <= {"FINISHED", "PRUNED"}), (record.trial_id, words)
    assert not sweep.folder.states.exists(), "states are left"
    return Counter("left the race" if record.raced_out else record.status for record in trials)


def at_random(sweep: Sweep, draw: random.Random) -> str | None:
    """Some seconds after a start, if its run folder is there."""
    moment = draw.uniform(1.0, killing.LATEST_S)
    begun = sleeps(sweep, moment) and (sweep.folder.path / "sweep.yaml").exists()
    return f"after {moment:.1f} s" if begun else None


def run_killed(place: Path, wanted: int, draw: random.Random) -> list[str]:
    """Run a sweep to its end, and kill a part of it a few times on the way.

    Args:
        place: folder for all files of the sweep.
        wanted: how many kills, if it does not end before.
        draw: chooses victims and moments.

    Returns:
        A line for each kill, and one for the end.
    """
    sweep = Sweep(place, changes=SHORT).start()
    lines = hit(sweep, wanted, draw, at_random, lambda sweep, _: sweep.start("resume"))
    return [*lines, f"  whole: {dict(check(sweep))}"]


def main(argv: Sequence[str] | None = None) -> int:
    """Kill, check and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    draw, done, began = random.Random(args.seed), 0, time.monotonic()
    while done < args.kills:
        with tempfile.TemporaryDirectory(prefix="sweeper-kills-") as place:
            lines = run_killed(Path(place), min(KILLS_OF_A_SWEEP, args.kills - done), draw)
        print("\n".join(lines), flush=True)
        done += kills_in(lines)
    print(f"{done} kills in {(time.monotonic() - began) / 60:.1f} min: nothing lost, doubled or stuck")
    return 0


if __name__ == "__main__":
    sys.exit(main())
