"""A cluster that the shipped ``cluster.yaml`` brought up, on hosts of this machine."""

import json
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sweeper.run_folder.folder import RunFolder
from tests.cluster.hosts import PROJECT, Host, hosts

STORE_PORT = 9000
"""Where the laptop serves an object store, if a test starts one."""
SECRET = "key-of-the-object-store"
"""Of those who use it."""

_NODES = """
import json, time, ray
ray.init("auto", logging_level="ERROR", log_to_driver=False)
until = time.monotonic() + {seconds}
while len(there := [node for node in ray.nodes() if node["Alive"]]) < {count} and time.monotonic() < until:
    time.sleep(0.2)
assert len(there) == {count}, there
print(json.dumps({{node["NodeManagerAddress"]: node["NodeID"] for node in there}}))
"""


@dataclass
class Cluster:
    """The hosts, and what is done with them from the laptop."""

    hosts: dict[str, Host]
    storage: Path
    nodes: dict[str, str] = field(default_factory=dict)
    """Ray's names of the hosts."""

    @property
    def names(self) -> list[str]:
        """Of the hosts that compute."""
        return [name for name in self.hosts if name != "laptop"]

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

    def newest(self) -> RunFolder:
        """The sweep that was begun last."""
        return RunFolder(max(self.storage.glob("*/sweep.yaml"), key=lambda path: path.stat().st_mtime).parent)

    def wait_for_hosts(self, seconds: float = 90) -> None:
        """Until all have joined."""
        addresses = {self.hosts[name].address: name for name in self.names}
        script = _NODES.format(count=len(addresses), seconds=seconds)
        found = json.loads(self.hosts["head"].run("python", "-c", script).stdout.splitlines()[-1])
        self.nodes = {addresses[address]: node for address, node in found.items()}


@contextmanager
def shared_folder() -> Iterator[Path]:
    """A folder that every host sees: not below /tmp or /root, which each has its own of."""
    path = Path(tempfile.mkdtemp(prefix="sweeper-hosts-", dir="/var/tmp"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def cluster(place: Path, workers: int = 2, cpus: int = 1) -> Iterator[Cluster]:
    """``ray up`` with the shipped file; changed are addresses, user and storage. Beside the storage stands where an
    object store is, and its key comes in the file of passwords.

    Args:
        place: what :func:`shared_folder` gave.
        workers: hosts beside the head.
        cpus: that each host says it has, since those of this machine would count on each.
    """
    storage = place / "storage"
    storage.mkdir()
    others = tuple(f"worker{number}" for number in range(1, workers + 1))
    with hosts(place, ("laptop", "head", *others)) as found:
        laptop = found["laptop"]
        checkout = laptop.home / "checkout"
        checkout.mkdir()
        subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", checkout / "dist"],
                       cwd=PROJECT, check=True, stdout=subprocess.DEVNULL)  # fmt: skip
        for name in ("requirements-hosts.lock", "cluster-setup.sh"):
            shutil.copy(PROJECT / name, checkout / "dist")
        shutil.copy(PROJECT / "sweep.py", checkout)
        text = (PROJECT / "cluster.yaml").read_text()
        store = f"export AWS_ENDPOINT_URL=http://{laptop.address}:{STORE_PORT} AWS_DEFAULT_REGION=us-east-1"
        passwords = laptop.home / ".robustness-sweeper-secrets"
        passwords.touch(0o600)
        passwords.write_text(f"export AWS_ACCESS_KEY_ID=key AWS_SECRET_ACCESS_KEY={SECRET}\n")
        for old, new in (
            ("head_ip: 192.0.2.1 ", f"head_ip: {found['head'].address} "),
            ("192.0.2.2, 192.0.2.3", ", ".join(found[name].address for name in others)),
            ("min_workers: 2 ", f"min_workers: {workers} "),
            ("max_workers: 2 ", f"max_workers: {workers} "),
            ("ssh_user: sweeper ", "ssh_user: root "),
            ("=/srv/sweeps ", f"={storage} "),
            ("    export MLFLOW_TRACKING_URI=", f"    {store}\n    export MLFLOW_TRACKING_URI="),
            ("  # ~/.robustness-sweeper/secrets:", "  ~/.robustness-sweeper/secrets:"),
            ("ray start --head ", f"ray start --head --num-cpus={cpus} "),
            ("ray start --address", f"ray start --num-cpus={cpus} --address"),
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
