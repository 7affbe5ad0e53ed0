"""Odd machines, as ``benchmarks.odd_inputs`` lists them."""

import signal
import socket
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from mlflow import MlflowClient
from ray._common.utils import get_system_memory
from ray._private.utils import get_used_memory

from benchmarks.commands import PRESET, Case, Command, without_privileges, write_preset
from benchmarks.odd_images import folder, gallery

NOBODY = "http://127.0.0.1:9"
"""The port of a service that no machine has any more."""
LONG = {"defense": PRESET["defense"] | {"epochs": 5}, "search": PRESET["search"] | {"trials": 40}}
"""A sweep of many minutes."""
C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def doctor(place: Path, **environment: str) -> list[Command]:
    """Examine this machine with these variables."""
    return [Command(f"doctor {write_preset(place)}", environment)]


def c_locale(place: Path) -> list[Command]:
    """A sweep in the locale C, with UTF-8 mode off."""
    return [Command(f"run {write_preset(place)} --out swept", C_LOCALE)]


def euc_jp(place: Path) -> list[Command]:
    """Names of classes that the locale writes otherwise than files do.

    Raises:
        subprocess.CalledProcessError, FileNotFoundError: the locale cannot be made here.
    """
    locale = place / "locales" / "ja_JP.EUC-JP"
    locale.parent.mkdir()
    subprocess.run(["localedef", "-i", "ja_JP", "-f", "EUC-JP", str(locale)], check=True, capture_output=True)
    folder(place, ["Äpfel", "りんご"])
    named = [{"attack": "badnets", "poison_rate": 0.1, "target": "Äpfel"}]
    environment = {"LOCPATH": "locales", "LC_ALL": "ja_JP.EUC-JP", "PYTHONUTF8": "0"}
    (command,) = gallery(place, scenarios=named)
    return [Command(command.words, environment)]


def ray_gone(place: Path) -> list[Command]:
    """The cluster does not run any more."""
    return [Command(f"run {write_preset(place)}", {"RAY_ADDRESS": "127.0.0.1:9"}),
            *doctor(place, RAY_ADDRESS="127.0.0.1:9")]  # fmt: skip


def silent_store(place: Path) -> list[Command]:
    """A tracking server that takes connections and never answers."""
    server = socket.create_server(("127.0.0.1", 0))
    address = f"http://127.0.0.1:{server.getsockname()[1]}"
    return [Command(f"run {write_preset(place)}", {"MLFLOW_TRACKING_URI": address}, kept=server)]


def proxy(place: Path) -> list[Command]:
    """``sweeper ui`` with a proxy that is away."""
    ready = ("ui swept --port 0", {"http_proxy": NOBODY})
    return [Command(f"run {write_preset(place)} --out swept"),
            Command(*ready, ended_by=signal.SIGINT, ready=lambda shown: "MLflow: " in shown)]  # fmt: skip


class _NotFound(BaseHTTPRequestHandler):
    """A web server that is no MLflow server."""

    def do_GET(self) -> None:
        self.send_error(404)

    do_POST = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


def proxy_store(place: Path) -> list[Command]:
    """A proxy that is away, and a tracking address of this machine at which something else listens."""
    server = HTTPServer(("127.0.0.1", 0), _NotFound)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    environment = {"HTTP_PROXY": NOBODY, "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{server.server_port}"}
    return [Command(f"gallery --preset {write_preset(place)}", environment)]


def memory(place: Path) -> list[Command]:
    """Ray may use hardly more memory than is used already."""
    threshold = get_used_memory() / get_system_memory() + 0.02
    environment = {"RAY_memory_usage_threshold": f"{threshold:.3f}"}
    return [Command(f"run {write_preset(place)}", environment)]


def little_memory(place: Path) -> list[Command]:
    """The same, before a sweep is started."""
    threshold = get_used_memory() / get_system_memory() + 0.02
    return doctor(place, RAY_memory_usage_threshold=f"{threshold:.3f}")


def long_folder(place: Path) -> list[Command]:
    """``TMPDIR`` of 85 characters."""
    path = place / ("t" * (84 - len(str(place))))
    path.mkdir()
    return doctor(place, TMPDIR=str(path))


def closed_home(place: Path) -> list[Command]:
    """A home that cannot be written."""
    write_preset(place)
    (place / "home").chmod(0o500)
    return [Command("doctor preset.yaml", before=without_privileges())]


def dashboard(place: Path) -> list[Command]:
    """The address of Ray's dashboard for that of the cluster."""
    return doctor(place, RAY_ADDRESS="http://127.0.0.1:8265")


def no_folder(place: Path) -> list[Command]:
    """``TMPDIR`` is not there."""
    return doctor(place, TMPDIR=str(place / "gone"))


def experiment_deleted(place: Path) -> list[Command]:
    """The experiment that the sweep would go into was deleted."""
    client = MlflowClient(tracking_uri=f"sqlite:///{place}/runs/mlflow.db")
    client.delete_experiment(client.create_experiment(str(PRESET["name"])))
    return [Command(f"run {write_preset(place)} --out runs/swept"), Command("resume runs/swept")]


def damaged_store(place: Path) -> list[Command]:
    """The file of the tracking store is none."""
    (place / "runs" / "mlflow.db").write_text("not a database", encoding="utf-8")
    return [Command(f"run {write_preset(place)} --out runs/swept")]


def shadowed(place: Path) -> list[Command]:
    """Another package called ``trainers`` on ``PYTHONPATH``."""
    (place / "other" / "trainers").mkdir(parents=True)
    (place / "other" / "trainers" / "__init__.py").write_text("", encoding="utf-8")
    return [Command(f"run {write_preset(place)}", {"PYTHONPATH": "other"})]


def shadowed_here(place: Path) -> list[Command]:
    """A file ``search_spaces.py`` in the working folder."""
    (place / "search_spaces.py").write_text("", encoding="utf-8")
    return [Command(f"run {write_preset(place)}")]


def ended_by(place: Path, number: signal.Signals) -> list[Command]:
    """A long sweep whose processes all get a signal once a trial has ended; what is kept is shown afterwards."""
    write_preset(place, **LONG)
    records = place / "swept" / "records"

    def has_ended(_: str) -> bool:
        return any("FINISHED" in path.read_text(encoding="utf-8") for path in records.glob("t*.json"))

    first = Command("run preset.yaml --out swept", ended_by=number, ready=has_ended)
    return [first, Command("status swept")]


def terminated(place: Path) -> list[Command]:
    """What ``timeout``, systemd and Slurm do."""
    return ended_by(place, signal.SIGTERM)


def hung_up(place: Path) -> list[Command]:
    """The terminal is closed."""
    return ended_by(place, signal.SIGHUP)


LOCALE = "a locale that is not UTF-8 (`LC_ALL=C` with UTF-8 mode off, GBK, EUC-JP)"
GONE = "`RAY_ADDRESS` of a cluster that is gone"
PROXY = "`http_proxy` set, `sweeper ui`"
MEMORY = "Ray's memory monitor kills workers"
PLACES = "TMPDIR of 85 characters; `HOME` not writable; RAY_ADDRESS an http address"
DELETED = "the MLflow experiment was deleted"
SHADOW = "`PYTHONPATH` holds another package called `trainers`"
SIGTERM = "SIGTERM to the whole process group (`timeout`, systemd, Slurm, `docker stop`)"
WRONG = r"NOT OK|annot|Traceback|Error|FAILED|[Ll]ost"
ENDED = r"Not all|kept|[Ii]nterrupted|trials|ended|of \d+"

CASES = (
    Case("c-locale", LOCALE, c_locale, f"{WRONG}|report"),
    Case("euc-jp", LOCALE, euc_jp, f"{WRONG}|Written", ours=True),
    Case("ray-gone", GONE, ray_gone, WRONG),
    Case("silent-store", GONE, silent_store, WRONG, ours=True),
    Case("proxy", PROXY, proxy, f"{WRONG}|Report:|MLflow:"),
    Case("proxy-store", PROXY, proxy_store, WRONG, ours=True),
    Case("memory", MEMORY, memory, "Traceback|^FAILED t0000|No trial finished"),
    Case("little-memory", MEMORY, little_memory, f"{WRONG}|memory:", ours=True),
    Case("long-folder", PLACES, long_folder, f"{WRONG}|Ray:"),
    Case("closed-home", PLACES, closed_home, f"{WRONG}|Ray:"),
    Case("dashboard", PLACES, dashboard, WRONG),
    Case("no-folder", PLACES, no_folder, f"{WRONG}|Ray:", ours=True),
    Case("experiment-deleted", DELETED, experiment_deleted, f"{WRONG}|deleted|restore"),
    Case("damaged-store", DELETED, damaged_store, f"{WRONG}|store", ours=True),
    Case("shadowed", SHADOW, shadowed, "."),
    Case("shadowed-here", SHADOW, shadowed_here, ".", ours=True),
    Case("terminated", SIGTERM, terminated, f"{WRONG}|{ENDED}"),
    Case("hung-up", SIGTERM, hung_up, f"{WRONG}|{ENDED}", ours=True),
)
