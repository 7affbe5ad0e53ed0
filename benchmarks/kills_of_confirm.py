"""Kills parts of ``sweeper confirm`` at random moments, and checks that it decides as it does when left alone.

python -m benchmarks.kills_of_confirm [--kills 12] [--seed 0]

A short sweep is run, and its test once alone. Then copies of the sweep are tested again, hit as in
:mod:`benchmarks.kills`, and continued where that ended the test. Each time ``certificate.json`` must be the same
(order, losses, stakes, wealth and verdicts), and so must the figures of all replicates.
"""

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import killing
from benchmarks.faults import Sweep, agree
from benchmarks.killing import KILLS_OF_A_SWEEP, hit, kills_in, sleeps
from benchmarks.kills import SHORT
from sweeper.run_folder.certificate import FILE
from sweeper.run_folder.record import REPLICATE

OPTIONS = ("--max-excess", "0.3", "--confidence", "0.9")
CHANGES = SHORT | {
    "control": {"epochs": 6, "batch_size": 32, "lr": 0.02},
    "scenarios": [
        {"attack": "badnets", "poison_rate": 0.3, "target": 0, "size": 8},
        {"attack": "blend", "poison_rate": 0.3, "target": 0, "alpha": 0.4},
    ],
    "seeds": [0],
}
"""So strong attacks that they work on the small network, whose floor is high: losses lie anywhere."""


def decision(sweep: Sweep) -> tuple[Any, dict[str, Any]]:
    """What a test has decided, and the figures of every replicate that counts or is described, by configuration.

    Raises:
        AssertionError: a replicate is open, or the three records of the sweep disagree.
    """
    agree(sweep.folder, sweep.store)
    certificate = json.loads((sweep.folder.path / FILE).read_text(encoding="utf-8"))
    assert certificate["decided"], "the test is not decided"
    figures = {}
    for record in sweep.folder.read_records().values():
        if record.role != REPLICATE or record.config is None:
            continue
        assert not record.open, f"{record.trial_id} is open"
        known = {"/".join(map(str, run)): record.final(run) for run in record.trainings}
        for final in known.values():
            for name in ("seconds", "reported_at"):
                final.pop(name, None)
        if record.status == "FINISHED":
            figures[record.config.key] = known
    return certificate, figures


def at_random(sweep: Sweep, draw: random.Random) -> str | None:
    """Some seconds after a start: a test takes longer than a sweep."""
    moment = draw.uniform(1.0, 2 * killing.LATEST_S)
    return f"after {moment:.1f} s" if sleeps(sweep, moment) else None


def go_on(sweep: Sweep, draw: random.Random) -> None:
    """Continue a test with either command; before its terms are written, resume finds nothing to go on with."""
    begun = (sweep.folder.path / FILE).exists()
    again = draw.choice(["confirm", "resume"]) if begun else "confirm"
    sweep.start(again, *(OPTIONS if again == "confirm" else ()))


def run_killed(place: Path, wanted: int, draw: random.Random) -> tuple[list[str], Sweep]:
    """Run the test of a sweep to its end, and kill a part of it a few times on the way.

    Args:
        place: folder with the sweep.
        wanted: how many kills, if it does not end before.
        draw: chooses victims and moments.

    Returns:
        A line for each kill, and the sweep.
    """
    sweep = Sweep(place, changes=CHANGES).start("confirm", *OPTIONS)
    return hit(sweep, wanted, draw, at_random, go_on), sweep


def main(argv: Sequence[str] | None = None) -> int:
    """Run, kill, compare and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kills_of_confirm", description=__doc__)
    parser.add_argument("--kills", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    draw, done, began = random.Random(args.seed), 0, time.monotonic()
    with tempfile.TemporaryDirectory(prefix="sweeper-kills-") as folder:
        searched, whole = Path(folder) / "searched", Path(folder) / "whole"
        searched.mkdir()
        code, shown = Sweep(searched, changes=CHANGES).start().end()
        assert code == 0, shown
        shutil.copytree(searched, whole)
        lines, sweep = run_killed(whole, 0, draw)
        expected, figures = decision(sweep)
        print(f"Without a kill: {len(expected['steps'])} replicates, {_verdicts(expected)}", flush=True)
        while done < args.kills:
            place = Path(folder) / f"killed-{done}"
            shutil.copytree(searched, place)
            lines, sweep = run_killed(place, min(KILLS_OF_A_SWEEP, args.kills - done), draw)
            found, now = decision(sweep)
            assert found == expected, f"another certificate: {found['standings']}, {expected['standings']}"
            differing = [key for key in figures if now.get(key, figures[key]) != figures[key]]
            assert not differing, f"other figures: {differing}"
            print("\n".join([*lines, "  the same decision"]), flush=True)
            done += max(kills_in(lines), 1)
            shutil.rmtree(place)
    print(f"{done} kills in {(time.monotonic() - began) / 60:.1f} min: the same certificate each time")
    return 0


def _verdicts(certificate: dict[str, Any]) -> str:
    named = zip(certificate["candidates"], certificate["standings"], strict=True)
    return "; ".join(f"{one['name']} {standing['verdict'] or 'not tested'}" for one, standing in named)


if __name__ == "__main__":
    sys.exit(main())
