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
from tests.tasks import EmulatedTime, Run, TaskInstance, run_task
from tests.unit.operators.recovery.harness import MERGE_FAILS

START, DESCRIBE, LIST = "StartPipelineExecution", "DescribePipeline", "ListPipelines"
ARN_PREFIX = "arn:aws:sagemaker:us-east-1:123456789012:pipeline/"
PAGE = Path(__file__).parents[4] / "docs" / "how-to" / "start-and-wait.md"
SCORING = {
    "ModelName": "m",
    "ScoreDate": "2026-01-01",
    "InstanceCount": 2,
    "SampleRate": 0.5,
}
# Name of the case: pipeline, parameters, lines that the error must have.
CASES: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "unknown": (
        "fanout",
        {"Shard": 3},
        ["- Shard = '3': not declared; did you mean Shards?"],
    ),
    "missing": (
        "scoring-required-params",
        SCORING,
        ["- Overwrite: has no default; add a value (Boolean)"],
    ),
    "type": (
        "fanout",
        {"Shards": "many"},
        ["- Shards = 'many': must be a whole number (declared as Integer)"],
    ),
    "enum": (
        "scoring-required-params",
        {**SCORING, "Overwrite": True, "Tier": "tin"},
        ["- Tier = 'tin': must be one of gold, silver (declared as String)"],
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
    arguments = {"poll_interval": 60, **arguments}
    return run_task(
        PolysyncStartPipelineOperator(
            task_id="train", pipeline_name=pipeline_name, **arguments
        ),
        ti,
    )


def operations(emulator: EmulatorServer) -> list[str]:
    """Return the names of the operations that were called."""
    return [call["operation"] for call in emulator.control.calls()]


@pytest.mark.parametrize(("pipeline", "sent", "lines"), CASES.values(), ids=CASES)
def test_a_refusal_is_explained(
    pipeline: str,
    sent: dict[str, Any],
    lines: list[str],
    deferrable: bool,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
) -> None:
    """
    After the refusal, one DescribePipeline tells all problems; AWS's message and the
    class stay.
    """
    run = start(pipeline, pipeline_parameters=sent, deferrable=deferrable)

    assert isinstance(run.error, SageMakerApiError)
    assert (run.error.error_code, run.error.operation) == ("ValidationException", START)
    assert (run.error.permanent, run.error.transient) == (True, False)
    first, *listed, original = str(run.error).splitlines()
    assert first == f"The parameters do not fit pipeline {pipeline}."
    assert listed == lines
    assert original.startswith(f"{START} failed: ValidationException: ")
    assert operations(emulator) == [START, DESCRIBE]
    # Airflow shows 100 characters of a line.
    assert all(len(line) <= 100 for line in (first, *listed))


@pytest.mark.parametrize(("pipeline", "sent", "lines"), CASES.values(), ids=CASES)
def test_validation_before_the_start(
    pipeline: str,
    sent: dict[str, Any],
    lines: list[str],
    deferrable: bool,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
) -> None:
    """
    With validate_parameters, the same problems are a ParametersError, and AWS is not
    asked to start.
    """
    ti = TaskInstance("train")
    run = start(
        pipeline,
        ti,
        pipeline_parameters=sent,
        deferrable=deferrable,
        validate_parameters=True,
    )

    assert isinstance(run.error, ParametersError)
    assert run.error.permanent
    first, *listed = str(run.error).splitlines()
    assert (
        first == f"The parameters do not fit pipeline {pipeline}. Nothing was started."
    )
    assert listed == lines
    assert operations(emulator) == [DESCRIBE]
    assert run.xcoms == {}
    # No record, so that the next try resends nothing.
    assert ti.store.values == {}


@pytest.mark.parametrize(("validate", "describes"), [(False, 0), (True, 1)])
def test_calls_of_a_start_that_succeeds(
    validate: bool,
    describes: int,
    deferrable: bool,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
) -> None:
    """
    A start that AWS accepts costs no DescribePipeline; with validate_parameters, it
    costs one.
    """
    run = start(
        pipeline_parameters={"Shards": 4},
        deferrable=deferrable,
        validate_parameters=validate,
    )

    assert run.error is None
    assert operations(emulator).count(DESCRIBE) == describes
    assert operations(emulator).count(START) == 1


def test_without_the_permission_to_describe(
    deferrable: bool, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """
    AWS's error stays, and one line says which permission is missing to compare the
    parameters.
    """
    emulator.control.add_fault(
        "error", DESCRIBE, code="AccessDeniedException", message="not\nyou"
    )

    run = start(pipeline_parameters={"Shard": 3}, deferrable=deferrable)

    assert isinstance(run.error, SageMakerApiError)
    assert (run.error.error_code, run.error.operation) == ("ValidationException", START)
    original, note = str(run.error).splitlines()
    assert original.startswith(
        f"{START} failed: ValidationException: Unknown parameter 'Shard'"
    )
    assert note.startswith(
        "The parameters could not be compared with the definition of the pipeline: "
    )
    assert "Allow sagemaker:DescribePipeline on " in note
    assert operations(emulator) == [START, DESCRIBE]


def test_validation_without_the_permission_to_describe(
    emulator: EmulatorServer,
) -> None:
    """
    Whoever asks for the validation must have the permission; the error names it, and
    nothing starts.
    """
    emulator.control.add_fault(
        "error", DESCRIBE, code="AccessDeniedException", message="no"
    )

    run = start(validate_parameters=True)

    assert isinstance(run.error, SageMakerApiError)
    assert run.error.operation == DESCRIBE
    assert "Allow sagemaker:DescribePipeline on " in str(run.error)
    assert operations(emulator) == [DESCRIBE]


@pytest.mark.parametrize(
    ("definition", "reason"),
    [
        (None, "the definition is not JSON"),
        ("[]", "the definition is a JSON list, not an object"),
        (
            '{"Parameters": [{"Name": "A", "Type": "Date"}]}',
            "the definition's Parameters.0.Type: ",
        ),
    ],
)
def test_a_definition_that_cannot_be_read(
    definition: str | None,
    reason: str,
    emulator: EmulatorServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    The error of a refusal says why nothing could be compared; a validation says how to
    go on.
    """
    send = URLLib3Session.send

    def changed(session: URLLib3Session, request: Any) -> Any:
        response: Any = send(session, request)
        if str(request.headers.get("X-Amz-Target")).endswith(f"{DESCRIBE}'"):
            described = {
                **json.loads(response.content),
                "PipelineDefinition": definition,
            }
            response._content = json.dumps(described).encode()
        return response

    monkeypatch.setattr(URLLib3Session, "send", changed)

    refused = start(pipeline_parameters={"Shard": 3})
    validated = start(pipeline_parameters={"Shard": 3}, validate_parameters=True)

    note = str(refused.error).splitlines()[1]
    assert note.startswith(
        f"The parameters could not be compared with the definition of the pipeline: {reason}"
    )
    assert isinstance(validated.error, ParametersError)
    assert f"because validate_parameters=True and {reason}" in str(validated.error)
    assert operations(emulator) == [START, DESCRIBE, DESCRIBE]


@pytest.mark.parametrize("code", ["AccessDeniedException", "ResourceLimitExceeded"])
def test_other_errors_cost_no_call(code: str, emulator: EmulatorServer) -> None:
    """Only a ValidationException may be about parameters."""
    emulator.control.add_fault("error", START, code=code, message="no")

    run = start(pipeline_parameters={"Shard": 3})

    assert isinstance(run.error, SageMakerApiError)
    assert run.error.error_code == code
    assert operations(emulator) == [START]
    assert "parameters" not in str(run.error)


@pytest.mark.parametrize("validate", [False, True])
def test_misspelt_pipeline_names_are_corrected(
    validate: bool, emulator: EmulatorServer
) -> None:
    """
    The error names the similar pipeline that exists, if there is one and the identity
    may list pipelines.
    """
    misspelt = start("Churn-Tunning", validate_parameters=validate)
    calls = operations(emulator)
    unlike = start("nothing-like-it", validate_parameters=validate)
    of_arn = start(f"{ARN_PREFIX}churn-tunning", validate_parameters=validate)
    emulator.control.add_fault(
        "error",
        DESCRIBE if validate else START,
        code="ResourceNotFound",
        message="no",
        count=1,
    )
    right = start("fanout", validate_parameters=validate)
    emulator.control.add_fault(
        "error", LIST, code="AccessDeniedException", message="no"
    )
    not_listed = start("churn-tunning", validate_parameters=validate)

    assert isinstance(misspelt.error, SageMakerApiError)
    assert misspelt.error.error_code == "ResourceNotFound"
    assert str(misspelt.error).endswith("\nDid you mean churn-tuning?")
    assert calls == [DESCRIBE if validate else START, LIST]
    for run in (unlike, of_arn, right, not_listed):
        assert "There is no pipeline" in str(run.error)
        assert "Did you mean" not in str(run.error)


@NEEDS_ROLE
def test_misspelt_arn_of_a_managed_pipeline_is_corrected(
    emulator: EmulatorServer,
) -> None:
    """The similar one is looked for among those that AWS manages."""
    misspelt = start(
        **{**START_MANAGED, "pipeline_name": MANAGED.replace("model-eval", "modeleval")}
    )

    assert str(misspelt.error).endswith(f"\nDid you mean {MANAGED}?")


def test_the_version_of_the_start_is_compared(emulator: EmulatorServer) -> None:
    """
    The parameters are compared with the version that the start names, not with the
    latest.
    """
    definition = json.loads((DEFINITIONS / "fanout.json").read_text())
    definition["Parameters"].append(
        {"Name": "Added", "Type": "String", "DefaultValue": "x"}
    )
    client: Any = PolysyncSageMakerHook().conn
    client.update_pipeline(
        PipelineName="fanout", PipelineDefinition=json.dumps(definition)
    )
    emulator.control.clear_calls()

    first = start(pipeline_parameters={"Added": "y"}, pipeline_version_id=1)
    validated = start(
        pipeline_parameters={"Added": "y"},
        pipeline_version_id=1,
        validate_parameters=True,
    )
    latest = start(
        pipeline_parameters={"Added": "y"},
        validate_parameters=True,
        wait_for_completion=False,
    )

    assert str(first.error).startswith(
        "The parameters do not fit pipeline fanout version 1.\n- Added = 'y': "
    )
    assert isinstance(validated.error, ParametersError)
    assert latest.error is None
    sent = [
        call["request"].get("PipelineVersionId")
        for call in emulator.control.calls(DESCRIBE)
    ]
    assert sent == [1, 1, None]


def test_a_resume_is_not_validated(
    emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """
    A retry that resumes the failed execution costs no DescribePipeline, and its refusal
    is not explained.
    """
    emulator.control.put_scenario(MERGE_FAILS)
    ti = TaskInstance("train", max_tries=1)
    start(ti=ti, retry_mode="resume", validate_parameters=True)
    emulator.control.put_scenario({})
    emulator.control.clear_calls()
    again = TaskInstance(
        "train", max_tries=1, try_number=2, store=ti.store, xcoms=ti.xcoms
    )

    run = start(ti=again, retry_mode="resume", validate_parameters=True)

    assert run.error is None
    assert "RetryPipelineExecution" in operations(emulator)
    assert not {DESCRIBE, START} & set(operations(emulator))


@pytest.mark.parametrize("value", ["yes", 1, None])
def test_validate_parameters_must_be_a_flag(value: Any) -> None:
    """The DAG file fails with the name, the value and the cure."""
    with pytest.raises(
        ParametersError,
        match=r"validate_parameters = .* is not valid: give True or False",
    ):
        PolysyncStartPipelineOperator(
            task_id="t", pipeline_name="p", validate_parameters=value
        )


def test_the_documentation_shows_this_error(emulator: EmulatorServer) -> None:
    """The page shows the error exactly as the task raises it."""
    pipeline, sent, _ = CASES["all"]

    run = start(pipeline, pipeline_parameters=sent)

    assert f"SageMakerApiError: {run.error}\n" in PAGE.read_text()
