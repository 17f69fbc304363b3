"""What a request and an answer may look like."""

from __future__ import annotations

import json
from collections.abc import Callable
from http.client import HTTPConnection
from typing import Any

import botocore.session
import pytest
from botocore.exceptions import ClientError

from polysync_airflow.emulator import EmulatorServer
from polysync_airflow.emulator.sagemaker import api
from polysync_airflow.emulator.sagemaker.validation import check_answer
from tests.emulator.builders import ROLE, chain
from tests.emulator.sagemaker.test_pipelines import refusal

SCOPE = "AWS4-HMAC-SHA256 Credential=AKIATEST/20250101/us-east-1/sagemaker/aws4_request, Signature=0"
ARN = "arn:aws:sagemaker:us-east-1:123456789012:pipeline/demo/execution/abc"


def post(server: EmulatorServer, operation: str, body: str, **headers: str) -> tuple[int, dict[str, Any]]:
    """Send a request past boto3, which refuses some mistakes itself."""
    connection = HTTPConnection("127.0.0.1", server.port, timeout=10)
    target = {"X-Amz-Target": f"SageMaker.{operation}", "Content-Type": "application/x-amz-json-1.1"}
    connection.request("POST", "/", body, {**target, **headers})
    response = connection.getresponse()
    answer: dict[str, Any] = json.loads(response.read())
    connection.close()
    return response.status, answer


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
            {"PipelineName": "Demo", "PipelineParameters": [{"Name": "a b", "Value": "x"}]},
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
def test_a_request_is_checked_in_awss_words(
    sagemaker: Any, operation: str, request_: dict[str, Any], message: str
) -> None:
    """A value that breaks its shape is refused with the text AWS uses."""
    expected = ("ValidationException", f"1 validation error detected: {message}")
    assert refusal(getattr(sagemaker, operation), **request_) == expected


def test_all_violations_are_listed(sagemaker: Any) -> None:
    """Two mistakes are two violations of one error."""
    request = {"PipelineExecutionDisplayName": "_", "PipelineExecutionDescription": "x" * 3073}
    _, message = refusal(sagemaker.start_pipeline_execution, PipelineName="Demo", **request)
    assert message.startswith("2 validation errors detected: Value '_' at 'pipelineExecutionDisplayName'")
    assert "; Value 'xxx" in message


def test_a_list_can_be_too_long(sagemaker: Any) -> None:
    """No more than 200 parameters are accepted."""
    given = [{"Name": f"p{index}", "Value": "x"} for index in range(201)]
    _, message = refusal(sagemaker.start_pipeline_execution, PipelineName="Demo", PipelineParameters=given)
    assert message.endswith("'pipelineParameters' failed to satisfy constraint: "
                            "Member must have length less than or equal to 200")  # fmt: skip


def test_required_members_are_required(server: EmulatorServer) -> None:
    """A missing name and a missing token are each a violation."""
    status, answer = post(server, "StartPipelineExecution", "{}", Authorization=SCOPE)
    assert (status, answer) == (
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
        ('{"PipelineName": 1}', "NUMBER_VALUE can not be converted to string at 'pipelineName'"),
        ('{"PipelineName": ["a"]}', "START_ARRAY can not be converted to string at 'pipelineName'"),
        ('{"PipelineVersionId": "1"}', "STRING_VALUE can not be converted to long at 'pipelineVersionId'"),
        ('{"PipelineVersionId": true}', "BOOLEAN_VALUE can not be converted to long at 'pipelineVersionId'"),
        ("[]", "START_ARRAY can not be converted to structure"),
    ],
)
def test_a_wrong_json_type_is_no_serialisation(server: EmulatorServer, body: str, message: str) -> None:
    """A value of the wrong JSON type is a SerializationException."""
    status, answer = post(server, "DescribePipeline", body, Authorization=SCOPE)
    assert (status, answer) == (400, {"__type": "SerializationException", "message": message})


def test_a_body_must_be_json(server: EmulatorServer) -> None:
    """A body that is not JSON is a SerializationException."""
    _, answer = post(server, "DescribePipeline", "{", Authorization=SCOPE)
    assert answer["__type"] == "SerializationException"


def test_an_unknown_member_is_ignored_and_logged(server: EmulatorServer, create: Callable[..., str]) -> None:
    """A member of a newer API is no error, but the call log tells."""
    create(chain("A"))
    body = json.dumps({"PipelineName": "Demo", "Novelty": {"x": 1}, "PipelineVersionId": None})
    status, _ = post(server, "DescribePipeline", body, Authorization=SCOPE)
    assert status == 200
    assert server.control.calls("DescribePipeline")[-1]["ignored"] == ["novelty"]


def test_an_unsigned_request_is_refused(server: EmulatorServer) -> None:
    """Without credentials there is no answer."""
    status, answer = post(server, "ListPipelines", "{}")
    assert (status, answer["__type"]) == (403, "MissingAuthenticationTokenException")


@pytest.mark.parametrize(
    ("answer", "wrong"),
    [
        ({"Novelty": 1}, "'novelty' is not part of"),
        ({"CreationTime": "today"}, "STRING_VALUE can not be converted to timestamp"),
        ({"FailureReason": "x" * 1301}, "less than or equal to 1300"),
        ({"PipelineExecutionArn": "x"}, "regular expression pattern"),
        ({"ParallelismConfiguration": {}}, "Member must not be null"),
        ({"PipelineExecutionStatus": "Pausing"}, "enum value set"),
    ],
)
def test_an_answer_is_checked(answer: dict[str, Any], wrong: str) -> None:
    """Every kind of mistake in an answer is found."""
    model = botocore.session.get_session().get_service_model("sagemaker")
    shape = model.operation_model("DescribePipelineExecution").output_shape
    (found,) = check_answer(shape, answer, frozenset())
    assert wrong in found


def test_a_wrong_answer_is_a_loud_error(
    server: EmulatorServer, sagemaker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug of the emulator is HTTP 500 with its reason, for the client and in the call log."""
    wrong: dict[str, Any] = {**api.OPERATIONS, "ListPipelines": lambda call: {"Nonsense": 1}}
    monkeypatch.setattr(api, "OPERATIONS", wrong)
    with pytest.raises(ClientError) as error:
        sagemaker.list_pipelines()
    assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 500
    last = server.control.calls()[-1]
    assert (last["error_code"], last["status"]) == ("InternalFailure", 500)
    assert "ListPipelines: 'nonsense' is not part of ListPipelinesResponse" in last["error_message"]


def test_tags_may_have_letters_of_any_script(sagemaker: Any) -> None:
    """Patterns with Unicode properties work."""
    tags = [{"Key": "Größe", "Value": "日本 1"}]
    assert sagemaker.create_pipeline(
        PipelineName="Demo", PipelineDefinition=chain("A"), RoleArn=ROLE, Tags=tags
    )
    tags = [{"Key": "a*b", "Value": "x"}]
    code, _ = refusal(
        sagemaker.create_pipeline, PipelineName="B", PipelineDefinition=chain("A"), RoleArn=ROLE, Tags=tags
    )
    assert code == "ValidationException"


def test_an_unknown_execution_is_not_found(sagemaker: Any) -> None:
    """A well-formed ARN that does not exist is ResourceNotFound for all operations on executions."""
    for operation in (
        "describe_pipeline_execution",
        "describe_pipeline_definition_for_execution",
        "list_pipeline_execution_steps",
        "list_pipeline_parameters_for_execution",
        "stop_pipeline_execution",
        "retry_pipeline_execution",
        "update_pipeline_execution",
    ):
        found = refusal(getattr(sagemaker, operation), PipelineExecutionArn=ARN)
        assert found == ("ResourceNotFound", f"Pipeline execution '{ARN}' does not exist.")
