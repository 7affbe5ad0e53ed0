"""The tracking server goes away."""

from pathlib import Path

import pytest

from benchmarks.faults import server_stopped

pytestmark = [pytest.mark.ray, pytest.mark.long]


def test_what_a_stopped_server_misses_is_filled_in(place: Path) -> None:
    try:
        status = server_stopped(place)
    except FileNotFoundError as error:
        pytest.skip(str(error))
    assert set(status.values()) == {"FINISHED"}
