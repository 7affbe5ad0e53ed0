"""Servers of the tests' own, on loopback."""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread

PATIENCE_S = 180
"""A machine that does much else takes minutes to start MLflow, and to show its page."""


@contextmanager
def listening(answer: Callable[[socket.socket], None] = lambda _connection: None) -> Iterator[int]:
    """A port on loopback whose connections are answered so."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    answer(connection)

        Thread(target=serve, daemon=True).start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)  # accept() returns
