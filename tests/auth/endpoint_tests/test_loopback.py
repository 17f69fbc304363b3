"""Owns the proof that the endpoint under the stand-ins keeps its own promises."""

from __future__ import annotations

import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.auth.endpoints.loopback import Answer, Endpoint, Fault, Request, Route


class Echo(Endpoint):
    """Answers with what follows /echo/, and cannot answer /bug."""

    def routes(self) -> Sequence[Route]:
        """Return both."""
        return (
            Route("echo", "GET", "/echo/(?P<word>.+)", lambda _, word: Answer(body=word)),
            Route("bug", "GET", "/bug", self._bug),
        )

    def _bug(self, _: Request) -> Answer:
        raise LookupError("a bug")


@pytest.fixture
def echo() -> Iterator[Echo]:
    """A running endpoint."""
    with Echo() as echo:
        yield echo


def get(url: str) -> str:
    """Return an answer's text."""
    with urllib.request.urlopen(url, timeout=5) as answer:
        return str(answer.read().decode())


def test_bug() -> None:
    """A bug in a handler does not pass for a server's fault: it is raised when the endpoint ends."""
    echo = Echo()

    def ask() -> None:
        with echo, pytest.raises(urllib.error.HTTPError):
            get(f"{echo.url}/bug")

    with pytest.raises(LookupError, match="a bug"):
        ask()
    assert echo.calls.count("bug", status=500) == 1


def test_faults_by_number(echo: Echo) -> None:
    """A fault meets as many requests of its route as was planned, in the order of planning."""
    echo.faults.add(Fault(503), on="echo", times=1)
    echo.faults.add(Fault(429), on="echo", times=1)
    echo.faults.add(Fault(500), on="other")
    for status in (503, 429):
        with pytest.raises(urllib.error.HTTPError) as caught:
            get(f"{echo.url}/echo/a")
        caught.value.close()
        assert caught.value.code == status
    assert get(f"{echo.url}/echo/a") == "a"
    assert [(call.status, call.faulty) for call in echo.calls.all()] == [
        (503, True),
        (429, True),
        (200, False),
    ]


def test_many_at_once(echo: Echo) -> None:
    """Two hundred slow requests take as long as one, and each is counted."""
    began = time.monotonic()
    with echo.faults.during(Fault(delay=0.3)), ThreadPoolExecutor(200) as pool:
        answers = list(pool.map(lambda word: get(f"{echo.url}/echo/{word}"), range(200)))
    assert answers == [str(word) for word in range(200)]
    assert echo.calls.count("echo", status=200) == 200
    assert time.monotonic() - began < 5


def test_loopback_only(echo: Echo) -> None:
    """Nobody but this host can connect, and nobody at all once the endpoint has ended."""
    port = int(echo.url.rpartition(":")[2])
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", port), timeout=2)
    with echo.absent(), pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=2)
    assert get(f"{echo.url}/echo/back") == "back"


def test_end_does_not_wait_for_the_slow() -> None:
    """A request that is being slowed does not hold up the end."""
    with Echo() as echo, ThreadPoolExecutor(1) as pool:
        echo.faults.add(Fault(delay=60))
        waiting = pool.submit(get, f"{echo.url}/echo/late")
        time.sleep(0.2)
        began = time.monotonic()
        with echo.absent():
            assert waiting.result(timeout=5) == "late"
        assert time.monotonic() - began < 5
