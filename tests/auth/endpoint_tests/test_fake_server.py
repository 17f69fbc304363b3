"""The base class of the fake servers: faults, call log, concurrency, and errors in handlers."""

from __future__ import annotations

import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.auth.endpoints.fake_server import FakeServer, Fault, Request, Response, Route


class EchoServer(FakeServer):
    """Returns the part of the path after /echo/, and raises an error for /bug."""

    def routes(self) -> Sequence[Route]:
        """Return both routes."""
        return (
            Route("echo", "GET", "/echo/(?P<word>.+)", lambda _, word: Response(body=word)),
            Route("bug", "GET", "/bug", self._bug),
        )

    def _bug(self, _: Request) -> Response:
        raise LookupError("a bug")


@pytest.fixture
def echo() -> Iterator[EchoServer]:
    """A running server."""
    with EchoServer() as echo:
        yield echo


def get(url: str) -> str:
    """Return the text of a response."""
    with urllib.request.urlopen(url, timeout=5) as response:
        return str(response.read().decode())


def test_handler_error_is_raised_at_the_end() -> None:
    """The client gets a 500 for an exception in a handler, and the end of the context raises it."""
    echo = EchoServer()

    def request() -> None:
        with echo, pytest.raises(urllib.error.HTTPError):
            get(f"{echo.url}/bug")

    with pytest.raises(LookupError, match="a bug"):
        request()
    assert echo.calls.count("bug", status=500) == 1


def test_faults_affect_the_planned_number_of_requests(echo: EchoServer) -> None:
    """Each fault affects the planned number of requests of its route, in the order of planning."""
    echo.faults.add(Fault(503), on="echo", times=1)
    echo.faults.add(Fault(429), on="echo", times=1)
    echo.faults.add(Fault(500), on="other")
    for status in (503, 429):
        with pytest.raises(urllib.error.HTTPError) as caught:
            get(f"{echo.url}/echo/a")
        caught.value.close()
        assert caught.value.code == status
    assert get(f"{echo.url}/echo/a") == "a"
    assert [(call.status, call.has_fault) for call in echo.calls.all()] == [
        (503, True),
        (429, True),
        (200, False),
    ]


def test_requests_are_handled_concurrently(echo: EchoServer) -> None:
    """200 slow requests take about as long as one, and the call log has all of them."""
    began = time.monotonic()
    with echo.faults.during(Fault(delay=0.3)), ThreadPoolExecutor(200) as pool:
        responses = list(pool.map(lambda word: get(f"{echo.url}/echo/{word}"), range(200)))
    assert responses == [str(word) for word in range(200)]
    assert echo.calls.count("echo", status=200) == 200
    assert time.monotonic() - began < 5


def test_server_listens_on_loopback_only(echo: EchoServer) -> None:
    """The server listens on 127.0.0.1 only, and refuses connections while it is unreachable."""
    port = int(echo.url.rpartition(":")[2])
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", port), timeout=2)
    with echo.unreachable(), pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=2)
    assert get(f"{echo.url}/echo/back") == "back"


def test_stop_does_not_wait_for_delayed_requests() -> None:
    """A request that a fault delays gets its response when the server stops."""
    with EchoServer() as echo, ThreadPoolExecutor(1) as pool:
        echo.faults.add(Fault(delay=60))
        waiting = pool.submit(get, f"{echo.url}/echo/late")
        time.sleep(0.2)
        began = time.monotonic()
        with echo.unreachable():
            assert waiting.result(timeout=5) == "late"
        assert time.monotonic() - began < 5
