"""PolysyncListImportOperator compares the pipelines with a catalogue."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG

from polysync_airflow.aws import rate_limiter
from polysync_airflow.exceptions import (
    CatalogueDriftError,
    CatalogueError,
    ParametersError,
)
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.jobs.catalogue import catalogue_jobs, write_catalogue
from polysync_airflow.jobs.importer import import_jobs
from polysync_airflow.operators import PolysyncListImportOperator
from sagemaker_emulator import EmulatorServer
from tests.fakes.log_capture import capture_logs
from tests.tasks import Run, run_task
from tests.unit.jobs.catalogue.builders import (
    STEPS,
    arn,
    delete_pipelines,
    put_pipelines,
)
from tests.world import deny

NEW = {"Name": "New", "Type": "Integer"}
CHANGED = {"Version": "2020-12-01", "Parameters": [NEW], "Steps": STEPS}


@pytest.fixture
def catalogue(
    emulator: EmulatorServer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Return a catalogue of the pipelines that the emulator has."""
    monkeypatch.setattr(rate_limiter, "_RATE_LIMITERS", {})
    write_catalogue(path, catalogue_jobs(import_jobs(PolysyncSageMakerHook()), None))
    emulator.control.clear_calls()
    return path


def run(path: Any, **arguments: Any) -> tuple[Run, list[str]]:
    """Run the task; return it with the lines of its log."""
    with capture_logs() as logs:
        result = run_task(
            PolysyncListImportOperator(task_id="t", compare_with=path, **arguments)
        )
    return result, [entry["event"] for entry in logs]


def test_what_was_not_compared_is_no_success(
    catalogue: Path, emulator: EmulatorServer
) -> None:
    """A pipeline that may not be described is not taken for a deleted one."""
    deny(emulator, "DescribePipeline", count=2)

    failed, _ = run(catalogue)
    warned, lines = run(catalogue, on_drift="warn")

    assert type(failed.error) is CatalogueDriftError
    assert str(failed.error).count(": it was not compared (denied)") == 2
    assert "does not exist any more" not in str(failed.error)
    assert len(warned.result) == 5
    assert f"The pipelines are as in {catalogue}." in lines


def test_drift_fails_the_task(catalogue: Path, emulator: EmulatorServer) -> None:
    """Each difference is a line of the log and of the error, which uses no retries."""
    put_pipelines(emulator, {"fanout": CHANGED}, update=True)
    delete_pipelines(emulator, "abalone")

    result, lines = run(catalogue)
    by_arn, _ = run(catalogue, pipeline_names=[arn("fanout")])

    assert type(by_arn.error) is type(result.error) is CatalogueDriftError
    assert result.error.permanent
    wanted = [
        "abalone: the pipeline does not exist any more (breaking)",
        "fanout, parameter New: a new parameter without a default: Integer (breaking)",
    ]
    for line in wanted:
        assert line in lines
        assert f"\n- {line}" in str(result.error)
    assert str(by_arn.error).count("\n- fanout, parameter ") == 2
    assert f"differ from {catalogue} in" in str(result.error)


def test_drift_can_be_a_warning(catalogue: Path, emulator: EmulatorServer) -> None:
    """With ``on_drift="warn"``, the task logs the differences and returns the jobs."""
    delete_pipelines(emulator, "abalone")

    result, lines = run(catalogue, on_drift="warn")

    assert result.error is None
    assert len(result.result) == 4
    assert "abalone: the pipeline does not exist any more (breaking)" in lines


@pytest.mark.parametrize(
    "arguments",
    [{"pipeline_name_prefix": "churn-"}, {"pipeline_names": ["churn-tuning"]}],
)
def test_only_what_was_imported_is_compared(
    arguments: Any, catalogue: Path, emulator: EmulatorServer
) -> None:
    """Jobs of the catalogue that the task does not import are not missing."""
    delete_pipelines(emulator, "abalone")

    result, _ = run(catalogue, **arguments)

    assert result.error is None
    assert [job["name"] for job in result.result] == ["churn-tuning"]


def test_error_lists_some_differences(
    catalogue: Path, emulator: EmulatorServer
) -> None:
    """Of 72 new pipelines, the error lists 20, and the log lists all."""
    put_pipelines(emulator, {f"team-{number}": CHANGED for number in range(72)})

    result, lines = run(catalogue)

    assert str(result.error).count("\n- team") == 20
    assert str(result.error).endswith("\n- and 52 more")
    assert sum("does not have this pipeline" in line for line in lines) == 72


@pytest.mark.parametrize("content", [None, "jobs: [", "- x"])
def test_file_is_read_before_aws_is_called(
    content: str | None, path: Path, emulator: EmulatorServer
) -> None:
    """A file that cannot be read fails the task without any call."""
    if content is not None:
        path.write_text(content)

    result, _ = run(path)

    assert type(result.error) is CatalogueError
    assert str(path) in str(result.error)
    assert emulator.control.calls() == []


@pytest.mark.parametrize("path", ["", "  ", 5, ["jobs.yaml"]])
def test_path_must_be_a_text(path: Any, emulator: EmulatorServer) -> None:
    """
    Another value, for example of a template that renders to nothing, is refused with
    the name of the argument.
    """
    result, _ = run(path)

    assert type(result.error) is ParametersError
    assert "compare_with = " in str(result.error)
    assert emulator.control.calls() == []


def test_path_is_a_template() -> None:
    """The path can be a template, also as a Path."""
    path = Path("{{ folder }}/jobs.yaml")
    with DAG("d", schedule=None):
        operator = PolysyncListImportOperator(task_id="t", compare_with=path)
    context: Any = {"folder": "/catalogues"}

    operator.render_template_fields(context)

    assert operator.compare_with == "/catalogues/jobs.yaml"


def test_on_drift_is_checked_in_the_dag_file() -> None:
    """Another value is refused when the DAG is parsed."""
    with pytest.raises(
        ParametersError,
        match="on_drift = 'ignore' is not valid: give one of fail, warn",
    ):
        PolysyncListImportOperator(task_id="t", on_drift="ignore")  # type: ignore[arg-type]
