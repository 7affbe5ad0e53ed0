"""Simulates tests that certify a setting: how often they are wrong or succeed, and how many replicates they take.

The product's test decides (:class:`sweeper.analysis.certification.Certification`) on losses that are drawn from known
laws; nothing is trained. Bars and references are those of the simulation by which the procedure was chosen.

    OMP_NUM_THREADS=1 python -m benchmarks.certainty [--sweeps 4000] [--workers 2] [--out DIR]
"""

import argparse
import csv
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from math import ceil, log, sqrt
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from benchmarks.certainty_laws import NULLS, failing, mean_of, shares
from benchmarks.timing import table as markdown
from sweeper.analysis.betting import growth
from sweeper.analysis.certification import PATIENCE, PILOTS, Certification, Terms
from sweeper.analysis.stakes import SPREAD_EVENLY

COUNTS = (1, 3, 10)
"""Numbers of candidates."""
TERMS = ((0.1, 0.05), (0.1, 0.1), (0.2, 0.05), (0.05, 0.05))
"""Bounds, each with the error."""
AT_ONCE = 200
"""Sweeps whose losses are drawn together."""
NEAR = 0.1
"""Share of the reference by which mean replicates may differ from it where all candidates are good."""

REFERENCES: dict[tuple[str, int], tuple[float, float]] = {
    ("all good", 1): (1.0, 41.8), ("all good", 3): (1.0, 52), ("all good", 10): (1.0, 54),
    ("first half bad", 3): (1.0, 51), ("first half bad", 10): (1.0, 76), ("only last good", 10): (1.0, 94),
    ("trap", 3): (0.82, 95), ("trap", 10): (0.98, 210), ("search", 3): (0.96, 59), ("search", 10): (1.0, 66),
}  # fmt: skip
"""Share of sweeps with a certificate, and mean replicates, by population and candidates; bound 0.1, error 0.05."""
FAILING: dict[float, tuple[float, float]] = {
    0.0: (1.0, 42), 0.01: (0.92, 52), 0.02: (0.72, 55), 0.05: (0.21, 43), 0.1: (0.02, 23), 0.2: (0.0, 10),
    0.4: (0.0, 5),
}  # fmt: skip
"""The same for one candidate with a budget of 100, by share of failures."""
BUDGET = 100


@dataclass(frozen=True)
class Cell:
    """Tests of one kind.

    Args:
        part: the table that it belongs to.
        losses: name of their law or population, or the share of failures.
        candidates: of each.
        bound: on the mean loss.
        error: allowed.
        budget: replicates; null: no limit.
        sweeps: how many.
    """

    part: str
    losses: str
    candidates: int
    bound: float
    error: float
    budget: int | None
    sweeps: int


@dataclass(frozen=True)
class Score:
    """What came of them.

    Args:
        certified: share with a certificate.
        wrong: share with a false one.
        replicates: mean, pilots included.
    """

    certified: float
    wrong: float
    replicates: float


Results = dict[Cell, Score]


def cells(sweeps: int) -> list[Cell]:
    """Everything that is simulated."""
    power = [Cell("power", name, count, 0.1, 0.05, None, sweeps) for name, count in REFERENCES]
    futility = [Cell("futility", str(share), 1, 0.1, 0.05, BUDGET, sweeps) for share in FAILING]
    null = [
        Cell("null", name, count, bound, error, None, sweeps)
        for bound, error in TERMS
        for name in NULLS
        for count in COUNTS
    ]
    return [*power, *futility, *null]


def simulate(cell: Cell) -> Score:
    """Run the tests of a cell."""
    name = f"{cell.part} {cell.losses} {cell.candidates} {cell.bound} {cell.error}"
    rng = np.random.default_rng(list(name.encode()))
    stake = cell.error * (SPREAD_EVENLY / cell.candidates if cell.candidates > 1 else 1)  # at least
    length = PILOTS + ceil(PATIENCE * log(1 / stake) / log(growth(0.0, cell.bound)))
    certified = wrong = spent = 0
    for first in range(0, cell.sweeps, AT_ONCE):
        count = min(AT_ONCE, cell.sweeps - first)
        shape = (count, cell.candidates, length)
        if cell.part == "null":
            losses, bad = NULLS[cell.losses](rng, cell.bound, shape), np.ones(shape[:2], bool)
        else:
            if cell.part == "futility":
                failures = np.full(shape[:2], float(cell.losses))
            else:
                failures = shares(cell.losses, rng, cell.bound, count, cell.candidates)
            losses, bad = failing(rng, failures[..., None], shape), mean_of(failures) >= cell.bound - 1e-12
        for own, own_bad in zip(losses, bad, strict=True):
            test = Certification(Terms(cell.bound, cell.error, cell.candidates), cell.budget)
            while (turn := test.turn) is not None:
                test.apply(float(own[turn]))
            certified += test.certified is not None
            wrong += test.certified is not None and bool(own_bad[test.certified])
            spent += test.spent
    return Score(certified / cell.sweeps, wrong / cell.sweeps, spent / cell.sweeps)


def most_wrong(cell: Cell) -> float:
    """The bar of false certificates: the error, and two standard errors."""
    return cell.error + 2 * sqrt(cell.error * (1 - cell.error) / cell.sweeps)


def missed(results: Results) -> Iterator[str]:
    """A sentence on each cell that misses its bar."""
    for cell, score in results.items():
        label = f"{cell.part}, {cell.losses}, {cell.candidates} candidates, a={cell.bound}, delta={cell.error}"
        if score.wrong > most_wrong(cell):
            yield f"MISSED: {label}: {score.wrong:.4f} false certificates, at most {most_wrong(cell):.4f} allowed."
        if cell.losses == "all good":
            expected = REFERENCES[cell.losses, cell.candidates][1]
            if abs(score.replicates / expected - 1) > NEAR:
                yield f"MISSED: {label}: {score.replicates:.1f} replicates, reference {expected:g}."


def report(results: Results) -> str:
    """Tables as Markdown."""
    rows = []
    for bound, error in TERMS:
        for name in NULLS:
            own = [c for c in results if (c.part, c.losses, c.bound, c.error) == ("null", name, bound, error)]
            figures = [f"{results[c].wrong:.4f} ({results[c].replicates:.0f})" for c in own]
            rows.append([f"a={bound}, delta={error}: {name}", *figures, f"{most_wrong(own[0]):.4f}"])
    null = markdown(["no setting is good", *(f"K={count}" for count in COUNTS), "bar"], rows)
    rows = [
        [f"{cell.losses}, K={cell.candidates}", *_beside(score, REFERENCES[cell.losses, cell.candidates])]
        for cell, score in results.items()
        if cell.part == "power"
    ]
    power = markdown(["a=0.1, delta=0.05", *_HEADINGS], rows)
    rows = [
        [f"{float(cell.losses):.0%}", *_beside(score, FAILING[float(cell.losses)])]
        for cell, score in results.items()
        if cell.part == "futility"
    ]
    futility = markdown([f"failures, K=1, budget {BUDGET}", *_HEADINGS], rows)
    return "\n\n".join([null, power, futility, *missed(results)])


_HEADINGS = ("certified", "reference", "replicates", "reference", "false certificates")


def _beside(score: Score, reference: tuple[float, float]) -> list[str]:
    share, replicates = reference
    return [
        f"{score.certified:.3f}",
        f"{share:.2f}",
        f"{score.replicates:.1f}",
        f"{replicates:g}",
        f"{score.wrong:.4f}",
    ]


def write(results: Results, out: Path) -> None:
    """Write ``certainty.csv`` and ``certainty.md`` into a folder."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / "certainty.csv").open("w", encoding="utf-8", newline="") as file:
        rows = [asdict(cell) | asdict(score) for cell, score in results.items()]
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    (out / "certainty.md").write_text(report(results) + "\n", encoding="utf-8")


@contextmanager
def _scores(workers: int) -> Iterator[Callable[[Sequence[Cell]], Iterator[Score]]]:
    """Simulates cells in processes; in this one if there is to be only one."""
    if workers == 1:
        yield lambda wanted: map(simulate, wanted)
        return
    with get_context("spawn").Pool(workers) as pool:
        yield lambda wanted: pool.imap(simulate, wanted)


def main(argv: Sequence[str] | None = None) -> int:
    """Simulate, and print tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.certainty", description=__doc__.splitlines()[0])
    parser.add_argument("--sweeps", type=int, default=4000, help="tests of each kind (4000)")
    parser.add_argument("--workers", type=int, default=1, help="processes, one core each (1)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for certainty.csv and certainty.md")
    args = parser.parse_args(argv)
    if args.sweeps < 1 or args.workers < 1:
        parser.error("--sweeps and --workers must be at least 1")
    wanted, results = cells(args.sweeps), Results()
    with _scores(args.workers) as scores:
        for cell, score in zip(wanted, scores(wanted), strict=True):
            results[cell] = score
            print(
                f"{len(results)} of {len(wanted)}: {cell.part}, {cell.losses}, K={cell.candidates}, a={cell.bound}, "
                f"delta={cell.error}: {score.certified:.4f} certified, {score.replicates:.1f} replicates",
                file=sys.stderr,
                flush=True,
            )
    print(report(results))
    if args.out is not None:
        write(results, args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
