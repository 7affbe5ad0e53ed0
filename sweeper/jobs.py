"""Sweeps as jobs of a Ray cluster: they go on when the one who began them has left."""

import os
import shlex
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient

from sweeper.run_folder import RunFolder
from trainers.errors import ConfigError

FOLDER = "run_folder"
"""In a job's metadata: where its sweep lies."""
PATIENCE_S = 120.0
"""How long a job is given until its sweep has begun, or was refused."""


def submit(arguments: Sequence[str], folder: Path) -> str:
    """Let the cluster run ``sweeper`` with these arguments, and wait until its sweep has begun.

    The job gets the environment that Ray was started with on the head, and no other, since everybody who may see the
    cluster may see what is handed to a job.

    Args:
        arguments: of the command line.
        folder: the run folder that they name.

    Returns:
        The job's id.

    Raises:
        ConfigError: no cluster is there, or the job ended before its sweep began; the sentence is the job's.
    """
    client = _client()
    command = shlex.join([sys.executable, "-m", "sweeper", *arguments])
    began_before = (folder / "trials.parquet").exists()
    job = str(client.submit_job(entrypoint=command, metadata={FOLDER: str(folder)}))
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        status = client.get_job_status(job)
        if status.is_terminal() and status != JobStatus.SUCCEEDED:
            said = client.get_job_logs(job).strip().splitlines()
            raise ConfigError(said[-1] if said else f"The job {job} ended without a word.")
        if (
            status.is_terminal()
            or (not began_before and (folder / "trials.parquet").exists())
            or (began_before and RunFolder(folder).holder() is not None)
        ):
            break
        time.sleep(0.5)
    return job


def folder_of(job: str) -> Path:
    """The run folder of a job.

    Raises:
        ConfigError: no cluster is there, it does not know the job, or the job is no sweep.
    """
    try:
        details = _client().get_job_info(job)
    except RuntimeError as error:
        raise ConfigError(f"{job} is neither a run folder nor a job that the cluster knows.") from error
    folder = (details.metadata or {}).get(FOLDER)
    if folder is None:
        raise ConfigError(f"The job {job} is no sweep.")
    return Path(folder)


def stop(folder: RunFolder) -> str:
    """End the sweep that works on a folder as Ctrl-C does; returns what was stopped.

    Raises:
        ConfigError: nobody works on it, or somebody does on another machine and not as a job.
    """
    holder = folder.holder()
    if holder is None:
        raise ConfigError(f"No sweep works on {folder.path}.")
    words = holder.split()  # process 12 on HOST
    if len(words) == 4 and words[3] == os.uname().nodename:
        os.kill(int(words[1]), signal.SIGTERM)
        return holder
    job = _job_on(folder.path)
    if job is None:
        raise ConfigError(f"{folder.path} is worked on by {holder}, which is not this machine; stop it there.")
    _client().stop_job(job)
    return f"job {job}"


def _job_on(folder: Path) -> str | None:
    jobs: list[JobDetails] = [
        job for job in _client().list_jobs()
        if job.status == JobStatus.RUNNING and (job.metadata or {}).get(FOLDER) == str(folder.resolve())
    ]  # fmt: skip
    return jobs[0].submission_id if jobs else None


def _client() -> Any:
    try:
        return JobSubmissionClient(os.environ.get("RAY_API_SERVER_ADDRESS"))
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ConfigError("No Ray cluster answers here; --detach and jobs need one (ray up cluster.yaml).") from error
