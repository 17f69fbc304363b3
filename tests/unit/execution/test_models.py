"""AWS's clock, as its responses tell it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from polysync_airflow.execution.models import sent_at

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def response(**headers: Any) -> dict[str, Any]:
    """Return a response of botocore."""
    return {"ResponseMetadata": {"HTTPHeaders": headers}}


def test_time_of_a_response_is_that_of_its_header() -> None:
    """A header that is missing, or is no usable time, says nothing."""
    for given, expected in (
        (response(date="Sun, 01 Mar 2026 12:00:00 GMT"), NOON),
        (response(date="Sun, 01 Mar 2026 14:00:00 +0200"), NOON),
        (response(date="Sun, 01 Mar 1970 12:00:00 GMT"), None),
        (response(date="Sun, 01 Mar 9999 12:00:00 GMT"), None),
        (response(date="soon"), None),
        (response(), None),
        ({}, None),
    ):
        assert sent_at(given) == expected
