"""Finds the run folder of a command, given as a path, a job's id, or the address of its copy in an object store."""

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sweeper.cli.screen import say
from trainers.errors import ConfigError

if TYPE_CHECKING:
    from sweeper.run_folder.folder import RunFolder
    from trainers.storage.object_store import ObjectPath

RunDir = Annotated[
    str, typer.Argument(metavar="DIR", help="Run folder, or the address of its copy (s3://), which is fetched first.")
]
RunDirOrJob = Annotated[str, typer.Argument(metavar="DIR|JOB", help="Run folder, or the id of a Ray job.")]


def resolve_run_folder(given: str) -> Path:
    """The local path of a run folder; a copy in a store is fetched first.

    Raises:
        ConfigError: the copy cannot be fetched.
    """
    from sweeper.run_folder.mirror import RUNS, fetch
    from trainers.storage.object_store import ObjectPath, place

    at = place(given)
    return fetch(at, RUNS).path if isinstance(at, ObjectPath) else at


def place_run_folder(storage: str, out: Path | None, name: str) -> "tuple[Path, ObjectPath | None]":
    """The path of a new run folder, and its address in the object store; null if the storage is a folder.

    Args:
        storage: a folder, or the address of an object store.
        out: the run folder as given by the user; null: it is named after the sweep and the time.
        name: of the sweep.

    Raises:
        ConfigError: ``out`` is an address.
    """
    from sweeper.run_folder.mirror import RUNS
    from trainers.storage.object_store import ObjectPath, place

    at = place(storage)
    if out is not None and ":" in str(out).partition("/")[0]:
        raise ConfigError(f"--out takes a folder, but got {out}; --storage takes the address of a store.")
    name = out.resolve().name if out is not None else f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
    if isinstance(at, ObjectPath):
        return out or RUNS / name, at / name
    return out or at / name, None


def folder_or_job(given: str) -> "RunFolder":
    """Open the run folder with this path, or that of the job with this id.

    Raises:
        ConfigError: there is no such folder or job.
    """
    from sweeper.run_folder.folder import RunFolder

    if not given.startswith("raysubmit_") or Path(given).exists():
        return RunFolder.open(Path(given))
    from sweeper.cluster.jobs import folder_of

    return RunFolder.open(folder_of(given))


def keep_copy(folder: "RunFolder", files: Iterable[Path]) -> None:
    """Copy files of a run folder to its place in a store, if it has one, and print where they went."""
    from sweeper.run_folder.mirror import copy_results

    said = copy_results(folder, files)
    if said is not None:
        say(said)
