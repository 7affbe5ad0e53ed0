"""A network that is not there."""

import urllib.error
import urllib.request
from typing import Any

import pytest


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses that were asked for; none answers."""
    addresses: list[str] = []

    def refuse(request: Any, *_: Any, **__: Any) -> None:
        addresses.append(request.full_url)
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    return addresses
