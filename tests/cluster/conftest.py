"""Three hosts and the laptop of a user, with the cluster of ``cluster.yaml`` up."""

import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cluster.hosts import PROJECT, Host, hosts, missing, wait_for

HOSTS = ("laptop", "head", "worker1", "worker2")
STORE_PORT = 9000


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = missing()
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.cluster)
            if reason is not None:
                item.add_marker(pytest.mark.skip(reason=reason))


@dataclass
class Cluster:
    """The hosts, and what is done with them from the laptop."""

    hosts: dict[str, Host]
    storage: Path

    def ray(self, *words: str, timeout: float = 300, check: bool = True) -> subprocess.CompletedProcess[str]:
        """``ray`` on the laptop, in a checkout."""
        laptop = self.hosts["laptop"]
        return laptop.run("bash", "-c", f"cd checkout && {shlex.join(['ray', *words])}", timeout=timeout, check=check)

    def submit(self, *words: str, timeout: float = 300, check: bool = True) -> subprocess.CompletedProcess[str]:
        """``ray submit cluster.yaml sweep.py -- ...``."""
        return self.ray("submit", "cluster.yaml", "sweep.py", "--", *words, timeout=timeout, check=check)

    def sweeper(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """``sweeper`` on the head, as after a login."""
        return self.hosts["head"].run("sweeper", *words, check=check)

    def wait_for_hosts(self, count: int = 3, seconds: float = 90) -> None:
        """Until so many have joined."""
        script = "import ray; ray.init('auto', logging_level='ERROR'); print(sum(n['Alive'] for n in ray.nodes()))"
        wait_for(
            lambda: self.hosts["head"].run("python", "-c", script, check=False).stdout.strip() == str(count),
            seconds, f"{count} hosts",
        )  # fmt: skip


def _store_settings(laptop: Host) -> str:
    """Where the object store is, and its keys."""
    return (
        f"export AWS_ENDPOINT_URL=http://{laptop.address}:{STORE_PORT} AWS_DEFAULT_REGION=us-east-1 "
        "AWS_ACCESS_KEY_ID=key AWS_SECRET_ACCESS_KEY=secret"
    )


@pytest.fixture(scope="session")
def place() -> Iterator[Path]:
    """A folder that every host sees: not below /tmp or /root, which each has its own of."""
    path = Path(tempfile.mkdtemp(prefix="sweeper-hosts-", dir="/var/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def cluster(place: Path) -> Iterator[Cluster]:
    """``ray up`` with the shipped file; changed are addresses, user and storage, and beside the storage stands where an
    object store is. Each host says that it has one CPU, since there are two of them in all.
    """
    storage = place / "storage"
    storage.mkdir()
    with hosts(place, HOSTS) as found:
        laptop = found["laptop"]
        checkout = laptop.home / "checkout"
        checkout.mkdir()
        subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", checkout / "dist"],
                       cwd=PROJECT, check=True)  # fmt: skip
        for name in ("requirements-hosts.lock", "cluster-setup.sh"):
            shutil.copy(PROJECT / name, checkout / "dist")
        shutil.copy(PROJECT / "sweep.py", checkout)
        workers = ", ".join(found[name].address for name in ("worker1", "worker2"))
        text = (PROJECT / "cluster.yaml").read_text()
        for old, new in (
            ("head_ip: 192.0.2.1 ", f"head_ip: {found['head'].address} "),
            ("192.0.2.2, 192.0.2.3", workers),
            ("ssh_user: sweeper ", "ssh_user: root "),
            ("=/srv/sweeps ", f"={storage} "),
            ("    export MLFLOW_TRACKING_URI=", f"    {_store_settings(laptop)}\n    export MLFLOW_TRACKING_URI="),
            ("ray start --head ", "ray start --head --num-cpus=1 "),
            ("ray start --address", "ray start --num-cpus=1 --address"),
        ):
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        (checkout / "cluster.yaml").write_text(text)
        environment = "export PATH=$HOME/.robustness-sweeper/venv/bin:$PATH RAY_AUTH_MODE=token\n"
        (laptop.home / ".bashrc").write_text(environment)
        up = Cluster(found, storage)
        up.ray("get-auth-token", "--generate")
        up.ray("up", "-y", "cluster.yaml")
        up.wait_for_hosts()
        yield up
        up.ray("down", "-y", "cluster.yaml")


@pytest.fixture(scope="session")
def bucket(cluster: Cluster, place: Path) -> Iterator[str]:
    """The address of an empty bucket, in a store that every host reaches."""
    laptop = cluster.hosts["laptop"]
    store = ("python", "-m", "moto.server", "-H", "0.0.0.0", "-p", str(STORE_PORT))
    server = laptop.begin(*store, log=place / "store.log")
    put = f"from urllib.request import *; urlopen(Request('http://127.0.0.1:{STORE_PORT}/sweeps', method='PUT'))"
    wait_for(lambda: laptop.run("python", "-c", put, check=False).returncode == 0, 60, "the object store")
    yield "s3://sweeps"
    server.terminate()
