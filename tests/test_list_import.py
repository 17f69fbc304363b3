"""ListImport: which pipelines become jobs, what a job tells, and what happens to the odd ones."""

from __future__ import annotations

import json
from typing import Any

import pytest
from structlog.testing import capture_logs

from polysync_airflow.catalog import import_jobs
from polysync_airflow.emulator import EmulatorServer
from polysync_airflow.exceptions import ParametersError, SageMakerApiError
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.operators import PolysyncListImportOperator
from polysync_airflow.parameters import declared_parameters
from tests.tasks import run_task

ROLE = "arn:aws:iam::123456789012:role/SageMakerRole"


def imported(**arguments: Any) -> Any:
    """Run an import and return its jobs."""
    run = run_task(PolysyncListImportOperator(task_id="import", **arguments))
    assert run.error is None, run.error
    # What Airflow stores as XCom must survive JSON.
    return json.loads(json.dumps(run.result))


def create(name: str, definition: Any, **members: Any) -> None:
    """Create a pipeline by other hands."""
    text = definition if isinstance(definition, str) else json.dumps(definition)
    client: Any = PolysyncSageMakerHook().conn
    client.create_pipeline(
        PipelineName=name, PipelineDefinition=text, RoleArn=ROLE, ClientRequestToken=f"{name:0>40}", **members
    )


def test_all_pipelines_are_imported_by_name(emulator: EmulatorServer) -> None:
    """Without a choice every pipeline of the region comes, sorted."""
    assert [job["name"] for job in imported()] == [
        "abalone",
        "callback-lambda",
        "churn-tuning",
        "fanout",
        "scoring-required-params",
    ]


def test_a_job_tells_everything_polysync_shows(emulator: EmulatorServer) -> None:
    """All facts and the declared parameters with type, default and enum values."""
    create(
        "Tuned",
        {
            "Version": "2020-12-01",
            "Parameters": [
                {"Name": "Tier", "Type": "String", "DefaultValue": "gold", "EnumValues": ["gold", "silver"]},
                {"Name": "Count", "Type": "Integer"},
                {"Name": "Rate", "Type": "Float", "DefaultValue": 0.5},
                {"Name": "Dry", "Type": "Boolean", "DefaultValue": False},
            ],
            "Steps": [{"Name": "A", "Type": "Processing", "Arguments": {}}],
        },
        PipelineDisplayName="Tuned-One",
        PipelineDescription="For tests",
        ParallelismConfiguration={"MaxParallelExecutionSteps": 3},
    )

    (job,) = imported(pipeline_names=["Tuned"])

    assert job.pop("created_at").endswith("Z")
    assert job.pop("modified_at").endswith("Z")
    assert job == {
        "name": "Tuned",
        "arn": "arn:aws:sagemaker:us-east-1:123456789012:pipeline/tuned",
        "role_arn": ROLE,
        "display_name": "Tuned-One",
        "description": "For tests",
        "last_run_at": None,
        "max_parallel_steps": 3,
        "parameters": [
            {"name": "Tier", "type": "String", "default": "gold", "enum_values": ["gold", "silver"]},
            {"name": "Count", "type": "Integer", "default": None, "enum_values": None},
            {"name": "Rate", "type": "Float", "default": 0.5, "enum_values": None},
            {"name": "Dry", "type": "Boolean", "default": False, "enum_values": None},
        ],
        "parameters_error": None,
    }


@pytest.mark.parametrize(
    ("prefix", "names"),
    [
        ("churn", ["churn-tuning", "churnless"]),
        ("churn-", ["churn-tuning"]),
        ("c", ["callback-lambda", "churn-tuning", "churnless"]),
        ("x", []),
    ],
)
def test_a_prefix_narrows_the_import(prefix: str, names: list[str], emulator: EmulatorServer) -> None:
    """Also one that ends in a hyphen, which AWS itself does not take."""
    create(
        "churnless",
        {"Version": "2020-12-01", "Steps": [{"Name": "A", "Type": "Processing", "Arguments": {}}]},
    )

    assert [job["name"] for job in imported(pipeline_name_prefix=prefix)] == names


def test_names_are_described_without_listing(emulator: EmulatorServer) -> None:
    """Who knows the names needs no ListPipelines permission; a name given twice is one job."""
    jobs = imported(pipeline_names=["fanout", "abalone", "fanout"])

    assert [job["name"] for job in jobs] == ["abalone", "fanout"]
    assert [c["operation"] for c in emulator.control.calls()] == ["DescribePipeline", "DescribePipeline"]


def test_names_that_do_not_exist_are_an_error_that_helps(emulator: EmulatorServer) -> None:
    """All missing names come in one message, each with what was found near it."""
    run = run_task(PolysyncListImportOperator(task_id="t", pipeline_names=["Abalon", "fanout", "zzz"]))

    assert isinstance(run.error, ParametersError)
    assert "'Abalon' (near it: abalone)" in str(run.error)
    assert "'zzz' (nothing near it)" in str(run.error)
    assert "'fanout'" not in str(run.error)


def test_a_definition_that_cannot_be_read_is_a_job_with_its_error(emulator: EmulatorServer) -> None:
    """Such a pipeline is imported all the same, never silently skipped."""
    hook = PolysyncSageMakerHook()
    # SageMaker checks definitions when they are created: only its answer can be made unreadable.
    client: Any = hook.conn
    client.meta.events.register(
        "after-call.sagemaker.DescribePipeline",
        lambda parsed, **_: parsed.update(PipelineDefinition=parsed["PipelineDefinition"][:100]),
    )

    jobs = import_jobs(hook, names=["abalone", "fanout"])

    assert [(job.name, job.parameters) for job in jobs] == [("abalone", []), ("fanout", [])]
    assert all("not JSON" in str(job.parameters_error) for job in jobs)


@pytest.mark.parametrize(
    ("definition", "says"),
    [
        (None, "not JSON"),
        ("", "not JSON"),
        ("[]", "a JSON list, not an object"),
        ('{"Parameters": [{"Name": "A", "Type": "Blob"}]}', "Parameters.0.Type"),
        ('{"Parameters": [{"Type": "String"}]}', "Parameters.0.Name"),
        ('{"Parameters": {"A": "String"}}', "Parameters"),
    ],
)
def test_every_unreadable_definition_says_why(definition: str | None, says: str) -> None:
    """The error names the place in the definition."""
    with pytest.raises(ParametersError, match=says):
        declared_parameters(definition)


def test_a_definition_may_declare_nothing() -> None:
    """No ``Parameters`` is no parameters, not an error."""
    assert declared_parameters('{"Version": "2020-12-01", "Steps": []}') == []


def test_a_pipeline_deleted_meanwhile_is_skipped_with_a_line(emulator: EmulatorServer) -> None:
    """Between ListPipelines and DescribePipeline a pipeline can go."""
    emulator.control.add_fault("error", "DescribePipeline", code="ResourceNotFound", message="gone", count=1)

    with capture_logs() as logs:
        jobs = imported()

    assert "abalone" not in [job["name"] for job in jobs]
    assert len(jobs) == 4
    assert any("abalone was deleted" in entry["event"] for entry in logs)


def test_a_refused_describe_fails_the_import(emulator: EmulatorServer) -> None:
    """A permission that is missing is no deleted pipeline."""
    emulator.control.add_fault(
        "error", "DescribePipeline", code="AccessDeniedException", message="no", skip=2
    )

    run = run_task(PolysyncListImportOperator(task_id="t"))

    assert isinstance(run.error, SageMakerApiError)
    assert "sagemaker:DescribePipeline on" in str(run.error)


@pytest.mark.parametrize(
    "arguments", [{"pipeline_names": "abalone"}, {"pipeline_names": ["a b"]}, {"pipeline_name_prefix": "a b"}]
)
def test_illegal_names_are_refused_before_any_call(arguments: Any, emulator: EmulatorServer) -> None:
    """A string is no list, and a name with a space cannot exist."""
    run = run_task(PolysyncListImportOperator(task_id="t", **arguments))

    assert isinstance(run.error, ParametersError)
    assert "letters, digits and hyphens" in str(run.error)
    assert emulator.control.calls() == []
