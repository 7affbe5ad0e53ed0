"""Corrections of what Ray and Ray Tune do by themselves, for the versions named beside each."""

from ray.air.execution._internal import actor_manager
from ray.exceptions import NodeDiedError, ObjectLostError, OutOfMemoryError, RayActorError, WorkerCrashedError
from ray.tune.execution import class_cache

ENDS_OF_WORKERS = (RayActorError, OutOfMemoryError, ObjectLostError, WorkerCrashedError, NodeDiedError)
KEYS = frozenset({"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SECURITY_TOKEN", "AWS_SESSION_TOKEN"})
"""Keys that Ray Tune would hand to its workers."""


def end_trials_alone() -> None:
    """Let a worker that was killed for its memory, or a report that was lost with its host, end that trial alone.

    Ray's actor manager knows ``RayActorError`` only, and ends the whole run with a RuntimeError at any other of these
    (as of Ray 2.60), though neither kind of end is rarer on a cluster. It asks by ``isinstance``, which takes several.
    """
    actor_manager.RayActorError = ENDS_OF_WORKERS  # type: ignore[assignment, attr-defined]


def keep_keys() -> None:
    """Let Ray Tune hand no key of the driver to its workers.

    It would put them into the environment that it asks for with each worker (as of Ray 2.60), and what is asked for
    Ray logs on every host, and shows. Workers have the environment that Ray was started with on their host.
    """
    class_cache.ENV_VARS_TO_PROPAGATE = class_cache.ENV_VARS_TO_PROPAGATE - KEYS
