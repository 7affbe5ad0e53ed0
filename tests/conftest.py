"""A home for Ray, and an object store, for tests that need them."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest

from trainers.storage.object_store import ObjectPath, Place


@pytest.fixture(scope="session")
def ray_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home for whoever starts Ray in this process: Ray writes a token there, and looks it up once in a process."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """The address of an empty bucket, in a server of the S3 protocol on loopback."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    endpoint = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    environment = {
        "AWS_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }  # fmt: skip
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            until = time.monotonic() + 60
            while True:
                try:
                    urlopen(Request(f"{endpoint}/sweeps", method="PUT")).close()
                    break
                except URLError:
                    assert server.poll() is None, "the object store did not start"
                    assert time.monotonic() < until, "the object store does not answer"
                    time.sleep(0.1)
            yield "s3://sweeps"
    finally:
        server.terminate()
        server.wait()


@pytest.fixture(params=["folder", "s3"])
def any_place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A place where nothing lies: a folder, or one in an object store."""
    if request.param == "folder":
        return tmp_path
    return ObjectPath(f"{request.getfixturevalue('s3')}/{tmp_path.name}")
