"""Why Ray lost a worker, in its own words, which it tells Ray Tune and nobody else (as of Ray 2.60)."""

import re
from typing import Any

from ray.exceptions import ActorDiedError, OutOfMemoryError, RayTaskError
from ray.tune.experiment import Trial

OUT_OF_MEMORY = (
    "Run fewer trainings at once (search.workers), give each more CPUs (resources.cpu), end what else runs there, or "
    "raise RAY_memory_usage_threshold"
)
"""What helps where Ray's memory monitor ends workers."""
LONGEST = 300
_USED = re.compile(r"was (?P<used>[\d.]+\s?GB)(?: used)? / (?P<limit>[\d.]+\s?GB)")
_THRESHOLD = re.compile(r"threshold of .*?\((?P<share>[\d.]+%)|threshold of (?P<ratio>0?\.\d+|1(?:\.0*)?)")
_DETAIL = re.compile(
    r"Worker exit detail:\s*(?P<detail>.*?)(?:\s*(?:There are some potential|Some common causes)|$)", re.S
)
_known: dict[str, str] = {}
"""By Ray's names of trials."""


def listen_to_losses() -> None:
    """Keep what Ray tells Ray Tune of each worker that it lost, for :func:`why_lost`."""
    if hasattr(Trial.handle_error, "listens"):
        return
    handle_error: Any = Trial.handle_error

    def listen(trial: Any, exc: Exception | None = None) -> None:
        words = in_words(exc)
        if words is not None:
            _known[trial.trial_id] = words
        handle_error(trial, exc)

    listen.listens = True  # type: ignore[attr-defined]
    Trial.handle_error = listen  # type: ignore[method-assign, assignment]


def why_lost(ray_id: str) -> str | None:
    """Why a trial lost its worker; null if Ray knows nothing. It is told once."""
    return _known.pop(ray_id, None)


def in_words(error: Exception | None) -> str | None:
    """What an error says of the end of a worker; null if it says nothing that a user could use."""
    if isinstance(error, OutOfMemoryError) or "running low on memory" in str(error):
        return _out_of_memory(str(error))
    if isinstance(error, RayTaskError) or (isinstance(error, ActorDiedError) and error.actor_init_failed):
        return _shortened(str(error).strip().splitlines()[-1])  # those before are a traceback
    if isinstance(error, ActorDiedError):
        known = _DETAIL.search(str(error))
        return _shortened(known["detail"]).rstrip(".") if known and known["detail"].strip() else None
    return None


def is_out_of_memory(words: str) -> bool:
    """Whether :func:`in_words` tells of Ray's memory monitor."""
    return OUT_OF_MEMORY in words


def _out_of_memory(text: str) -> str:
    used, threshold = _USED.search(text), _THRESHOLD.search(text)
    figures = f": {used['used']} of {used['limit']} were used" if used else ""
    figures += f", and it ends workers above {threshold['share'] or threshold['ratio']}" if used and threshold else ""
    return f"Ray's memory monitor ended its worker, since its host ran out of memory{figures}. {OUT_OF_MEMORY}"


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else f"{line[:LONGEST]} ..."
