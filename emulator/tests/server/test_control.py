"""Tests of the control API."""

from __future__ import annotations

import json
from collections.abc import Callable
from http.client import HTTPConnection
from typing import Any

import pytest

from sagemaker_emulator import (
    ControlClient,
    ControlRefused,
    EmulatorServer,
    VirtualClock,
)
from sagemaker_emulator.builders import ROLE
from sagemaker_emulator.sagemaker.api import SageMaker
from tests.builders import Services, chain


def send(
    server: EmulatorServer, method: str, path: str, body: str | None = None
) -> tuple[int, dict[str, Any]]:
    """Send a request without the control client."""
    connection = HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request(
        method, f"/_emulator{path}", body, {"Content-Type": "application/json"}
    )
    response = connection.getresponse()
    document: dict[str, Any] = json.loads(response.read())
    connection.close()
    return response.status, document


def test_health(server: EmulatorServer, create: Callable[..., str]) -> None:
    """The health response lists the pipelines and the versions of botocore and moto."""
    create(chain("A"))
    health = server.control.health()
    assert (health["status"], health["pipelines"]) == ("ok", {"us-east-1": ["Demo"]})
    assert health["versions"].keys() == {"botocore", "moto"}


def test_virtual_clock_is_advanced(server: EmulatorServer) -> None:
    """The clock advances by exactly the requested time."""
    before = server.control.clock()
    after = server.control.advance(8 * 3600)
    assert after["now"] - before["now"] == 8 * 3600
    assert server.control.clock() == after
    assert (after["speed"], after["iso"][:5]) == (None, "2025-")


def test_scenarios_can_be_read_and_deleted(server: EmulatorServer) -> None:
    """A scenario that was set can be read, until it is deleted."""
    one, two = {"end_as": "Failed"}, {"steps": {"A": {"duration": 1}}}
    server.control.put_scenario(one)
    server.control.put_scenario(two, pipeline="Demo")
    assert server.control.scenarios() == {"default": one, "pipelines": {"Demo": two}}
    server.control.delete_scenario()
    server.control.delete_scenario(pipeline="Demo")
    assert server.control.scenarios() == {"default": None, "pipelines": {}}


def test_scenario_of_a_pipeline_overrides_the_default(
    server: EmulatorServer,
    create: Callable[..., str],
    start: Callable[..., str],
    status_of: Callable[[str], str],
) -> None:
    """
    The default scenario applies to new executions of pipelines that have no scenario of
    their own.
    """
    create(chain("A"))
    create(chain("A"), "Other")
    before = start()
    server.control.put_scenario({"steps": {"A": {"fail": {}}}})
    server.control.put_scenario({"steps": {"A": {"duration": 10}}}, pipeline="Demo")
    own, default = start(), start("Other")
    server.control.advance(12)
    assert [status_of(arn) for arn in (before, own, default)] == [
        "Executing",
        "Succeeded",
        "Executing",
    ]
    server.control.advance(3600)
    assert [status_of(arn) for arn in (before, own, default)] == [
        "Succeeded",
        "Succeeded",
        "Failed",
    ]


def test_unknown_status_reaches_the_client(
    server: EmulatorServer,
    create: Callable[..., str],
    start: Callable[..., str],
    status_of: Callable[[str], str],
    sagemaker: Any,
) -> None:
    """
    DescribePipelineExecution and ListPipelineExecutions return a status that AWS does
    not have.
    """
    create(chain("A"))
    server.control.put_scenario(
        {"statuses": [{"status": "Pausing", "after": 10, "until": 60}]}
    )
    arn = start()
    server.control.advance(10)
    assert status_of(arn) == "Pausing"
    (summary,) = sagemaker.list_pipeline_executions(PipelineName="Demo")[
        "PipelineExecutionSummaries"
    ]
    assert summary["PipelineExecutionStatus"] == "Pausing"
    server.control.advance(50)
    assert status_of(arn) == "Executing"


def test_completed_with_failures(
    server: EmulatorServer,
    create: Callable[..., str],
    start: Callable[..., str],
    sagemaker: Any,
) -> None:
    """
    A scenario can end an execution as CompletedWithFailures, with its own failure
    reason.
    """
    create(chain("A"))
    server.control.put_scenario(
        {"end_as": "CompletedWithFailures", "failure_reason": "Some items failed"}
    )
    arn = start()
    server.control.advance(3600)
    described = sagemaker.describe_pipeline_execution(PipelineExecutionArn=arn)
    assert described["PipelineExecutionStatus"] == "CompletedWithFailures"
    assert described["FailureReason"] == "Some items failed"


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "error"),
    [
        ("GET", "/nonsense", None, 404, "GET /_emulator/nonsense: Not Found"),
        ("POST", "/clock", "{}", 405, "POST /_emulator/clock: Method Not Allowed"),
        ("POST", "/faults", "{", 400, "the body is not JSON"),
        ("POST", "/faults", "[]", 400, "the body is not a JSON object"),
        ("POST", "/faults", "{}", 400, "kind is None, not one of"),
        (
            "POST",
            "/faults",
            '{"kind": "throttle", "often": 1}',
            400,
            "unknown members ['often']",
        ),
        ("POST", "/faults", '{"kind": "error"}', 400, "requires 'code' and 'message'"),
        ("POST", "/faults", '{"kind": "latency"}', 400, "requires 'delay'"),
        (
            "POST",
            "/faults",
            '{"kind": "throttle", "count": -1}',
            400,
            "count is not a number of at least 0",
        ),
        (
            "POST",
            "/faults",
            '{"kind": "throttle", "count": NaN}',
            400,
            "count is not a number of at least 0",
        ),
        (
            "POST",
            "/faults",
            '{"kind": "http", "status": 200}',
            400,
            "status is not between 400 and 599",
        ),
        (
            "POST",
            "/faults",
            '{"kind": "http", "operation": 1}',
            400,
            "operation is not a string",
        ),
        ("DELETE", "/faults/99", None, 400, "there is no fault 99"),
        (
            "POST",
            "/clock/advance",
            '{"seconds": "1"}',
            400,
            "seconds is '1'; it must be a number",
        ),
        ("POST", "/clock/advance", '{"seconds": -1}', 400, "at least 0"),
        ("POST", "/clock/advance", '{"hours": 1}', 400, "unknown members ['hours']"),
        ("GET", "/calls?after=x", None, 400, "after is 'x'"),
        ("PUT", "/scenarios", '{"step": {}}', 400, "unknown members ['step']"),
        ("PUT", "/scenarios", '{"steps": []}', 400, "scenario.steps is not an object"),
        ("PUT", "/scenarios", '{"end_as": "Fine"}', 400, "scenario.end_as is 'Fine'"),
        (
            "PUT",
            "/scenarios",
            '{"failure_reason": "a\\nb"}',
            400,
            "one line of printable text",
        ),
        (
            "PUT",
            "/scenarios",
            '{"statuses": [{}]}',
            400,
            "scenario.statuses[0].status is missing",
        ),
        (
            "PUT",
            "/scenarios",
            '{"statuses": {}}',
            400,
            "scenario.statuses is not a list",
        ),
        (
            "PUT",
            "/scenarios/P",
            '{"steps": {"A": {"duration": "1"}}}',
            400,
            "scenario.steps.A.duration",
        ),
        (
            "PUT",
            "/scenarios/P",
            '{"steps": {"A": {"fail": {"reason": 1}}}}',
            400,
            "A.fail.reason",
        ),
        (
            "PUT",
            "/scenarios/P",
            '{"steps": {"A": {"fail": {"exception_type": "X"}}}}',
            400,
            "'X', not one of",
        ),
        (
            "PUT",
            "/scenarios/P",
            '{"steps": {"A": {"fail": {"log_lines": "x"}}}}',
            400,
            "A.fail.log_lines",
        ),
        (
            "PUT",
            "/scenarios/P",
            '{"steps": {"A": {"fail": {"log_lines": [1]}}}}',
            400,
            "A.fail.log_lines",
        ),
        (
            "PUT",
            "/scenarios/P",
            '{"steps": {"A": {"metrics": {"auc": "1"}}}}',
            400,
            "A.metrics.auc",
        ),
        (
            "PUT",
            "/scenarios/P",
            '{"steps": {"A": {"metrics": {"": 1}}}}',
            400,
            "A.metrics is not at most 40",
        ),
        (
            "PUT",
            "/scenarios/P",
            '{"steps": {"A": {"log_lines": []}}}',
            400,
            "unknown members ['log_lines']",
        ),
        (
            "PUT",
            "/scenarios/P",
            '{"steps": {"A": {"violations": {}}}}',
            400,
            "A.violations is not a list",
        ),
        (
            "PUT",
            "/scenarios/P",
            '{"steps": {"A": {"violations": [{}]}}}',
            400,
            "A.violations[0] must map",
        ),
        (
            "PUT",
            "/scenarios/P",
            '{"steps": {"A": {"violations": [{"a": 1}]}}}',
            400,
            "A.violations[0] must",
        ),
        ("PUT", "/scenarios", '{"step_delay": -1}', 400, "scenario.step_delay"),
        ("PUT", "/scenarios", '{"speed": 0}', 400, "scenario.speed is not above 0"),
        (
            "POST",
            "/faults",
            '{"kind": "throttle", "service": 1}',
            400,
            "service is not a string",
        ),
        (
            "PUT",
            "/scenarios/P",
            '{"steps": {"A": {"outputs": {"x": 1}}}}',
            400,
            "scenario.steps.A.outputs",
        ),
    ],
)
def test_invalid_request_is_explained(
    server: EmulatorServer,
    method: str,
    path: str,
    body: str | None,
    status: int,
    error: str,
) -> None:
    """An invalid request is rejected with a message that says what is invalid."""
    actual_status, response = send(server, method, path, body)
    assert actual_status == status
    assert error in response["error"]


def test_client_raises_an_error_response(server: EmulatorServer) -> None:
    """The control client raises an error response as an exception."""
    with pytest.raises(ControlRefused, match="kind is 'x', not one of"):
        server.control.add_fault("x")


@pytest.mark.parametrize("url", ["https://127.0.0.1:1", "127.0.0.1:1", "http://"])
def test_client_requires_an_http_url(url: str) -> None:
    """The control client rejects a URL that cannot be an emulator's."""
    with pytest.raises(ValueError, match="not the http:// URL of an emulator"):
        ControlClient(url)


def test_reset_removes_everything_except_the_clock(
    server: EmulatorServer,
    create: Callable[..., str],
    client_of: Callable[..., Any],
    sagemaker: Any,
) -> None:
    """
    After a reset there are no pipelines, faults, calls and scenarios, and moto is
    empty.
    """
    create(chain("A"))
    client_of("s3").create_bucket(Bucket="bucket")
    server.control.put_scenario({"end_as": "Failed"})
    server.control.add_fault("throttle", "DescribePipeline")
    now = server.control.clock()
    server.control.reset()
    assert server.control.calls() == []
    assert server.control.faults() == []
    assert server.control.scenarios() == {"default": None, "pipelines": {}}
    assert sagemaker.list_pipelines()["PipelineSummaries"] == []
    assert client_of("s3").list_buckets()["Buckets"] == []
    assert server.control.clock() == now


def start_twice(seed: str, list_between: bool) -> list[str]:
    """
    Return the ARNs of two executions in a new SageMaker API, optionally with list
    requests in between.
    """
    sagemaker = SageMaker(VirtualClock(), Services(), seed)
    create = {"PipelineName": "Demo", "PipelineDefinition": chain("A"), "RoleArn": ROLE}
    sagemaker.call(
        "CreatePipeline", "us-east-1", {**create, "ClientRequestToken": "c" * 32}
    )
    arns = []
    for token in ("a" * 32, "b" * 32):
        request = {"PipelineName": "Demo", "ClientRequestToken": token}
        response, _ = sagemaker.call("StartPipelineExecution", "us-east-1", request)
        arns.append(response["PipelineExecutionArn"])
        if list_between:
            sagemaker.call(
                "ListPipelineExecutions", "us-east-1", {"PipelineName": "Demo"}
            )
    return arns


def test_same_requests_create_the_same_ids() -> None:
    """
    Ids depend only on the seed and on the requests that create something; list requests
    change no id.
    """
    first = start_twice("seed", list_between=False)
    assert first == start_twice("seed", list_between=True)
    assert first[0] != first[1]
    assert set(first).isdisjoint(start_twice("other seed", list_between=False))
