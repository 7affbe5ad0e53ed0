"""What commands print when a sweep, or a test, has ended or was submitted."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from sweeper.analysis.attack_bounds import UNBOUNDED, AttackBounds
from sweeper.cli.screen import ALL_FAILED, NOTHING_QUALIFIES, complain, console, say, say_where_programs_are

if TYPE_CHECKING:
    from sweeper.launch import Ended
    from sweeper.run_folder.certificate import Certificate


def detach_command(arguments: list[str], path: Path) -> None:
    """Submit a command to the cluster as a job, and print how to follow it."""
    from sweeper.cluster.jobs import submit

    submitted = submit(arguments, path.resolve())
    job = submitted.job
    say(f"Job: {job}   results: {path.resolve()}")
    if not submitted.begun:
        say("The sweep has not begun yet, and may still be refused.")
    say(f"Progress: sweeper status {job}   log: ray job logs -f {job}")


def show_ended(ended: "Ended", most: AttackBounds = UNBOUNDED) -> None:
    """Print the tables of a sweep, what failed, and what to do next, for the bounds that the user gave, if any."""
    from sweeper.cli.next_step import next_lines
    from sweeper.cli.tables import print_attackers, print_breaking, print_comparison, print_frontier, print_left_out

    path, outcome = ended.folder.path, ended.outcome
    if ended.attackers is not None:
        print_attackers(console, *ended.attackers)
    else:
        print_frontier(console, ended.frame, ended.table, ended.volumes)
        print_comparison(console, ended.frame, ended.table)
    print_left_out(console, ended.frame, ended.folder)
    print_breaking(console, ended.frame)
    _show_outcome(ended)
    if ended.attackers is None and ended.table["on_frontier"].any():
        for line in next_lines(path, ended.frame, most):
            say(line)
    say_where_programs_are()
    if outcome.finished == 0:
        complain("No trial finished.")
        raise typer.Exit(ALL_FAILED)


def show_test(ended: "Ended", certificate: "Certificate") -> None:
    """Print what a test has certified, or why it certified nothing yet, and where its results are."""
    from sweeper.analysis.guarantee import guarantee
    from sweeper.cli.next_step import test_lines
    from sweeper.report.certificate import guarantee_lines
    from sweeper.run_folder.record import REPLICATE

    own = ended.frame[ended.frame["role"] == REPLICATE]
    begun = int((own["attempt"].fillna(0) > 0).sum())
    counted = sum(step.trainings for step in certificate.steps)
    say(f"Trainings: {begun}, of which {counted} in {len(certificate.steps)} counted replicates.")
    known = guarantee(certificate)
    for line in [] if known is None else guarantee_lines(known):
        say(line)
    _show_outcome(ended)
    for line in test_lines(ended.folder.path, certificate)[known is not None :]:
        say(line)
    say_where_programs_are()
    if known is None:
        raise typer.Exit(NOTHING_QUALIFIES)


def _show_outcome(ended: "Ended") -> None:
    """Print what failed, what was interrupted, and where results are."""
    from sweeper.words import command, lacking

    path, outcome = ended.folder.path, ended.outcome
    for reason in outcome.failed:
        say(f"FAILED {reason}")
    if outcome.interrupted:
        say(f"Not all trials ran: {outcome.interrupted}. Ended trials are kept; to continue: {command('resume', path)}")
    if ended.tracker.behind:
        say(lacking(ended.tracker.behind, path))
    if ended.not_copied is not None:
        say(f"{ended.folder.store} is not up to date ({ended.not_copied}); once it answers: {command('resume', path)}")
    elif ended.folder.store is not None:
        say(f"Copy: {ended.folder.store}")
    say(f"Results: {path}   report: {ended.folder.report}")
    store = ended.tracker.shown_uri
    compare = store if store.startswith("http") else command("ui", path)
    say(f"Compare runs: {compare}")
