"""How commands are given the run folder that they work on."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sweeper.cli.screen import say

if TYPE_CHECKING:
    from sweeper.run_folder.folder import RunFolder

RunDir = Annotated[
    str, typer.Argument(metavar="DIR", help="A run folder, or its copy in a store (s3://), which is fetched first.")
]
RunDirOrJob = Annotated[str, typer.Argument(metavar="DIR|JOB", help="A run folder, or a job of the cluster.")]


def resolve_run_folder(given: str) -> Path:
    """The local path of a run folder; a copy in a store is fetched first.

    Raises:
        ConfigError: it cannot be fetched.
    """
    from sweeper.run_folder.mirror import RUNS, fetch
    from trainers.storage.object_store import ObjectPath, place

    at = place(given)
    return fetch(at, RUNS).path if isinstance(at, ObjectPath) else at


def folder_or_job(given: str) -> "RunFolder":
    """The run folder that is given, or that of a job.

    Raises:
        ConfigError: there is no such folder or job.
    """
    from sweeper.run_folder.folder import RunFolder

    if not given.startswith("raysubmit_") or Path(given).exists():
        return RunFolder.open(Path(given))
    from sweeper.cluster.jobs import folder_of

    return RunFolder.open(folder_of(given))


def keep_copy(folder: "RunFolder", files: Iterable[Path]) -> None:
    """Copy what a command has written into a run folder to its place in a store, if it has one, and say so."""
    from sweeper.run_folder.mirror import copy_results

    said = copy_results(folder, files)
    if said is not None:
        say(said)
