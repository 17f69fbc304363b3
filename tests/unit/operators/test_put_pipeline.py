"""PutPipeline: which definitions it takes, what it says, and when it gives up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG

from polysync_airflow.aws.retry import PUT_TIMEOUT_SECONDS
from polysync_airflow.exceptions import ParametersError, SageMakerApiError
from polysync_airflow.execution.definitions import MAX_CHANGES, MAX_DEFINITION
from polysync_airflow.operators import PolysyncPutPipelineOperator
from sagemaker_emulator.builders import ROLE, step
from tests.conftest import connection
from tests.fakes.log_capture import capture_logs, texts_of
from tests.tasks import Run, run_task
from tests.world import World

UPDATE, CREATE, DESCRIBE = "UpdatePipeline", "CreatePipeline", "DescribePipeline"
ARN = "arn:aws:sagemaker:us-east-1:123456789012:pipeline/made"


def content(*steps: Any, **members: Any) -> dict[str, Any]:
    """Return a definition; with one step unless there are others."""
    return {"Version": "2020-12-01", "Steps": list(steps or [step("A")]), **members}


def put(definition: Any, **arguments: Any) -> tuple[Run, str]:
    """Run a task, and return its run and the last line of its log."""
    operator = PolysyncPutPipelineOperator(
        task_id="put",
        definition=definition,
        **{"pipeline_name": "made", "role_arn": ROLE, **arguments},
    )
    # Airflow 3 calls functions then.
    operator.render_template_fields({})
    with capture_logs() as lines:
        run = run_task(operator)
    return run, ["", *texts_of(lines)][-1]


class SdkPipeline:
    """A pipeline as SageMaker's Python SDK has it."""

    def definition(self) -> str:
        """Return the definition as JSON."""
        return json.dumps(content(), indent=1)


def from_file() -> Path:
    """Return the path of a file."""
    return Path("made.json")


@pytest.mark.parametrize(
    "source",
    [
        content(),
        f" {json.dumps(content())}",
        SdkPipeline,
        from_file,
        "made.json",
        Path("made.json"),
    ],
)
def test_sources_of_one_definition(source: Any, world: World, tmp_path: Path) -> None:
    """
    Each source makes the pipeline, and each later one finds it unchanged: white space
    and the order of keys make no version.
    """
    (tmp_path / "made.json").write_text(json.dumps(content(), indent=4))
    dag = DAG("deploy", schedule=None)
    dag.fileloc = str(tmp_path / "dag.py")

    runs = [put(source, dag=dag), put(dict(reversed(content().items())))]

    assert [run.error or run.result for run, _ in runs] == [ARN, ARN]
    assert [run.xcoms["pipeline_version_id"] for run, _ in runs] == [1, 1]
    assert [line for _, line in runs] == [
        f"Created {ARN}, version 1.",
        f"Unchanged: {ARN}, version 1.",
    ]


def test_function_has_one_text_in_all_processes() -> None:
    """Airflow 2 stores it with the DAG, which must not change at each parse."""
    operator = PolysyncPutPipelineOperator(
        task_id="put", pipeline_name="made", definition=from_file
    )

    assert str(operator.definition) == "<callable from_file>"


def test_log_says_what_has_changed(world: World) -> None:
    """
    Each line names a member, the old and the new value; no text of another author
    forges a line of the log. What is not given stays as it is.
    """

    def prepare(**environment: str) -> dict[str, Any]:
        return step("Prepare", Arguments={"Environment": environment})

    rows = {"Name": "Rows", "Type": "Integer", "DefaultValue": 1}
    old = step("Old", "Fail", Arguments={"ErrorMessage": "y"})
    put(content(old, prepare(A="1", B="2"), Parameters=[rows]))
    made = world.emulator.sagemaker.regions["us-east-1"].pipelines["made"]

    changed = content(
        prepare(A="1\n- Updated", C="3" * 200),
        step("New", "Fail", Arguments={"ErrorMessage": "x"}),
        Parameters=[{**rows, "DefaultValue": 2}],
    )
    run, line = put(
        changed,
        role_arn=f"{ROLE}2",
        pipeline_description="Daily",
        max_parallel_steps="3",
    )

    assert run.xcoms["pipeline_version_id"] == 2
    assert (made.role_arn, made.max_parallel) == (f"{ROLE}2", 3)
    environment = "Steps[Prepare].Arguments.Environment"
    assert line.split("\n") == [
        f"Updated {ARN}, version 2:",
        f'role_arn: "{ROLE}" -> "{ROLE}2"',
        'pipeline_description: null -> "Daily"',
        "max_parallel_steps: null -> 3",
        "Parameters[Rows].DefaultValue: 1 -> 2",
        'Steps[Old].Arguments.ErrorMessage: "y" -> (none)',
        "Steps[Old].DependsOn: [] -> (none)",
        'Steps[Old].Name: "Old" -> (none)',
        'Steps[Old].Type: "Fail" -> (none)',
        f'{environment}.A: "1" -> "1\\n- Updated"',
        f'{environment}.B: "2" -> (none)',
        f'{environment}.C: (none) -> "{"3" * 116}...',
        'Steps[New].Arguments.ErrorMessage: (none) -> "x"',
        "Steps[New].DependsOn: (none) -> []",
        'Steps[New].Name: (none) -> "New"',
        'Steps[New].Type: (none) -> "Fail"',
    ]
    _, line = put(changed)
    assert line == f'Updated {ARN}, version 2:\nrole_arn: "{ROLE}2" -> "{ROLE}"'
    assert (made.role_arn, made.max_parallel, made.description) == (ROLE, 3, "Daily")


def test_long_list_of_changes_is_cut(world: World) -> None:
    """A new order of steps alone is a change, too."""
    names = [f"P{number}" for number in range(MAX_CHANGES + 5)]
    declared = [{"Name": name, "Type": "String"} for name in names]
    put(content(Parameters=declared))

    _, line = put(content(Parameters=declared[::-1]))

    assert line == f"Updated {ARN}, version 2:\nthe order of steps or parameters"
    _, line = put(content(Parameters=[]))
    assert len(line.split("\n")) == MAX_CHANGES + 2
    assert line.endswith("\nand 61 more")


LOOP = content(step("A", "Processing", "B"), step("B", "Processing", "A"))


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"definition": 7}, "definition = 7 is not valid: give a dict, JSON text"),
        ({"definition": lambda: [content()]}, "definition = a list of 1 is not valid"),
        ({"definition": "none.json"}, "No such file or directory: 'none.json'"),
        ({"definition": "{"}, "Value error, the definition is not JSON: Expecting"),
        ({"definition": {"Steps": {1, 2}}}, "Object of type set is not JSON"),
        (
            {"definition": {"A": "x" * MAX_DEFINITION}},
            "at most 1,048,576 characters; move",
        ),
        ({"definition": content(step("A"), step("A"))}, "steps: A is there twice."),
        ({"definition": LOOP}, "steps: they depend on each other in a circle: "),
        ({"definition": {"Parameters": [{"Name": "A", "Type": "Int"}]}}, "Type: Input"),
        ({"pipeline_name": ARN}, "Give the pipeline's name, not its ARN"),
        ({"role_arn": None}, "role_arn = None: Input should be a valid string. Give"),
        ({"max_parallel_steps": 0}, "max_parallel_steps = 0: Input should be"),
        ({"pipeline_description": "a\nb"}, "pipeline_description = 'a\\nb': String"),
        ({"pipeline_tags": {"a": 1}}, "pipeline_tags['a'] = 1: Input should be"),
    ],
)
def test_bad_input(arguments: dict[str, Any], problem: str, world: World) -> None:
    """It is refused with its name, value and cure, before AWS gets anything."""
    run, _ = put(**{"definition": content(), **arguments})

    assert isinstance(run.error, ParametersError), run.error
    assert problem in str(run.error)
    assert run.error.permanent
    assert world.calls(DESCRIBE, UPDATE, CREATE) == []


@pytest.mark.parametrize(
    ("denied", "called"),
    [
        (DESCRIBE, [DESCRIBE]),
        (UPDATE, [DESCRIBE, UPDATE]),
        (CREATE, [DESCRIBE, UPDATE, CREATE]),
    ],
)
def test_missing_right(denied: str, called: list[str], world: World) -> None:
    """One error names the right; no other call is made, and no retry is used."""
    world.deny(denied)

    run, _ = put(content())

    assert isinstance(run.error, SageMakerApiError)
    assert run.error.permanent
    assert f"Allow sagemaker:{denied} on " in str(run.error)
    assert world.calls(DESCRIBE, UPDATE, CREATE) == called


def test_definition_that_aws_refuses(world: World) -> None:
    """AWS's words are in the error, at once, with what to look at."""
    run, _ = put(content(step("A", Arguments={"Image": "a"})))

    assert isinstance(run.error, SageMakerApiError)
    assert run.error.permanent
    assert "Unknown Argument member 'Image'" in str(run.error)
    assert "correct the member that it names" in str(run.error)
    assert world.time.slept == []


def test_role_of_the_connection(world: World) -> None:
    """It runs the steps if the task names none."""
    role = f"{ROLE}Default"
    value = connection(
        endpoint_url=world.emulator.endpoint_url, execution_role_arn=role
    )
    world.patch.setenv("AIRFLOW_CONN_POLYSYNC_DEFAULT", value)

    run, _ = put(content(), role_arn=None)

    assert run.error is None
    made = world.emulator.sagemaker.regions["us-east-1"].pipelines["made"]
    assert made.role_arn == role


@pytest.mark.parametrize("operation", [DESCRIBE, UPDATE, CREATE])
@pytest.mark.parametrize(
    "fault",
    [
        ("throttle", {}),
        ("http", {}),
        ("error", {"code": "ConflictException", "message": "busy"}),
        ("lost_response", {}),
    ],
    ids=lambda fault: fault[0],
)
def test_transient_errors(operation: str, fault: Any, world: World) -> None:
    """The calls are repeated, and the pipeline is created once, as its version 1."""
    kind, members = fault
    world.control.add_fault(kind, operation, count=12, **members)

    run, _ = put(content())

    assert run.error is None
    assert run.xcoms["pipeline_version_id"] == 1
    made = world.emulator.sagemaker.regions["us-east-1"].pipelines["made"]
    assert len(made.versions) == 1


def test_errors_that_do_not_end(world: World) -> None:
    """After ten minutes, the task fails, and its retry may succeed."""
    world.control.add_fault("throttle", UPDATE)
    begin = world.time.time()

    run, _ = put(content())

    assert isinstance(run.error, SageMakerApiError)
    assert not run.error.permanent
    assert world.time.time() - begin <= PUT_TIMEOUT_SECONDS
    assert world.calls(CREATE) == []


@pytest.mark.parametrize("length", [82, 83, 256])
@pytest.mark.parametrize("runs_job", [True, False])
def test_long_name(length: int, runs_job: bool, world: World) -> None:
    """AWS was seen to refuse one over 82; it is allowed where no step starts a job."""
    last = step("B", "Training" if runs_job else "Fail")
    nested = step("A", "Condition", Arguments={"Conditions": [], "IfSteps": [last]})

    run, _ = put(content(nested), pipeline_name="p" * length)

    if runs_job and length > 82:
        assert isinstance(run.error, ParametersError)
        for text in (f"({length} characters)", "over 82", "256", "step B", "shorten"):
            assert text in str(run.error)
        assert world.calls() == []
    else:
        assert run.error is None
