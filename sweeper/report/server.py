"""Serves the page of one sweep to this machine only: live while it runs, and then its report."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

from sweeper.report.live import LiveSweep, as_json
from sweeper.run_folder.folder import RunFolder
from trainers.errors import ConfigError
from trainers.storage.network import THIS_MACHINE

HTML, JSON = "text/html; charset=utf-8", "application/json"


class _Page(BaseHTTPRequestHandler):
    """Answers GET for the page, for what it shows, and for the report; nothing else of the folder is served."""

    def __init__(self, live: LiveSweep, folder: RunFolder, *arguments: Any):
        self._live, self._folder = live, folder
        super().__init__(*arguments)

    def do_GET(self) -> None:
        """Answer one request."""
        try:
            host, asked = urlsplit(f"//{self.headers.get('Host', '')}").hostname, urlsplit(self.path)
        except ValueError:  # no address
            self.send_error(400)
            return
        # Another host name in a request comes from a web page elsewhere that tries to read along (DNS rebinding).
        if host not in (THIS_MACHINE, "localhost"):
            self.send_error(403)
            return
        try:
            if asked.path == "/live.json":
                self._send(as_json(self._live.answer(parse_qs(asked.query).get("seen", [""])[0])), JSON)
            elif asked.path == "/report.html" or (asked.path == "/" and self._live.is_over()):
                self._send(self._folder.report.read_bytes(), HTML)
            elif asked.path == "/":
                self._send(self._live.page().encode(), HTML)
            else:
                self.send_error(404)
        except ConnectionError:  # whoever asked has gone
            self.close_connection = True
        except FileNotFoundError:
            self.send_error(404)
        except Exception as error:  # noqa: BLE001  # whatever is damaged in the folder, the page asks again
            self.send_error(503, explain=f"The run folder cannot be read: {error}")

    def _send(self, content: bytes, kind: str) -> None:
        self.send_response(200)
        for name, value in (("Content-Type", kind), ("Content-Length", str(len(content))),
                            ("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff")):  # fmt: skip
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""


@contextmanager
def serve_sweep(folder: RunFolder, port: int) -> Iterator[str]:
    """Serve the page of a sweep until the block ends.

    Args:
        folder: the run folder.
        port: of the page; 0: any that is free.

    Yields:
        The address of the page.

    Raises:
        ConfigError: the port is taken.
    """
    try:
        server = ThreadingHTTPServer((THIS_MACHINE, port), partial(_Page, LiveSweep(folder), folder))
    except OSError as error:
        raise ConfigError(f"Port {port} cannot be used: {error.strerror}.") from error
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://{THIS_MACHINE}:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
