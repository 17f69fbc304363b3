"""Tests of the validation of requests and responses."""

from __future__ import annotations

import json
from collections.abc import Callable
from http.client import HTTPConnection
from typing import Any

import botocore.session
import pytest
from botocore.exceptions import ClientError

from sagemaker_emulator import EmulatorServer
from sagemaker_emulator.builders import ROLE
from sagemaker_emulator.sagemaker import api
from sagemaker_emulator.sagemaker.validation import check_response
from tests.builders import chain
from tests.sagemaker.test_pipelines import error_of

SCOPE = "AWS4-HMAC-SHA256 Credential=AKIATEST/20250101/us-east-1/sagemaker/aws4_request, Signature=0"
ARN = "arn:aws:sagemaker:us-east-1:123456789012:pipeline/demo/execution/abc"


def post(
    server: EmulatorServer, operation: str, body: str, **headers: str
) -> tuple[int, dict[str, Any]]:
    """Send a request without boto3, whose own validation rejects some requests."""
    connection = HTTPConnection("127.0.0.1", server.port, timeout=10)
    target = {
        "X-Amz-Target": f"SageMaker.{operation}",
        "Content-Type": "application/x-amz-json-1.1",
    }
    connection.request("POST", "/", body, {**target, **headers})
    response = connection.getresponse()
    document: dict[str, Any] = json.loads(response.read())
    connection.close()
    return response.status, document


@pytest.mark.parametrize(
    ("operation", "request_", "message"),
    [
        (
            "start_pipeline_execution",
            {"PipelineName": "Demo", "PipelineExecutionDescription": "a" * 3073},
            f"Value '{'a' * 3073}' at 'pipelineExecutionDescription' failed to satisfy constraint: "
            "Member must have length less than or equal to 3072",
        ),
        (
            "start_pipeline_execution",
            {"PipelineName": "Demo", "PipelineExecutionDisplayName": "a_b"},
            "Value 'a_b' at 'pipelineExecutionDisplayName' failed to satisfy constraint: "
            "Member must satisfy regular expression pattern: [a-zA-Z0-9](-*[a-zA-Z0-9]){0,81}",
        ),
        (
            "start_pipeline_execution",
            {
                "PipelineName": "Demo",
                "PipelineParameters": [{"Name": "a b", "Value": "x"}],
            },
            "Value 'a b' at 'pipelineParameters.1.member.name' failed to satisfy constraint: "
            "Member must satisfy regular expression pattern: [A-Za-z0-9\\-_]*",
        ),
        (
            "list_pipelines",
            {"MaxResults": 101},
            "Value '101' at 'maxResults' failed to satisfy constraint: "
            "Member must have value less than or equal to 100",
        ),
        (
            "list_pipelines",
            {"SortBy": "Colour"},
            "Value 'Colour' at 'sortBy' failed to satisfy constraint: "
            "Member must satisfy enum value set: [Name, CreationTime]",
        ),
        (
            "describe_pipeline_execution",
            {"PipelineExecutionArn": "nonsense"},
            "Value 'nonsense' at 'pipelineExecutionArn' failed to satisfy constraint: "
            "Member must satisfy regular expression pattern: "
            "arn:aws[a-z\\-]*:sagemaker:[a-z0-9\\-]*:[0-9]{12}:pipeline\\/.*\\/execution\\/.*",
        ),
    ],
)
def test_violation_has_the_message_of_aws(
    sagemaker: Any, operation: str, request_: dict[str, Any], message: str
) -> None:
    """A value that does not match its shape is rejected with AWS's message."""
    expected = ("ValidationException", f"1 validation error detected: {message}")
    assert error_of(getattr(sagemaker, operation), **request_) == expected


def test_all_violations_are_listed(sagemaker: Any) -> None:
    """An error lists all violations."""
    request = {
        "PipelineExecutionDisplayName": "_",
        "PipelineExecutionDescription": "x" * 3073,
    }
    _, message = error_of(
        sagemaker.start_pipeline_execution, PipelineName="Demo", **request
    )
    assert message.startswith(
        "2 validation errors detected: Value '_' at 'pipelineExecutionDisplayName'"
    )
    assert "; Value 'xxx" in message


def test_too_long_list_is_rejected(sagemaker: Any) -> None:
    """A request can contain at most 200 parameters."""
    parameters = [{"Name": f"p{index}", "Value": "x"} for index in range(201)]
    _, message = error_of(
        sagemaker.start_pipeline_execution,
        PipelineName="Demo",
        PipelineParameters=parameters,
    )
    assert message.endswith(
        "'pipelineParameters' failed to satisfy constraint: "
        "Member must have length less than or equal to 200"
    )


def test_missing_members_are_violations(server: EmulatorServer) -> None:
    """A missing pipeline name and a missing token are violations."""
    status, response = post(server, "StartPipelineExecution", "{}", Authorization=SCOPE)
    assert (status, response) == (
        400,
        {
            "__type": "ValidationException",
            "message": "2 validation errors detected: "
            "Value null at 'pipelineName' failed to satisfy constraint: Member must not be null; "
            "Value null at 'clientRequestToken' failed to satisfy constraint: Member must not be null",
        },
    )


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            '{"PipelineName": 1}',
            "NUMBER_VALUE can not be converted to string at 'pipelineName'",
        ),
        (
            '{"PipelineName": ["a"]}',
            "START_ARRAY can not be converted to string at 'pipelineName'",
        ),
        (
            '{"PipelineVersionId": "1"}',
            "STRING_VALUE can not be converted to long at 'pipelineVersionId'",
        ),
        (
            '{"PipelineVersionId": true}',
            "BOOLEAN_VALUE can not be converted to long at 'pipelineVersionId'",
        ),
        ("[]", "START_ARRAY can not be converted to structure"),
    ],
)
def test_wrong_json_type_is_a_serialization_exception(
    server: EmulatorServer, body: str, message: str
) -> None:
    """A value of the wrong JSON type is a SerializationException."""
    status, response = post(server, "DescribePipeline", body, Authorization=SCOPE)
    assert (status, response) == (
        400,
        {"__type": "SerializationException", "message": message},
    )


@pytest.mark.parametrize("body", ["{", "[" * 100_000])
def test_body_must_be_json(server: EmulatorServer, body: str) -> None:
    """
    A body that is not JSON, or is nested too deeply, is a SerializationException.
    """
    status, response = post(server, "DescribePipeline", body, Authorization=SCOPE)
    assert (status, response["__type"]) == (400, "SerializationException")


def test_unknown_member_is_ignored_and_logged(
    server: EmulatorServer, create: Callable[..., str]
) -> None:
    """
    A member that botocore does not know is not an error, and the call log lists it.
    """
    create(chain("A"))
    body = json.dumps(
        {"PipelineName": "Demo", "Novelty": {"x": 1}, "PipelineVersionId": None}
    )
    status, _ = post(server, "DescribePipeline", body, Authorization=SCOPE)
    assert status == 200
    assert server.control.calls("DescribePipeline")[-1]["ignored"] == ["novelty"]


def test_unsigned_request_is_rejected(server: EmulatorServer) -> None:
    """A request without credentials is rejected."""
    status, response = post(server, "ListPipelines", "{}")
    assert (status, response["__type"]) == (403, "MissingAuthenticationTokenException")


@pytest.mark.parametrize(
    ("response", "violation"),
    [
        ({"Novelty": 1}, "'novelty' is not part of"),
        ({"CreationTime": "today"}, "STRING_VALUE can not be converted to timestamp"),
        ({"FailureReason": "x" * 1301}, "less than or equal to 1300"),
        ({"PipelineExecutionArn": "x"}, "regular expression pattern"),
        ({"PipelineArn": ""}, "regular expression pattern"),
        ({"ParallelismConfiguration": {}}, "Member must not be null"),
        ({"PipelineExecutionStatus": "Pausing"}, "enum value set"),
    ],
)
def test_response_is_validated(response: dict[str, Any], violation: str) -> None:
    """Every kind of violation in a response is reported."""
    model = botocore.session.get_session().get_service_model("sagemaker")
    shape = model.operation_model("DescribePipelineExecution").output_shape
    (actual,) = check_response(shape, response, frozenset({"PipelineExecutionArn"}))
    assert violation in actual


def test_invalid_response_is_an_internal_failure(
    server: EmulatorServer, sagemaker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A bug in the emulator is reported as HTTP 500 with its reason, to the client and in
    the call log.
    """
    operations: dict[str, Any] = {
        **api.OPERATIONS,
        "ListPipelines": lambda call: {"Nonsense": 1},
    }
    monkeypatch.setattr(api, "OPERATIONS", operations)
    with pytest.raises(ClientError) as error:
        sagemaker.list_pipelines()
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 500
    last = server.control.calls()[-1]
    assert (last["error_code"], last["status"]) == ("InternalFailure", 500)
    assert (
        "ListPipelines: 'nonsense' is not part of ListPipelinesResponse"
        in last["error_message"]
    )


def test_tags_can_contain_unicode_letters(sagemaker: Any) -> None:
    """Patterns with Unicode properties are supported."""
    tags = [{"Key": "Größe", "Value": "日本 1"}]
    assert sagemaker.create_pipeline(
        PipelineName="Demo", PipelineDefinition=chain("A"), RoleArn=ROLE, Tags=tags
    )
    tags = [{"Key": "a*b", "Value": "x"}]
    code, _ = error_of(
        sagemaker.create_pipeline,
        PipelineName="B",
        PipelineDefinition=chain("A"),
        RoleArn=ROLE,
        Tags=tags,
    )
    assert code == "ValidationException"


def test_unknown_execution_is_not_found(sagemaker: Any) -> None:
    """
    All operations on executions return ResourceNotFound for a valid ARN of an execution
    that does not exist.
    """
    for operation in (
        "describe_pipeline_execution",
        "describe_pipeline_definition_for_execution",
        "list_pipeline_execution_steps",
        "list_pipeline_parameters_for_execution",
        "stop_pipeline_execution",
        "retry_pipeline_execution",
        "update_pipeline_execution",
    ):
        error = error_of(getattr(sagemaker, operation), PipelineExecutionArn=ARN)
        assert error == (
            "ResourceNotFound",
            f"Pipeline execution '{ARN}' does not exist.",
        )
