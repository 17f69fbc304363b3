"""Executions, through boto3."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from polysync_airflow.emulator import EmulatorServer
from tests.emulator.builders import chain, condition, definition, fail, step
from tests.emulator.conftest import ClientOf
from tests.emulator.sagemaker.test_pipelines import refusal

Steps = Callable[[str], dict[str, dict[str, Any]]]
TOKEN = "t" * 32


def test_an_execution_goes_from_executing_to_succeeded(
    create: Callable[..., str],
    start: Callable[..., str],
    status_of: Callable[[str], str],
    steps_of: Steps,
    server: EmulatorServer,
    sagemaker: Any,
) -> None:
    """A started execution executes, its steps appear one after the other, and it succeeds in its time."""
    create(chain("A", "B"))
    arn = start()
    assert re.fullmatch(r"arn:aws:sagemaker:us-east-1:123456789012:pipeline/demo/execution/[a-z0-9]{12}", arn)
    assert (status_of(arn), steps_of(arn)) == ("Executing", {})
    server.control.advance(241)
    assert list(steps_of(arn)) == ["A"]
    server.control.advance(240)
    assert status_of(arn) == "Executing"
    server.control.advance(1)
    assert status_of(arn) == "Succeeded"
    described = sagemaker.describe_pipeline_execution(PipelineExecutionArn=arn)
    assert (described["LastModifiedTime"] - described["CreationTime"]).total_seconds() == 482
    assert "FailureReason" not in described
    assert sagemaker.describe_pipeline(PipelineName="Demo")["LastRunTime"] == described["CreationTime"]


def test_an_execution_remembers_its_request(
    shared_definitions: Path, sagemaker: Any, create: Callable[..., str]
) -> None:
    """DescribePipelineExecution returns what StartPipelineExecution was given."""
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


def test_steps_have_the_metadata_of_their_type(
    shared_definitions: Path,
    create: Callable[..., str],
    start: Callable[..., str],
    steps_of: Steps,
    server: EmulatorServer,
) -> None:
    """Jobs have ARNs, conditions outcomes; every type of step of the examples has what AWS says."""
    for name in ("abalone", "churn_tuning"):
        create((shared_definitions / f"{name}.json").read_text(), name.replace("_", "-"))
    found = start("abalone", InputDataUrl="s3://x"), start("churn-tuning")
    server.control.advance(24 * 3600)
    steps = {**steps_of(found[0]), **steps_of(found[1])}
    account = "arn:aws:sagemaker:us-east-1:123456789012"
    job = rf"pipelines-{found[0].rpartition('/')[2]}-\w+-[a-z0-9]{{10}}"
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


def test_a_long_step_name_makes_a_legal_job_name(
    create: Callable[..., str], start: Callable[..., str], steps_of: Steps, server: EmulatorServer
) -> None:
    """A step's name may be longer than, and have characters that, a job's name may not."""
    name = "A_" + "b" * 62
    create(definition(step(name)))
    arn = start()
    server.control.advance(60)
    job = steps_of(arn)[name]["Metadata"]["ProcessingJob"]["Arn"].rpartition("/")[2]
    assert re.fullmatch(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}", job)


def test_a_failed_step_says_why_and_the_execution_does_not(
    create: Callable[..., str],
    start: Callable[..., str],
    steps_of: Steps,
    server: EmulatorServer,
    sagemaker: Any,
) -> None:
    """The execution's reason is the general one; the step's own is in ListPipelineExecutionSteps."""
    create(chain("A"))
    server.control.put_scenario({"steps": {"A": {"fail": {"reason": "ClientError: no data"}}}})
    arn = start()
    server.control.advance(3600)
    described = sagemaker.describe_pipeline_execution(PipelineExecutionArn=arn)
    assert described["PipelineExecutionStatus"] == "Failed"
    assert described["FailureReason"] == "Step failure: One or multiple steps failed."
    assert steps_of(arn)["A"]["FailureReason"] == "ClientError: no data"
    (summary,) = sagemaker.list_pipeline_executions(PipelineName="Demo")["PipelineExecutionSummaries"]
    assert summary["PipelineExecutionFailureReason"] == described["FailureReason"]


@pytest.mark.parametrize("message", ["Too low", ""])
def test_a_fail_step_shows_its_message(
    create: Callable[..., str],
    start: Callable[..., str],
    steps_of: Steps,
    server: EmulatorServer,
    message: str,
) -> None:
    """A fail step's message is in its metadata and, unless it is empty, is its failure reason."""
    create(definition(fail("F", message)))
    arn = start()
    server.control.advance(60)
    shown = steps_of(arn)["F"]
    assert shown["Metadata"] == {"Fail": {"ErrorMessage": message}}
    assert shown.get("FailureReason") == (message or None)


def test_a_stop_goes_through_stopping(
    create: Callable[..., str],
    start: Callable[..., str],
    status_of: Callable[[str], str],
    server: EmulatorServer,
    sagemaker: Any,
) -> None:
    """A stop takes some time, and a second one (with another token) is refused in AWS's words."""
    create(chain("A"))
    arn = start()
    server.control.advance(10)
    sagemaker.stop_pipeline_execution(PipelineExecutionArn=arn)
    assert status_of(arn) == "Stopping"
    server.control.advance(20)
    assert status_of(arn) == "Stopped"
    code, message = refusal(sagemaker.stop_pipeline_execution, PipelineExecutionArn=arn)
    assert code == "ValidationException"
    assert "Only pipelines with 'Executing' status can be stopped" in message


def test_a_failed_execution_is_retried_in_place(
    create: Callable[..., str],
    start: Callable[..., str],
    status_of: Callable[[str], str],
    steps_of: Steps,
    server: EmulatorServer,
    sagemaker: Any,
) -> None:
    """RetryPipelineExecution repeats the failed step of the same execution, with the scenario of now."""
    create(chain("A", "B"))
    server.control.put_scenario({"steps": {"B": {"fail": {}}}}, pipeline="Demo")
    arn = start()
    assert refusal(sagemaker.retry_pipeline_execution, PipelineExecutionArn=arn)[0] == "ValidationException"
    server.control.advance(3600)
    before = steps_of(arn)
    assert status_of(arn) == "Failed"
    server.control.delete_scenario(pipeline="Demo")
    assert sagemaker.retry_pipeline_execution(PipelineExecutionArn=arn)["PipelineExecutionArn"] == arn
    assert status_of(arn) == "Executing"
    server.control.advance(3600)
    after = steps_of(arn)
    assert status_of(arn) == "Succeeded"
    assert after["A"] == before["A"]
    assert (before["B"]["AttemptCount"], after["B"]["AttemptCount"]) == (1, 2)


@pytest.mark.parametrize(("answer", "end"), [("success", "Succeeded"), ("failure", "Failed")])
def test_a_callback_is_answered_by_its_token(
    shared_definitions: Path,
    create: Callable[..., str],
    start: Callable[..., str],
    status_of: Callable[[str], str],
    steps_of: Steps,
    server: EmulatorServer,
    sagemaker: Any,
    answer: str,
    end: str,
) -> None:
    """A callback step waits for its token; the answer lets the pipeline go on or fail."""
    create((shared_definitions / "callback_lambda.json").read_text())
    arn = start("Demo", Approver="me")
    server.control.advance(24 * 3600)
    shown = steps_of(arn)["WaitForApproval"]
    callback = shown["Metadata"]["Callback"]
    assert (status_of(arn), shown["StepStatus"]) == ("Executing", "Executing")
    assert callback["SqsQueueUrl"].endswith("/123456789012/approvals")
    token = {"CallbackToken": callback["CallbackToken"]}
    if answer == "success":
        outputs = [{"Name": "ok", "Value": "yes"}]
        sagemaker.send_pipeline_execution_step_success(**token, OutputParameters=outputs)
        assert steps_of(arn)["WaitForApproval"]["Metadata"]["Callback"]["OutputParameters"] == outputs
    else:
        sagemaker.send_pipeline_execution_step_failure(**token, FailureReason="Not approved")
        assert steps_of(arn)["WaitForApproval"]["FailureReason"] == "Not approved"
    server.control.advance(24 * 3600)
    assert status_of(arn) == end
    assert refusal(sagemaker.send_pipeline_execution_step_success, **token)[0] == "ConflictException"
    unknown = refusal(sagemaker.send_pipeline_execution_step_success, CallbackToken="abcdefghij")
    assert unknown[0] == "ResourceNotFound"


def test_executions_are_listed(
    create: Callable[..., str], start: Callable[..., str], server: EmulatorServer, sagemaker: Any
) -> None:
    """Executions are listed newest first, in pages, and by creation time."""
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
    later = sagemaker.list_pipeline_executions(PipelineName="Demo", CreatedAfter=listed[1]["StartTime"])
    assert [e["PipelineExecutionArn"] for e in later["PipelineExecutionSummaries"]] == [arns[2]]
    by_arn = sagemaker.list_pipeline_executions(
        PipelineName="Demo", SortBy="PipelineExecutionArn", SortOrder="Ascending"
    )
    assert [e["PipelineExecutionArn"] for e in by_arn["PipelineExecutionSummaries"]] == sorted(arns)


def test_steps_are_listed_in_pages(
    create: Callable[..., str], start: Callable[..., str], server: EmulatorServer, sagemaker: Any
) -> None:
    """Steps are listed latest first, over as many pages as it takes."""
    names = [f"S{index:03}" for index in range(120)]
    create(definition(*(step(name) for name in names)))
    arn = start()
    server.control.advance(60)
    first = sagemaker.list_pipeline_execution_steps(PipelineExecutionArn=arn)
    assert [entry["StepName"] for entry in first["PipelineExecutionSteps"]] == names[:19:-1]
    pages = sagemaker.get_paginator("list_pipeline_execution_steps").paginate(PipelineExecutionArn=arn)
    assert [e["StepName"] for page in pages for e in page["PipelineExecutionSteps"]] == names[::-1]


def test_the_parallelism_of_an_execution_comes_before_the_pipelines(
    create: Callable[..., str],
    start: Callable[..., str],
    steps_of: Steps,
    server: EmulatorServer,
    sagemaker: Any,
) -> None:
    """The pipeline's limit holds unless the execution has its own."""
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


def test_a_condition_step_waits_for_its_outcome(
    create: Callable[..., str], start: Callable[..., str], steps_of: Steps, server: EmulatorServer
) -> None:
    """A condition that is false shows it and takes the other branch."""
    no = {"Type": "Equals", "LeftValue": 1, "RightValue": 2}
    create(definition(condition("C", [no], [step("Yes")], [step("No")])))
    arn = start()
    server.control.advance(60)
    assert steps_of(arn)["C"]["Metadata"] == {"Condition": {"Outcome": "False"}}
    assert list(steps_of(arn)) == ["C", "No"]


def test_an_execution_of_another_region_is_not_found(
    create: Callable[..., str], start: Callable[..., str], client_of: ClientOf
) -> None:
    """An ARN is only known in its own region."""
    create(chain("A"))
    arn = start()
    with pytest.raises(ClientError, match="does not exist"):
        client_of("sagemaker", "eu-west-1").describe_pipeline_execution(PipelineExecutionArn=arn)
