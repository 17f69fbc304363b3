"""ListImport: which pipelines are imported, the content of the jobs, and errors."""

from __future__ import annotations

import json
import logging
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import literal

from polysync_airflow.aws import concurrent_calls, rate_limiter, retry
from polysync_airflow.exceptions import ParametersError, SageMakerApiError
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.jobs import start_arguments
from polysync_airflow.jobs.importer import NotImported, import_jobs
from polysync_airflow.operators import (
    PolysyncListImportOperator,
    PolysyncStartPipelineOperator,
)
from sagemaker_emulator import EmulatorServer
from sagemaker_emulator.builders import step
from tests.fakes.fake_sagemaker import Body, answering, connected
from tests.fakes.log_capture import capture_logs, texts_of
from tests.managed_pipelines import MANAGED, NEEDS_ROLE
from tests.tasks import run_task
from tests.unit.aws.test_log_redaction import FakeSts, sts
from tests.unit.jobs.catalogue.builders import ROLE, put_pipelines
from tests.unit.jobs.test_arguments import rendered
from tests.world import START, deny

__all__ = ["sts"]  # a fixture

DESCRIBED = "after-call.sagemaker.DescribePipeline"
STEP = step("A")
PLAIN = {"Version": "2020-12-01", "Steps": [STEP]}


@pytest.fixture(autouse=True)
def new_rate_limiters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test a new rate limiter, and make the first backoff short."""
    monkeypatch.setattr(rate_limiter, "_RATE_LIMITERS", {})
    monkeypatch.setattr(retry, "MIN_BACKOFF_SECONDS", 0.05)


def run_import(**arguments: Any) -> Any:
    """Run an import and return its jobs."""
    run = run_task(PolysyncListImportOperator(task_id="import", **arguments))
    assert run.error is None, run.error
    # Airflow stores the result as an XCom, in JSON.
    return json.loads(json.dumps(run.result))


def test_job_has_all_properties(emulator: EmulatorServer) -> None:
    """
    A job has all properties of its pipeline, and its parameters with type, default and
    enum values.
    """
    parameters = [
        {
            "Name": "Tier",
            "Type": "String",
            "DefaultValue": "gold",
            "EnumValues": ["gold", "silver"],
        },
        {
            "Name": "Count",
            "Type": "Integer",
            "Description": "How many\x1b[31m\nrows",
        },
        {"Name": "Rate", "Type": "Float", "DefaultValue": 0.5},
        {"Name": "Dry", "Type": "Boolean", "DefaultValue": False},
    ]
    client: Any = PolysyncSageMakerHook().conn
    client.create_pipeline(
        PipelineName="Tuned",
        PipelineDefinition=json.dumps({**PLAIN, "Parameters": parameters}),
        RoleArn=ROLE,
        ClientRequestToken="t" * 32,
        PipelineDisplayName="Tuned-One",
        PipelineDescription="For tests",
        ParallelismConfiguration={"MaxParallelExecutionSteps": 3},
    )

    (job,) = run_import(pipeline_names=["Tuned"])

    text = "How many\N{REPLACEMENT CHARACTER}[31m\nrows"
    assert job.pop("created_at").endswith("Z")
    assert job.pop("modified_at").endswith("Z")
    assert re.fullmatch("sha256:[0-9a-f]{64}", job.pop("definition_digest"))
    assert job == {
        "name": "Tuned",
        "arn": "arn:aws:sagemaker:us-east-1:123456789012:pipeline/Tuned",
        "region": "us-east-1",
        "role_arn": ROLE,
        "display_name": "Tuned-One",
        "description": "For tests",
        "last_run_at": None,
        "max_parallel_steps": 3,
        "parameters": [
            parameter("Tier", "String", default="gold", enum_values=["gold", "silver"]),
            parameter("Count", "Integer", description=text),
            parameter("Rate", "Float", default=0.5),
            parameter("Dry", "Boolean", default=False),
        ],
        "parameters_error": None,
    }


def parameter(name: str, kind: str, **members: Any) -> dict[str, Any]:
    """Return a parameter of a job, with all its members."""
    none = dict.fromkeys(("default", "enum_values", "description"))
    return {"name": name, "type": kind, **none, **members}


def test_large_default_is_the_text_that_a_start_sends(emulator: EmulatorServer) -> None:
    """
    Airflow stores no such number, and one pipeline does not stop the import of the
    others.
    """
    parameters = [
        {"Name": "Seed", "Type": "Integer", "DefaultValue": 10**30},
        {"Name": "Rate", "Type": "Float", "DefaultValue": 1e30},
    ]
    reserved = [{"Name": "__id__", "Type": "String", "DefaultValue": "x"}]
    declared = {"large": parameters, "reserved": reserved}
    put_pipelines(
        emulator, {name: {**PLAIN, "Parameters": declared[name]} for name in declared}
    )

    jobs = {job["name"]: job for job in run_import()}

    defaults = [each["default"] for each in jobs["large"]["parameters"]]
    assert defaults == ["1" + "0" * 30, "1e+30"]
    assert "is a name that Airflow reserves" in jobs["reserved"]["parameters_error"]
    arguments = rendered(start_arguments(jobs["large"]))
    arguments["wait_for_completion"] = False
    run_task(PolysyncStartPipelineOperator(task_id="start", **arguments))
    (call,) = emulator.control.calls(START)
    assert call["request"]["PipelineParameters"] == [
        {"Name": "Seed", "Value": "1" + "0" * 30},
        {"Name": "Rate", "Value": "1e+30"},
    ]


@NEEDS_ROLE
@pytest.mark.parametrize(
    "arguments",
    [
        {"managed_by": "AWS"},
        {"managed_by": "AWS", "pipeline_name_prefix": "model-"},
        {"pipeline_names": [MANAGED]},
    ],
    ids=str,
)
def test_pipelines_that_aws_manages_are_imported_on_request(
    arguments: Any, emulator: EmulatorServer
) -> None:
    """
    They are imported on request, not one of the account with the same name, and start
    by their ARN.
    """
    put_pipelines(emulator, {"model-eval": PLAIN})

    (job,) = run_import(**arguments)

    assert (job["name"], job["arn"], job["role_arn"]) == ("model-eval", MANAGED, None)
    names = [parameter["name"] for parameter in job["parameters"]]
    assert names == ["ModelPackageArn", "InstanceType"]
    assert start_arguments(job)["pipeline_name"] == literal(MANAGED)
    calls = emulator.control.calls("DescribePipeline")
    assert {call["request"]["PipelineName"] for call in calls} == {MANAGED}
    own = next(each for each in run_import() if each["name"] == "model-eval")
    assert own["arn"] == MANAGED.replace(":aws:pipeline", ":123456789012:pipeline")
    assert start_arguments(own)["pipeline_name"] == literal("model-eval")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            {"pipeline_names": ["model-eval"], "pipeline_name_prefix": "model-"},
            "pipeline_name_prefix and pipeline_names are both given: give one of them.",
        ),
        (
            {"pipeline_names": ["model-eval"], "managed_by": "AWS"},
            "managed_by and pipeline_names are both given: give one of them.",
        ),
        ({"managed_by": "me"}, "managed_by = 'me' is not valid: give one of AWS, CUST"),
        ({"pipeline_names": "abalone"}, "letters, digits and hyphens"),
        ({"pipeline_names": ["a b"]}, "letters, digits and hyphens"),
        ({"pipeline_name_prefix": "a b"}, "letters, digits and hyphens"),
        ({"pipeline_name_prefix": 5}, "pipeline_name_prefix"),
    ],
    ids=str,
)
def test_arguments_that_are_refused_before_any_call(
    arguments: dict[str, Any], text: str, emulator: EmulatorServer
) -> None:
    """The names say which pipelines are imported, so nothing else can."""
    try:
        error = run_task(PolysyncListImportOperator(task_id="t", **arguments)).error
    except ParametersError as refused:  # with the DAG
        error = refused

    assert isinstance(error, ParametersError)
    assert text in str(error)
    assert emulator.control.calls() == []


def test_error_about_many_missing_names_is_short(emulator: EmulatorServer) -> None:
    """Of many missing names, 20 are listed, without those that exist."""
    names = ["fanout", *(f"Abalon{number}" for number in range(60))]

    run = run_task(PolysyncListImportOperator(task_id="t", pipeline_names=names))

    assert isinstance(run.error, ParametersError)
    assert "in region us-east-1: Abalon0, Abalon1, " in str(run.error)
    assert str(run.error).endswith(", Abalon19, and 40 more")


def test_types_of_steps_that_nobody_knows_are_named(emulator: EmulatorServer) -> None:
    """
    A warning names the pipeline, and its steps with their types. The jobs are imported
    all the same.
    """
    nested = {"Name": "Tune\x1b[31m", "Type": "Tunning"}
    typeless = {"Name": "Typeless"}
    branches = {"Conditions": [], "IfSteps": [nested], "ElseSteps": [typeless]}
    body = {"ForEachBody": [{"Name": "Each", "Type": "Map"}]}
    steps = [
        {"Name": "Train", "Type": "Training"},
        {"Name": "Spark", "Type": "Glue"},
        {"Name": "Check", "Type": "Condition", "Arguments": branches},
        {"Name": "Loop", "Type": "ForEach", "Arguments": body},
    ]
    hook = PolysyncSageMakerHook()
    client: Any = hook.conn

    def replace_steps(parsed: Any, **_: Any) -> None:
        count = 4 if parsed["PipelineName"] == "fanout" else 1
        parsed["PipelineDefinition"] = json.dumps({"Steps": steps[:count]})

    client.meta.events.register(DESCRIBED, replace_steps)

    with capture_logs() as logs:
        jobs = import_jobs(hook, names=["abalone", "fanout"])

    assert [job.name for job in jobs] == ["abalone", "fanout"]
    assert texts_of(logs, "warning") == [
        "Pipeline fanout: it has steps of a type that AWS does not have, or that is"
        " newer than this version: Spark (Glue), Tune\N{REPLACEMENT CHARACTER}[31m"
        " (Tunning), Typeless (no type), Each-0 (Map)"
    ]


def test_pipeline_deleted_during_the_import_is_skipped(
    emulator: EmulatorServer,
) -> None:
    """
    A pipeline that is deleted between ListPipelines and DescribePipeline is skipped
    with a log line.
    """
    emulator.control.add_fault(
        "error", "DescribePipeline", code="ResourceNotFound", message="gone", count=1
    )

    with capture_logs() as logs:
        jobs = run_import()

    (deleted,) = set(emulator.pipelines["us-east-1"]) - {job["name"] for job in jobs}
    messages = [entry["event"] for entry in logs if "was deleted" in entry["event"]]
    assert messages == [f"Pipeline {deleted} was deleted during the import: skipped."]


def test_denied_pipelines_are_left_out_one_by_one(emulator: EmulatorServer) -> None:
    """The log names each with the cure; the XCom has the number, and the reasons."""
    deny(emulator, "DescribePipeline", skip=2, count=2)

    with capture_logs() as logs:
        run = run_task(PolysyncListImportOperator(task_id="t"))

    assert run.error is None
    names = {job["name"] for job in run.result}
    denied = sorted(set(emulator.pipelines["us-east-1"]) - names)
    assert len(denied) == 2
    left_out = run.xcoms["not_imported"]
    assert left_out["count"] == 2
    entries = sorted(left_out["pipelines"], key=lambda entry: entry["name"])
    assert [(entry["name"], entry["reason"]) for entry in entries] == [
        (name, "denied") for name in denied
    ]
    *lines, total = [
        text for text in texts_of(logs, "warning") if text.startswith("Pipeline")
    ]
    assert total == "Pipelines that are not imported: 2 (2 denied)."
    for name, line, entry in zip(denied, sorted(lines), entries, strict=True):
        assert line.startswith(f"Pipeline {name} is not imported (denied): Describe")
        assert "Allow sagemaker:DescribePipeline on arn:" in line
        assert entry["message"] in line


def test_import_of_all_says_that_none_is_left_out(emulator: EmulatorServer) -> None:
    """The number is there for who compares it."""
    run = run_task(PolysyncListImportOperator(task_id="t"))

    assert run.xcoms["not_imported"] == {"count": 0, "pipelines": []}


DENIED = json.dumps({"__type": "AccessDeniedException", "message": "not you"}).encode()
NAMES = ["one", "two", "three"]


def account_with(**pipelines: Any) -> Any:
    """
    Return a server with the pipelines ``NAMES``.

    :param pipelines: in place of a pipeline, its entry of ListPipelines, or the
        response of DescribePipeline about it.
    """

    def entry(name: str) -> Any:
        other = pipelines.get(name)
        arn = f"arn:aws:sagemaker:us-east-1:123456789012:pipeline/{name}"
        own = {"PipelineName": name, "PipelineArn": arn}
        return other if isinstance(other, dict) else own

    def respond(operation: str, request: dict[str, Any]) -> Body:
        if operation == "ListPipelines":
            entries = [entry(name) for name in NAMES]
            return Body(json.dumps({"PipelineSummaries": entries}).encode())
        other = pipelines.get(request["PipelineName"])
        if isinstance(other, Body):
            return other
        return Body(json.dumps(entry(request["PipelineName"])).encode())

    return answering(respond)


@pytest.mark.parametrize(
    ("two", "name", "reason", "message"),
    [
        (
            {"PipelineName": "a b\x1b[0m"},
            "a b\N{REPLACEMENT CHARACTER}[0m",
            "invalid",
            "",
        ),
        ({"PipelineArn": "x"}, "without a name", "invalid", "PipelineName: Field req"),
        (Body(b"{}"), "two", "invalid", "DescribePipeline failed"),
        (Body(b'{"PipelineName": "a b"}'), "two", "invalid", "PipelineName: "),
        (
            Body(b'{"__type": "ValidationException", "message": "no"}', 400),
            "two",
            "invalid",
            "ValidationException: no",
        ),
        (Body(b" " * 9 * 1024 * 1024), "two", "invalid", "more than 8,388,608 bytes"),
        (Body(DENIED, 400), "two", "denied", "AccessDeniedException: not you"),
    ],
    ids=["name", "no name", "empty", "described", "refused", "large", "denied"],
)
def test_pipeline_that_cannot_be_used_does_not_hide_the_others(
    two: Any, name: str, reason: str, message: str
) -> None:
    """Whether the list or the description is at fault; it is not retried for long."""
    left_out: list[NotImported] = []
    with connected(account_with(two=two)) as operations:
        jobs = import_jobs(PolysyncSageMakerHook(), on_not_imported=left_out.append)

    assert [job.name for job in jobs] == ["one", "three"]
    (pipeline,) = left_out
    assert (pipeline.name, pipeline.reason) == (name, reason)
    assert message in str(pipeline.error)
    assert operations.count("DescribePipeline") <= 3


THROTTLED = json.dumps({"__type": "ThrottlingException", "message": "slow"}).encode()
EXPIRED = json.dumps({"__type": "ExpiredTokenException", "message": "old"}).encode()


@pytest.mark.parametrize(
    ("body", "arguments", "message"),
    [
        # What concerns all pipelines.
        (EXPIRED, {}, "DescribePipeline failed: ExpiredTokenException: old"),
        (THROTTLED, {}, "DescribePipeline failed: ThrottlingException: slow"),
        # Those that somebody has asked for.
        (
            DENIED,
            {"names": NAMES},
            "1 of 3 pipelines cannot be imported:\n- two (denied)",
        ),
    ],
)
def test_error_that_does_not_concern_one_pipeline_fails_the_import(
    body: bytes,
    arguments: dict[str, Any],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No pipeline counts as left out because AWS throttles for long."""
    monkeypatch.setattr(concurrent_calls, "RETRY_TIMEOUT_SECONDS", 0.0)
    with (
        connected(account_with(two=Body(body, 400))),
        pytest.raises(SageMakerApiError) as caught,
    ):
        import_jobs(PolysyncSageMakerHook(), **arguments)

    assert str(caught.value).startswith(message)


def test_denied_sign_in_concerns_all_pipelines(
    sts: FakeSts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A role may be withdrawn while its pipelines are described."""
    # botocore asks for new credentials at each call from ten minutes before on.
    sts.expires_at = (datetime.now(UTC) + timedelta(minutes=5)).isoformat()

    def respond(operation: str, request: dict[str, Any]) -> Body:
        sts.denies = True
        entries = [{"PipelineName": name} for name in NAMES]
        return Body(json.dumps({"PipelineSummaries": entries}).encode())

    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", sts.url)
    with answering(respond) as (url, operations):
        extra = {"region_name": "us-east-1", "endpoint_url": url, "role_arn": ROLE}
        account = {"conn_type": "aws", "login": "A", "password": "s", "extra": extra}
        monkeypatch.setenv("AIRFLOW_CONN_AWS", json.dumps(account))

        with pytest.raises(SageMakerApiError, match="AssumeRole failed: AccessDenied"):
            import_jobs(PolysyncSageMakerHook("aws"))

    assert operations == ["ListPipelines"]


@pytest.mark.parametrize(
    ("bodies", "message"),
    [
        (
            dict.fromkeys(NAMES, Body(DENIED, 400)),
            "3 of 3 pipelines cannot be imported",
        ),
        (
            {name: {"PipelineName": "a b"} for name in NAMES},
            "3 of 3 pipelines cannot be imported",
        ),
    ],
    ids=["denied", "invalid"],
)
def test_import_of_nothing_is_an_error(bodies: dict[str, Any], message: str) -> None:
    """It has the code and the cure of the first pipeline."""
    with connected(account_with(**bodies)), pytest.raises(SageMakerApiError) as caught:
        import_jobs(PolysyncSageMakerHook())

    assert str(caught.value).startswith(message)


def test_pages_of_pipelines_are_imported_in_order(
    emulator: EmulatorServer, caplog: pytest.LogCaptureFixture
) -> None:
    """
    Each pipeline is described once, and no connection is discarded.
    """
    put_pipelines(emulator, {f"many-{number:04}": PLAIN for number in range(220)})
    names = sorted(emulator.pipelines["us-east-1"])
    emulator.control.clear_calls()

    with caplog.at_level(logging.WARNING, "urllib3"):
        assert [job["name"] for job in run_import()] == names

    operations = [call["operation"] for call in emulator.control.calls()]
    assert operations.count("DescribePipeline") == len(names)
    assert operations.count("ListPipelines") == 3
    assert not any(record.name.startswith("urllib3") for record in caplog.records)
