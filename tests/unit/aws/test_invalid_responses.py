"""
Responses that AWS would not send, from a proxy for example: they count as no response
at all.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from polysync_airflow.exceptions import CredentialsError, SageMakerApiError
from polysync_airflow.execution.definitions import PipelineDraft
from polysync_airflow.execution.parameters import build_start_request
from polysync_airflow.hooks import PolysyncSageMakerHook
from tests.conftest import ARN, use_connection
from tests.fakes.fake_sagemaker import connected, responding

OTHER_REGION = ARN.replace("us-east-1", "eu-west-1")
TOKEN = "polysync-" + "0" * 32
REQUEST = build_start_request(
    pipeline_name="fanout", execution_display_name="x", client_request_token=TOKEN
)
ASSUME_ROLE = {
    "auth_method": "assume_role",
    "role_arn": "arn:aws:iam::123456789012:role/x",
}
CALLS: dict[str, Callable[[PolysyncSageMakerHook], Any]] = {
    "StartPipelineExecution": lambda hook: hook.start_pipeline_execution(REQUEST),
    "DescribePipelineExecution": lambda hook: hook.describe_pipeline_execution(ARN),
    "StopPipelineExecution": lambda hook: hook.stop_pipeline_execution(ARN),
    "RetryPipelineExecution": lambda hook: hook.retry_pipeline_execution(
        ARN, token=TOKEN
    ),
    "ListPipelineExecutions": lambda hook: hook.list_pipeline_executions("fanout"),
    "ListPipelineExecutionSteps": lambda hook: hook.list_pipeline_execution_steps(ARN),
    "ListPipelineParametersForExecution": lambda hook: (
        hook.list_pipeline_parameters_for_execution(ARN)
    ),
    "ListPipelines": lambda hook: list(hook.list_pipelines()),
    "DescribePipeline": lambda hook: hook.describe_pipeline("fanout"),
    "UpdatePipeline": lambda hook: hook.put_pipeline(
        PipelineDraft(
            pipeline_name="fanout",
            definition="{}",
            role_arn="arn:aws:iam::123456789012:role/P",
        ),
    ),
}
BODIES: dict[str, bytes] = {
    "html": b"<html><body>Sign in to the hotel's network</body></html>",
    "empty": b"",
    "object": b"{}",
    "list": b"[]",
    "deep": b"[" * 100_000,
    "wrong types": json.dumps(
        {
            "PipelineExecutionArn": 5,
            "PipelineExecutionStatus": [],
            "PipelineExecutionSummaries": 5,
            "PipelineExecutionSteps": "x",
            "PipelineParameters": [{"Name": "A"}],
            "PipelineSummaries": {"a": 1},
            "PipelineName": {},
            "PipelineArn": [],
        }
    ).encode(),
    "another service": b'{"PipelineExecutionArn": "arn:aws:s3:::bucket"}',
    "another name": json.dumps(
        {"PipelineExecutionArn": ARN.replace("abcdefghijkl", "zzzzzzzzzzzz")}
    ).encode(),
    "no version": b'{"PipelineArn": "arn:x:pipeline/fanout", "PipelineVersionId": 0}',
    "another pipeline": b'{"PipelineArn": "arn:x:pipeline/x", "PipelineVersionId": 1}',
    # The ARN of a response must be that of the request, and that of a start must be in
    # the client's region.
    "another execution": json.dumps(
        {
            "PipelineExecutionArn": OTHER_REGION,
            "PipelineExecutionStatus": "Failed",
            "CreationTime": "yesterday",
            "PipelineName": "",
        }
    ).encode(),
}


def error_of(operation: str, body: bytes) -> SageMakerApiError:
    """
    Call an operation of a server that responds with a body; return the error that the
    hook raises.
    """
    with (
        connected(responding(body)) as operations,
        pytest.raises(SageMakerApiError) as caught,
    ):
        CALLS[operation](PolysyncSageMakerHook())
    assert set(operations) == {operation}
    return caught.value


@pytest.mark.parametrize(
    ("operation", "body"),
    [
        (operation, body)
        for operation in CALLS
        for body in ("object", "wrong types", "another execution")
    ]
    + [
        ("StartPipelineExecution", "another service"),
        ("StopPipelineExecution", "another name"),
        ("UpdatePipeline", "no version"),
        ("UpdatePipeline", "another pipeline"),
    ]
    # What no operation can read.
    + [
        ("DescribePipelineExecution", body)
        for body in ("html", "empty", "list", "deep")
    ],
)
def test_invalid_responses_are_transient(operation: str, body: str) -> None:
    """
    No raw error of pydantic or botocore: each is an error of this provider, and the
    call can be repeated.
    """
    error = error_of(operation, BODIES[body])

    assert error.transient is True
    assert error.permanent is False
    assert error.operation == operation
    assert len(str(error)) < 1000


@pytest.mark.parametrize(
    ("owner", "refusal"),
    [
        ("123456789012", None),
        ("aws", None),
        ("210987654321", "account is 123456789012, not 210987654321"),
    ],
)
def test_account_of_a_started_execution(owner: str, refusal: str | None) -> None:
    """
    It must be that of the pipeline; executions of a pipeline that AWS manages are the
    caller's.
    """
    pipeline = f"arn:aws:sagemaker:us-east-1:{owner}:pipeline/fanout"
    request = REQUEST.model_copy(update={"pipeline_name": pipeline})
    with connected(responding(json.dumps({"PipelineExecutionArn": ARN}).encode())):
        hook = PolysyncSageMakerHook()
        if refusal is None:
            assert hook.start_pipeline_execution(request) == ARN
            return
        with pytest.raises(SageMakerApiError, match=refusal):
            hook.start_pipeline_execution(request)


@pytest.mark.parametrize("code", [[], {}, 5, True])
def test_error_code_that_is_no_text_is_transient(code: Any) -> None:
    """botocore would look for it in a dict, and raise a TypeError."""
    with (
        connected(responding(json.dumps({"__type": code}).encode(), 400)),
        pytest.raises(SageMakerApiError) as caught,
    ):
        PolysyncSageMakerHook().stop_pipeline_execution(ARN)

    assert caught.value.transient


def test_damaged_entries_of_a_listing_are_left_out() -> None:
    """
    One damaged entry does not fail the waits for the executions in the other entries.
    """
    entries = [
        {"PipelineExecutionArn": "foo", "PipelineExecutionStatus": "Executing"},
        {
            "PipelineExecutionArn": ARN,
            "PipelineExecutionStatus": "Executing",
            "StartTime": 1_750_000_000,
        },
        {"PipelineExecutionStatus": "Executing"},
    ]
    with connected(
        responding(json.dumps({"PipelineExecutionSummaries": entries}).encode())
    ):
        rows, token = PolysyncSageMakerHook().list_pipeline_executions("fanout")

    assert [row.execution_arn for row in rows] == [ARN]
    assert rows[0].created_at == datetime.fromtimestamp(1_750_000_000, UTC)
    assert token is None


def test_long_and_dirty_error_messages_are_cleaned() -> None:
    """The text of an error of AWS is cut, and has no control characters."""
    body = json.dumps(
        {"__type": "ValidationException", "message": "\x00\x1b[31m" + "x" * 10_000}
    ).encode()
    with connected(responding(body, 400)), pytest.raises(SageMakerApiError) as caught:
        PolysyncSageMakerHook().describe_pipeline("fanout")

    message = str(caught.value)
    assert "\x00" not in message
    assert "\x1b" not in message
    assert len(message) < 1000


def test_line_break_in_a_session_token_is_not_quoted_and_not_repeated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    Our connection type refuses the token; with an ``aws`` connection the error is
    permanent and has no token.
    """
    token = "IQoJb3JpZ2luX2VjEXAMPLE\nTOKEN"
    with responding(b"{}") as (url, operations):
        use_connection(monkeypatch, "ours", endpoint_url=url, session_token=token)
        use_connection(
            monkeypatch,
            "aws",
            conn_type="aws",
            endpoint_url=url,
            aws_session_token=token,
        )
        with pytest.raises(
            CredentialsError, match=r"session_token: .* line break"
        ) as ours:
            PolysyncSageMakerHook("ours").describe_pipeline("fanout")
        with pytest.raises(SageMakerApiError) as aws:
            PolysyncSageMakerHook("aws").describe_pipeline("fanout")

    assert operations == []
    for error in (ours.value, aws.value):
        assert error.permanent
        assert "IQoJ" not in str(error)
        assert error.__cause__ is None
    assert aws.value.__suppress_context__


STS_BODIES = [
    b"",
    b"{}",
    b"<html>",
    b"<AssumeRoleResponse/>",
    b"<a><AssumeRoleResult><Credentials/></AssumeRoleResult></a>",
]


@pytest.mark.parametrize("body", STS_BODIES, ids=str)
@pytest.mark.parametrize(
    ("fields", "call"),
    [
        (ASSUME_ROLE, lambda hook: hook.describe_pipeline("fanout")),
        ({}, lambda hook: hook.get_caller_identity()),
    ],
    ids=["describe", "identity"],
)
def test_invalid_responses_of_sts_are_temporary_credentials_errors(
    monkeypatch: pytest.MonkeyPatch,
    body: bytes,
    fields: dict[str, Any],
    call: Callable[[PolysyncSageMakerHook], Any],
) -> None:
    """
    A sign-in that gets no response of AWS fails with a CredentialsError, and later
    tries may succeed.
    """
    with responding(body) as (url, _):
        use_connection(monkeypatch, endpoint_url=url, sts_endpoint_url=url, **fields)
        hook = PolysyncSageMakerHook()
        with pytest.raises(CredentialsError) as caught:
            call(hook)

    assert not caught.value.permanent
