"""
The client of the control API, for tests and other processes. It uses the standard
library only.
"""

from __future__ import annotations

import json
from http.client import HTTPConnection
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

PREFIX = "/_emulator"


class ControlRefused(Exception):
    """Raised when the control API responds with an error."""


class ControlClient:
    """
    Calls the control API of an emulator. `sagemaker_emulator.server.control` describes
    each request.

    :param endpoint_url: the URL of the emulator, such as ``http://127.0.0.1:4599``.
    :param timeout: the timeout of a request, in seconds.
    :raises ValueError: if ``endpoint_url`` is not an ``http://`` URL.
    """

    def __init__(self, endpoint_url: str, timeout: float = 30.0) -> None:
        parts = urlsplit(endpoint_url)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(f"{endpoint_url!r} is not the http:// URL of an emulator")
        self._host = parts.hostname
        self._port = parts.port
        self._timeout = timeout

    def health(self) -> dict[str, Any]:
        """Return the pipelines, and the versions of botocore and moto."""
        return self._send("GET", "/health")

    def clock(self) -> dict[str, Any]:
        """Return the emulated time and the speed of the clock."""
        return self._send("GET", "/clock")

    def advance(self, seconds: float) -> dict[str, Any]:
        """
        Advance the virtual clock by a number of emulated seconds, and return the new
        time.
        """
        return self._send("POST", "/clock/advance", {"seconds": seconds})

    def scenarios(self) -> dict[str, Any]:
        """Return all scenarios."""
        return self._send("GET", "/scenarios")

    def put_scenario(
        self, scenario: dict[str, Any], pipeline: str | None = None
    ) -> None:
        """Set the scenario of a pipeline, or the default scenario."""
        self._send("PUT", _scenario_path(pipeline), scenario)

    def delete_scenario(self, pipeline: str | None = None) -> None:
        """Remove the scenario of a pipeline, or the default scenario."""
        self._send("DELETE", _scenario_path(pipeline))

    def sign_in(self) -> dict[str, Any]:
        """Return the sign-in settings."""
        return self._send("GET", "/sign-in")

    def set_sign_in(self, **members: Any) -> dict[str, Any]:
        """
        Change the sign-in settings ``enforce_iam``, ``sts`` or ``issuers``, and return
        all settings.
        """
        return self._send("PUT", "/sign-in", members)

    def faults(self) -> list[dict[str, Any]]:
        """Return the active faults."""
        faults: list[dict[str, Any]] = self._send("GET", "/faults")["faults"]
        return faults

    def add_fault(self, kind: str, operation: str = "*", **members: Any) -> int:
        """
        Add a fault.

        :param kind: the kind of the fault, such as ``throttle``.
        :param operation: the AWS operation; ``*`` for all operations.
        :param members: the other members of the fault; see
            `sagemaker_emulator.server.faults`.
        :return: the id of the fault.
        """
        body = {"kind": kind, "operation": operation, **members}
        return int(self._send("POST", "/faults", body)["id"])

    def remove_faults(self, fault_id: int | None = None) -> None:
        """Remove one fault, or all faults."""
        if fault_id is None:
            self._send("DELETE", "/faults")
        else:
            self._send("DELETE", f"/faults/{fault_id}")

    def calls(
        self, operation: str | None = None, after: int = 0
    ) -> list[dict[str, Any]]:
        """
        Return the entries of the call log, oldest first.

        :param operation: return only the requests for this operation.
        :param after: return only the entries with a greater id.
        """
        query = {"after": str(after)}
        if operation:
            query["operation"] = operation
        document = self._send("GET", f"/calls?{urlencode(query)}")
        calls: list[dict[str, Any]] = document["calls"]
        return calls

    def clear_calls(self) -> None:
        """Remove all entries from the call log."""
        self._send("DELETE", "/calls")

    def reset(self) -> None:
        """Restore the initial state of everything except the clock."""
        self._send("POST", "/reset")

    def _send(
        self, method: str, path: str, body: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        content = None
        if body is not None:
            content = json.dumps(body)
        headers = {"Content-Type": "application/json"}
        # http.client uses no proxy, and the emulator always runs on this host.
        connection = HTTPConnection(self._host, self._port, timeout=self._timeout)
        try:
            connection.request(method, f"{PREFIX}{path}", content, headers)
            response = connection.getresponse()
            document: dict[str, Any] = json.loads(response.read())
        finally:
            connection.close()
        if response.status != 200:
            raise ControlRefused(document.get("error", f"HTTP {response.status}"))
        return document


def _scenario_path(pipeline: str | None) -> str:
    if pipeline is None:
        return "/scenarios"
    return f"/scenarios/{quote(pipeline, safe='')}"
