"""What ends a trial and not the sweep, and what Ray Tune asks for with each worker."""

import runpy
from typing import Any

import pytest
from ray.air.execution._internal import actor_manager
from ray.air.execution._internal.actor_manager import RayActorManager
from ray.exceptions import ObjectLostError, OutOfMemoryError
from ray.tune.execution import class_cache

from sweeper.cluster.ray_patches import KEYS, end_trials_alone, keep_keys


class Tracked:
    """An actor or one of its tasks, with what is called at an end."""

    def __init__(self, **known: Any):
        self._on_error = None
        self.actor_id = 1
        vars(self).update(known)


@pytest.mark.parametrize("error", [OutOfMemoryError("no memory"), ObjectLostError("aa", None, "")])
def test_a_worker_killed_for_its_memory_or_a_lost_report_is_the_end_of_its_trial(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actor_manager, "RayActorError", actor_manager.RayActorError)
    manager = RayActorManager(resource_manager=Tracked())
    monkeypatch.setattr(manager, "_cleanup_actor", lambda tracked_actor: None)
    seen: list[Exception] = []
    task = Tracked(_tracked_actor=Tracked(), _on_error=lambda _actor, error: seen.append(error))
    end_trials_alone()
    manager._actor_task_failed(task, error)
    assert seen == [error]
    with pytest.raises(RuntimeError, match="unexpected"):
        manager._actor_task_failed(task, ValueError())


def environment() -> dict[str, str]:
    class Trial:
        pass

    handed: dict[str, str] = class_cache._ActorClassCache().get(Trial)._default_options["runtime_env"]["env_vars"]
    return handed


def test_no_key_of_the_driver_is_handed_to_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    # Read anew: a sweep in this process may have changed it before.
    as_ray_has_it = runpy.run_path(class_cache.__file__)["ENV_VARS_TO_PROPAGATE"]
    monkeypatch.setattr(class_cache, "ENV_VARS_TO_PROPAGATE", as_ray_has_it)
    for name in (*KEYS, "RAY_CHDIR_TO_TRIAL_DIR"):
        monkeypatch.setenv(name, "0")
    assert environment().keys() >= KEYS, "as Ray would have it; if not, this is not needed any more"
    keep_keys()
    assert not environment().keys() & KEYS
    assert environment()["RAY_CHDIR_TO_TRIAL_DIR"] == "0"
