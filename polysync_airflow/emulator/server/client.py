"""A client of the control API, for other processes and for tests; it needs the standard library only."""

from __future__ import annotations

import json
from http.client import HTTPConnection
from typing import Any
from urllib.parse import quote, urlencode, urlsplit


class ControlRefused(Exception):
    """The control API could not follow a request."""


class ControlClient:
    """The control API of an emulator; see `polysync_airflow.emulator.server.control` for what each call means.

    :param endpoint_url: where the emulator listens, such as ``http://127.0.0.1:4599``.
    :param timeout: how long to wait for an answer, in seconds.
    """

    def __init__(self, endpoint_url: str, timeout: float = 30.0) -> None:
        parts = urlsplit(endpoint_url)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(f"{endpoint_url!r} is not the http:// address of an emulator")
        self._host, self._port, self._timeout = parts.hostname, parts.port, timeout

    def health(self) -> dict[str, Any]:
        """Return what runs."""
        return self._send("GET", "/health")

    def clock(self) -> dict[str, Any]:
        """Return the emulated time."""
        return self._send("GET", "/clock")

    def advance(self, seconds: float) -> dict[str, Any]:
        """Move a virtual clock forward, by emulated seconds."""
        return self._send("POST", "/clock/advance", {"seconds": seconds})

    def scenarios(self) -> dict[str, Any]:
        """Return all scenarios."""
        return self._send("GET", "/scenarios")

    def put_scenario(self, scenario: dict[str, Any], pipeline: str | None = None) -> None:
        """Set the scenario of a pipeline, or the default."""
        self._send("PUT", _scenario_path(pipeline), scenario)

    def delete_scenario(self, pipeline: str | None = None) -> None:
        """Remove the scenario of a pipeline, or the default."""
        self._send("DELETE", _scenario_path(pipeline))

    def sign_in(self) -> dict[str, Any]:
        """Return the sign-in settings."""
        return self._send("GET", "/sign-in")

    def set_sign_in(self, **members: Any) -> dict[str, Any]:
        """Change the sign-in settings: ``enforce_iam``, ``sts``, ``issuers``; return what they are then."""
        return self._send("PUT", "/sign-in", members)

    def faults(self) -> list[dict[str, Any]]:
        """Return the faults that are set."""
        faults: list[dict[str, Any]] = self._send("GET", "/faults")["faults"]
        return faults

    def add_fault(self, kind: str, operation: str = "*", **members: Any) -> int:
        """Set a fault and return its id."""
        body = {"kind": kind, "operation": operation, **members}
        return int(self._send("POST", "/faults", body)["id"])

    def remove_faults(self, fault_id: int | None = None) -> None:
        """Remove one fault, or all."""
        self._send("DELETE", "/faults" if fault_id is None else f"/faults/{fault_id}")

    def calls(self, operation: str | None = None, after: int = 0) -> list[dict[str, Any]]:
        """Return the call log, oldest entry first."""
        query = {"after": str(after), **({"operation": operation} if operation else {})}
        calls: list[dict[str, Any]] = self._send("GET", f"/calls?{urlencode(query)}")["calls"]
        return calls

    def clear_calls(self) -> None:
        """Empty the call log."""
        self._send("DELETE", "/calls")

    def reset(self) -> None:
        """Bring everything but the clock back to the beginning."""
        self._send("POST", "/reset")

    def _send(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        # http.client knows no proxies: the emulator is always on this host.
        connection = HTTPConnection(self._host, self._port, timeout=self._timeout)
        try:
            connection.request(method, f"/_emulator{path}", None if body is None else json.dumps(body))
            response = connection.getresponse()
            answer: dict[str, Any] = json.loads(response.read())
        finally:
            connection.close()
        if response.status != 200:
            raise ControlRefused(answer.get("error", f"HTTP {response.status}"))
        return answer


def _scenario_path(pipeline: str | None) -> str:
    return "/scenarios" if pipeline is None else f"/scenarios/{quote(pipeline, safe='')}"
