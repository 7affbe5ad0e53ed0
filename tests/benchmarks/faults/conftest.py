"""One short fault of each kind, in files of their own, since they mostly wait. The long ones: benchmarks/faults.py."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import faults
from tests.sweeper.small import fresh_store

SHORT = {
    "defense": {**faults.PRESET["defense"], "suppression_epochs": 4},
    "search": {"sampler": "random", "trials": 2, "workers": 1},
    "seeds": [0],
}


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that PostgreSQL's own user may enter, and a home of its own, since Ray writes a token there."""
    with tempfile.TemporaryDirectory(prefix="sweeper-faults-") as folder:
        monkeypatch.setenv("HOME", folder)
        for key, value in SHORT.items():
            monkeypatch.setitem(faults.PRESET, key, value)
        fresh_store(Path(folder) / "mlflow.db")
        yield Path(folder)
