"""
The call log: records every AWS request with its caller and its result. It never
contains a secret.

Each request is one entry. As JSON, an entry has the members ``id`` (1, 2, ...),
``time`` (emulated Unix time), ``wall_time`` (real time, ISO 8601),
``service``, ``operation``, ``region``, ``access_key_id``, ``caller`` (the ARN of the
user or the role session that the key belongs to; null for an unsigned request),
``user_agent``, ``request`` (for pipeline operations the parameters, with long texts
truncated; for STS the role, the session name and the duration; for
SimulatePrincipalPolicy whose policies, actions and resources; for CloudWatch Logs, SQS
and EventBridge the names of log groups, streams, queues and rules, and limits;
otherwise empty), ``issued`` (the access key id that STS issued), ``ignored`` (request
members that the installed botocore does not know), ``status`` (HTTP; 0 if no response
was sent), ``error_code``, ``error_message``, ``detail`` (the reason of an error where
the AWS error does not contain it) and ``fault`` (the kind of the fault that was
injected, if any).
"""

from __future__ import annotations

from collections import deque
from dataclasses import asdict, dataclass, field
from threading import Lock
from typing import Any

from sagemaker_emulator.errors import ApiError

_MAX_ENTRIES = 10_000
_MAX_TEXT_LENGTH = 4096


@dataclass
class Entry:
    """One request. The module describes the fields."""

    time: float
    wall_time: str
    service: str
    operation: str
    region: str
    access_key_id: str
    caller: str | None
    user_agent: str
    request: dict[str, Any] = field(default_factory=dict)
    issued: str | None = None
    ignored: list[str] = field(default_factory=list)
    status: int = 0
    error_code: str | None = None
    error_message: str | None = None
    detail: str | None = None
    fault: str | None = None
    id: int = 0

    def set_error(self, error: ApiError) -> None:
        """Note the error with which the emulator responds."""
        self.error_code = error.code
        self.error_message = error.message
        self.detail = error.detail


class CallLog:
    """The latest 10,000 requests, in the order of their responses."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._entries: deque[Entry] = deque(maxlen=_MAX_ENTRIES)
        self._last_id = 0

    def add(self, entry: Entry) -> None:
        """Append the entry of a request that was processed."""
        entry.request = {
            name: _truncate(value) for name, value in entry.request.items()
        }
        with self._lock:
            self._last_id += 1
            entry.id = self._last_id
            self._entries.append(entry)

    def entries(
        self, operation: str | None = None, after: int = 0
    ) -> list[dict[str, Any]]:
        """
        Return the entries as JSON objects, oldest first.

        :param operation: return only the requests for this operation.
        :param after: return only the entries with a greater id.
        """
        with self._lock:
            entries = list(self._entries)
        return [
            asdict(entry)
            for entry in entries
            if entry.id > after and operation in (None, entry.operation)
        ]

    def clear(self) -> None:
        """Remove all entries. The ids continue."""
        with self._lock:
            self._entries.clear()


def _truncate(value: Any) -> Any:
    if isinstance(value, str) and len(value) > _MAX_TEXT_LENGTH:
        return f"{value[:_MAX_TEXT_LENGTH]}..."
    return value
