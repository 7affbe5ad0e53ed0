"""Keys that Ray Tune would hand around."""

from ray.tune.execution import class_cache

KEYS = frozenset({"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SECURITY_TOKEN", "AWS_SESSION_TOKEN"})


def keep_keys() -> None:
    """Let Ray Tune hand no key of the driver to its workers.

    It would put them into the environment that it asks for with each worker (as of Ray 2.60), and what is asked for
    Ray logs on every host, and shows. Workers have the environment that Ray was started with on their host.
    """
    class_cache.ENV_VARS_TO_PROPAGATE = class_cache.ENV_VARS_TO_PROPAGATE - KEYS
