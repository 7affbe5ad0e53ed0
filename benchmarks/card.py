"""What a graphics card does with this project: one script for a machine that can be had for minutes.

    python -m benchmarks.card --out DIR --data parquet:PATH

Needs only ``trainers`` and its dependencies. The parts run one after the other, each in a process of its own and with a
time limit of its own. Each writes DIR/PART.json as it goes, so what was measured is kept whatever happens later. All of
it is printed last. ``--small`` runs every part in miniature, on any machine.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import card_parts
from benchmarks.card_job import Job, has_card
from benchmarks.timing import table

SECONDS = {"ceilings": 30, "tests": 60, "rates": 140, "side_by_side": 70, "paper": 420}
"""The parts in order, each with its time limit; together 12 minutes. What a part leaves goes to those after it."""
GRACE_S = 5.0
"""A part that stops by itself at its limit gets this long until it is ended."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the parts, and print the table; returns 2 where there is no card and ``--small`` is not given."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.card", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--data", metavar="SOURCE", help="parquet:PATH or another data source (default: random pixels)")
    size = "height and width of the images (32); from 64 on, imagenet_resnet18 is trained, on 5,000 images"
    parser.add_argument("--size", type=int, default=32, help=size)
    parser.add_argument("--minutes", type=float, default=sum(SECONDS.values()) / 60, help="for all parts together (12)")
    parser.add_argument("--parts", nargs="+", choices=tuple(SECONDS), default=list(SECONDS), help="which parts (all)")
    parser.add_argument("--small", action="store_true", help="a miniature of every part; also without a card")
    parser.add_argument("--seconds", type=float, help=argparse.SUPPRESS)  # of a single part, in its own process
    args = parser.parse_args(argv)
    if not args.small and not has_card():
        print("There is nothing to measure here: torch sees no CUDA device (--small runs without).", file=sys.stderr)
        return 2
    args.out.mkdir(parents=True, exist_ok=True)
    if args.seconds is not None:
        (part,) = args.parts
        job = Job(args.out, part, args.data, args.size, args.small, time.monotonic() + args.seconds)
        getattr(card_parts, part)(job)
        return 0
    ended, until = {}, time.monotonic() + 60 * args.minutes
    left = [part for part in SECONDS if part in args.parts]
    while left:
        limit = share(left, until - time.monotonic())
        ended[left[0]] = run_part(left[0], limit, args)
        del left[0]
    report(args.out, ended)
    return 0 if all(how == "ended" for how in ended.values()) else 1


def share(parts: Sequence[str], seconds: float) -> float:
    """The first part's share of the seconds that are left for all of ``parts``."""
    return max(seconds, 0.0) * SECONDS[parts[0]] / sum(SECONDS[part] for part in parts)


def run_part(part: str, limit: float, args: argparse.Namespace) -> str:
    """Run one part in a process of its own; returns how it ended."""
    print(f"{part}: at most {limit:.0f} s", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "benchmarks.card", "--out", str(args.out), "--size", str(args.size)]
    command += ["--parts", part, "--seconds", str(limit)]
    command += (["--data", args.data] if args.data else []) + (["--small"] if args.small else [])
    process = subprocess.Popen(command, start_new_session=True)
    try:
        code = process.wait(limit + GRACE_S)
    except subprocess.TimeoutExpired:
        return f"did not end in {limit:.0f} s"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # with all that it started
        process.wait()
    return "ended" if code == 0 else f"failed with code {code}"


def report(out: Path, ended: dict[str, str]) -> None:
    """Print what every part has written."""
    for part, how in ended.items():
        path = out / f"{part}.json"
        rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
        print(f"\n{part}{'' if how == 'ended' else f' ({how})'}")
        if rows:
            headings = list(dict.fromkeys(name for row in rows for name in row))
            print(table(headings, [[shown(row.get(name)) for name in headings] for row in rows]))


def shown(value: Any) -> str:
    """A cell: numbers with four significant digits."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return str(value)


if __name__ == "__main__":
    raise SystemExit(main())
