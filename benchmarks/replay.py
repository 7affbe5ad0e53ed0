"""Replays sweeps over a table of real trainings, to compare the policies of a search; nothing is trained.

The agenda of the product runs with a virtual clock: trainings take the seconds, and have the figures, of the table
(``benchmarks/replay_table.py``), or of a forest fitted on it for settings that it does not have.

    OMP_NUM_THREADS=1 python -m benchmarks.replay [--part policies] [--picture docs/replay.png]
    OMP_NUM_THREADS=1 python -m benchmarks.replay --small        # a smoke test of a minute
"""

import argparse
import itertools
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

from benchmarks import replay_picture
from benchmarks.replay_figures import TableError
from benchmarks.replay_jobs import Job, Score, by_policy, forest, load, mean, mean_and_sd, run
from benchmarks.replay_policies import POLICIES, Case, whole
from benchmarks.timing import table as markdown

TABLE = Path(__file__).parent / "data" / "replay.parquet"
ADAPTIVE = ("adaptive_blend",)
PART_POLICIES = ("off", "bounds", "learned")
"""Policies that are compared on several places."""


@dataclass(frozen=True)
class Extent:
    """How much is run.

    Args:
        interests: of the comparison of policies.
        policies: that are compared.
        alone: whether each defense is swept alone too.
        orders: of the settings.
        places: trainings at a time.
        samplers: with the number of seeds of each.
        sampled: trials of a sampler.
        many: trials of the largest sweeps.
        many_places: and trainings at a time.
        grid: numbers of trainings of the curves.
    """

    interests: tuple[float, ...] = (0.2, 0.3, 0.5)
    policies: tuple[str, ...] = tuple(POLICIES)
    alone: bool = True
    orders: int = 20
    places: tuple[int, ...] = (1, 10, 100, 1000)
    samplers: tuple[tuple[str, int], ...] = (("random", 20), ("tpe", 20), ("nsga2", 20), ("gp", 3))
    sampled: int = 200
    many: int = 10_000
    many_places: tuple[int, ...] = (1, 10, 100, 1000)
    grid: tuple[int, ...] = tuple(sorted({round(8 * 1.03**k) for k in range(164)}))


SMALL = Extent((0.3,), PART_POLICIES, False, 2, (1, 100), (("random", 1), ("tpe", 1)), 30, 150, (10,))
Runner = Callable[[Sequence[Job]], dict[Job, Score]]


def cases(extent: Extent) -> dict[str, Case]:
    """The cases of the comparison of policies, by title."""
    found: dict[str, Case] = {}
    for interest in extent.interests:
        found[f"Four scenarios, interest {interest}"] = Case(interest)
        found[f"Without the adaptive scenario, interest {interest}"] = Case(interest, ADAPTIVE)
        if interest == 0.3 and extent.alone:
            found |= {
                "Settings of V&B alone, interest 0.3": Case(interest, defenses=("vab",)),
                "Settings of PT alone, interest 0.3": Case(interest, defenses=("pt",)),
            }
    return found


def policies(path: Path, extent: Extent, runner: Runner, picture: Path | None) -> Iterator[str]:
    """Policies side by side, on one place."""
    panels = {}
    for title, case in cases(extent).items():
        jobs = [
            Job(path, case, name, order, grid=extent.grid) for name in extent.policies for order in range(extent.orders)
        ]
        scores = by_policy(runner(jobs))
        off = scores["off"]
        moments = whole(load(path), case)
        broken = mean([moment.attack > case.interest for moment in moments])
        near, most = (mean_and_sd([getattr(s, which).trainings for s in off], 0) for which in ("near", "most"))
        yield (
            f"{title}: {broken:.0%} of {len(moments)} settings are broken; off needs {near} trainings until 95%, "
            f"{most} until 99%, of {mean([s.trainings for s in off]):.0f}."
        )
        yield markdown(
            ["policy", "trainings run", "until 95%", "its seconds", "until 99%", "95%, order by order", "never",
             "% lost, mean (worst)", "gap"], [[name, *_of_off(own, off)] for name, own in scores.items()]
        )  # fmt: skip
        yield from _problems(score for own in scores.values() for score in own)
        if case.interest == 0.3 and case.defenses == Case().defenses:
            panels[f"{title}: {broken:.0%} broken"] = scores
    if picture is not None:
        replay_picture.draw(panels, extent.grid, picture)


def _of_off(own: Sequence[Score], off: Sequence[Score]) -> list[str]:
    """The figures of a policy's sweeps, as shares of those of ``off`` on the same orders."""
    paired = [a.near.trainings / b.near.trainings for a, b in zip(own, off, strict=True)]
    return [
        _ratio([s.trainings for s in own], [s.trainings for s in off]),
        _ratio([s.near.trainings for s in own], [s.near.trainings for s in off]),
        _ratio([s.near.seconds for s in own], [s.near.seconds for s in off]),
        _ratio([s.most.trainings for s in own], [s.most.trainings for s in off]),
        mean_and_sd(paired, 2),
        str(sum(not s.near.ever for s in own)),
        f"{100 * mean([s.lost for s in own]):.2f} ({100 * max(s.lost for s in own):.2f})",
        f"{max(s.gap for s in own):.4f}",
    ]


def _places(count: int) -> str:
    return f"{count:,} place{'s' if count > 1 else ''}"


def _ratio(own: Sequence[float], off: Sequence[float]) -> str:
    return f"{mean(own) / mean(off):.3f}"


def places(path: Path, extent: Extent, runner: Runner, _: Path | None) -> Iterator[str]:
    """The same on several places: how long a sweep takes, and how much more it trains."""
    rows = []
    for count in extent.places:
        jobs = [Job(path, Case(), name, order, count) for name in PART_POLICIES for order in range(extent.orders)]
        scores = by_policy(runner(jobs))
        off = scores["off"]
        for name, own in scores.items():
            rows.append([
                f"{_places(count)}, {name}",
                _ratio([s.trainings for s in own], [s.trainings for s in off]),
                _ratio([s.seconds for s in own], [s.seconds for s in off]),
                mean_and_sd([s.makespan for s in own], 0),
                _ratio([s.makespan for s in own], [s.makespan for s in off]),
                _ratio([s.near.at for s in own], [s.near.at for s in off]),
                f"{100 * mean([s.lost for s in own]):.2f}",
            ])  # fmt: skip
    yield "Four scenarios, interest 0.3, on several places; makespan in virtual seconds."
    yield markdown(["", "trainings run", "seconds", "makespan", "of off", "time until 95%", "% lost"], rows)


def samplers(path: Path, extent: Extent, runner: Runner, _: Path | None) -> Iterator[str]:
    """Samplers side by side, over the forest."""
    yield "The forest's mean absolute error, for settings of trunks that it has not seen (and that of the mean):"
    errors = forest(path).errors()
    yield markdown(
        ["", "accuracy", "attack success above the floor"],
        [[name, *(f"{own:.3f} ({usual:.3f})" for own, usual in errors[name].values())] for name in errors],
    )
    for title, case in {"Both defenses": Case(), "V&B alone": Case(defenses=("vab",))}.items():
        rows = []
        for policy, (sampler, seeds) in itertools.product(("off", "learned"), extent.samplers):
            if policy == "off" and sampler == "gp":
                continue
            jobs = [
                Job(path, case, policy, seed, 10, sampler, extent.sampled, grid=(200, 400)) for seed in range(seeds)
            ]
            own = list(runner(jobs).values())
            rows.append([
                f"{sampler}, {policy}", str(seeds), f"{mean([s.trainings for s in own]):.0f}",
                *(mean_and_sd([s.curve[k] for s in own]) for k in (0, 1)), mean_and_sd([s.volume for s in own]),
                f"{mean([s.study_ms * s.trainings for s in own]) / extent.sampled:.0f}",
            ])  # fmt: skip
            yield from _problems(own)
        yield (
            f"{title}: samplers over the forest, {extent.sampled} trials on 10 places, four scenarios, interest 0.3: "
            "hypervolume below the interest, as a share of the area."
        )
        yield markdown(
            ["", "seeds", "trainings", "after 200 trainings", "after 400", "at the end", "study, ms a trial"], rows
        )


def many(path: Path, extent: Extent, runner: Runner, _: Path | None) -> Iterator[str]:
    """Large sweeps, with and without losses: the time and memory of the agenda, and whether anything is lost."""
    most = max(extent.many_places)
    jobs = [Job(path, Case(), "learned", 0, n, "random", extent.many) for n in extent.many_places]
    jobs.append(Job(path, Case(), "learned", 0, most, "random", extent.many, lost_every=100.0))
    jobs.append(Job(path, Case(), "off", 0, most, "random", extent.many))
    rows, problems = [], []
    for job, score in runner(jobs).items():
        rows.append([
            f"{job.policy}, {_places(job.places)}" + (", losses" if job.lost_every else ""), f"{score.trainings:,}",
            f"{score.broke_off:,}", f"{score.agenda_ms:.2f}", f"{score.slowest_ms:.0f}", f"{score.study_ms:.2f}",
            f"{score.mib:.0f}", f"{1000 * score.mib / job.trials:.1f}", str(len(score.problems)),
        ])  # fmt: skip
        problems += _problems([score])
    yield (
        f"{extent.many:,} trials of the random sampler over the forest, four scenarios, interest 0.3; with losses each "
        "place loses its training every 100 s on average. Milliseconds of a core for each training."
    )
    yield markdown(
        ["", "trainings", "lost", "agenda, ms", "slowest call", "study, ms", "MiB more", "MiB a 1,000 trials",
         "problems"], rows
    )  # fmt: skip
    yield from problems


PARTS = {"policies": policies, "places": places, "samplers": samplers, "many": many}


def _problems(scores: Iterable[Score]) -> Iterator[str]:
    """What went wrong in any of the sweeps."""
    found = [problem for score in scores for problem in score.problems]
    if found:
        yield f"PROBLEMS: {len(found)}, the first: {found[0]}"


def main(argv: Sequence[str] | None = None) -> int:
    """Replay, and print tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.replay", description=__doc__.splitlines()[0])
    parser.add_argument("--table", type=Path, default=TABLE, help="of real trainings (benchmarks/data/replay.parquet)")
    parser.add_argument("--part", choices=PARTS, action="append", help="run this part; may be repeated (all)")
    parser.add_argument(
        "--policy", choices=POLICIES, action="append", help="compare this policy with off; may be repeated (all)"
    )
    parser.add_argument("--orders", type=int, help="of the settings, in the comparison of policies (20)")
    parser.add_argument("--workers", type=int, default=2, help="processes, one core each (2)")
    parser.add_argument("--picture", type=Path, metavar="PNG", help="where to draw hypervolume against trainings")
    parser.add_argument("--small", action="store_true", help="a few sweeps of each part, as a smoke test")
    args = parser.parse_args(argv)
    try:
        load(args.table)
    except TableError as error:
        print(error, file=sys.stderr)
        return 2
    extent = SMALL if args.small else Extent()
    if args.policy:
        extent = replace(extent, policies=("off", *(name for name in args.policy if name != "off")))
    if args.orders:
        extent = replace(extent, orders=args.orders)
    for name in args.part or PARTS:
        with _runner(args.workers, fresh=name == "many") as runner:
            for text in PARTS[name](args.table, extent, runner, args.picture):
                print(text, end="\n\n", flush=True)
    return 0


@contextmanager
def _runner(workers: int, fresh: bool) -> Iterator[Runner]:
    """Runs sweeps in processes; in this one if there is to be only one.

    Args:
        workers: number of processes.
        fresh: whether each sweep has a process of its own, so that its growth is that of the sweep.
    """
    if workers == 1 and not fresh:
        yield lambda jobs: {job: run(job) for job in jobs}
        return
    with get_context("spawn").Pool(workers, maxtasksperchild=1 if fresh else None) as pool:
        yield lambda jobs: dict(zip(jobs, pool.imap(run, jobs), strict=True))


if __name__ == "__main__":
    sys.exit(main())
