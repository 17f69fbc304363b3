"""ListImport: which pipelines become jobs, what a job tells, and what happens to the odd ones."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import pytest
from structlog.testing import capture_logs

from polysync_airflow.aws import concurrent_calls, rate_limiter
from polysync_airflow.emulator import EmulatorServer
from polysync_airflow.exceptions import ParametersError, SageMakerApiError
from polysync_airflow.execution.parameters import declared_parameters
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.jobs.importer import import_jobs
from polysync_airflow.operators import PolysyncListImportOperator
from tests.tasks import run_task

ROLE = "arn:aws:iam::123456789012:role/SageMakerRole"
PLAIN = {"Version": "2020-12-01", "Steps": [{"Name": "A", "Type": "Processing", "Arguments": {}}]}


@pytest.fixture(autouse=True)
def fresh_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test's throttling slow the next one down, and make the pause before a repeat short."""
    monkeypatch.setattr(rate_limiter, "_RATE_LIMITERS", {})
    monkeypatch.setattr(concurrent_calls, "MIN_BACKOFF_SECONDS", 0.05)


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


def create_many(emulator: EmulatorServer, count: int) -> list[str]:
    """Create pipelines without HTTP; return the names of all that exist then, sorted."""
    for number in range(count):
        request = {
            "PipelineName": f"many-{number:04d}",
            "PipelineDefinition": json.dumps(PLAIN),
            "RoleArn": ROLE,
            "ClientRequestToken": f"{number:0>40}",
        }
        emulator.sagemaker.call("CreatePipeline", "us-east-1", request)
    return sorted(emulator.pipelines["us-east-1"])


def most_at_once(calls: Sequence[dict[str, Any]], seconds: float) -> int:
    """Return how many calls were under way at once at most, if each took so long and not longer."""
    begun = sorted(datetime.fromisoformat(call["wall_time"]).timestamp() for call in calls)
    return max(sum(first <= one < first + seconds for one in begun) for first in begun)


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
    create("churnless", PLAIN)

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

    (gone,) = set(emulator.pipelines["us-east-1"]) - {job["name"] for job in jobs}
    told = [entry["event"] for entry in logs if "was deleted" in entry["event"]]
    assert told == [f"Pipeline {gone} was deleted while the list was read: skipped."]


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


def test_a_thousand_pipelines_are_imported_in_order(
    emulator: EmulatorServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Each is described once; pages are read as describing goes on; no connection has to be thrown away."""
    names = create_many(emulator, 1_000)
    emulator.control.clear_calls()

    with caplog.at_level(logging.WARNING, "urllib3"):
        assert [job["name"] for job in imported()] == names

    asked = [call["operation"] for call in emulator.control.calls()]
    assert asked.count("DescribePipeline") == len(names)
    pages = [place for place, operation in enumerate(asked) if operation == "ListPipelines"]
    assert len(pages) == 11
    ahead = concurrent_calls.WORKERS * concurrent_calls.PREFETCH_PER_WORKER
    for page, place in enumerate(pages):
        assert asked[:place].count("DescribePipeline") >= 100 * page - ahead
    assert caplog.records == []


def test_pipelines_are_described_side_by_side_but_not_all_at_once(emulator: EmulatorServer) -> None:
    """As many calls are under way as there are threads, however many pipelines there are."""
    create_many(emulator, 60)
    emulator.control.clear_calls()
    emulator.control.add_fault("latency", "DescribePipeline", delay=0.2)

    imported()

    found = most_at_once(emulator.control.calls("DescribePipeline"), 0.2)
    assert concurrent_calls.WORKERS / 2 < found <= concurrent_calls.WORKERS


def test_a_slow_answer_changes_no_order(emulator: EmulatorServer) -> None:
    """Jobs come by name, not as they are described, by a list of names as well."""
    names = create_many(emulator, 30)
    for arguments in ({}, {"pipeline_names": names[::-1]}):
        emulator.control.add_fault("latency", "DescribePipeline", delay=0.3, count=3)
        assert [job["name"] for job in imported(**arguments)] == names


def test_throttling_slows_an_import_down_and_does_not_end_it(emulator: EmulatorServer) -> None:
    """Lists and descriptions are asked for again, at half the pace, with a line in the log."""
    names = create_many(emulator, 20)
    emulator.control.add_fault("throttle", "ListPipelines", count=2)
    emulator.control.add_fault("throttle", "DescribePipeline", skip=5, count=8)

    with capture_logs() as logs:
        assert [job["name"] for job in imported()] == names

    (pace,) = rate_limiter._RATE_LIMITERS.values()
    assert rate_limiter.MAX_RATE / 8 <= pace.rate <= rate_limiter.MAX_RATE / 2 + 5
    told = [entry["event"] for entry in logs if "Will go on trying" in entry["event"]]
    assert len(told) == 2
    assert all("ThrottlingException" in line for line in told)


@pytest.mark.parametrize("fault", [{"kind": "dropped"}, {"kind": "http", "status": 503}])
def test_an_import_outlasts_a_network_that_fails(fault: dict[str, Any], emulator: EmulatorServer) -> None:
    """A lost connection or a 503 costs a repeat, not the import."""
    emulator.control.add_fault(**fault, operation="*", count=4)

    assert len(imported()) == 5


def test_after_a_refusal_only_calls_under_way_are_finished(emulator: EmulatorServer) -> None:
    """A permission that is missing is asked for once or by all threads, not a thousand times."""
    create_many(emulator, 300)
    emulator.control.clear_calls()
    emulator.control.add_fault(
        "error", "DescribePipeline", code="AccessDeniedException", message="no", skip=40
    )

    run = run_task(PolysyncListImportOperator(task_id="t"))

    assert isinstance(run.error, SageMakerApiError)
    assert run.error.error_code == "AccessDeniedException"
    assert len(emulator.control.calls("DescribePipeline")) <= 40 + concurrent_calls.WORKERS
    assert len(emulator.control.calls("ListPipelines")) == 1


def test_a_refused_page_ends_the_import(emulator: EmulatorServer) -> None:
    """Half a list is no list."""
    create_many(emulator, 150)
    emulator.control.add_fault("error", "ListPipelines", code="AccessDeniedException", message="no", skip=1)

    run = run_task(PolysyncListImportOperator(task_id="t"))

    assert isinstance(run.error, SageMakerApiError)
    assert "sagemaker:ListPipelines" in str(run.error)


def test_an_empty_account_is_an_empty_list(emulator: EmulatorServer) -> None:
    """Nothing to import is no error."""
    assert imported(region_name="eu-central-1") == []
    assert imported(pipeline_names=[]) == []
