"""Breaks sweeps on purpose, and checks that the run folder, the Optuna study and MLflow still agree.

python -m benchmarks.faults [driver worker server disk]
"""

import copy
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
import yaml
from mlflow import MlflowClient

from sweeper.launch import track
from sweeper.run_folder.folder import RunFolder
from sweeper.run_folder.tables import as_rows, read_table

ROOT = Path(__file__).resolve().parents[1]
STUDY = {"FINISHED": "COMPLETE", "PRUNED": "PRUNED", "FAILED": "FAIL"}
RUNS = {"FINISHED": "FINISHED", "PRUNED": "KILLED", "FAILED": "FAILED"}
PATIENCE = 180.0
FILLER = "filler"
PRESET: dict[str, Any] = {
    "name": "faults",
    "data": {"source": "shapes", "train_size": 200, "test_size": 100},
    "model": {"name": "tiny", "width": 4},
    "augment": {"crop": 0, "flip": False},
    "defense": {
        "name": "vab",
        "threshold": {"float": [0.1, 0.5]},
        "warmup_steps": 2,
        "warmup_rounds": 1,
        "mix_epochs": 12,
        "suppression_epochs": 12,
        "batch_size": 64,
        "lr": 0.05,
    },
    "control": {"epochs": 3, "batch_size": 64, "lr": 0.05},
    "scenarios": [{"attack": "badnets", "poison_rate": 0.1, "target": 0}],
    "seeds": [0, 1],
    "search": {"sampler": "tpe", "trials": 3, "workers": 1, "race": "off"},
    "device": "cpu",
    "state_every_s": 0.5,
}


def agree(folder: RunFolder, uri: str) -> dict[str, str]:
    """Check that table, study and MLflow agree on each trial, and that no epoch is missing or doubled.

    Returns:
        The status of each trial.

    Raises:
        AssertionError: they do not agree.
    """
    rows = as_rows(folder.read_trials())
    status = {row["trial_id"]: row["trial_status"] for row in rows}
    runs_of = Counter(row["trial_id"] for row in rows)
    keys = Counter((row["trial_id"], row["scenario"], row["seed"]) for row in rows)
    assert set(keys.values()) <= {1}, f"rows appear twice: {keys}"
    proposed = {name: word for name, word in status.items() if name.startswith("t")}

    study = optuna.load_study(study_name=folder.read_sweep()["preset"]["name"], storage=f"sqlite:///{folder.study}")
    told = {trial.user_attrs["trial_id"]: trial for trial in study.get_trials()}
    assert len(told) == len(study.get_trials()), "a trial is in the study twice"
    raced_out = {name for name, record in folder.read_records().items() if record.raced_out}
    assert {name: trial.state.name for name, trial in told.items()} == {
        name: "COMPLETE" if name in raced_out else STUDY[word] for name, word in proposed.items()
    }
    errors = {row["trial_id"]: row["trial_error"] for row in rows}
    assert {
        name: trial.user_attrs.get("raced_out" if name in raced_out else "error") for name, trial in told.items()
    } == {name: errors[name] for name in proposed}

    client = MlflowClient(tracking_uri=uri)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(experiments, f"tags.sweep_id = '{folder.read_sweep()['sweep_id']}'")
    children = {run.data.tags["trial_id"]: run for run in runs if "trial_id" in run.data.tags}
    assert len(children) == len(runs) - 1, "a trial, or the sweep, is in MLflow twice"
    tracked = {name: (run.info.status, run.data.tags["status"]) for name, run in children.items()}
    known = {name: (RUNS[word], word) for name, word in status.items()}
    assert tracked == known, f"MLflow says {tracked}, the table {known}"
    curves = as_rows(read_table(folder.curves))
    for name, run in children.items():
        for row in (row for row in rows if row["trial_id"] == name):
            prefix = "" if runs_of[name] == 1 else f"{row['scenario']}/seed{row['seed']}/"
            points = [c for c in curves if (c["trial_id"], c["scenario"], c["seed"]) == (
                name, row["scenario"], row["seed"])]  # fmt: skip
            epochs = [point["epoch"] for point in points]
            assert epochs == list(range(1, len(epochs) + 1)), f"epochs of {name}: {epochs}"
            sent = client.get_metric_history(run.info.run_id, prefix + "images_seen")
            assert sorted(metric.step for metric in sent) == epochs, f"MLflow's epochs of {name}"
            if row["val_acc"] is not None:
                assert run.data.metrics[prefix + "val_acc"] == row["val_acc"]
    return status


@dataclass
class Sweep:
    """A sweep in a process of its own.

    Args:
        place: folder for all files of the sweep.
        uri: address of the tracking store; null: a file in ``place``.
        changes: keys of the preset that are replaced.
    """

    place: Path
    uri: str | None = None
    changes: dict[str, Any] = field(default_factory=dict)
    process: subprocess.Popen[str] | None = None

    @property
    def folder(self) -> RunFolder:
        """The run folder of the sweep."""
        return RunFolder(self.place / "run")

    @property
    def store(self) -> str:
        """Address of the tracking store."""
        return self.uri or f"sqlite:///{self.place / 'mlflow.db'}"

    def start(self, command: str = "run", *options: str) -> "Sweep":
        """Start the sweep, or go on with it."""
        preset = self.place / "preset.yaml"
        preset.write_text(yaml.safe_dump(copy.deepcopy(PRESET) | self.changes), encoding="utf-8")
        what = ["run", str(preset), "--out", "run"] if command == "run" else [command, "run", *options]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MLFLOW_TRACKING_URI": self.store}
        environment.pop("RAY_ADDRESS", None)
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "sweep.py"), *what],
            cwd=self.place, env=environment, encoding="utf-8", stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        return self

    def end(self) -> tuple[int, str]:
        """Wait for the end; returns the exit code and the output."""
        assert self.process is not None
        shown, _ = self.process.communicate(timeout=2 * PATIENCE)
        return self.process.returncode, shown

    def wait_for(self, path: str) -> None:
        """Wait until a file that matches ``path`` is in the run folder."""
        assert self.process is not None
        process = self.process
        wait(lambda: any(self.folder.path.glob(path)) or process.poll() is not None, f"{path} did not appear")
        if process.poll() is not None:
            raise AssertionError(f"the sweep ended before {path} appeared: {self.end()[1]}")

    def kill(self) -> None:
        """Kill the driver without warning, as a power cut would."""
        assert self.process is not None
        self.process.kill()
        self.process.communicate()

    def members(self) -> list[int]:
        """Process ids of the driver and of all that it has started, Ray's own processes among them."""
        assert self.process is not None
        return list(_tree(self.process.pid))

    def named(self, word: str) -> list[int]:
        """Process ids of those members whose command line holds a word."""
        found = []
        for pid in self.members():
            with suppress(OSError):
                if word.encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(pid)
        return found

    def workers(self) -> list[int]:
        """Process ids of the workers that run trainings."""
        return self.named("Trainable")


def _tree(process: int) -> Iterator[int]:
    """A process and those that it has started, and so on."""
    yield process
    for path in Path(f"/proc/{process}/task").glob("*/children"):
        with suppress(OSError):
            for child in path.read_text(encoding="ascii").split():
                yield from _tree(int(child))


def wait(condition: Callable[[], bool], otherwise: str) -> None:
    """Wait for a condition.

    Raises:
        AssertionError: the condition is still false after ``PATIENCE`` seconds.
    """
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(otherwise)
        time.sleep(0.05)


MOMENTS = {
    "a control trains": "states/c0000-0/began.1.txt",
    "the first trial trains": "states/t0000-0/run-0.1.safetensors",
    "the second trial trains with its second seed": "states/t0001-1/run-0.1.safetensors",
}


def driver_killed(place: Path, moment: str) -> dict[str, str]:
    """Kill the driver at a moment, and resume the sweep."""
    sweep = Sweep(place).start()
    sweep.wait_for(MOMENTS[moment])
    sweep.kill()
    code, shown = sweep.start("resume").end()
    assert code == 0, shown
    return agree(sweep.folder, sweep.store)


def worker_killed(place: Path) -> dict[str, str]:
    """Kill the process of a training; the sweep must run it again."""
    sweep = Sweep(place).start()
    sweep.wait_for("states/t0000-0/run-0.1.safetensors")
    victims = sweep.workers()
    assert victims, "no worker was found"
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    code, shown = sweep.end()
    assert code == 0, shown
    attempts = [row["attempt"] for row in as_rows(sweep.folder.read_trials()) if row["trial_id"] == "t0000"]
    assert attempts == [2, 1], attempts
    return agree(sweep.folder, sweep.store)


def server_stopped(place: Path) -> dict[str, str]:
    """Stop the tracking server in the middle of a sweep, and start it again."""
    with postgres(place / "postgres") as database:
        port = free_port()
        uri = f"http://127.0.0.1:{port}"
        with mlflow_server(database, port, place):
            sweep = Sweep(place, uri).start()
            sweep.wait_for("states/t0000-0/run-0.1.safetensors")
        sweep.wait_for("states/t0001-0/run-0.1.safetensors")
        with mlflow_server(database, port, place):
            code, shown = sweep.end()
            assert code == 0, shown
            if "MLflow lacks" in shown:  # the sweep ended before the server was back
                track(sweep.folder.path, uri)
            return agree(sweep.folder, uri)


def disk_full(place: Path) -> dict[str, str]:
    """Let the disk fill up, make room, and resume the sweep.

    Raises:
        PermissionError: a file system cannot be mounted here.
    """
    with small_disk(place) as disk:
        sweep = fill_disk(disk, f"sqlite:///{place / 'mlflow.db'}")
        (disk / FILLER).unlink()
        code, shown = sweep.start("resume").end()
        assert code == 0, shown
        return agree(sweep.folder, sweep.store)


def fill_disk(disk: Path, uri: str) -> Sweep:
    """Let the disk of a sweep fill up; check that the sweep reports it and loses no record."""
    sweep = Sweep(disk, uri).start()
    sweep.wait_for("states/t0000-0/run-0.1.safetensors")
    before = {path.name: path.read_bytes() for path in sweep.folder.records.glob("c*.json")}
    with suppress(OSError), (disk / FILLER).open("wb") as filler:
        while True:
            filler.write(b"x" * 4096)
            filler.flush()
    code, shown = sweep.end()
    assert code == 1, shown
    assert "cannot be written any more" in shown, shown
    assert "No space left on device" in shown or "disk is full" in shown, shown
    assert "Traceback" not in shown, shown
    assert {path.name: path.read_bytes() for path in sweep.folder.records.glob("c*.json")} == before
    return sweep


@contextmanager
def small_disk(place: Path) -> Iterator[Path]:
    """A disk of 8 MiB, mounted below a folder.

    Raises:
        PermissionError: a file system cannot be mounted here.
    """
    disk = place / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        raise PermissionError("no file system can be mounted here")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@contextmanager
def postgres(place: Path) -> Iterator[str]:
    """A PostgreSQL server on loopback, with a database for MLflow; yields its address.

    Raises:
        FileNotFoundError: PostgreSQL is not installed.
    """
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not binaries:
        raise FileNotFoundError("PostgreSQL is not installed (apt-get install postgresql)")
    place.mkdir(parents=True)
    who: list[str] = []
    if os.geteuid() == 0:  # the server refuses to run as root
        shutil.chown(place, "postgres")
        who = ["runuser", "-u", "postgres", "--"]
        for parent in place.parents:
            if parent.stat().st_uid == 0 and parent.is_relative_to(tempfile.gettempdir()):
                parent.chmod(parent.stat().st_mode | 0o011)
    port = free_port()
    options = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={place} -c fsync=off"

    def run(name: str, *arguments: str) -> None:
        subprocess.run(
            [*who, str(binaries[-1] / name), *arguments], check=True, capture_output=True, cwd=place, timeout=PATIENCE
        )

    run("initdb", "-D", str(place / "data"), "-U", "mlflow", "--auth=trust", "--no-sync", "-E", "UTF8", "--locale=C")
    run("pg_ctl", "-D", str(place / "data"), "-w", "-o", options, "-l", str(place / "log"), "start")
    try:
        run("createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "mlflow", "tracking")
        yield f"postgresql://mlflow@127.0.0.1:{port}/tracking"
    finally:
        run("pg_ctl", "-D", str(place / "data"), "-m", "immediate", "stop")


@contextmanager
def mlflow_server(database: str, port: int, place: Path) -> Iterator[None]:
    """A real ``mlflow server`` on loopback."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    stores = ["--backend-store-uri", database, "--artifacts-destination", str(place / "artifacts")]
    with (place / "server.log").open("a", encoding="utf-8") as log:
        process = subprocess.Popen([*command, *stores], stdout=log, stderr=log, start_new_session=True)
    try:
        began = "the MLflow server did not start"
        wait(lambda: process.poll() is not None or _answers(f"http://127.0.0.1:{port}/health"), began)
        assert process.poll() is None, began
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _answers(address: str) -> bool:
    with suppress(urllib.error.URLError, OSError), urllib.request.urlopen(address, timeout=2):
        return True
    return False


def free_port() -> int:
    """A free port on loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def main() -> None:
    """Run the faults that are named on the command line, or all."""
    faults: dict[str, Callable[[Path], dict[str, str]]] = {
        **{f"driver: {moment}": lambda place, moment=moment: driver_killed(place, moment) for moment in MOMENTS},
        "worker": worker_killed,
        "server": server_stopped,
        "disk": disk_full,
    }
    wanted = sys.argv[1:] or list(faults)
    for name, fault in faults.items():
        if name.partition(":")[0] in wanted or name in wanted:
            with tempfile.TemporaryDirectory(prefix="sweeper-faults-") as place:
                began = time.monotonic()
                status = Counter(fault(Path(place)).values())
                print(
                    f"{name:32} {time.monotonic() - began:5.0f} s  the three records agree: {dict(status)}", flush=True
                )


if __name__ == "__main__":
    main()
