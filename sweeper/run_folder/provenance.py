"""Where figures came from: versions, commit, machine."""

import hashlib
import platform
import subprocess
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from trainers.compute import computed_in

PACKAGES = ("robustness-sweeper", "torch", "timm", "ray", "optuna", "mlflow", "numpy")


def provenance() -> dict[str, Any]:
    """Versions, commit and machine, on which figures depend beside the preset."""
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "git_commit": git_commit(),
        "python": platform.python_version(),
        "versions": package_versions(PACKAGES),
        "machine": f"{platform.system()} {platform.machine()}",
    }


def numeric_format(preset: Mapping[str, Any]) -> str:
    """Device and numeric format of a sweep's trainings, given its preset as ``sweep.yaml`` has it."""
    on_gpu = preset["device"] != "cpu" and preset["resources"]["gpu"] > 0
    amp = preset.get("amp")
    return computed_in(amp == "on" or (on_gpu and amp != "off"), on_gpu)


def git_commit() -> str | None:
    """The commit of the code that runs, with ``+`` if files differ from it; null outside a checkout."""
    here = Path(__file__).resolve().parent
    try:
        commit = _git(here, "rev-parse", "--short=12", "HEAD")
        return commit + ("+" if _git(here, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=True, timeout=10)
    return done.stdout.strip()


def package_versions(names: Iterable[str]) -> dict[str, str]:
    """The installed version of each package; one that is not installed is left out."""
    versions = {}
    for name in names:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions


def code_digest() -> str:
    """SHA-256 (12 hex digits) over the version and the source files of this package."""
    digest = hashlib.sha256(version("robustness-sweeper").encode())
    root = Path(__file__).parents[2]
    for package in ("search_spaces", "sweeper", "trainers"):
        for path in sorted((root / package).rglob("*.py")):
            digest.update(path.relative_to(root).as_posix().encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
