"""From a laptop to results: ``ray up``, ``ray submit``, and what is refused."""

import subprocess
from pathlib import Path

import pytest

from sweeper.run_folder.folder import RunFolder
from tests.agreement import agree
from tests.cluster.hosts import wait_for
from tests.cluster.up import SECRET, Cluster

SMALL = (
    "--set", "data.train_size=300", "--set", "data.test_size=200", "--set", "control.epochs=1", "--set",
    "defense.mix_epochs=1", "--set", "defense.suppression_epochs=1", "--set", "defense.warmup_steps=5",
)  # fmt: skip
ALONE = ("--set", "search.workers=1")


def test_hosts_are_looked_at_before_ray_up(cluster: Cluster) -> None:
    laptop, refusing = cluster.hosts["laptop"], cluster.hosts["worker1"]
    keys = refusing.home / ".ssh" / "authorized_keys"
    absent = "10.77.0.99"
    text = (laptop.home / "checkout" / "cluster.yaml").read_text()
    (laptop.home / "other.yaml").write_text(text.replace(cluster.hosts["worker2"].address, absent))
    laptop.run("bash", "-c", "python -m pip install -q --no-deps --no-index checkout/dist/*.whl")
    keys.rename(keys.with_name("away"))
    try:
        found = laptop.run("sweeper", "doctor", "--cluster", "other.yaml", check=False)
    finally:
        keys.with_name("away").rename(keys)
    assert found.returncode == 2
    head, worker, last = found.stdout.splitlines()
    assert head.startswith(f"ok     {cluster.hosts['head'].address}: root may log in; Python 3.")
    assert worker.startswith(f"NOT OK {refusing.address}: it refuses root with /root/.ssh/id_ed25519 -> Put the key")
    assert last.startswith(f"NOT OK {absent}: it cannot be reached: ssh: connect to host {absent} port 22: ")


def test_a_sweep_runs_on_all_hosts_and_its_results_are_whole(cluster: Cluster) -> None:
    longer = ("--set", "defense.mix_epochs=15")  # or hosts that begin late find nothing left to do
    done = cluster.submit("run", "quick.yaml", *SMALL, *longer, "--trials", "6")
    folder = cluster.newest()
    assert f"Results: {folder.path}" in done.stdout
    records = folder.read_records()
    assert {state.host for record in records.values() for state in record.trainings.values()} == {
        cluster.hosts[name].address for name in ("head", "worker1", "worker2")
    }
    status = agree(folder, f"sqlite:///{cluster.storage}/mlflow.db")
    assert sorted(status) == ["c0000", *[f"t000{i}" for i in range(6)]]
    assert set(status.values()) == {"FINISHED"}
    assert len(list(folder.scores.glob("t*.parquet"))) == 6
    assert folder.report.exists()
    assert list(folder.path.glob(".probe*")) == []


def test_a_sweep_that_is_left_to_the_cluster_is_found_and_stopped(cluster: Cluster) -> None:
    begun = cluster.submit("run", "quick.yaml", *SMALL, *ALONE, "--trials", "40", "--detach")
    folder = cluster.newest()
    job = begun.stdout.split("Job: ")[1].split()[0]
    assert str(folder.path) in begun.stdout
    assert "quick: running (process " in cluster.sweeper("status", job).stdout
    assert "to continue: sweeper resume" in cluster.sweeper("stop", job).stdout
    wait_for(lambda: folder.holder() is None, 60, "the end of the job")
    agree(folder, f"sqlite:///{cluster.storage}/mlflow.db")


def test_a_folder_that_only_the_head_sees_is_refused(cluster: Cluster) -> None:
    refused = cluster.submit("run", "quick.yaml", *SMALL, "--storage", "/root/runs", check=False)
    assert refused.returncode != 0
    text = " ".join(refused.stdout.split())
    assert "does not see /root/runs/quick-" in text
    assert "give --storage a folder that all hosts share" in text
    assert "Traceback" not in text


@pytest.fixture(scope="module")
def strangers(cluster: Cluster) -> dict[str, tuple["subprocess.Popen[str]", Path]]:
    """Without a token, and with another: they try to join, and Ray lets the second wait for 20 s."""
    head, begun = cluster.hosts["head"], {}
    script = "import ray; ray.init('auto'); print('joined', ray.get(ray.remote(lambda: 7).remote()))"
    for name, token in (("without", None), ("wrong", "0" * 64)):
        home = head.home / name
        (home / ".ray").mkdir(parents=True)
        if token is not None:
            (home / ".ray" / "auth_token").write_text(token)
        command = ("env", f"HOME=/root/{name}", "RAY_AUTH_MODE=token", "timeout", "40",
                   "/root/.robustness-sweeper/venv/bin/python", "-c", script)  # fmt: skip
        log = cluster.storage / f"{name}.log"
        begun[name] = (head.begin(*command, log=log), log)
    return begun


@pytest.mark.usefixtures("strangers")  # they wait too
def test_more_than_any_host_has_is_refused(cluster: Cluster) -> None:
    refused = cluster.submit("run", "quick.yaml", *SMALL, "--set", "resources.gpu=1", check=False)
    assert refused.returncode != 0
    text = " ".join(refused.stdout.split())
    assert "A training asks for 1 CPU and 1 GPU, which no host has:" in text
    for name in ("head", "worker1", "worker2"):
        assert f"{cluster.hosts[name].address} has" in text


def test_hosts_that_share_no_folder(cluster: Cluster, bucket: str) -> None:
    head = cluster.hosts["head"]
    where = ("--storage", bucket, "--out", "stored")
    done = cluster.submit("run", "quick.yaml", *SMALL, *ALONE, "--trials", "1", *where)
    assert f"Copy: {bucket}/stored" in done.stdout
    head.run("rm", "-r", "stored", "mlflow.db")  # the head went, and another came
    again = cluster.ray("exec", "cluster.yaml", f"sweeper resume {bucket}/stored --trials 2")
    assert "Results: runs/stored" in again.stdout
    folder = RunFolder(head.home / "runs" / "stored")
    status = agree(folder, f"sqlite:///{head.home}/runs/mlflow.db")
    assert status == dict.fromkeys(["c0000", "t0000", "t0001"], "FINISHED")
    assert not (folder.path / "states").exists()


def test_nothing_after_the_script_is_the_default_preset(cluster: Cluster) -> None:
    before = set(cluster.storage.glob("*/sweep.yaml"))
    log = cluster.storage / "default.log"
    begun = cluster.hosts["laptop"].begin("bash", "-c", "cd checkout && exec ray submit cluster.yaml sweep.py", log=log)
    try:
        wait_for(lambda: set(cluster.storage.glob("*/sweep.yaml")) - before, 60, "a sweep")
        folder = cluster.newest()
        assert folder.read_sweep()["preset"]["name"] == "quick"
        holder = folder.holder()
        assert holder is not None
        cluster.hosts["head"].run("kill", holder.split()[1])
        assert begun.wait(60) is not None
    finally:
        begun.kill()


@pytest.mark.parametrize("name", ["without", "wrong"])
def test_without_the_token_nothing_is_reached(
    strangers: dict[str, tuple["subprocess.Popen[str]", Path]], name: str
) -> None:
    stranger, log = strangers[name]
    assert stranger.wait(60) != 0
    assert "joined" not in log.read_text()
    assert "oken" in log.read_text()


def test_nobody_submits_a_job_without_the_token_or_from_another_host(cluster: Cluster) -> None:
    head, worker = cluster.hosts["head"], cluster.hosts["worker1"]
    script = """
import json, sys
from urllib.error import HTTPError
from urllib.request import Request, urlopen
url, *tokens = sys.argv[1:]
for token in tokens:
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    try:
        job = json.dumps({"entrypoint": "touch /root/stranger"}).encode()
        print(urlopen(Request(f"{url}/api/jobs/", job, headers), timeout=10).status)
    except HTTPError as error:
        print(error.code)
"""
    tried = head.run("python", "-c", script, "http://127.0.0.1:8265", "", "0" * 64)
    assert set(tried.stdout.split()) <= {"401", "403"}, tried.stdout
    assert not (head.home / "stranger").exists()
    away = worker.run("python", "-c", script, f"http://{head.address}:8265", "", check=False)
    assert "Connection refused" in away.stderr


def test_no_password_shows_on_the_hosts(cluster: Cluster) -> None:
    for name in cluster.names:
        host = cluster.hosts[name]
        assert SECRET in host.run("bash", "-c", "echo $AWS_SECRET_ACCESS_KEY").stdout
        assert host.run("stat", "-c", "%a", "/root/.robustness-sweeper/secrets").stdout == "600\n"
        assert SECRET not in host.run("ps", "-eo", "args").stdout
        assert host.run("grep", "-rls", SECRET, "/tmp/ray", "/root/ray_bootstrap_config.yaml", check=False).stdout == ""


def test_nothing_is_left_after_ray_down(cluster: Cluster) -> None:  # the last one here
    def busy() -> list[bool]:
        return [bool(cluster.hosts[name].processes("raylet/raylet")) for name in cluster.names]

    assert all(busy())
    cluster.ray("down", "-y", "cluster.yaml")
    wait_for(lambda: not any(busy()), 60, "quiet")
