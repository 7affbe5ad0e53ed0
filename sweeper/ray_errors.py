"""Ends of workers that Ray Tune takes for its own."""

from ray.air.execution._internal import actor_manager
from ray.exceptions import NodeDiedError, ObjectLostError, OutOfMemoryError, RayActorError, WorkerCrashedError

ENDS_OF_WORKERS = (RayActorError, OutOfMemoryError, ObjectLostError, WorkerCrashedError, NodeDiedError)


def end_trials_alone() -> None:
    """Let a worker that was killed for its memory, or a report that was lost with its host, end that trial alone.

    Ray's actor manager knows ``RayActorError`` only, and ends the whole run with a RuntimeError at any other of these
    (as of Ray 2.60), though neither kind of end is rarer on a cluster. It asks by ``isinstance``, which takes several.
    """
    actor_manager.RayActorError = ENDS_OF_WORKERS  # type: ignore[assignment, attr-defined]
