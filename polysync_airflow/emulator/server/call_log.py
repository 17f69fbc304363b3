"""The call log: what was asked, by whom, and how it went; never a secret.

One entry per AWS request, as JSON: ``id`` (1, 2, ...), ``time`` (emulated seconds since the epoch),
``wall_time`` (ISO 8601, real), ``service``, ``operation``, ``region``, ``access_key_id``, ``caller`` (whose
key that is: the ARN of a user, of a role session or of the account's root; null without a signature),
``user_agent``, ``request`` (of pipeline operations the parameters, long texts cut; of STS the role, session
name and duration; of others none), ``issued`` (the access key id that STS gave out), ``ignored`` (members
that the installed botocore does not know), ``status`` (HTTP; 0 if no answer was sent), ``error_code``,
``error_message``, ``detail`` (why a request was refused, where AWS does not say) and ``fault`` (the kind that
hit, if any).
"""

from __future__ import annotations

from collections import deque
from dataclasses import asdict, dataclass, field
from threading import Lock
from typing import Any

_ENTRIES_KEPT = 10_000
_TEXT_LENGTH = 4096


@dataclass
class Entry:
    """One request."""

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


class CallLog:
    """The latest requests, in the order in which they were answered."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._entries: deque[Entry] = deque(maxlen=_ENTRIES_KEPT)
        self._last_id = 0

    def add(self, entry: Entry) -> None:
        """Append a request that has been dealt with."""
        entry.request = {name: _cut(value) for name, value in entry.request.items()}
        with self._lock:
            self._last_id += 1
            entry.id = self._last_id
            self._entries.append(entry)

    def entries(self, operation: str | None = None, after: int = 0) -> list[dict[str, Any]]:
        """Return the log as JSON.

        :param operation: only requests for this operation.
        :param after: only entries with a greater id.
        """
        with self._lock:
            entries = list(self._entries)
        return [asdict(e) for e in entries if e.id > after and operation in (None, e.operation)]

    def clear(self) -> None:
        """Forget all entries."""
        with self._lock:
            self._entries.clear()


def _cut(value: Any) -> Any:
    return f"{value[:_TEXT_LENGTH]}..." if isinstance(value, str) and len(value) > _TEXT_LENGTH else value
