"""Sweeps that are left to a cluster; the cluster itself is a stand-in here."""

import os
import shlex
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus

from sweeper.cluster import jobs
from sweeper.run_folder.folder import LOCK_FILE, RunFolder
from tests.sweeper.cli.calls import call, sentence, sweep_at
from trainers.errors import ConfigError
from trainers.storage.files import write_text


@dataclass
class Job:
    """What the cluster knows of one."""

    entrypoint: str
    metadata: dict[str, str] | None
    submission_id: str = "raysubmit_1"
    status: JobStatus = JobStatus.RUNNING
    given: dict[str, Any] = field(default_factory=dict)


class Cluster:
    """Runs the one job by a function of its folder."""

    def __init__(self, does: Any = lambda _folder: None, said: str = ""):
        self.does, self.said = does, said
        self.jobs: list[Job] = []
        self.stopped: list[str] = []

    def submit_job(self, entrypoint: str, metadata: dict[str, str], **given: Any) -> str:
        self.jobs.append(Job(entrypoint, metadata, given=given))
        return "raysubmit_1"

    def get_job_status(self, _job: str) -> JobStatus:
        return self.does(Path(self.jobs[0].metadata[jobs.FOLDER])) or JobStatus.RUNNING

    def get_job_logs(self, _job: str) -> str:
        return self.said

    def list_jobs(self) -> list[Job]:
        return self.jobs

    def stop_job(self, job: str) -> bool:
        self.stopped.append(job)
        return True


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    found = Cluster()
    monkeypatch.setattr(jobs, "JobSubmissionClient", lambda _address: found)
    monkeypatch.setattr(jobs.time, "sleep", lambda _seconds: None)
    return found


def test_a_sweep_is_handed_over_as_it_was_asked_for(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cluster.does = lambda folder: None if folder.exists() else (sweep_at(folder) / "study.db").touch()
    result = call("run", "quick.yaml", "--set", "search.trials=3", "--storage", "shared", "--trials", "4", "--detach")
    assert result.exit_code == 0, result.output
    where, _, command = cluster.jobs[0].entrypoint.partition(" && ")
    assert shlex.split(where) == ["cd", str(tmp_path)]  # relative paths mean the same there
    words = shlex.split(command)
    (folder,) = (tmp_path / "shared").iterdir()
    assert words == [
        sys.executable, "-P", "-m", "sweeper", "run", "quick.yaml", "--set", "search.trials=3",
        "--set", "search.trials=4", "--out", str(folder), "--storage", str(tmp_path / "shared"),
    ]  # fmt: skip
    assert cluster.jobs[0].given == {}  # no environment: everybody who sees the cluster sees what a job is given
    assert f"Job: raysubmit_1   results: {folder}" in result.stdout
    again = call("status", "raysubmit_1")
    assert f"Results: {folder}" in again.stdout


def test_what_the_job_refuses_is_said_here(cluster: Cluster, tmp_path: Path) -> None:
    cluster.does = lambda _folder: JobStatus.FAILED
    cluster.said = "Loading data ...\nA training asks for 1 CPU and 1 GPU, which no host has: h has 2 CPUs.\n"
    text = sentence(call("run", "quick.yaml", "--out", str(tmp_path / "run"), "--detach"))
    assert text == "A training asks for 1 CPU and 1 GPU, which no host has: h has 2 CPUs."
    cluster.said = ""
    assert "raysubmit_1 ended without any output" in sentence(call("run", "quick.yaml", "--out", "run", "--detach"))


def test_a_bad_preset_is_refused_before_it_is_handed_over(cluster: Cluster) -> None:
    assert "search.trials" in sentence(call("run", "quick.yaml", "--trials", "0", "--detach"))
    assert cluster.jobs == []


@pytest.mark.parametrize(
    ("command", "handed_over"),
    [
        (["resume", "--trials", "9"], ["resume", "DIR", "--trials", "9"]),
        (["confirm", "--top", "2"], ["confirm", "DIR", "--top", "2"]),
        (["confirm", "--max-asr", "0.1"], ["confirm", "DIR", "--max-asr", "0.1"]),
        (
            ["confirm", "--max-excess", "0.1", "--confidence", "0.95", "--budget", "90"],
            ["confirm", "DIR", "--max-excess", "0.1", "--confidence", "0.95", "--budget", "90"],
        ),
    ],
)
def test_what_goes_on_with_a_sweep_is_handed_over_too(
    cluster: Cluster, tmp_path: Path, command: list[str], handed_over: list[str]
) -> None:
    folder = RunFolder(sweep_at(tmp_path / "run"))
    folder.study.write_text("old")
    asked: list[int] = []

    def work(_folder: Path) -> None:
        asked.append(1)
        if len(asked) == 3:
            write_text(folder.study, "new")

    cluster.does = work
    assert call(command[0], str(folder.path), *command[1:], "--detach").exit_code == 0
    words = [str(folder.path) if word == "DIR" else word for word in handed_over]
    assert shlex.split(cluster.jobs[0].entrypoint.partition(" && ")[2])[4:] == words
    assert len(asked) == 3  # it came back once the study was made anew, which is after all refusals


def test_without_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(_address: str | None) -> None:
        raise ConnectionError("refused")

    monkeypatch.setattr(jobs, "JobSubmissionClient", away)
    assert "No Ray cluster answers here" in sentence(call("run", "quick.yaml", "--detach"))
    assert "No Ray cluster answers here" in sentence(call("status", "raysubmit_1"))


def test_a_token_that_the_cluster_refuses(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise AuthenticationError("401")

    monkeypatch.setattr(cluster, "list_jobs", refuse)
    text = "The Ray cluster refuses us: the token (~/.ray/auth_token) is missing or not its own."
    assert sentence(call("status", "raysubmit_1")) == text


def test_a_cluster_that_does_not_answer_for_a_moment_is_asked_again(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    asked: list[int] = []

    def hiccup(folder: Path) -> None:
        asked.append(1)
        if len(asked) == 1:
            raise RuntimeError("Request failed with status code 500\nmore")
        (sweep_at(folder) / "study.db").touch()

    cluster.does = hiccup
    result = call("run", "quick.yaml", "--out", "run", "--detach")
    assert result.exit_code == 0, result.output
    assert "Job: raysubmit_1" in result.stdout
    assert len(asked) == 2


def test_an_address_is_no_folder(cluster: Cluster) -> None:
    text = sentence(call("run", "quick.yaml", "--out", "s3://bucket/run", "--detach"))
    assert text == "--out takes a folder, but got s3:/bucket/run; --storage takes the address of a store."
    assert cluster.jobs == []


def test_a_job_that_has_not_begun_is_not_said_to_have(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "PATIENCE_S", 0.0)
    result = call("run", "quick.yaml", "--out", "run", "--detach")
    assert result.exit_code == 0
    assert "The sweep has not begun yet, and may still be refused." in result.stdout


def test_jobs_that_are_no_sweeps(cluster: Cluster) -> None:
    assert "raysubmit_1 is neither a run folder nor a job" in sentence(call("status", "raysubmit_1"))
    cluster.jobs.append(Job("sleep 9", None))
    assert "raysubmit_1 is no sweep" in sentence(call("stop", "raysubmit_1"))


def test_stop_ends_what_works_on_the_folder(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder(sweep_at(tmp_path / "run"))
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda *arguments: sent.append(arguments))
    assert f"No sweep runs in {folder.path}" in sentence(call("stop", str(folder.path)))
    with RunFolder(folder.path).lock():
        result = call("stop", str(folder.path))
        assert result.exit_code == 0, result.output
        assert sent == [(os.getpid(), signal.SIGTERM)]
        for process in ("-1", "0", "1", str(os.getppid())):  # whatever others write there
            (folder.path / LOCK_FILE).write_text(f"process {process} on {os.uname().nodename}")
            with pytest.raises(ConfigError, match=f"in use by process {process} on .*, which cannot be reached"):
                jobs.stop(folder)
        assert len(sent) == 1
        (folder.path / LOCK_FILE).write_text("process 7 on another")
        with pytest.raises(ConfigError, match="in use by process 7 on another, which cannot be reached from here"):
            jobs.stop(folder)
        cluster.jobs.append(Job("sweeper", {jobs.FOLDER: str(folder.path)}))
        assert "Stopping job raysubmit_1" in call("stop", str(folder.path)).stdout
    assert cluster.stopped == ["raysubmit_1"]
    assert len(sent) == 1


def test_a_process_that_may_not_be_stopped_is_stopped_as_a_job(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(sweep_at(tmp_path / "run"))

    def refuse(*_: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)
    cluster.jobs.append(Job("sweeper", {jobs.FOLDER: str(folder.path)}))
    with RunFolder(folder.path).lock():
        assert jobs.stop(folder) == "job raysubmit_1"
