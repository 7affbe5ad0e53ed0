"""Hosts on one machine: each a network namespace on a bridge, with mounts, processes and an sshd of its own.

Needs root, iproute2, openssh-server and rsync. Nothing here has a route out. ``laptop`` is where commands of the user
run; the others are hosts of a cluster. Every host has its own home, /tmp and /dev/shm; they share the file system
otherwise, and so a folder outside these is storage that all of them see.
"""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).parents[2]
NEEDED = ("ip", "nsenter", "unshare", "pgrep", "rsync", "ssh", "ssh-keygen", "/usr/sbin/sshd")

# The first process of a host. Its end is the end of all others, as if the power were cut.
_INIT = r"""
set -eu
hostname "$NAME"
mount --bind "$ROOT/hosts" /etc/hosts
mount -t tmpfs -o size=2g,mode=1777 tmpfs /dev/shm
mount -t tmpfs tmpfs /run && mkdir /run/sshd
for path in $KEPT; do  # Python and this checkout may lie below the folders that each host has its own of
  case $path in
    /root/*) own="$ROOT/home${path#/root}" ;;
    /tmp/*) own="$ROOT/tmp${path#/tmp}" ;;
    *) continue ;;
  esac
  mkdir -p "$own" && mount --bind "$path" "$own"
done
mount --rbind "$ROOT/home" /root
mount --rbind "$ROOT/tmp" /tmp
exec /usr/sbin/sshd -D -e -f /dev/null -h /root/.ssh/host_key -o PidFile=none -o UsePAM=no -o MaxStartups=100 \
  -o MaxSessions=100 -o PermitRootLogin=prohibit-password -o PasswordAuthentication=no -o LogLevel=VERBOSE
"""


def missing() -> str | None:
    """Why there can be no hosts here; null if there can."""
    if os.geteuid() != 0:
        return "needs root, for network namespaces"
    absent = [name for name in NEEDED if shutil.which(name) is None]
    if absent:
        return f"needs {', '.join(absent)}"
    tried = subprocess.run(
        ["unshare", "--net", "--mount", "--pid", "--uts", "--ipc", "--fork", "true"], capture_output=True
    )
    return "needs namespaces, which are not allowed here" if tried.returncode else None


@dataclass
class Host:
    """One of them."""

    name: str
    address: str
    root: Path
    namespace: str
    switch: str
    port: str
    pid: int = 0

    @property
    def home(self) -> Path:
        """Its home folder, as this machine sees it."""
        return self.root / "home"

    def start(self) -> None:
        """Switch it on."""
        kept = " ".join(sorted({str(Path(path).resolve()) for path in (sys.prefix, sys.base_prefix, PROJECT)}))
        environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "NAME": self.name, "ROOT": str(self.root), "KEPT": kept
        }  # fmt: skip
        unshare = ["unshare", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child", "--mount-proc",
                   "--propagation", "private"]  # fmt: skip
        with (self.root / "sshd.log").open("w") as log:
            parent = subprocess.Popen(
                ["ip", "netns", "exec", self.namespace, *unshare, "bash", "-c", _INIT],
                env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        try:
            wait_for(lambda: "listening" in (self.root / "sshd.log").read_text(), 30, f"sshd of {self.name}")
        except AssertionError:
            parent.kill()  # and with it all that it began
            parent.wait(10)
            raise
        children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text(encoding="utf-8").split()
        self.pid = int(children[0])
        self._parent = parent

    def run(self, *command: str, timeout: float = 120, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command there, as after a login."""
        done = subprocess.run(self._entered(*command), capture_output=True, text=True, timeout=timeout)
        if check and done.returncode:
            raise AssertionError(f"{self.name}: {command} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def begin(self, *command: str, log: Path) -> "subprocess.Popen[str]":
        """Start a command there, and do not wait for it."""
        with log.open("w", encoding="utf-8") as file:
            return subprocess.Popen(
                self._entered(*command), stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, text=True
            )

    def _entered(self, *command: str) -> list[str]:
        clean = ["env", "-i", "HOME=/root", "USER=root", "TERM=dumb", "LANG=C.UTF-8"]
        return ["nsenter", "-t", str(self.pid), "-a", *clean, "bash", "-lc", 'cd; exec "$@"', "_", *command]

    def cut(self) -> None:
        """Pull its network cable."""
        _ip("-n", self.switch, "link", "set", self.port, "down")

    def heal(self) -> None:
        """Plug it in again."""
        _ip("-n", self.switch, "link", "set", self.port, "up")

    def pull_power(self) -> None:
        """End every process on it at once."""
        os.kill(self.pid, signal.SIGKILL)
        self._parent.wait(10)

    def processes(self, text: str) -> list[int]:
        """Processes there whose command line holds ``text``, by their ids there."""
        return [int(line) for line in self.run("pgrep", "-f", text, check=False).stdout.split()]


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


def wait_for(ready: Callable[[], object], seconds: float, what: str) -> None:
    """Ask until it is so.

    Raises:
        AssertionError: it was not, in that time.
    """
    until = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > until:
            raise AssertionError(f"{what} was not there after {seconds:g} s")
        time.sleep(0.05)


@contextmanager
def hosts(place: Path, names: tuple[str, ...], packages: bool = True) -> Iterator[dict[str, Host]]:
    """Hosts by their names, switched on; ``laptop`` among them may log in on the others.

    Args:
        place: an empty folder that is not below /tmp or /root, which each host has its own of.
        names: of the hosts, at most nine.
        packages: whether each gets an environment of its own with those of the lock.
    """
    for key in ("user_key", "host_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", place / key], check=True)
    if packages:
        _make_packages(place / "venv")
    prefix = f"sweep-{secrets.token_hex(3)}"  # others may run beside these
    switch = f"{prefix}-switch"
    made: list[Host] = []
    spaces = [switch]
    try:
        _ip("netns", "add", switch)
        _ip("-n", switch, "link", "add", "bridge", "type", "bridge")
        _ip("-n", switch, "link", "set", "bridge", "up")
        for number, name in enumerate(names, 1):
            host = Host(name, f"10.77.0.{number}", place / name, f"{prefix}-{name}", switch, f"port{number}")
            spaces.append(host.namespace)
            _connect(host)
            _furnish(host, place)
            host.start()
            made.append(host)
        yield {host.name: host for host in made}
    finally:
        for host in made:
            if host._parent.poll() is None:
                host.pull_power()
        for space in spaces:
            subprocess.run(["ip", "netns", "delete", space], capture_output=True)


def _connect(host: Host) -> None:
    _ip("netns", "add", host.namespace)
    _ip("-n", host.switch, "link", "add", host.port, "type", "veth", "peer", "name", "eth0", "netns", host.namespace)
    _ip("-n", host.switch, "link", "set", host.port, "master", "bridge", "up")
    for device in ("lo", "eth0"):
        _ip("-n", host.namespace, "link", "set", device, "up")
    _ip("-n", host.namespace, "address", "add", f"{host.address}/24", "dev", "eth0")


def _furnish(host: Host, place: Path) -> None:
    """Home, keys and names; and packages, which cluster.yaml would install with a network."""
    ssh = host.home / ".ssh"
    for folder in (ssh, host.root / "tmp"):
        folder.mkdir(parents=True)
    (host.root / "tmp").chmod(0o1777)
    host.home.chmod(0o700)
    shutil.copy(place / "host_key", ssh / "host_key")
    shutil.copy(place / "user_key.pub", ssh / "authorized_keys")
    if host.name == "laptop":
        shutil.copy(place / "user_key", ssh / "id_ed25519")
    # Without a route, Ray finds a host's address by its name.
    (host.root / "hosts").write_text(f"127.0.0.1 localhost\n{host.address} {host.name}\n")
    (host.home / ".bashrc").write_text("")
    (host.home / ".bash_profile").write_text(". ~/.bashrc\n")
    if (place / "venv").exists():
        shutil.copytree(place / "venv", host.home / ".robustness-sweeper" / "venv", symlinks=True)


def _make_packages(venv: Path) -> None:
    """A virtual environment that has the packages of the one that runs now, but not this program."""
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    python = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = Path(sys.prefix) / "lib" / python / "site-packages"
    # Only the folder: what installs this checkout editably is a .pth file in it, which is not read from there.
    (venv / "lib" / python / "site-packages" / "packages.pth").write_text(f"{packages}\n")
    script = venv / "bin" / "ray"
    script.write_text("#!/root/.robustness-sweeper/venv/bin/python\nfrom ray.scripts.scripts import main\nmain()\n")
    script.chmod(0o755)
    shutil.copy(PROJECT / "requirements-hosts.lock", venv / "installed")
