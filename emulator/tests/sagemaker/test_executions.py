"""Tests of the operations on executions, through boto3."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from sagemaker_emulator import EmulatorServer
from sagemaker_emulator.builders import definition, step
from sagemaker_emulator.engine.scenarios import parse
from tests.builders import chain, condition, fail
from tests.conftest import ClientOf
from tests.sagemaker.test_pipelines import error_of

Steps = Callable[[str], dict[str, dict[str, Any]]]
TOKEN = "t" * 32


def report(mse: float) -> dict[str, Any]:
    """Return the content of the property file of the abalone pipeline."""
    return {"regression_metrics": {"mse": {"value": mse}}}


def test_execution_succeeds(
    create: Callable[..., str],
    start: Callable[..., str],
    status_of: Callable[[str], str],
    steps_of: Steps,
    server: EmulatorServer,
    sagemaker: Any,
) -> None:
    """
    An execution is Executing, its steps appear one after the other, and it succeeds at
    the expected time.
    """
    create(chain("A", "B"))
    arn = start()
    assert re.fullmatch(
        r"arn:aws:sagemaker:us-east-1:123456789012:pipeline/Demo/execution/[a-z0-9]{12}",
        arn,
    )
    assert (status_of(arn), steps_of(arn)) == ("Executing", {})
    server.control.advance(241)
    assert list(steps_of(arn)) == ["A"]
    server.control.advance(242)
    assert status_of(arn) == "Executing"
    server.control.advance(1)
    assert status_of(arn) == "Succeeded"
    described = sagemaker.describe_pipeline_execution(PipelineExecutionArn=arn)
    assert (
        described["LastModifiedTime"] - described["CreationTime"]
    ).total_seconds() == 484
    assert "FailureReason" not in described
    assert (
        sagemaker.describe_pipeline(PipelineName="Demo")["LastRunTime"]
        == described["CreationTime"]
    )


def test_describe_returns_the_start_request(
    shared_definitions: Path, sagemaker: Any, create: Callable[..., str]
) -> None:
    """DescribePipelineExecution returns what was passed to StartPipelineExecution."""
    create((shared_definitions / "fanout.json").read_text())
    arn = sagemaker.start_pipeline_execution(
        PipelineName="Demo",
        PipelineExecutionDisplayName="nightly-1",
        PipelineExecutionDescription="Why",
        ParallelismConfiguration={"MaxParallelExecutionSteps": 2},
    )["PipelineExecutionArn"]
    described = sagemaker.describe_pipeline_execution(PipelineExecutionArn=arn)
    assert described["PipelineExecutionDisplayName"] == "nightly-1"
    assert described["PipelineExecutionDescription"] == "Why"
    assert described["ParallelismConfiguration"] == {"MaxParallelExecutionSteps": 2}
    assert described["PipelineExperimentConfig"] == {
        "ExperimentName": "Demo",
        "TrialName": arn.rpartition("/")[2],
    }
    assert described["PipelineVersionId"] == 1
    sagemaker.update_pipeline_execution(
        PipelineExecutionArn=arn,
        PipelineExecutionDisplayName="renamed",
        ParallelismConfiguration={"MaxParallelExecutionSteps": 5},
    )
    described = sagemaker.describe_pipeline_execution(PipelineExecutionArn=arn)
    assert described["PipelineExecutionDisplayName"] == "renamed"
    assert described["ParallelismConfiguration"] == {"MaxParallelExecutionSteps": 5}


@pytest.mark.parametrize(
    ("scenario", "outcome"),
    [
        ({}, "True"),
        ({"AbaloneEval": {"duration": 5}}, "True"),
        ({"AbaloneEval": {"property_files": {"EvaluationReport": report(7)}}}, "False"),
    ],
)
def test_files_of_the_folder_of_definitions(
    shared_definitions: Path,
    create: Callable[..., str],
    start: Callable[..., str],
    steps_of: Steps,
    server: EmulatorServer,
    scenario: dict[str, Any],
    outcome: str,
) -> None:
    """A step has them as long as no scenario has property files for it."""
    files = {"AbaloneEval": {"property_files": {"EvaluationReport": report(4)}}}
    server.sagemaker.files["abalone"] = parse({"steps": files})
    create((shared_definitions / "abalone.json").read_text(), "abalone")
    server.control.put_scenario({"steps": scenario}, pipeline="abalone")
    execution = start("abalone", InputDataUrl="s3://x")
    server.control.advance(24 * 3600)
    metadata = steps_of(execution)["AbaloneMSECond"]["Metadata"]
    assert metadata["Condition"]["Outcome"] == outcome


def test_step_metadata(
    shared_definitions: Path,
    create: Callable[..., str],
    start: Callable[..., str],
    steps_of: Steps,
    server: EmulatorServer,
) -> None:
    """
    Jobs have ARNs and conditions have outcomes, for every step type in the example
    pipelines.
    """
    for name in ("abalone", "churn_tuning"):
        create(
            (shared_definitions / f"{name}.json").read_text(), name.replace("_", "-")
        )
    auc = {"classification_metrics": {"auc": {"value": 1}}}
    files = {
        "AbaloneEval": {"property_files": {"EvaluationReport": report(4)}},
        "ChurnEvaluate": {"property_files": {"Eval": auc}},
    }
    server.control.put_scenario({"steps": files})
    abalone, churn_tuning = (
        start("abalone", InputDataUrl="s3://x"),
        start("churn-tuning"),
    )
    server.control.advance(24 * 3600)
    steps = {**steps_of(abalone), **steps_of(churn_tuning)}
    account = "arn:aws:sagemaker:us-east-1:123456789012"
    job = rf"pipelines-{abalone.rpartition('/')[2]}-\w+-[a-z0-9]{{10}}"
    arns = {
        "AbaloneProcess": ("ProcessingJob", rf"{account}:processing-job/{job}"),
        "AbaloneTrain": ("TrainingJob", rf"{account}:training-job/{job}"),
        "AbaloneTransform": ("TransformJob", rf"{account}:transform-job/{job}"),
        "AbaloneCreateModel": ("Model", rf"{account}:model/{job}"),
        "ChurnTune": ("TuningJob", rf"{account}:hyper-parameter-tuning-job/.*"),
        "ChurnRegister": ("RegisterModel", rf"{account}:model-package/churngroup/1"),
    }
    for name, (member, pattern) in arns.items():
        assert re.fullmatch(pattern, steps[name]["Metadata"][member]["Arn"])
    assert steps["AucCheck"]["Metadata"] == {"Condition": {"Outcome": "True"}}
    assert {entry["StepStatus"] for entry in steps.values()} == {"Succeeded"}
    assert {entry["AttemptCount"] for entry in steps.values()} == {1}


def test_long_step_name_results_in_a_valid_job_name(
    create: Callable[..., str],
    start: Callable[..., str],
    steps_of: Steps,
    server: EmulatorServer,
) -> None:
    """
    A step name can be longer than a job name, and contain characters that a job name
    cannot.
    """
    name = "A_" + "b" * 62
    create(definition(step(name)))
    arn = start()
    server.control.advance(60)
    job = steps_of(arn)[name]["Metadata"]["ProcessingJob"]["Arn"].rpartition("/")[2]
    assert re.fullmatch(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}", job)


def test_failure_reasons_of_step_and_execution(
    create: Callable[..., str],
    start: Callable[..., str],
    steps_of: Steps,
    server: EmulatorServer,
    sagemaker: Any,
) -> None:
    """
    The execution has the general reason; only ListPipelineExecutionSteps returns the
    reason of the step.
    """
    create(chain("A"))
    server.control.put_scenario(
        {"steps": {"A": {"fail": {"reason": "ClientError: no data"}}}}
    )
    arn = start()
    server.control.advance(3600)
    described = sagemaker.describe_pipeline_execution(PipelineExecutionArn=arn)
    assert described["PipelineExecutionStatus"] == "Failed"
    assert described["FailureReason"] == "Step failure: One or multiple steps failed."
    assert steps_of(arn)["A"]["FailureReason"] == "ClientError: no data"
    (summary,) = sagemaker.list_pipeline_executions(PipelineName="Demo")[
        "PipelineExecutionSummaries"
    ]
    assert summary["PipelineExecutionFailureReason"] == described["FailureReason"]


@pytest.mark.parametrize("message", ["Too low", ""])
def test_fail_step_message(
    create: Callable[..., str],
    start: Callable[..., str],
    steps_of: Steps,
    server: EmulatorServer,
    message: str,
) -> None:
    """
    The message of a fail step is in its metadata, and it is the failure reason unless
    it is empty.
    """
    create(definition(fail("F", message)))
    arn = start()
    server.control.advance(60)
    shown = steps_of(arn)["F"]
    assert shown["Metadata"] == {"Fail": {"ErrorMessage": message}}
    assert shown.get("FailureReason") == (message or None)


def test_stop_takes_some_time(
    create: Callable[..., str],
    start: Callable[..., str],
    status_of: Callable[[str], str],
    server: EmulatorServer,
    sagemaker: Any,
) -> None:
    """
    A stopped execution is Stopping for some time, and a second stop is rejected with
    AWS's message.
    """
    create(chain("A"))
    arn = start()
    server.control.advance(10)
    sagemaker.stop_pipeline_execution(PipelineExecutionArn=arn)
    assert status_of(arn) == "Stopping"
    server.control.advance(20)
    assert status_of(arn) == "Stopped"
    code, message = error_of(
        sagemaker.stop_pipeline_execution, PipelineExecutionArn=arn
    )
    assert code == "ValidationException"
    assert "Only pipelines with 'Executing' status can be stopped" in message


def test_failed_execution_is_retried(
    create: Callable[..., str],
    start: Callable[..., str],
    status_of: Callable[[str], str],
    steps_of: Steps,
    server: EmulatorServer,
    sagemaker: Any,
) -> None:
    """
    RetryPipelineExecution runs the failed step of the same execution again, with the
    current scenario.
    """
    create(chain("A", "B"))
    server.control.put_scenario({"steps": {"B": {"fail": {}}}}, pipeline="Demo")
    arn = start()
    assert (
        error_of(sagemaker.retry_pipeline_execution, PipelineExecutionArn=arn)[0]
        == "ValidationException"
    )
    server.control.advance(3600)
    before = steps_of(arn)
    assert status_of(arn) == "Failed"
    server.control.delete_scenario(pipeline="Demo")
    assert (
        sagemaker.retry_pipeline_execution(PipelineExecutionArn=arn)[
            "PipelineExecutionArn"
        ]
        == arn
    )
    assert status_of(arn) == "Executing"
    server.control.advance(3600)
    after = steps_of(arn)
    assert status_of(arn) == "Succeeded"
    assert after["A"] == before["A"]
    assert (before["B"]["AttemptCount"], after["B"]["AttemptCount"]) == (1, 2)


@pytest.mark.parametrize(
    ("result", "expected_status"), [("success", "Succeeded"), ("failure", "Failed")]
)
def test_callback_step_receives_its_result(
    shared_definitions: Path,
    create: Callable[..., str],
    start: Callable[..., str],
    status_of: Callable[[str], str],
    steps_of: Steps,
    server: EmulatorServer,
    sagemaker: Any,
    result: str,
    expected_status: str,
) -> None:
    """A callback step waits until its token is used, and then succeeds or fails."""
    create((shared_definitions / "callback_lambda.json").read_text())
    arn = start("Demo", Approver="me")
    server.control.advance(24 * 3600)
    shown = steps_of(arn)["WaitForApproval"]
    callback = shown["Metadata"]["Callback"]
    assert (status_of(arn), shown["StepStatus"]) == ("Executing", "Executing")
    assert callback["SqsQueueUrl"].endswith("/123456789012/approvals")
    token = {"CallbackToken": callback["CallbackToken"]}
    if result == "success":
        outputs = [{"Name": "ok", "Value": "yes"}]
        sagemaker.send_pipeline_execution_step_success(
            **token, OutputParameters=outputs
        )
        assert (
            steps_of(arn)["WaitForApproval"]["Metadata"]["Callback"]["OutputParameters"]
            == outputs
        )
    else:
        sagemaker.send_pipeline_execution_step_failure(
            **token, FailureReason="Not approved"
        )
        assert steps_of(arn)["WaitForApproval"]["FailureReason"] == "Not approved"
    server.control.advance(24 * 3600)
    assert status_of(arn) == expected_status
    assert (
        error_of(sagemaker.send_pipeline_execution_step_success, **token)[0]
        == "ConflictException"
    )
    unknown = error_of(
        sagemaker.send_pipeline_execution_step_success, CallbackToken="abcdefghij"
    )
    assert unknown[0] == "ResourceNotFound"


def test_executions_are_listed(
    create: Callable[..., str],
    start: Callable[..., str],
    server: EmulatorServer,
    sagemaker: Any,
) -> None:
    """
    Executions are listed newest first, in pages, and can be filtered by creation time.
    """
    create(chain("A"))
    arns = []
    for _ in range(3):
        arns.append(start())
        server.control.advance(10)
    pages = sagemaker.get_paginator("list_pipeline_executions").paginate(
        PipelineName="Demo", PaginationConfig={"PageSize": 2}
    )
    listed = [entry for page in pages for entry in page["PipelineExecutionSummaries"]]
    assert [entry["PipelineExecutionArn"] for entry in listed] == arns[::-1]
    later = sagemaker.list_pipeline_executions(
        PipelineName="Demo", CreatedAfter=listed[1]["StartTime"]
    )
    assert [e["PipelineExecutionArn"] for e in later["PipelineExecutionSummaries"]] == [
        arns[2]
    ]
    by_arn = sagemaker.list_pipeline_executions(
        PipelineName="Demo", SortBy="PipelineExecutionArn", SortOrder="Ascending"
    )
    assert [
        e["PipelineExecutionArn"] for e in by_arn["PipelineExecutionSummaries"]
    ] == sorted(arns)


def test_steps_are_listed_in_pages(
    create: Callable[..., str],
    start: Callable[..., str],
    server: EmulatorServer,
    sagemaker: Any,
) -> None:
    """Steps are listed latest first, on several pages."""
    names = [f"S{index:03}" for index in range(120)]
    create(definition(*(step(name) for name in names)))
    arn = start()
    server.control.advance(60)
    first = sagemaker.list_pipeline_execution_steps(PipelineExecutionArn=arn)
    assert [entry["StepName"] for entry in first["PipelineExecutionSteps"]] == names[
        :19:-1
    ]
    pages = sagemaker.get_paginator("list_pipeline_execution_steps").paginate(
        PipelineExecutionArn=arn
    )
    assert [
        e["StepName"] for page in pages for e in page["PipelineExecutionSteps"]
    ] == names[::-1]


def test_parallelism_of_an_execution_overrides_that_of_the_pipeline(
    create: Callable[..., str],
    start: Callable[..., str],
    steps_of: Steps,
    server: EmulatorServer,
    sagemaker: Any,
) -> None:
    """The limit of the pipeline applies unless the execution has a limit of its own."""
    create(
        definition(step("A"), step("B"), step("C")),
        ParallelismConfiguration={"MaxParallelExecutionSteps": 1},
    )
    own = sagemaker.start_pipeline_execution(
        PipelineName="Demo", ParallelismConfiguration={"MaxParallelExecutionSteps": 2}
    )["PipelineExecutionArn"]
    default = start()
    server.control.advance(60)
    assert (len(steps_of(default)), len(steps_of(own))) == (1, 2)


def test_condition_step_shows_its_outcome(
    create: Callable[..., str],
    start: Callable[..., str],
    steps_of: Steps,
    server: EmulatorServer,
) -> None:
    """
    A condition step whose condition is false has that outcome and selects the other
    branch.
    """
    no = {"Type": "Equals", "LeftValue": 1, "RightValue": 2}
    create(definition(condition("C", [no], [step("Yes")], [step("No")])))
    arn = start()
    server.control.advance(60)
    assert steps_of(arn)["C"]["Metadata"] == {"Condition": {"Outcome": "False"}}
    assert list(steps_of(arn)) == ["C", "No"]


def test_execution_of_another_region_is_not_found(
    create: Callable[..., str], start: Callable[..., str], client_of: ClientOf
) -> None:
    """An execution exists only in its own region."""
    create(chain("A"))
    arn = start()
    with pytest.raises(ClientError, match="does not exist"):
        client_of("sagemaker", "eu-west-1").describe_pipeline_execution(
            PipelineExecutionArn=arn
        )
