"""Patches of Ray and Ray Tune, each for the version named beside it."""

from ray.air.execution._internal import actor_manager
from ray.exceptions import NodeDiedError, ObjectLostError, OutOfMemoryError, RayActorError, WorkerCrashedError
from ray.tune.execution import class_cache

ENDS_OF_WORKERS = (RayActorError, OutOfMemoryError, ObjectLostError, WorkerCrashedError, NodeDiedError)
KEYS = frozenset({"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SECURITY_TOKEN", "AWS_SESSION_TOKEN"})
"""Variables with keys that Ray Tune would pass to its workers."""


def end_trials_alone() -> None:
    """Make a worker killed for its memory, or a report lost with its host, end only its own trial.

    Ray's actor manager handles ``RayActorError`` only, and ends the whole run with a RuntimeError at the others (as of
    Ray 2.60), though they are as common on a cluster. It checks by ``isinstance``, which accepts a tuple.
    """
    actor_manager.RayActorError = ENDS_OF_WORKERS  # type: ignore[assignment, attr-defined]


def keep_keys() -> None:
    """Keep Ray Tune from passing keys of the driver to its workers.

    It would put them into the runtime environment of each worker (as of Ray 2.60), which Ray logs and shows on every
    host. Workers have the environment that Ray was started with on their host.
    """
    class_cache.ENV_VARS_TO_PROPAGATE = class_cache.ENV_VARS_TO_PROPAGATE - KEYS
