"""The control API."""

from __future__ import annotations

import json
from collections.abc import Callable
from http.client import HTTPConnection
from typing import Any

import pytest

from polysync_airflow.emulator import ControlClient, ControlRefused, EmulatorServer, VirtualClock
from polysync_airflow.emulator.sagemaker.api import SageMaker
from tests.emulator.builders import ROLE, chain


def ask(
    server: EmulatorServer, method: str, path: str, body: str | None = None
) -> tuple[int, dict[str, Any]]:
    """Send a request as any program would."""
    connection = HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request(method, f"/_emulator{path}", body)
    response = connection.getresponse()
    answer: dict[str, Any] = json.loads(response.read())
    connection.close()
    return response.status, answer


def test_health(server: EmulatorServer, create: Callable[..., str]) -> None:
    """Health tells which pipelines there are and which botocore and moto answer."""
    create(chain("A"))
    health = server.control.health()
    assert (health["status"], health["pipelines"]) == ("ok", {"us-east-1": ["Demo"]})
    assert health["versions"].keys() == {"botocore", "moto"}


def test_a_virtual_clock_is_advanced(server: EmulatorServer) -> None:
    """Time moves by exactly what it is told to."""
    before = server.control.clock()
    after = server.control.advance(8 * 3600)
    assert after["now"] - before["now"] == 8 * 3600
    assert server.control.clock() == after
    assert (after["speed"], after["iso"][:5]) == (None, "2025-")


def test_scenarios_are_kept(server: EmulatorServer) -> None:
    """What was set can be read, and is gone when it is deleted."""
    one, two = {"end_as": "Failed"}, {"steps": {"A": {"duration": 1}}}
    server.control.put_scenario(one)
    server.control.put_scenario(two, pipeline="Demo")
    assert server.control.scenarios() == {"default": one, "pipelines": {"Demo": two}}
    server.control.delete_scenario()
    server.control.delete_scenario(pipeline="Demo")
    assert server.control.scenarios() == {"default": None, "pipelines": {}}


def test_a_pipelines_scenario_comes_before_the_default(
    server: EmulatorServer,
    create: Callable[..., str],
    start: Callable[..., str],
    status_of: Callable[[str], str],
) -> None:
    """The default scenario holds for pipelines that have none of their own, from their next execution on."""
    create(chain("A"))
    create(chain("A"), "Other")
    before = start()
    server.control.put_scenario({"steps": {"A": {"fail": {}}}})
    server.control.put_scenario({"steps": {"A": {"duration": 10}}}, pipeline="Demo")
    own, default = start(), start("Other")
    server.control.advance(12)
    assert [status_of(arn) for arn in (before, own, default)] == ["Executing", "Succeeded", "Executing"]
    server.control.advance(3600)
    assert [status_of(arn) for arn in (before, own, default)] == ["Succeeded", "Succeeded", "Failed"]


def test_an_unheard_of_status_reaches_the_client(
    server: EmulatorServer,
    create: Callable[..., str],
    start: Callable[..., str],
    status_of: Callable[[str], str],
    sagemaker: Any,
) -> None:
    """A status that AWS does not have yet is shown by Describe and List alike."""
    create(chain("A"))
    server.control.put_scenario({"statuses": [{"status": "Pausing", "after": 10, "until": 60}]})
    arn = start()
    server.control.advance(10)
    assert status_of(arn) == "Pausing"
    (summary,) = sagemaker.list_pipeline_executions(PipelineName="Demo")["PipelineExecutionSummaries"]
    assert summary["PipelineExecutionStatus"] == "Pausing"
    server.control.advance(50)
    assert status_of(arn) == "Executing"


def test_completed_with_failures(
    server: EmulatorServer, create: Callable[..., str], start: Callable[..., str], sagemaker: Any
) -> None:
    """A scenario can end an execution this way, with its own reason."""
    create(chain("A"))
    server.control.put_scenario({"end_as": "CompletedWithFailures", "failure_reason": "Some items failed"})
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
        ("POST", "/faults", '{"kind": "throttle", "often": 1}', 400, "no members ['often']"),
        ("POST", "/faults", '{"kind": "error"}', 400, "needs 'code' and 'message'"),
        ("POST", "/faults", '{"kind": "latency"}', 400, "needs 'delay'"),
        ("POST", "/faults", '{"kind": "throttle", "count": -1}', 400, "count is not a number of at least 0"),
        ("POST", "/faults", '{"kind": "throttle", "count": NaN}', 400, "count is not a number of at least 0"),
        ("POST", "/faults", '{"kind": "http", "status": 200}', 400, "status is not between 400 and 599"),
        ("POST", "/faults", '{"kind": "http", "operation": 1}', 400, "operation is not a string"),
        ("DELETE", "/faults/99", None, 400, "there is no fault 99"),
        ("POST", "/clock/advance", '{"seconds": "1"}', 400, "seconds is '1', not a number"),
        ("POST", "/clock/advance", '{"seconds": -1}', 400, "at least 0"),
        ("POST", "/clock/advance", '{"hours": 1}', 400, "unknown members ['hours']"),
        ("GET", "/calls?after=x", None, 400, "after is 'x'"),
        ("PUT", "/scenarios", '{"step": {}}', 400, "unknown members ['step']"),
        ("PUT", "/scenarios", '{"steps": []}', 400, "scenario.steps is not an object"),
        ("PUT", "/scenarios", '{"end_as": "Fine"}', 400, "scenario.end_as is 'Fine'"),
        ("PUT", "/scenarios", '{"failure_reason": "a\\nb"}', 400, "one line of printable text"),
        ("PUT", "/scenarios", '{"statuses": [{}]}', 400, "scenario.statuses[0].status is missing"),
        ("PUT", "/scenarios", '{"statuses": {}}', 400, "scenario.statuses is not a list"),
        ("PUT", "/scenarios/P", '{"steps": {"A": {"duration": "1"}}}', 400, "scenario.steps.A.duration"),
        ("PUT", "/scenarios/P", '{"steps": {"A": {"fail": {"reason": 1}}}}', 400, "A.fail.reason"),
        ("PUT", "/scenarios/P", '{"steps": {"A": {"outputs": {"x": 1}}}}', 400, "scenario.steps.A.outputs"),
    ],
)
def test_a_mistake_is_explained(
    server: EmulatorServer, method: str, path: str, body: str | None, status: int, error: str
) -> None:
    """Wrong control input is refused with a message that says what is wrong."""
    found, answer = ask(server, method, path, body)
    assert found == status
    assert error in answer["error"]


def test_the_client_raises_what_it_is_told(server: EmulatorServer) -> None:
    """A refusal is an exception of the control client."""
    with pytest.raises(ControlRefused, match="kind is 'x', not one of"):
        server.control.add_fault("x")


@pytest.mark.parametrize("url", ["https://127.0.0.1:1", "127.0.0.1:1", "http://"])
def test_the_client_needs_the_address_of_an_emulator(url: str) -> None:
    """An address that cannot be an emulator's is refused at once."""
    with pytest.raises(ValueError, match="not the http:// address of an emulator"):
        ControlClient(url)


def test_reset_forgets_everything_but_the_clock(
    server: EmulatorServer, create: Callable[..., str], client_of: Callable[..., Any], sagemaker: Any
) -> None:
    """After a reset there are no pipelines, faults, calls or scenarios, and moto is empty too."""
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


def run_twice(seed: str, look: bool) -> list[str]:
    """Return the ARNs of two executions of an emulated API of its own."""
    sagemaker = SageMaker(VirtualClock(), lambda *location: b"", seed)
    create = {"PipelineName": "Demo", "PipelineDefinition": chain("A"), "RoleArn": ROLE}
    sagemaker.call("CreatePipeline", "us-east-1", {**create, "ClientRequestToken": "c" * 32})
    arns = []
    for token in ("a" * 32, "b" * 32):
        request = {"PipelineName": "Demo", "ClientRequestToken": token}
        answer, _ = sagemaker.call("StartPipelineExecution", "us-east-1", request)
        arns.append(answer["PipelineExecutionArn"])
        if look:
            sagemaker.call("ListPipelineExecutions", "us-east-1", {"PipelineName": "Demo"})
    return arns


def test_the_same_requests_give_the_same_ids() -> None:
    """Ids follow from the seed, the time and the requests alone; looking in between changes none."""
    first = run_twice("seed", look=False)
    assert first == run_twice("seed", look=True)
    assert first[0] != first[1]
    assert set(first).isdisjoint(run_twice("other seed", look=False))
