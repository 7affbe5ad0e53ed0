"""What Ray says of a worker that it lost. The texts are Ray 2.60's own."""

from typing import Any

import pytest
from ray.core.generated.common_pb2 import ActorDiedErrorContext
from ray.exceptions import ActorDiedError, NodeDiedError, OutOfMemoryError, RayTaskError
from ray.tune.experiment import Trial

from sweeper.cluster.losses import OUT_OF_MEMORY, in_words, is_out_of_memory, listen_to_losses, why_lost

MEMORY = """1 worker(s) were killed due to the node running low on memory. Memory on the node (IP: 192.0.2.2, ID: 2b) \
was 5.95GB used / 23.54GB limit (0.252655)
OOM kill reason: Memory usage 6378250240B exceeded threshold of 1263825152B (5.0% of 25276502016B limit)
Object store memory usage: [- objects spillable: 8"""
OLDER = (
    "Task was killed due to the node running low on memory.\nMemory on the node (IP: 1) where the task was running was \
30.17GB / 31.70GB (0.95), which exceeds the memory usage threshold of 0.95. Ray killed this worker (ID: 3)"
)
GONE = (
    "The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: Worker \
unexpectedly exits with a connection error code 2. End of file. Some common causes include: (1) the process was killed \
by the OOM killer due to high memory usage, (2) ray stop --force was called"
)


def died(text: str) -> ActorDiedError:
    return ActorDiedError(ActorDiedErrorContext(error_message=text, actor_id=b"1" * 16))


def in_its_creation(error: Exception) -> ActorDiedError:
    return ActorDiedError(
        RayTaskError("__init__", f"Traceback ...\n{type(error).__name__}: {error}", error, actor_id="1")
    )


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            OutOfMemoryError(MEMORY),
            "Ray's memory monitor ended its worker, since its host ran out of memory: 5.95GB of 23.54GB were used, and "
            f"it ends workers above 5.0%. {OUT_OF_MEMORY}",
        ),
        (
            died(OLDER),
            "Ray's memory monitor ended its worker, since its host ran out of memory: 30.17GB of 31.70GB were used, "
            f"and it ends workers above 0.95. {OUT_OF_MEMORY}",
        ),
        (died(GONE), "Worker unexpectedly exits with a connection error code 2. End of file"),
        (in_its_creation(ImportError("no such module")), "ImportError: no such module"),
        (NodeDiedError("The node died."), None),  # the host is asked after
        (died("odd"), None),
        (ValueError("odd"), None),
        (None, None),
    ],
)
def test_what_ray_says_is_told_in_a_sentence(error: Exception | None, words: str | None) -> None:
    assert in_words(error) == words
    assert words is None or is_out_of_memory(words) == ("memory monitor" in words)


def test_it_is_kept_for_the_trial_until_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    handled: list[Any] = []
    monkeypatch.setattr(Trial, "handle_error", lambda trial, exc=None: handled.append(exc))
    listen_to_losses()
    listen_to_losses()
    trial = Trial("x", stub=True, trial_id="ray1")
    error = OutOfMemoryError(MEMORY)
    trial.handle_error(error)
    assert handled == [error], "Ray deals with it as before, once"
    assert "5.95GB of 23.54GB" in str(why_lost("ray1"))
    assert why_lost("ray1") is None
    trial.handle_error(ValueError("odd"))
    assert why_lost("ray1") is None
