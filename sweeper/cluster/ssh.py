"""Checks the hosts of a cluster file before Ray's launcher does, whose messages about ssh are late and long."""

import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sweeper.cluster.finding import Finding
from trainers.errors import ConfigError

PYTHONS = ("3.11", "3.12", "3.13")
PATIENCE_S = 10
"""Seconds that a host may take to answer."""
EXAMPLES = "192.0.2."
"""Prefix of the example addresses in the shipped file, which no host has (RFC 5737)."""
_SSH_FAILED = 255
_LOOK = (
    "python3 -c 'import sys; print(\"%d.%d\" % sys.version_info[:2])' 2>/dev/null || echo none; "
    "python3 -c 'import ensurepip, venv' 2>/dev/null || echo no-venv; command -v rsync >/dev/null || echo no-rsync; "
    "~/.robustness-sweeper/venv/bin/python -c "
    '\'from importlib.metadata import version; print("ray-" + version("ray"))\' 2>/dev/null || true'
)


@dataclass(frozen=True)
class _Seen:
    """What a host reports: its Python, missing tools, and the Ray that an earlier ``ray up`` installed."""

    python: str
    lacks: tuple[str, ...]
    ray: str | None

    @classmethod
    def of(cls, words: list[str]) -> "_Seen":
        lacks = tuple(word.removeprefix("no-") for word in words if word.startswith("no-"))
        ray = next((word.removeprefix("ray-") for word in words if word.startswith("ray-")), None)
        return cls(words[0] if words else "none", lacks, ray)


@dataclass(frozen=True)
class _Login:
    user: str
    key: Path | None

    @property
    def told(self) -> str:
        return f"{self.user} with {'no key' if self.key is None else self.key}"


def examine_hosts(path: Path) -> Iterator[Finding]:
    """Log in on each host as ``ray up`` will, and check whether it has what is needed.

    Args:
        path: a cluster file with provider ``local``.

    Raises:
        ConfigError: the file is of another kind, or still holds example addresses.
    """
    addresses, login = _read(path)
    with ThreadPoolExecutor(len(addresses)) as pool:
        looks = list(pool.map(lambda address: _look(address, login), addresses))
    seen = [look for look in looks if isinstance(look, _Seen)]
    python = next((look.python for look in seen if look.python in PYTHONS and not look.lacks), None)
    ray = next((look.ray for look in seen if look.ray), None)
    for address, look in zip(addresses, looks, strict=True):
        yield _refused(address, look, login) if isinstance(look, str) else _judge(address, look, login, python, ray)


def _read(path: Path) -> tuple[list[str], _Login]:
    try:
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        provider, auth = content["provider"], content["auth"]
        if provider["type"] != "local":
            raise ConfigError(f"{path}: only hosts of provider local can be checked, not {provider['type']}.")
        addresses = [str(address) for address in (provider["head_ip"], *provider.get("worker_ips", []))]
        key = auth.get("ssh_private_key")
        login = _Login(str(auth["ssh_user"]), None if key is None else Path(key).expanduser())
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from error
    except (UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{path} is no cluster file: it needs provider (type, head_ip) and auth (ssh_user)."
        ) from error
    examples = [address for address in addresses if address.startswith(EXAMPLES)]
    if examples:
        raise ConfigError(f"{path}: {', '.join(examples)} are examples; enter the addresses of your hosts.")
    if login.key is not None and not login.key.exists():
        raise ConfigError(f"{path}: the key {login.key} does not exist.")
    return addresses, login


def _look(address: str, login: _Login) -> _Seen | str:
    """What a host reports, or the error of ssh."""
    key = [] if login.key is None else ["-i", str(login.key), "-o", "IdentitiesOnly=yes"]
    options = ("BatchMode=yes", f"ConnectTimeout={PATIENCE_S}", "StrictHostKeyChecking=no",
               "UserKnownHostsFile=/dev/null", "LogLevel=ERROR")  # fmt: skip
    command = ["ssh", *key, *[word for option in options for word in ("-o", option)], f"{login.user}@{address}", _LOOK]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=3 * PATIENCE_S,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except FileNotFoundError as error:
        raise ConfigError("ssh is not installed; install an OpenSSH client.") from error
    except subprocess.TimeoutExpired:
        return f"no answer in {3 * PATIENCE_S} s"
    if done.returncode == _SSH_FAILED:
        return (done.stderr.strip().splitlines() or ["it failed"])[-1]
    return _Seen.of(done.stdout.split())


def _refused(address: str, said: str, login: _Login) -> Finding:
    """The finding for a host on which the login failed."""
    if "Permission denied" in said:
        remedy = "Put the key into ~/.ssh/authorized_keys of that user, or change auth in the file."
        return Finding(address, False, f"it refuses {login.told}", remedy)
    return Finding(address, False, f"it cannot be reached: {said}", "Check that it is on and runs sshd.")


def _judge(address: str, look: _Seen, login: _Login, python: str | None, ray: str | None) -> Finding:
    """The finding for a host, compared with the others."""
    if look.python not in PYTHONS:
        what = "it has no python3" if look.python == "none" else f"its python3 is {look.python}"
        return Finding(address, False, what, f"Install Python {PYTHONS[0]} to {PYTHONS[-1]}, as python3.")
    if look.lacks:
        packages = [{"venv": "python3-venv"}.get(name, name) for name in look.lacks]
        return Finding(address, False, f"it lacks {' and '.join(look.lacks)}", f"Install {' '.join(packages)}.")
    if look.python != python:
        what = f"its Python is {look.python}, that of others {python}"
        return Finding(address, False, what, "Install the same on all hosts, as Ray requires.")
    if look.ray not in (None, ray):
        return Finding(address, False, f"its Ray is {look.ray}, that of others {ray}", "make dist, then ray up again.")
    return Finding(address, True, f"{login.user} may log in; Python {look.python}, venv and rsync are there")
