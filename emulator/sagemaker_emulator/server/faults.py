"""
Fault injection: makes AWS requests fail, or delays or drops their responses.

As JSON::

    {"operation": "DescribePipelineExecution",   or another; "*" (default): all
     "service": "logs",  only this service, by its name in signatures (default: all)
     "kind": "throttle"       ThrottlingException: Rate exceeded
           | "quota"          ResourceLimitExceeded, by default for the quota of
                              executions, in the words in which AWS refuses instances
           | "error"          the AWS error "code" with "message"
                              (and HTTP "status", default 400)
           | "http"           HTTP "status" (default 503) without an AWS error
           | "latency"        the response is delayed by "delay" real seconds
           | "dropped"        the connection is closed before the request is processed
           | "lost_response"  the same, after the request was processed
     "pipeline": "churn",  only requests that name this pipeline or an execution of it
                           (default: all)
     "skip": 0,      the number of matching requests that are not affected at first
     "count": 2,     the number of requests that are affected after that (default: all)
     "seconds": 60}  how long the fault is active, in emulated seconds from now
                     (default: no limit)

If several faults match a request, the oldest fault is applied.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf, isfinite
from threading import Lock
from typing import Any

from sagemaker_emulator.errors import ApiError, quota_exceeded

KINDS = ("throttle", "quota", "error", "http", "latency", "dropped", "lost_response")
_QUOTA = quota_exceeded("concurrent pipeline executions", "Executions", 20, 20)
_ERRORS = {
    "throttle": ("ThrottlingException", "Rate exceeded"),
    # The number is that of the developer guide:
    # feature-store-feature-processor-quotas.html
    "quota": (_QUOTA.code, _QUOTA.message),
}
_MEMBERS = {
    "operation",
    "kind",
    "code",
    "message",
    "status",
    "delay",
    "pipeline",
    "service",
    "skip",
    "count",
    "seconds",
}


class FaultError(ValueError):
    """Raised when the JSON form of a fault is invalid; the message names the member."""


@dataclass
class Fault:
    """
    A fault, which is applied to the requests that it matches.

    :param delay: the delay of a ``latency`` fault, in real seconds.
    :param skip: the remaining number of requests that are not affected.
    :param count: the remaining number of requests that are affected.
    :param until: the time at which the fault ends, as emulated Unix time.
    """

    id: int
    operation: str
    kind: str
    code: str
    message: str
    status: int
    delay: float
    pipeline: str | None
    service: str | None
    skip: float
    count: float
    until: float

    def matches(
        self, operation: str, pipeline: str | None, service: str | None
    ) -> bool:
        """
        Return whether the fault matches a request. Like SageMaker, it ignores the case
        of pipeline names.
        """
        if self.operation not in ("*", operation):
            return False
        if self.service not in (None, service):
            return False
        return self.pipeline is None or self.pipeline.lower() == pipeline

    def error(self) -> ApiError:
        """Return the AWS error of a ``throttle``, ``quota`` or ``error`` fault."""
        return ApiError(self.code, self.message, self.status)

    def as_json(self) -> dict[str, Any]:
        """
        Return the fault in the JSON form of the control API. A number without limit is
        null.
        """
        unlimited = {name: None for name, value in vars(self).items() if value == inf}
        return vars(self) | unlimited


class Faults:
    """The active faults."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._faults: list[Fault] = []
        self._last_id = 0

    def add(self, document: Any, now: float) -> Fault:
        """
        Add a fault from its JSON form.

        :param document: the parsed JSON.
        :param now: the current time, as emulated Unix time.
        :raises FaultError: if the document is invalid.
        """
        body = _validated(document)
        kind = body["kind"]
        code, message = _ERRORS.get(kind, _ERRORS["throttle"])
        usual_status = 400
        if kind == "http":
            usual_status = 503
        with self._lock:
            self._last_id += 1
            fault = Fault(
                id=self._last_id,
                operation=body.get("operation", "*"),
                kind=kind,
                code=body.get("code", code),
                message=body.get("message", message),
                status=int(_number(body, "status", usual_status)),
                delay=_number(body, "delay", 0),
                pipeline=body.get("pipeline"),
                service=body.get("service"),
                skip=_number(body, "skip", 0),
                count=_number(body, "count", inf),
                until=now + _number(body, "seconds", inf),
            )
            self._faults.append(fault)
        return fault

    def take(
        self,
        operation: str,
        now: float,
        pipeline: str | None = None,
        service: str | None = None,
    ) -> Fault | None:
        """
        Return the fault to apply to a request, if any, and update its counters.

        :param operation: the requested operation.
        :param now: the current time, as emulated Unix time.
        :param pipeline: the pipeline that the request names, in lower case.
        :param service: the service, by its name in signatures.
        """
        with self._lock:
            self._faults = [
                fault for fault in self._faults if fault.count > 0 and now < fault.until
            ]
            for fault in self._faults:
                if not fault.matches(operation, pipeline, service):
                    continue
                if fault.skip > 0:
                    fault.skip -= 1
                    continue
                fault.count -= 1
                return fault
        return None

    def remove(self, fault_id: int) -> bool:
        """Remove a fault. Return whether there was one with this id."""
        with self._lock:
            kept = [fault for fault in self._faults if fault.id != fault_id]
            is_removed = len(kept) < len(self._faults)
            self._faults = kept
        return is_removed

    def clear(self) -> int:
        """Remove all faults. Return their number."""
        with self._lock:
            removed = len(self._faults)
            self._faults = []
        return removed

    def as_json(self) -> list[dict[str, Any]]:
        """Return all faults, with their remaining counts."""
        with self._lock:
            return [fault.as_json() for fault in self._faults]


def _validated(document: Any) -> Mapping[str, Any]:
    if not isinstance(document, dict):
        raise FaultError("the fault is not a JSON object")
    unknown = sorted(document.keys() - _MEMBERS)
    if unknown:
        raise FaultError(
            f"the fault has unknown members {unknown}; allowed are {sorted(_MEMBERS)}"
        )
    kind = document.get("kind")
    if kind not in KINDS:
        raise FaultError(f"kind is {kind!r}, not one of {list(KINDS)}")
    for name in ("operation", "code", "message", "pipeline", "service"):
        if name in document and not isinstance(document[name], str):
            raise FaultError(f"{name} is not a string")
    if kind == "error" and not document.keys() >= {"code", "message"}:
        raise FaultError("a fault of kind 'error' requires 'code' and 'message'")
    if kind == "latency" and "delay" not in document:
        raise FaultError("a fault of kind 'latency' requires 'delay'")
    if not 400 <= _number(document, "status", 400) <= 599:
        raise FaultError("status is not between 400 and 599")
    return document


def _number(body: Mapping[str, Any], name: str, default: float) -> float:
    value = body.get(name)
    if value is None:
        return default
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not isfinite(value)
        or value < 0
    ):
        raise FaultError(f"{name} is not a number of at least 0")
    return value
