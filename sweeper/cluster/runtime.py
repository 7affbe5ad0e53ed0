"""Ray itself: a cluster is joined, or Ray is started on this machine alone and ended with the sweep."""

import logging
import os
import secrets
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import chdir, contextmanager, suppress
from pathlib import Path
from typing import Any

import ray
from ray._private.services import psutil  # type: ignore[attr-defined]  # Ray brings it along
from ray.exceptions import AuthenticationError, RayError

from sweeper.cluster.address import VARIABLE, RayUnavailable, check_ray_address
from trainers.storage.network import keep_loopback_off_proxies

RAY_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # a trial without a GPU share must not hide GPUs from the next
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # our own records take their place
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # warm-up epochs have no objective yet
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # SweepStopper listens
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",  # Ray's own snapshots are never read
    "TUNE_MAX_PENDING_TRIALS_PG": "1024",  # SweepSearcher hands out no more trials than there is room for
    "RAY_AIR_NEW_OUTPUT": "0",
}
SIGNALS_TO_END = (signal.SIGTERM, signal.SIGHUP)
"""What ``timeout``, systemd, Slurm and a terminal that is closed send to all processes of a sweep at once."""
LONGEST_TMPDIR = 38
"""Bytes. Names of Ray's sockets are up to 68 longer (``/ray/session_TIME_PROCESS/sockets/plasma_store``), and Linux
allows 107."""
SHORT_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm")
DAEMONS = ("gcs_server", "raylet")
"""Processes without which Ray does nothing any more, by its names."""
LONGEST_REASON = 300


@contextmanager
def ray_runtime() -> Iterator[bool]:
    """Join the Ray cluster that runs here, or start Ray on this machine alone and stop it afterwards.

    Yields:
        Whether a cluster was joined, whose hosts may come and go.

    Raises:
        RayUnavailable: it can be neither joined nor started.
    """
    for name, value in RAY_SETTINGS.items():
        os.environ.setdefault(name, value)
    keep_loopback_off_proxies()
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # a crashed trial's reason stands in its row
    if ray.is_initialized():
        yield False
        return
    check_ray_address()
    alone = os.environ.get(VARIABLE, "") in ("", "local")
    options = _options_alone() if alone else {}
    try:
        # Ray has workers look for modules where the driver is started, and that may be a folder of others.
        with chdir(Path(__file__).resolve().parents[2]), _signals_kept_from_children():
            # Not "auto": that would also join the Ray of another sweep on this machine, which goes when it ends.
            context: Any = ray.init(
                log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False, **options
            )
    except AuthenticationError as error:
        raise RayUnavailable(
            "The Ray cluster refuses us: the token (~/.ray/auth_token) is missing or not its own."
        ) from error
    except Exception as error:  # on a host that is too busy, Ray raises Exception itself
        if not isinstance(error, (OSError, RayError, RuntimeError, ValueError)) and type(error) is not Exception:
            raise
        raise RayUnavailable(_not_started(error, alone)) from error
    try:
        # A session is named after the process that started it.
        yield not context.address_info["session_dir"].endswith(f"_{os.getpid()}")
    finally:
        with _killed_at_once():
            ray.shutdown()


def lost_daemon() -> str | None:
    """The name of a process of our own Ray that has died, without which nothing goes on; null if none has."""
    node = _own_node()
    try:
        dead = [] if node is None else [name for name, _ in node.dead_processes() if name in DAEMONS]
    except RuntimeError:  # another thread changes Ray's list of them meanwhile
        return None
    return dead[0] if dead else None


def _own_node() -> Any:
    """Ray's processes, if this process started them; else null."""
    return ray._private.worker._global_node


@contextmanager
def _signals_kept_from_children() -> Iterator[None]:
    """Let processes that are started here not hear :data:`SIGNALS_TO_END`, nor those that they start.

    Those who end a sweep send them to the whole group, and Ray's processes would go before the driver has written down
    what ended. They end with the driver in any case (``PR_SET_PDEATHSIG``).

    Raises:
        KeyboardInterrupt: this process got such a signal meanwhile, for which Ray puts a handler in place that exits.
            Further ones are ignored from then on: ``timeout`` sends two, and the second must not end the end.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    begun = threading.Event()
    threading.Thread(target=begun.wait, daemon=True).start()  # hears for this process what its main thread does not
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS_TO_END)
    handlers = {number: signal.getsignal(number) for number in SIGNALS_TO_END}
    try:
        yield
    except SystemExit as error:
        for number in SIGNALS_TO_END:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt from error
    finally:
        begun.set()
        for number, handler in handlers.items():
            # Null: it is none of Python's. Ignored by now: the command's own handler has heard one.
            if handler is not None and signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _killed_at_once() -> Iterator[None]:
    """Let Ray end its processes by SIGKILL at once: they do not hear the SIGTERM for which it gives each a second.

    What they have started (workers, Ray's agents) would notice that seconds later, and is ended too.
    """
    node = _own_node()
    processes = [] if node is None else [info.process for infos in node.all_processes.values() for info in infos]
    started: list[psutil.Process] = []
    for process in processes:
        process.terminate = process.kill
        with suppress(psutil.Error):
            started += psutil.Process(process.pid).children(recursive=True)
    try:
        yield
    finally:
        for child in started:
            with suppress(psutil.Error):  # it has ended; psutil takes no other process of the same id for it
                child.kill()


def _options_alone() -> dict[str, Any]:
    """What Ray needs to be told to start on this machine, whatever its environment is like.

    Raises:
        RayUnavailable: no temporary folder can be written.
    """
    if os.environ.get("RAY_AUTH_MODE") is None and not _token_can_be_kept():
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # of this Ray, which ends with this process
    folder = temporary_folder()
    return {} if folder is None else {"_temp_dir": str(folder)}


def _token_can_be_kept() -> bool:
    """Whether Ray may read or write its token in the home folder."""
    home = Path(os.path.expanduser("~"))
    kept = home / ".ray"
    return os.access(kept / "auth_token", os.R_OK) or os.access(kept if kept.exists() else home, os.W_OK | os.X_OK)


def temporary_folder() -> Path | None:
    """A folder for Ray's files and sockets, in place of the one that the environment names; null: that one is fit.

    Raises:
        RayUnavailable: no temporary folder can be written.
    """
    named = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or SHORT_FOLDERS[0]
    if len(os.fsencode(os.path.realpath(named))) <= LONGEST_TMPDIR and _can_be_written(Path(named)):
        return None
    for folder in SHORT_FOLDERS:
        if _can_be_written(Path(folder)):
            return Path(folder) / f"ray-{os.getuid()}"
    raise RayUnavailable(
        f"No temporary folder can be written, neither {named} nor {', '.join(SHORT_FOLDERS)}: they are full, or of "
        "somebody else; set TMPDIR to one with space."
    )


def _can_be_written(folder: Path) -> bool:
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(2**20))
    except OSError:
        return False
    return True


def _not_started(error: Exception, alone: bool) -> str:
    reason = " ".join(str(error).split()) or type(error).__name__
    reason = reason if len(reason) <= LONGEST_REASON else f"{reason[:LONGEST_REASON]} ..."
    if alone:
        return f"Ray cannot be started: {reason.rstrip('. ')}. Stop what is left of it (ray stop), and try again."
    if (
        isinstance(error, ConnectionError) and "Failed to connect" in reason
    ):  # it logs why, and raises no more than this
        reason = f"{reason}; it does not answer, or its token (~/.ray/auth_token) is not ours"
    return f"The Ray cluster of {VARIABLE}={os.environ[VARIABLE]} cannot be joined: {reason}"
