import pytest

from sweeper.cluster import memory
from sweeper.cluster.memory import GIB, lack_of_memory


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """16 GiB, of which 4 are used."""
    monkeypatch.delenv("RAY_memory_usage_threshold", raising=False)
    monkeypatch.setattr(memory, "get_system_memory", lambda: 16 * GIB)
    monkeypatch.setattr(memory, "get_used_memory", lambda: 4 * GIB)


def test_room_for_trials_is_what_ray_leaves_them(machine: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert lack_of_memory(10) is None, "0.95 * 16 - 4 = 11.2 GiB, the driver's share being one"
    assert lack_of_memory(11) == (
        "4.0 of 16.0 GiB are used, and Ray ends workers above 95%; 11 trials at once take 12 GiB or more, and there is "
        "room for 10"
    )
    monkeypatch.setenv("RAY_memory_usage_threshold", "0.5")
    assert lack_of_memory(3) is None
    assert "above 50%; 4 trials at once take 5 GiB or more, and there is room for 3" in str(lack_of_memory(4))
    monkeypatch.setenv("RAY_memory_usage_threshold", "0.1")
    assert "room for 0" in str(lack_of_memory(1))
    monkeypatch.setenv("RAY_memory_usage_threshold", "odd")
    assert lack_of_memory(10) is None


def test_this_machine_is_measured() -> None:
    assert lack_of_memory(10**6) is not None
