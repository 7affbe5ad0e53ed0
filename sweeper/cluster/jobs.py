"""Sweeps as jobs of a Ray cluster, which go on after the user has logged out."""

import os
import re
import shlex
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray.exceptions import AuthenticationError, RayError
from ray.job_submission import JobStatus, JobSubmissionClient

from sweeper.cluster.address import check_jobs_address
from sweeper.run_folder.folder import LOCK_FILE, RunFolder
from trainers.errors import ConfigError
from trainers.storage.network import keep_loopback_off_proxies

FOLDER = "run_folder"
"""Key of a job's metadata that holds the path of its run folder."""
PATIENCE_S = 120.0
"""Seconds to wait until a job's sweep has begun or was refused."""


@dataclass(frozen=True)
class Submitted:
    """A submitted job.

    Args:
        job: its id.
        begun: whether its sweep had begun within :data:`PATIENCE_S`; if not, it may still be refused.
    """

    job: str
    begun: bool


def submit(arguments: Sequence[str], folder: Path) -> Submitted:
    """Submit ``sweeper`` with these arguments as a job in this working folder, and wait until its sweep has begun.

    The job gets only the environment that Ray was started with on the head. Nothing else is passed on, since everybody
    with access to the cluster can see what is passed to a job.

    Args:
        arguments: of the command line.
        folder: the run folder that they name.

    Raises:
        ConfigError: no cluster is there, or the job ended before its sweep began; the message is the job's last line.
    """
    command = f"cd {shlex.quote(str(Path.cwd()))} && {shlex.join([sys.executable, '-P', '-m', 'sweeper', *arguments])}"
    before = _opened(folder)
    with _cluster() as client:
        job = str(client.submit_job(entrypoint=command, metadata={FOLDER: str(folder)}))
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        status, said = _state_of(job)
        if status is not None and status.is_terminal() and status != JobStatus.SUCCEEDED:
            raise ConfigError(said[-1] if said else f"The job {job} ended without any output.")
        if status == JobStatus.SUCCEEDED or _opened(folder) != before:
            return Submitted(job, True)
        time.sleep(0.5)
    return Submitted(job, False)


def _state_of(job: str) -> tuple[JobStatus | None, list[str]]:
    """The status of a job, and the lines of its log once it has ended; null if the cluster does not answer."""
    with suppress(ConfigError), _cluster() as client:
        status = client.get_job_status(job)
        return status, client.get_job_logs(job).strip().splitlines() if status.is_terminal() else []
    return None, []


def _opened(folder: Path) -> int | None:
    """The inode of the study's file, which is written anew when a sweep begins or resumes, after all checks."""
    try:
        return RunFolder(folder).study.stat().st_ino
    except OSError:
        return None


def folder_of(job: str) -> Path:
    """The run folder of a job.

    Raises:
        ConfigError: no cluster is there, it does not know the job, or the job is no sweep.
    """
    with _cluster() as client:
        known = {details.submission_id: details for details in client.list_jobs()}
    if job not in known:
        raise ConfigError(f"{job} is neither a run folder nor a job that the cluster knows.")
    folder = (known[job].metadata or {}).get(FOLDER)
    if folder is None:
        raise ConfigError(f"The job {job} is no sweep.")
    return Path(folder)


def stop(folder: RunFolder) -> str:
    """Stop the sweep that runs in a folder, as Ctrl-C does; return what was stopped.

    Raises:
        ConfigError: no sweep runs there, or it runs on another machine and not as a job.
    """
    holder = folder.holder()
    if holder is None:
        raise ConfigError(f"No sweep runs in {folder.path}.")
    known = re.fullmatch(r"process (\d+) on (\S+)", holder)
    # Anybody may have written the file: only a process that has it open is stopped.
    if known and known[2] == os.uname().nodename and _has_open(int(known[1]), folder.path / LOCK_FILE):
        with suppress(OSError):  # it belongs to another user, or runs in another container of that name
            os.kill(int(known[1]), signal.SIGTERM)
            return holder
    with _cluster() as client:
        jobs = [
            job.submission_id for job in client.list_jobs()
            if job.status == JobStatus.RUNNING and (job.metadata or {}).get(FOLDER) == str(folder.path.resolve())
        ]  # fmt: skip
        if not jobs:
            raise ConfigError(f"{folder.path} is in use by {holder}, which cannot be reached from here; stop it there.")
        client.stop_job(jobs[0])
    return f"job {jobs[0]}"


def _has_open(process: int, path: Path) -> bool:
    """Whether a process of this machine has a file open; false if that cannot be read."""
    with suppress(OSError):
        return any(file.samefile(path) for file in Path(f"/proc/{process}/fd").iterdir() if file.exists())
    return False


@contextmanager
def _cluster() -> Iterator[Any]:
    """A client of the cluster's job server.

    Raises:
        ConfigError: the server does not answer, or refuses access.
    """
    check_jobs_address()
    keep_loopback_off_proxies()
    try:
        yield JobSubmissionClient(os.environ.get("RAY_API_SERVER_ADDRESS"))
    except ConfigError:
        raise
    except AuthenticationError as error:
        raise ConfigError(
            "The Ray cluster refuses us: the token (~/.ray/auth_token) is missing or not its own."
        ) from error
    except (OSError, RayError, RuntimeError, ValueError) as error:
        raise ConfigError(
            f"No Ray cluster answers here; --detach and jobs need one (ray up cluster.yaml): {_first_line(error)}"
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
