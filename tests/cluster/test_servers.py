"""The services of ``docker/compose.yaml`` without containers: their own commands, files and variables, on one host.

PostgreSQL, MLflow and optuna-dashboard are the real ones; in the place of the store's image stands moto.
"""

import json
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from sweeper.run_folder.folder import RunFolder
from sweeper.run_folder.record import control_success
from sweeper.running.study_file import open_study
from tests.cluster.hosts import PROJECT, Host, hosts, wait_for
from tests.sweeper.small import finish, record_of, spec_with, sweep_with

SECRETS = {
    name: f"{name.lower()}-x"
    for name in ("RAY_AUTH_TOKEN", "POSTGRES_PASSWORD", "MLFLOW_DB_PASSWORD", "OPTUNA_DB_PASSWORD", "MLFLOW_PASSWORD",
                 "MLFLOW_SECRET_KEY", "STORE_SECRET_KEY")
}  # fmt: skip
NAMES = ("postgres", "store", "mlflow", "studies")

# In one process, which takes seconds to start.
TRACK = """
import json, os, sys
from typer.testing import CliRunner
from sweeper.cli.main import app
usual = dict(os.environ)
for name, (folder, changes) in json.loads(sys.argv[1]).items():
    os.environ.update(usual | changes)
    ended = CliRunner().invoke(app, ["track", folder])
    assert ended.exception is None or isinstance(ended.exception, SystemExit), ended.exception
    print(json.dumps([name, f"{ended.exit_code} {ended.output}"]))
"""


@dataclass
class Servers:
    """A host that runs them all."""

    host: Host
    place: Path
    services: dict[str, Any]
    running: list[Any] = field(default_factory=list)

    def environment(self, service: str, **changes: str) -> list[str]:
        """``env`` with the variables of a service, and the programs of the environment that runs now."""
        own = {name: _filled(str(value)) for name, value in self.services[service]["environment"].items()}
        return ["env", f"PATH={sys.prefix}/bin:/usr/bin:/bin", *[f"{k}={v}" for k, v in (own | changes).items()]]

    def command(self, service: str) -> list[str]:
        """The command of a service."""
        command = self.services[service]["command"]
        return shlex.split(command) if isinstance(command, str) else list(command)

    def begin(self, name: str, *command: str) -> None:
        """Start a server."""
        self.running.append(self.host.begin(*command, log=self.place / f"{name}.log"))

    def wait_until_healthy(self, service: str, seconds: float) -> None:
        """Until the service's own health check says so."""
        test = self.services[service]["healthcheck"]["test"][1:]
        wait_for(lambda: self.host.run(*test, check=False).returncode == 0, seconds, f"a healthy {service}")

    def track(self, calls: dict[str, tuple[RunFolder, dict[str, str]]]) -> dict[str, str]:
        """Exit code and output of ``sweeper track`` on folders, each with the variables of the head and some others."""
        asked = json.dumps({name: (str(folder.path), variables) for name, (folder, variables) in calls.items()})
        done = self.host.run(*self.environment("head"), "python", "-c", TRACK, asked)
        ended = dict(json.loads(line) for line in done.stdout.splitlines() if line.startswith("["))
        assert ended.keys() == calls.keys(), done.stdout + done.stderr
        return ended

    def python(self, service: str, script: str, **changes: str) -> str:
        """What a script prints, with the variables of a service."""
        return self.host.run(*self.environment(service, **changes), "python", "-c", script).stdout.strip()


def _filled(text: str) -> str:
    return re.sub(r"\$\{(\w+):\?\}", lambda found: SECRETS[found[1]], text)


def _start_postgres(servers: Servers) -> None:
    """As the image does: the superuser's password, the rule for other hosts, the scripts of ``initdb.d``."""
    host, data = servers.host, servers.place / "postgres"
    programs = max(Path("/usr/lib/postgresql").glob("*/bin"))
    data.mkdir()
    shutil.chown(data, "postgres")
    as_postgres = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "env", "HOME=/tmp"]
    host.run(*as_postgres, str(programs / "initdb"), "-A", "trust", "-D", str(data),
             "--pwfile", str(_file(servers.place / "password", SECRETS["POSTGRES_PASSWORD"])))  # fmt: skip
    with (data / "pg_hba.conf").open("a") as rules:
        rules.write("host all all all scram-sha-256\n")
    servers.begin("postgres", *as_postgres, str(programs / "postgres"), "-D", str(data), "-k", "/tmp", "-h", "*")
    wait_for(lambda: host.run("pg_isready", "-h", "/tmp", check=False).returncode == 0, 30, "PostgreSQL")
    (script,) = [v.split(":")[0] for v in servers.services["postgres"]["volumes"] if v.endswith(".sql:ro")]
    here = shutil.copy(PROJECT / "docker" / script, servers.place)
    psql = ("psql", "-v", "ON_ERROR_STOP=1", "-h", "/tmp", "-U", "postgres", "-f", str(here))
    host.run(*servers.environment("postgres"), *psql)
    servers.wait_until_healthy("postgres", 10)


def _file(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    path.chmod(0o644)
    return path


@pytest.fixture(scope="module")
def servers(place: Path) -> Iterator[Servers]:
    own = place / "team"
    own.mkdir()
    for folder in (place, own):
        folder.chmod(0o755)  # PostgreSQL runs as another user
    with hosts(own, ("team",), packages=False) as found:
        host = found["team"]
        names = host.root / "hosts"
        names.write_text(names.read_text() + f"{host.address} {' '.join(NAMES)}\n")
        made = Servers(host, own, yaml.safe_load((PROJECT / "docker" / "compose.yaml").read_text())["services"])
        try:
            _start_postgres(made)
            made.begin("store", sys.executable, "-m", "moto.server", "-H", "0.0.0.0", "-p", "7070")
            wait_for(lambda: "Running on" in (own / "store.log").read_text(), 60, "the store")
            for _ in range(2):  # a second time it finds what it made
                host.run(*made.environment("prepare"), *made.command("prepare"))
            ini = PROJECT / "docker" / "mlflow-auth.ini"
            shutil.copy(ini, host.root / "tmp")
            mlflow = made.environment("mlflow", MLFLOW_AUTH_CONFIG_PATH=f"/tmp/{ini.name}")
            made.begin("mlflow", *mlflow, *made.command("mlflow"))
            made.begin("studies", *made.environment("studies"), *made.command("studies"))
            for service in ("studies", "mlflow"):
                made.wait_until_healthy(service, 120)
            yield made
        finally:
            for process in made.running:
                process.terminate()


def ended_sweep(servers: Servers, name: str) -> RunFolder:
    """A sweep of one trial that has ended."""
    path = servers.place / "runs" / name
    path.mkdir(parents=True)
    folder = RunFolder(path)
    folder.write_sweep(sweep_with(f"{name}-sweep"))
    records = [record_of("c0000", "control"), record_of("t0000")]
    for record in records:
        finish(record)
        folder.write_record(record)
    folder.write_tables(records, control_success(records))
    open_study(spec_with(), folder.study, {record.trial_id: record for record in records})
    return folder


USERS = """
from mlflow import MlflowClient
from mlflow.server import get_app_client
from sweeper.tracking.store import check_store
check_store("http://mlflow:5000")
users = get_app_client("basic-auth", "http://mlflow:5000")
for name in ("writer", "reader"):
    users.create_user(name, f"password-of-{name}")
users.grant_user_permission("writer", "experiment", MlflowClient().create_experiment("small"), "EDIT")
"""


@pytest.fixture(scope="module")
def tracked(servers: Servers) -> dict[str, str]:
    """What ``sweeper track`` says to several users."""
    servers.python("head", USERS)
    nightly, guess, team = (ended_sweep(servers, name) for name in ("nightly", "guess", "team"))
    reader, writer = (
        {"MLFLOW_TRACKING_USERNAME": name, "MLFLOW_TRACKING_PASSWORD": f"password-of-{name}"}
        for name in ("reader", "writer")
    )
    return servers.track({
        "admin": (nightly, {}),
        "who guesses MLflow's password": (guess, {"MLFLOW_TRACKING_PASSWORD": "guessed"}),
        "who guesses that of the studies": (guess, {"PGPASSWORD": "guessed"}),
        "reader": (team, reader),
        "writer": (team, writer),
    })  # fmt: skip


SEEN = """
import json
from urllib.request import urlopen
import boto3
from mlflow import MlflowClient
client = MlflowClient()
experiments = [e.experiment_id for e in client.search_experiments()]
runs = client.search_runs(experiments, "tags.sweep_id = 'nightly-sweep'")
parent = next(run for run in runs if "trial_id" not in run.data.tags)
table = client.download_artifacts(parent.info.run_id, "trials.parquet")
studies = json.load(urlopen("http://studies:8080/api/studies"))["study_summaries"]
print(json.dumps({
    "trials": sorted(run.data.tags["trial_id"] for run in runs if run is not parent),
    "table": len(open(table, "rb").read()),
    "objects": boto3.client("s3", endpoint_url="http://store:7070").list_objects_v2(Bucket="mlflow")["KeyCount"],
    "studies": sorted(study["study_name"] for study in studies),
}))
"""


def test_a_sweep_stands_in_mlflow_its_artifacts_in_the_store_and_its_study_in_the_dashboard(
    servers: Servers, tracked: dict[str, str]
) -> None:
    assert tracked["admin"].startswith("0 Written to http://mlflow:5000")
    keys = {"AWS_ACCESS_KEY_ID": "sweeper", "AWS_SECRET_ACCESS_KEY": SECRETS["STORE_SECRET_KEY"]}
    seen = json.loads(servers.python("head", SEEN, **keys))
    assert seen.pop("objects") >= 2
    assert seen == {
        "trials": ["c0000", "t0000"],
        "table": RunFolder(servers.place / "runs" / "nightly").trials.stat().st_size,
        "studies": ["nightly-nightly-", "team-team-swe"],
    }


def test_another_password_is_refused_in_a_sentence_that_does_not_hold_it(tracked: dict[str, str]) -> None:
    of_mlflow = tracked["who guesses MLflow's password"]
    assert of_mlflow.startswith("2 The tracking store http://mlflow:5000 (MLFLOW_TRACKING_URI) cannot be used: ")
    assert "guessed" not in of_mlflow
    of_studies = tracked["who guesses that of the studies"]
    assert of_studies.startswith(
        "2 The study cannot be copied to OPTUNA_STORAGE, postgresql+psycopg://postgres/optuna: "
    )
    assert "password authentication failed" in of_studies


def test_users_write_beside_each_other_and_one_who_may_only_read_is_told_so(tracked: dict[str, str]) -> None:
    assert tracked["reader"].startswith(
        "2 The tracking store http://mlflow:5000 (MLFLOW_TRACKING_URI) cannot be used: "
    )
    assert "ermission denied" in tracked["reader"]
    assert tracked["writer"].startswith("0 Written to http://mlflow:5000")


def test_no_secret_shows_in_the_process_list(servers: Servers) -> None:
    lines = servers.host.run("ps", "-eo", "args").stdout
    assert "mlflow server" in lines
    assert not [name for name, secret in SECRETS.items() if secret in lines]
