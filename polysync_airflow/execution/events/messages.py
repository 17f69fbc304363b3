"""Reads the message of a queue: whoever may send to the queue wrote it, so nothing in it is believed."""

from __future__ import annotations

import json
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, ValidationError

from polysync_airflow.execution.events.changes import CHANGES, SOURCE, AnyChange, EventTime
from polysync_airflow.execution.models import FrozenModel
from polysync_airflow.execution.texts import clean_line, describe_validation_error

# The size of an event: https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-quota.html. A message of a
# queue can have a MiB, and JSON of that size takes the event loop 0.1 s.
MAX_MESSAGE_BYTES: Final = 256 * 1024
_MAX_QUOTED: Final = 80


class UnreadableMessageError(ValueError):
    """Raised for a message that is no event for watchers. The text does not quote what may be secret."""


def _first_of_one(value: Any) -> Any:
    # An example of AWS has a list.
    return value[0] if isinstance(value, list) and len(value) == 1 else value


class _Envelope(FrozenModel):
    """https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-events-structure.html"""

    detail_type: str = Field(validation_alias="detail-type")
    source: Annotated[str, BeforeValidator(_first_of_one)]
    time: EventTime
    detail: dict[str, Any]


def read_message(body: object) -> AnyChange:
    """
    Return the change that a message reports.

    :param body: the body of the message.
    :raises UnreadableMessageError: it is too large, no JSON, or no event that a watcher can use.
    """
    envelope = _envelope(body)
    if envelope.source != SOURCE or envelope.detail_type not in CHANGES:
        source, kind = clean_line(envelope.source, _MAX_QUOTED), clean_line(envelope.detail_type, _MAX_QUOTED)
        raise UnreadableMessageError(
            f"it is an event {kind!r} of {source!r}, for which there are no watchers"
        )
    if envelope.time is None:
        raise UnreadableMessageError("it has no time")
    try:
        return CHANGES[envelope.detail_type].model_validate({**envelope.detail, "event_time": envelope.time})
    except ValidationError as error:
        raise UnreadableMessageError(
            f"it is not as AWS sends it: {describe_validation_error(error)}"
        ) from None


def _envelope(body: object) -> _Envelope:
    if not isinstance(body, str):
        raise UnreadableMessageError("it has no text")
    if len(body) > MAX_MESSAGE_BYTES or len(body.encode("utf-8", "replace")) > MAX_MESSAGE_BYTES:
        raise UnreadableMessageError(f"it has more than {MAX_MESSAGE_BYTES:,} bytes")
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        raise UnreadableMessageError("it is not JSON") from None
    try:
        return _Envelope.model_validate(content)
    except ValidationError as error:
        problems = describe_validation_error(error)
        raise UnreadableMessageError(f"it is no event of EventBridge: {problems}") from None
