"""What RAY_ADDRESS may hold."""

import re
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from sweeper.cluster import address as addresses
from sweeper.cluster.address import check_jobs_address, check_ray_address
from tests.servers import listening
from trainers.errors import ConfigError


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_USE_TLS", "http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(addresses, "PATIENCE_S", 1.0)


def refusal(patch: pytest.MonkeyPatch, address: str) -> str:
    patch.setenv("RAY_ADDRESS", address)
    began = time.monotonic()
    with pytest.raises(ConfigError) as caught:
        check_ray_address()
    assert time.monotonic() - began < 10
    return str(caught.value)


@pytest.mark.parametrize("address", [None, "", "auto", "local"])
def test_where_no_host_is_named_ray_looks_itself(monkeypatch: pytest.MonkeyPatch, address: str | None) -> None:
    if address is not None:
        monkeypatch.setenv("RAY_ADDRESS", address)
    check_ray_address()


def test_a_cluster_that_is_gone_is_named_within_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    assert refusal(monkeypatch, "127.0.0.1:9") == (
        "No Ray cluster answers at RAY_ADDRESS=127.0.0.1:9: nothing listens on port 9 of 127.0.0.1; "
        "start the cluster, or unset RAY_ADDRESS to run on this machine alone."
    )
    assert "nothing listens on port 9 of ::1" in refusal(monkeypatch, "[::1]:9")
    assert "no host is known by the name head.invalid;" in refusal(monkeypatch, "head.invalid:6379")


@pytest.mark.parametrize("said", [b"", b"SSH-2.0-OpenSSH_9.6\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_a_port_of_something_else_is_told_from_ray(monkeypatch: pytest.MonkeyPatch, said: bytes) -> None:
    with listening(lambda connection: connection.sendall(said)) as port:
        assert "what listens there is no Ray;" in refusal(monkeypatch, f"127.0.0.1:{port}")


def test_a_cluster_that_answers_is_let_through_whatever_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{port}")
        monkeypatch.setattr(addresses, "PATIENCE_S", 20.0)
        check_ray_address()
    finally:
        server.stop(None)


@pytest.mark.parametrize(
    ("address", "what"),
    [
        ("http://head:8265", "is the address of Ray's dashboard; sweeps join a cluster at HOST:PORT"),
        ("https://head", "set RAY_API_SERVER_ADDRESS instead"),
        ("ray://head:10001", "is an address of Ray Client, .* set RAY_ADDRESS=head:6379, or .*--detach"),
        ("head", "is no address of a Ray cluster; it has the form HOST:PORT"),
        ("::1:6379", "is no address of a Ray cluster; .* or .IPV6.:PORT"),
        ("head:99999", "is no address of a Ray cluster"),
        ("head:6379/x", "is no address of a Ray cluster"),
        ("tcp://head:6379", "is no address of a Ray cluster"),
    ],
)
def test_an_address_of_another_kind_is_named_with_what_it_is(
    monkeypatch: pytest.MonkeyPatch, address: str, what: str
) -> None:
    text = refusal(monkeypatch, address)
    assert text.startswith(f"RAY_ADDRESS={address} ")
    assert re.search(what, text), text


def test_the_job_server_is_looked_for_too(monkeypatch: pytest.MonkeyPatch) -> None:
    check_jobs_address()
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:9")
    with pytest.raises(
        ConfigError, match=r"^No Ray cluster answers at RAY_ADDRESS=http://127.0.0.1:9: nothing listens"
    ):
        check_jobs_address()
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with pytest.raises(ConfigError, match=r"RAY_API_SERVER_ADDRESS=http://127.0.0.1:1: nothing listens on port 1"):
        check_jobs_address()
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://:8265")
    with pytest.raises(ConfigError, match="it has the form http://HOST:8265"):
        check_jobs_address()
    with listening() as port:
        monkeypatch.setenv("RAY_API_SERVER_ADDRESS", f"http://127.0.0.1:{port}")
        check_jobs_address()
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    with pytest.raises(ConfigError, match=r"No Ray cluster answers at RAY_ADDRESS=127.0.0.1:9"):
        check_jobs_address()


@pytest.mark.parametrize("name", ["RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"])
def test_jobs_go_to_a_cluster_by_its_address_of_ray_client(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Ray asks the cluster for the job server; only sweeps that run here cannot join by such an address."""
    with listening() as port:
        monkeypatch.setenv(name, f"ray://127.0.0.1:{port}")
        check_jobs_address()
    monkeypatch.setenv(name, "ray://127.0.0.1:9")
    with pytest.raises(ConfigError) as caught:
        check_jobs_address()
    assert str(caught.value) == (
        f"No Ray cluster answers at {name}=ray://127.0.0.1:9: nothing listens on port 9 of 127.0.0.1."
    )
    monkeypatch.setenv(name, "ray://head")
    with pytest.raises(ConfigError, match=r"is no address .* the form ray://HOST:PORT or ray://\[IPV6\]:PORT\."):
        check_jobs_address()
