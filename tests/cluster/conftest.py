"""Three hosts and the laptop of a user, with the cluster of ``cluster.yaml`` up."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.hosts import missing, wait_for
from tests.cluster.up import STORE_PORT, Cluster, shared_folder
from tests.cluster.up import cluster as cluster_up


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = missing()
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.cluster)
            if reason is not None:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A folder that every host sees."""
    with shared_folder() as path:
        yield path


@pytest.fixture(scope="module")
def cluster(place: Path) -> Iterator[Cluster]:
    """Three hosts of one CPU each, since there are two in all; every file has its own, and may use them up."""
    with cluster_up(place) as up:
        yield up


@pytest.fixture(scope="module")
def bucket(cluster: Cluster, place: Path) -> Iterator[str]:
    """The address of an empty bucket, in a store that every host reaches."""
    laptop = cluster.hosts["laptop"]
    store = ("python", "-m", "moto.server", "-H", "0.0.0.0", "-p", str(STORE_PORT))
    server = laptop.begin(*store, log=place / "store.log")
    put = f"from urllib.request import *; urlopen(Request('http://127.0.0.1:{STORE_PORT}/sweeps', method='PUT'))"
    wait_for(lambda: laptop.run("python", "-c", put, check=False).returncode == 0, 60, "the object store")
    yield "s3://sweeps"
    server.terminate()
