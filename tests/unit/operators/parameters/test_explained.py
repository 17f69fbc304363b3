"""What the error of a start says about its parameters, and which calls that costs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from botocore.httpsession import URLLib3Session

from polysync_airflow.exceptions import ParametersError, SageMakerApiError
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.operators import PolysyncStartPipelineOperator
from sagemaker_emulator import EmulatorServer
from tests.conftest import DEFINITIONS
from tests.managed_pipelines import MANAGED, NEEDS_ROLE, START_MANAGED
from tests.tasks import Run, TaskInstance, run_task
from tests.world import World

START, DESCRIBE, LIST = "StartPipelineExecution", "DescribePipeline", "ListPipelines"
ARN_PREFIX = "arn:aws:sagemaker:us-east-1:123456789012:pipeline/"
NOT_COMPARED = (
    "The parameters could not be compared with the definition of the pipeline: "
)
PAGE = Path(__file__).parents[4] / "docs" / "how-to" / "start-and-wait.md"
# Name of the case: pipeline, parameters, lines that the error must have.
CASES: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "unknown": (
        "fanout",
        {"Shard": 3},
        ["- Shard = '3': not declared; did you mean Shards?"],
    ),
    "all": (
        "churn-tuning",
        {"MaxJob": 8, "AucThreshold": "high", "DryRun": "no"},
        [
            "- MaxJob = '8': not declared; did you mean MaxJobs?",
            "- AucThreshold = 'high': must be a number (declared as Float)",
            "- DryRun = 'no': must be true or false (declared as Boolean)",
        ],
    ),
}


def start(
    pipeline_name: str = "fanout", ti: TaskInstance | None = None, **arguments: Any
) -> Run:
    """Run a Start task."""
    arguments = {"pipeline_name": pipeline_name, "poll_interval": 60, **arguments}
    return run_task(PolysyncStartPipelineOperator(task_id="train", **arguments), ti)


@pytest.mark.parametrize(("pipeline", "sent", "lines"), CASES.values(), ids=CASES)
def test_refusal_and_validation_name_all_problems(
    pipeline: str, sent: dict[str, Any], lines: list[str], world: World
) -> None:
    """
    After the refusal, one DescribePipeline tells all problems; AWS's message and the
    class stay. With validate_parameters, AWS is not asked to start.
    """
    refused = start(pipeline, pipeline_parameters=sent)
    calls = world.calls()
    world.control.clear_calls()
    validated = start(pipeline, pipeline_parameters=sent, validate_parameters=True)

    assert isinstance(refused.error, SageMakerApiError)
    assert refused.error.error_code == "ValidationException"
    assert refused.error.operation == START
    assert (refused.error.permanent, refused.error.transient) == (True, False)
    first, *listed, original = str(refused.error).splitlines()
    assert first == f"The parameters do not fit pipeline {pipeline}."
    assert listed == lines
    assert original.startswith(f"{START} failed: ValidationException: ")
    assert calls == [START, DESCRIBE]
    # Airflow shows 100 characters of a line.
    assert all(len(line) <= 100 for line in (first, *listed))

    assert isinstance(validated.error, ParametersError)
    assert validated.error.permanent
    assert str(validated.error).splitlines() == [
        f"The parameters do not fit pipeline {pipeline}. Nothing was started.",
        *lines,
    ]
    assert world.calls() == [DESCRIBE]
    assert validated.xcoms.keys() == {"error"}
    # No record, so that the next try resends nothing.
    assert validated.ti.store.values == {}


def test_without_the_permission_to_describe(deferrable: bool, world: World) -> None:
    """
    AWS's error stays, and one line says which permission is missing to compare the
    parameters.
    """
    world.deny(DESCRIBE)

    run = start(pipeline_parameters={"Shard": 3}, deferrable=deferrable)

    assert isinstance(run.error, SageMakerApiError)
    assert (run.error.error_code, run.error.operation) == ("ValidationException", START)
    original, note = str(run.error).splitlines()
    assert original.startswith(
        f"{START} failed: ValidationException: Unknown parameter 'Shard'"
    )
    assert note.startswith(NOT_COMPARED)
    assert "Allow sagemaker:DescribePipeline on " in note
    assert world.calls() == [START, DESCRIBE]


def test_a_definition_that_cannot_be_read(world: World) -> None:
    """
    The error of a refusal says why nothing could be compared; a validation says how to
    go on.
    """
    send = URLLib3Session.send

    def changed(session: URLLib3Session, request: Any) -> Any:
        response: Any = send(session, request)
        if str(request.headers.get("X-Amz-Target")).endswith(f"{DESCRIBE}'"):
            described = {**json.loads(response.content), "PipelineDefinition": "[]"}
            response._content = json.dumps(described).encode()
        return response

    world.patch.setattr(URLLib3Session, "send", changed)

    refused = start(pipeline_parameters={"Shard": 3})
    validated = start(pipeline_parameters={"Shard": 3}, validate_parameters=True)

    reason = "the definition is a JSON list, not an object"
    note = str(refused.error).splitlines()[1]
    assert note.startswith(f"{NOT_COMPARED}{reason}")
    assert isinstance(validated.error, ParametersError)
    assert f"because validate_parameters=True and {reason}" in str(validated.error)
    assert world.calls() == [START, DESCRIBE, DESCRIBE]


@pytest.mark.parametrize(("validate", "operation"), [(False, START), (True, DESCRIBE)])
def test_misspelt_pipeline_names_are_corrected(
    validate: bool, operation: str, world: World
) -> None:
    """
    The error names the similar pipeline that exists, if there is one and the identity
    may list pipelines.
    """
    misspelt = start("Churn-Tunning", validate_parameters=validate)
    calls = world.calls()
    unlike = start("nothing-like-it", validate_parameters=validate)
    of_arn = start(f"{ARN_PREFIX}churn-tunning", validate_parameters=validate)
    error: Any = {"code": "ResourceNotFound", "message": "no", "count": 1}
    world.control.add_fault("error", operation, **error)
    right = start("fanout", validate_parameters=validate)
    world.deny(LIST)
    not_listed = start("churn-tunning", validate_parameters=validate)

    assert isinstance(misspelt.error, SageMakerApiError)
    assert misspelt.error.error_code == "ResourceNotFound"
    assert str(misspelt.error).endswith("\nDid you mean churn-tuning?")
    assert calls == [operation, LIST]
    for run in (unlike, of_arn, right, not_listed):
        assert "There is no pipeline" in str(run.error)
        assert "Did you mean" not in str(run.error)


@NEEDS_ROLE
def test_misspelt_arn_of_a_managed_pipeline_is_corrected(
    emulator: EmulatorServer,
) -> None:
    """The similar one is looked for among those that AWS manages."""
    arn = MANAGED.replace("model-eval", "modeleval")

    misspelt = start(**{**START_MANAGED, "pipeline_name": arn})

    assert str(misspelt.error).endswith(f"\nDid you mean {MANAGED}?")


def test_the_version_of_the_start_is_compared(emulator: EmulatorServer) -> None:
    """
    The parameters are compared with the version that the start names, not with the
    latest.
    """
    definition = json.loads((DEFINITIONS / "fanout.json").read_text())
    added = {"Name": "Added", "Type": "String", "DefaultValue": "x"}
    definition["Parameters"].append(added)
    text = json.dumps(definition)
    client: Any = PolysyncSageMakerHook().conn
    client.update_pipeline(PipelineName="fanout", PipelineDefinition=text)
    emulator.control.clear_calls()
    validating: Any = {
        "pipeline_parameters": {"Added": "y"},
        "validate_parameters": True,
    }

    first = start(pipeline_parameters={"Added": "y"}, pipeline_version_id=1)
    validated = start(pipeline_version_id=1, **validating)
    latest = start(wait_for_completion=False, **validating)

    assert str(first.error).startswith(
        "The parameters do not fit pipeline fanout version 1.\n- Added = 'y': "
    )
    assert isinstance(validated.error, ParametersError)
    assert latest.error is None
    sent = [call["request"] for call in emulator.control.calls(DESCRIBE)]
    assert [each.get("PipelineVersionId") for each in sent] == [1, 1, None]


def test_the_documentation_shows_a_line_of_this_error(emulator: EmulatorServer) -> None:
    """The page shows the first problem exactly as the task raises it."""
    pipeline, sent, _ = CASES["all"]

    run = start(pipeline, pipeline_parameters=sent)

    first_problem = str(run.error).splitlines()[1].removeprefix("- ")
    assert f"`{first_problem}`" in PAGE.read_text()
