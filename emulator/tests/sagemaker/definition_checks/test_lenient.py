"""
Tests of an emulator that accepts definitions which AWS would refuse, and of what they
do to other services.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from sagemaker_emulator import EmulatorServer, Limits
from sagemaker_emulator.builders import ROLE, definition, step
from sagemaker_emulator.engine.definition import DefinitionError
from sagemaker_emulator.errors import ApiError
from sagemaker_emulator.sagemaker.definition_checks.check import checked
from tests.conftest import ClientOf
from tests.sagemaker.definition_checks.test_faulty_definitions import FAULTS, changed
from tests.sagemaker.test_pipelines import error_of

UNKNOWN = definition(step("A", Arguments={"Nonsense": 1}))
DEEP = json.dumps({"Version": "2020-12-01", "Steps": []})[:-3] + "[" * 900 + "]" * 900


def services_answer(client_of: ClientOf) -> None:
    """Assert that the services which show what steps write answer."""
    client_of("sagemaker").list_pipelines()
    client_of("sagemaker").list_model_packages(ModelPackageType="Both")
    client_of("s3").list_buckets()
    client_of("sqs").list_queues()
    client_of("sts").get_caller_identity()
    client_of("iam").list_roles()
    client_of("logs").describe_log_groups()
    client_of("events").list_rules()


@pytest.mark.usefixtures("lenient")
def test_definition_is_accepted_with_a_warning(
    sagemaker: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The warning is the text of the refusal."""
    sagemaker.create_pipeline(
        PipelineName="Demo", PipelineDefinition=UNKNOWN, RoleArn=ROLE
    )
    (message,) = caplog.messages
    assert message == (
        "AWS would refuse this definition, --lenient does not: Unknown Argument member"
        " 'Nonsense'. Step 'A', member 'Arguments.Nonsense'."
    )


@pytest.mark.usefixtures("lenient")
@pytest.mark.parametrize("part", range(4))
def test_faulty_definitions_do_not_break_other_services(
    server: EmulatorServer, client_of: ClientOf, part: int
) -> None:
    """
    What a lenient emulator accepts runs to an end, can be described, and can be
    deleted.
    """

    def call(operation: str, **request: Any) -> dict[str, Any]:
        response, _ = server.sagemaker.call(operation, "us-east-1", request)
        return response

    files = {"Prepare": {"property_files": {"Report": {"auc": {"value": 1}}}}}
    server.control.put_scenario({"steps": files})
    executions: dict[str, str] = {}
    for number, (name, path, value, _) in enumerate(FAULTS[part::4]):
        pipeline = {"PipelineName": f"Demo{number}", "RoleArn": ROLE}
        with suppress(ApiError):
            call(
                "CreatePipeline",
                PipelineDefinition=changed(name, path, value),
                ClientRequestToken=f"{number:032}",
                **pipeline,
            )
            started = call(
                "StartPipelineExecution",
                PipelineName=pipeline["PipelineName"],
                ClientRequestToken=f"{number:032}",
            )
            executions[pipeline["PipelineName"]] = started["PipelineExecutionArn"]
    server.control.advance(8 * 24 * 3600)
    services_answer(client_of)
    for arn in executions.values():
        described = call("DescribePipelineExecution", PipelineExecutionArn=arn)
        assert described["PipelineExecutionStatus"] in ("Succeeded", "Failed")
        call("ListPipelineExecutionSteps", PipelineExecutionArn=arn)
    for pipeline_name in executions:
        call(
            "DeletePipeline",
            PipelineName=pipeline_name,
            ClientRequestToken=f"{pipeline_name}-is-deleted".ljust(32, "-"),
        )
    services_answer(client_of)
    assert len(executions) > 25
    packages = client_of("sagemaker").list_model_packages(ModelPackageType="Both")
    assert len(packages["ModelPackageSummaryList"]) > 25


@pytest.mark.parametrize("text", [DEEP, "[" * 50_000])
def test_deep_definition_is_refused(sagemaker: Any, text: str) -> None:
    """It is too deep for the functions that walk through it."""
    code, message = error_of(
        sagemaker.create_pipeline,
        PipelineName="Demo",
        PipelineDefinition=text,
        RoleArn=ROLE,
    )
    assert code == "ValidationException"
    assert "Unable to parse pipeline definition" in message


def test_update_is_refused_as_the_creation(
    create: Callable[..., str], sagemaker: Any
) -> None:
    """The pipeline keeps its definition."""
    text = definition(step("A"))
    create(text)
    code, message = error_of(
        sagemaker.update_pipeline, PipelineName="Demo", PipelineDefinition=UNKNOWN
    )
    assert (code, "'Nonsense'" in message) == ("ValidationException", True)
    described = sagemaker.describe_pipeline(PipelineName="Demo")
    assert described["PipelineDefinition"] == text


def test_quota_of_steps() -> None:
    """An account can ask for more steps, and the emulator has an option for them."""
    text = definition(*(step(f"Step{number}") for number in range(51)))
    with pytest.raises(DefinitionError) as error:
        checked(text, max_steps=50)
    assert str(error.value) == (
        "Model Validation failed: the pipeline has 51 steps, more than the quota of 50"
    )
    assert len(checked(text, max_steps=51).steps) == 51


def test_quota_of_executions(
    create: Callable[..., str],
    start: Callable[..., str],
    server: EmulatorServer,
    sagemaker: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An execution that has ended, or is stopped, makes room for another one."""
    monkeypatch.setattr(server.sagemaker, "limits", Limits(max_executions=2))
    create(definition(step("A")))
    first = start()
    start()
    code, message = error_of(sagemaker.start_pipeline_execution, PipelineName="Demo")
    assert code == "ResourceLimitExceeded"
    assert "is 2 Executions, with current utilization of 2 Executions" in message
    sagemaker.stop_pipeline_execution(PipelineExecutionArn=first)
    server.control.advance(60)
    start()
    server.control.advance(3600)
    start()
