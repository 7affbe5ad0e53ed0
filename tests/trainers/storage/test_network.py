"""Servers of the tests' own, on loopback."""

import os
import socket
import time

import pytest

from tests.servers import listening
from trainers.storage import network
from trainers.storage.network import (
    LOOPBACK,
    address_of,
    is_proxied,
    keep_loopback_off_proxies,
    no_answer,
    no_http_answer,
    speaks_postgres,
)


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        ("http://here", ("here", 80)),
        ("https://me:secret@here/path", ("here", 443)),
        ("http://[::1]:5000", ("::1", 5000)),
        ("postgresql+psycopg://me:secret@db/mlflow", ("db", 5432)),
        ("mysql+pymysql://db:99/mlflow", ("db", 99)),
        ("sqlite:////tmp/mlflow.db", None),
        ("/tmp/mlruns", None),
        ("localhost:5000", None),
    ],
)
def test_the_server_that_a_uri_names(uri: str, address: tuple[str, int] | None) -> None:
    assert address_of(uri) == address


@pytest.mark.parametrize(
    "uri", ["http://walter:hunter/two@here", "http://walter:hunter@here:two", "http://walter:hunter@[::two"]
)
def test_an_address_that_is_none_is_not_quoted(uri: str) -> None:
    with pytest.raises(ValueError, match=r"^its address is none") as caught:
        address_of(uri)
    for secret in ("walter", "hunter", "two"):
        assert secret not in str(caught.value)


def test_a_server_that_answers() -> None:
    with listening() as port:
        assert no_answer("127.0.0.1", port) is None
        assert no_answer("localhost", port) is None
        assert no_http_answer(f"http://127.0.0.1:{port}/x") is None
    assert no_answer("127.0.0.1", port) == f"nothing listens on port {port} of 127.0.0.1"


def test_a_name_that_no_host_has() -> None:
    assert no_answer("no-such-host.invalid", 80) == "no host is known by the name no-such-host.invalid"
    assert no_answer("a..b", 80) == "no host is known by the name a..b"


def test_nobody_waits_for_a_host_that_is_silent_nor_for_a_resolver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "_connect", lambda *_: time.sleep(5))
    began = time.monotonic()
    assert no_answer("192.0.2.1", 80, 0.2) == "it does not answer within 0.2 s"
    assert time.monotonic() - began < 3


def test_postgresql_is_told_from_what_is_none() -> None:
    def postgres(connection: socket.socket) -> None:
        assert connection.recv(8) == bytes.fromhex("0000000804d2162f")
        connection.sendall(b"N")

    with listening(postgres) as port:
        assert speaks_postgres("127.0.0.1", port)
    with listening(lambda connection: connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as port:
        assert not speaks_postgres("127.0.0.1", port)
    with listening() as port:
        assert not speaks_postgres("127.0.0.1", port)
    assert not speaks_postgres("127.0.0.1", port), "nothing listens"


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "ALL_PROXY"])
def test_a_server_behind_a_proxy_need_not_be_reached(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "http://127.0.0.1:9")
    assert is_proxied("http://far.invalid")
    assert no_http_answer("http://far.invalid") is None
    monkeypatch.setenv("no_proxy", "far.invalid")
    assert not is_proxied("http://far.invalid")
    assert no_http_answer("http://far.invalid") == "no host is known by the name far.invalid"


@pytest.mark.parametrize("own", ["localhost", "127.0.0.1", "[::1]"])
def test_requests_to_this_machine_obey_no_proxy(monkeypatch: pytest.MonkeyPatch, own: str) -> None:
    requests = pytest.importorskip("requests")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert is_proxied(f"http://{own}:80")
    keep_loopback_off_proxies()
    assert not is_proxied(f"http://{own}:80")
    assert requests.utils.get_environ_proxies(f"http://{own}:80/") == {}
    assert is_proxied("http://far.invalid")
    assert requests.utils.get_environ_proxies("http://far.invalid/")


def test_exceptions_of_the_user_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "intern.example, localhost")
    monkeypatch.setenv("NO_PROXY", "other.example")
    for _ in range(2):
        keep_loopback_off_proxies()
    for name in ("no_proxy", "NO_PROXY"):
        assert os.environ[name].split(",") == ["intern.example", "localhost", *LOOPBACK[1:]]


@pytest.mark.parametrize("given", ["no_proxy", "NO_PROXY"])
def test_exceptions_count_whichever_name_has_them(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    requests = pytest.importorskip("requests")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv(given, "intern.example")
    keep_loopback_off_proxies()
    for own in ("intern.example", "localhost"):
        assert not is_proxied(f"http://{own}")
        assert requests.utils.get_environ_proxies(f"http://{own}/") == {}
    assert is_proxied("http://far.invalid")
    assert os.environ["no_proxy"] == os.environ["NO_PROXY"] == ",".join(["intern.example", *LOOPBACK])


def test_where_no_proxy_is_to_be_used_nothing_is_added(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    keep_loopback_off_proxies()
    assert os.environ["no_proxy"] == os.environ["NO_PROXY"] == "*"
