"""What ends a trial, and not the sweep."""

from typing import Any

import pytest
from ray.air.execution._internal import actor_manager
from ray.air.execution._internal.actor_manager import RayActorManager
from ray.exceptions import ObjectLostError, OutOfMemoryError

from sweeper.cluster.ray_patches import end_trials_alone


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
