"""What Ray Tune asks for with each worker."""

import runpy

import pytest
from ray.tune.execution import class_cache

from sweeper.cluster.ray_patches import KEYS, keep_keys


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
