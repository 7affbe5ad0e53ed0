"""The disk is full."""

from pathlib import Path

import pytest

from benchmarks.faults import fill_disk, small_disk

pytestmark = pytest.mark.ray


def test_a_full_disk_is_said_plainly_and_loses_nothing(place: Path) -> None:
    try:
        with small_disk(place) as disk:
            sweep = fill_disk(disk, f"sqlite:///{place / 'mlflow.db'}")
            assert sweep.folder.read_records()["c0000"].status == "FINISHED"
    except PermissionError as error:
        pytest.skip(str(error))
