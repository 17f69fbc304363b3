"""
Responses that are too large, or that come byte by byte: each call ends in time with an
error of this provider.
"""

from __future__ import annotations

import json
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from botocore.config import Config
from botocore.httpsession import URLLib3Session
from botocore.session import Session

from polysync_airflow.aws import responses as response_limits
from polysync_airflow.aws.responses import (
    MAX_POLL_RESPONSE_BYTES,
    MAX_RESPONSE_BYTES,
    time_limit,
)
from polysync_airflow.aws.sessions import RATE_LIMITED_CONFIG, create_sts_session
from polysync_airflow.exceptions import SageMakerApiError
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.triggers.shared_client import PollingHook, SharedClient
from tests.conftest import ARN, use_connection
from tests.fakes.fake_sagemaker import connected, dripping, responding
from tests.unit.aws.test_invalid_responses import CALLS

QUICK = Config(read_timeout=0.4, retries={"total_max_attempts": 1})
BODY = json.dumps(
    {"PipelineExecutionArn": ARN, "PipelineExecutionStatus": "Executing"}
).encode()
OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
HEAD = OK % len(BODY)
LARGE = BODY[:-1] + b" " * 2 * 1024 * 1024 + BODY[-1:]
HEAD_OF_LARGE = OK % len(LARGE)


@contextmanager
def takes(least: float, most: float) -> Iterator[None]:
    """Check how many seconds a block takes."""
    begin = time.monotonic()
    yield
    assert least <= time.monotonic() - begin < most


@pytest.mark.parametrize(
    ("begin", "rest", "pause"),
    [
        (b"", HEAD + BODY, 0.05),
        (b"HTTP/1.1 100 Continue\r\n\r\n", 99 * HEAD, 0.05),
        (HEAD, BODY, 0.05),
        # What came in a burst allows a longer response, but no longer silence.
        (HEAD_OF_LARGE + LARGE[:-1], LARGE[-1:], 60),
    ],
    ids=["headers", "continue", "body", "silence"],
)
def test_slow_response_is_a_timeout(begin: bytes, rest: bytes, pause: float) -> None:
    """``read_timeout`` is the time of the whole response, wherever it is slow."""
    with (
        connected(dripping(begin, rest, pause)),
        takes(0.35, 8),
        pytest.raises(SageMakerApiError) as caught,
    ):
        PolysyncSageMakerHook(config=QUICK).describe_pipeline_execution(ARN)

    assert caught.value.error_code == "ReadTimeoutError"
    assert caught.value.transient is True


def test_response_that_comes_in_time_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slow alone is no error."""
    monkeypatch.setattr(response_limits, "MIN_BYTES_PER_SECOND", 1)
    hook = PolysyncSageMakerHook(config=Config(read_timeout=0.2))
    with connected(dripping(HEAD + BODY[:20], BODY[20:], 0.005)):
        description = hook.describe_pipeline_execution(ARN)

    assert description.status == "Executing"


def test_time_limit_ends_a_call_before_its_timeout() -> None:
    """
    Also a call that has begun; calls after the block have their own timeouts again.
    """
    with connected(dripping(HEAD, BODY, 0.05)):
        hook = PolysyncSageMakerHook(config=QUICK)
        patient = PolysyncSageMakerHook(config=QUICK.merge(Config(read_timeout=60)))
        with takes(0.15, 8), time_limit(0.2), pytest.raises(SageMakerApiError):
            patient.describe_pipeline_execution(ARN)
        with time_limit(0), pytest.raises(SageMakerApiError) as caught:
            hook.describe_pipeline_execution(ARN)
        assert caught.value.error_code == "ReadTimeoutError"
        with takes(0.35, 8), pytest.raises(SageMakerApiError):
            hook.describe_pipeline_execution(ARN)


@pytest.mark.parametrize("operation", ["DescribePipelineExecution", "ListPipelines"])
def test_response_that_is_too_large_is_not_read(operation: str) -> None:
    """Neither kept nor parsed: the error says how large a response may be."""
    body = b'{"a":[' + b"[]," * (2 * MAX_RESPONSE_BYTES // 3) + b"0]}"
    with connected(responding(body)):
        hook = PolysyncSageMakerHook()
        _ = hook.conn
        tracemalloc.start()
        try:
            with pytest.raises(
                SageMakerApiError, match="more than 8,388,608 bytes"
            ) as caught:
                CALLS[operation](hook)
            assert tracemalloc.get_traced_memory()[1] < 4 * MAX_RESPONSE_BYTES
        finally:
            tracemalloc.stop()

    error = caught.value
    assert (error.error_code, error.operation) == ("ResponseTooLargeError", operation)
    assert (error.permanent, error.transient) == (False, False)


def test_triggerer_accepts_smaller_responses() -> None:
    """
    The event loop stands still while a response is parsed; a worker may take that time.
    """
    padding = json.dumps(
        {**json.loads(BODY), "FailureReason": "x" * MAX_POLL_RESPONSE_BYTES}
    ).encode()
    with connected(responding(padding)):
        worker = PolysyncSageMakerHook().describe_pipeline_execution(ARN)
        triggerer: Any = SharedClient("polysync_default", None).describe(ARN)

    assert worker.status == "Executing"
    assert triggerer.error_code == "ResponseTooLargeError"


def test_clients_end_their_calls_within_ten_seconds() -> None:
    """Their threads keep the process until then."""
    config: Any = RATE_LIMITED_CONFIG
    assert max(config.read_timeout, config.connect_timeout) < 10


@pytest.mark.parametrize("hook_class", [PolysyncSageMakerHook, PollingHook])
@pytest.mark.parametrize("conn_type", ["polysync_sagemaker", "aws"])
def test_all_clients_of_the_hook_are_limited(
    monkeypatch: pytest.MonkeyPatch,
    hook_class: type[PolysyncSageMakerHook],
    conn_type: str,
) -> None:
    """SageMaker, the logs and STS, with both types of connections."""
    use_connection(
        monkeypatch, "limited", conn_type=conn_type, endpoint_url="http://127.0.0.1:9"
    )
    hook: Any = hook_class("limited")

    for client in (
        hook.conn,
        hook.client_for("logs"),
        create_sts_session().create_client("sts", "eu-west-1"),
    ):
        assert is_limited(client)


def test_other_clients_of_the_process_are_not_limited() -> None:
    """The limits are on the sessions of the provider only."""
    assert not is_limited(Session().create_client("sts", "eu-west-1"))


def test_botocore_without_the_attributes_is_reported(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """
    A later version may have others: its clients work, and one warning says what they
    lack.
    """

    def without_manager(session: Any, *args: Any, **kwargs: Any) -> None:
        make(session, *args, **kwargs)
        del session._manager

    make = URLLib3Session.__init__
    monkeypatch.setattr(URLLib3Session, "__init__", without_manager)
    response_limits._warn_of_no_limits.cache_clear()

    for _ in range(2):
        create_sts_session().create_client("sts", "eu-west-1")

    (record,) = [
        each for each in caplog.records if each.name == response_limits.__name__
    ]
    assert "does not let responses be limited in size and time" in record.getMessage()


def is_limited(client: Any) -> bool:
    """Return whether the HTTP connections of a client read limited responses."""
    session = client._endpoint.http_session
    classes = {
        *session._manager.pool_classes_by_scheme.values(),
        *session._pool_classes_by_scheme.values(),
    }
    modules = {each.ConnectionCls.response_class.__module__ for each in classes}
    assert len(modules) == 1
    return modules == {response_limits.__name__}
