"""
Which imported jobs a mapped Start task starts, with which values, and what the log says
of the others.
"""

from __future__ import annotations

import json
import logging
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG

from polysync_airflow.exceptions import ParametersError
from polysync_airflow.execution.texts import MAX_PROBLEMS
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.jobs import jobs_to_start, start_arguments
from polysync_airflow.jobs.fan_out import choose, inert_arguments
from polysync_airflow.jobs.importer import import_jobs
from polysync_airflow.operators import (
    PolysyncListImportOperator,
    PolysyncStartPipelineOperator,
)
from sagemaker_emulator import EmulatorServer
from tests.unit.jobs.test_arguments import TEMPLATE, job, rendered

ROOT = Path(__file__).parents[3]


def parameter(
    name: str, kind: str = "String", default: Any = None, enum: Any = None
) -> dict[str, Any]:
    """Return a parameter of an imported job."""
    return {"name": name, "type": kind, "default": default, "enum_values": enum}


PLAIN = job(
    name="plain",
    parameters=[parameter("MaxJobs", "Integer", 4), parameter("Empty", default="")],
)
NEEDS = job(
    name="needs", parameters=[parameter("ScoreDate"), parameter("MaxJobs", "Integer")]
)
UNREADABLE = job(
    name="unreadable", parameters=[], parameters_error="the definition is not JSON"
)
NO_PARAMETERS = job(name="none", parameters=[])
JOBS = [PLAIN, NEEDS, UNREADABLE, NO_PARAMETERS]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the warnings of the choice."""
    records = [r for r in caplog.records if r.name == "polysync_airflow.jobs.fan_out"]
    return [
        record.getMessage() for record in records if record.levelno == logging.WARNING
    ]


def test_jobs_without_values_are_left_out_with_one_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """
    The warning names each job that is left out, and the parameters that need a value.
    """
    chosen = choose(JOBS, {})

    # An empty default is AWS's business: a request cannot contain it.
    assert chosen == [
        {"pipeline_name": "plain", "pipeline_parameters": {"MaxJobs": 4}},
        {"pipeline_name": "none", "pipeline_parameters": {}},
    ]
    assert warnings(caplog) == [
        "2 of 4 jobs are left out:\n"
        "- needs needs a value for: ScoreDate, MaxJobs\n"
        "- unreadable has parameters that cannot be read: the definition is not JSON"
    ]


def test_no_warning_if_all_jobs_are_started(caplog: pytest.LogCaptureFixture) -> None:
    """There is nothing to say."""
    assert len(choose([PLAIN, NO_PARAMETERS], {})) == 2
    assert warnings(caplog) == []


def test_mapping_of_values(caplog: pytest.LogCaptureFixture) -> None:
    """
    A mapping gives values to all jobs that declare the name, also in place of a
    default.
    """
    chosen = choose(
        [PLAIN, NEEDS], {"ScoreDate": "2026-01-01", "MaxJobs": 2, "Other": "x"}
    )

    assert [each["pipeline_parameters"] for each in chosen] == [
        {"MaxJobs": 2},
        {"ScoreDate": "2026-01-01", "MaxJobs": 2},
    ]
    assert warnings(caplog) == []


def test_function_of_values() -> None:
    """
    A function sees the job and the declared parameter, and None means the default.
    """
    seen = []

    def value(job: Any, parameter: Any) -> Any:
        seen.append(
            (job["name"], parameter["name"], parameter["type"], parameter["default"])
        )
        return (
            {"ScoreDate": "today", "MaxJobs": Decimal("3")}[parameter["name"]]
            if job is NEEDS
            else None
        )

    chosen = choose([PLAIN, NEEDS], value)

    assert chosen[0]["pipeline_parameters"] == {"MaxJobs": 4}
    assert chosen[1]["pipeline_parameters"] == {"ScoreDate": "today", "MaxJobs": "3"}
    assert seen == [
        ("plain", "MaxJobs", "Integer", 4),
        ("plain", "Empty", "String", ""),
        ("needs", "ScoreDate", "String", None),
        ("needs", "MaxJobs", "Integer", None),
    ]


def test_values_that_do_not_fit_leave_the_job_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A value of another type, or outside of the enum, would be refused by AWS."""
    tier = job(name="tier", parameters=[parameter("Tier", enum=["gold", "silver"])])

    assert choose([PLAIN, NEEDS, tier], {"MaxJobs": "many", "Tier": "tin"}) == []

    (warning,) = warnings(caplog)
    assert warning.splitlines() == [
        "3 of 3 jobs are left out:",
        "- plain does not accept MaxJobs = 'many': must be a whole number (declared as Integer)",
        "- needs needs a value for: ScoreDate; "
        "does not accept MaxJobs = 'many': must be a whole number (declared as Integer)",
        "- tier does not accept Tier = 'tin': must be one of gold, silver (declared as String)",
    ]


@pytest.mark.parametrize(
    "value", [["a"], {"a": 1}, object(), pytest.param(10**5000, id="huge"), "a\x00"]
)
def test_value_that_is_no_value(value: Any) -> None:
    """The error names the parameter, the job and the cure."""
    with pytest.raises(
        ParametersError, match=r"MaxJobs of job plain is .*: give a text, a number or a"
    ):
        choose([PLAIN], lambda *_: value)


@pytest.mark.parametrize("jobs", [None, "jobs", {"a": 1}, 5])
def test_jobs_that_are_no_list(jobs: Any) -> None:
    """The error says what is needed."""
    with pytest.raises(ParametersError, match="give a list of imported jobs"):
        choose(jobs, {})


def test_values_that_are_neither_mapping_nor_function() -> None:
    """The task fails with the value and the cure."""
    wrong: Any = ["ScoreDate"]
    with pytest.raises(
        ParametersError, match=r"values = a list of 1 is not valid: give a mapping"
    ):
        choose([PLAIN], wrong)


def test_damaged_and_hostile_jobs(caplog: pytest.LogCaptureFixture) -> None:
    """
    Entries that are no jobs are left out like others; the warning is bounded, and has
    no foreign lines.
    """
    hostile = job(
        name="hostile",
        parameters=[parameter("A\nB\x1b[31m" + "x" * 200) for _ in range(500)],
    )
    damaged: list[Any] = [
        5,
        {},
        {"name": "no spaces"},
        {"name": "p", "parameters": [{"name": 5}]},
    ]

    assert choose([hostile, *damaged, *[NEEDS] * 100], {}) == []

    (warning,) = warnings(caplog)
    lines = warning.splitlines()
    assert len(lines) == MAX_PROBLEMS + 2
    assert lines[2].startswith("- jobs[1] is not a job: ")
    assert lines[-1] == f"- and {105 - MAX_PROBLEMS} more"
    assert len(warning) < 5000
    assert "\x1b" not in warning


def test_values_are_not_rendered() -> None:
    """
    After a round trip through an XCom, default values with templates reach AWS as they
    are.
    """
    (chosen,) = json.loads(
        json.dumps(choose([job()], {"Required": "{{ conn.other.password }}"}))
    )

    assert rendered(inert_arguments(chosen)) == {
        "pipeline_name": "churn",
        "pipeline_parameters": {
            "Text": TEMPLATE,
            TEMPLATE: "x",
            "Number": 5,
            "Required": TEMPLATE,
        },
    }


def test_same_arguments_as_without_a_choice() -> None:
    """For a job that its defaults start, both ways to map give the same arguments."""
    complete = job(
        parameters=[each for each in job()["parameters"] if each["name"] != "Required"]
    )

    (chosen,) = choose([complete], {})

    assert rendered(inert_arguments(chosen)) == rendered(start_arguments(complete))


@pytest.mark.parametrize(
    "values", [None, {"ScoreDate": "{{ ds }}"}, lambda job, parameter: None]
)
def test_tasks_of_the_dag(values: Any) -> None:
    """The task that chooses comes after the import and before the starts."""
    with DAG("d", schedule=None) as dag:
        jobs = PolysyncListImportOperator(task_id="import_jobs")
        PolysyncStartPipelineOperator.partial(task_id="start").expand_kwargs(
            jobs_to_start(jobs.output, values=values, task_id="choose")
        )

    assert dag.get_task("choose").upstream_task_ids == {"import_jobs"}
    assert dag.get_task("start").upstream_task_ids == {"choose"}


def test_values_from_a_task() -> None:
    """A value, or the whole mapping, may be the output of a task."""
    with DAG("d", schedule=None) as dag:
        other = PolysyncListImportOperator(task_id="other")
        for task_id, values in (
            ("one", {"ScoreDate": other.output}),
            ("all", other.output),
        ):
            jobs_to_start([PLAIN], values=values, task_id=task_id)

    assert dag.get_task("other").downstream_task_ids == {"one", "all"}


def test_a_list_of_jobs_is_not_rendered() -> None:
    """
    A list in the DAG file may come from a file of imported jobs; its texts are no
    templates either.
    """
    with DAG("d", schedule=None) as dag:
        jobs_to_start([job()], values={"Required": "{{ given }}"})
    task: Any = dag.get_task("jobs_to_start")

    task.render_template_fields({"given": "rendered"})

    (chosen,) = task.python_callable(*task.op_args, **task.op_kwargs)
    assert chosen["pipeline_parameters"] == {
        "Text": TEMPLATE,
        TEMPLATE: "x",
        "Number": 5,
        "Required": "rendered",
    }


def test_the_documentation_shows_the_warning_of_the_example(
    emulator: EmulatorServer, caplog: pytest.LogCaptureFixture
) -> None:
    """The page leads to the example DAG, and has the warning that it logs."""
    page = (ROOT / "docs" / "how-to" / "jobs-as-dags.md").read_text()
    names = ["churn-tuning", "fanout", "scoring-required-params"]
    jobs = import_jobs(PolysyncSageMakerHook(), names=names)

    choose([each.model_dump(mode="json") for each in jobs], {"MaxJobs": 2})

    (warning,) = warnings(caplog)
    assert f"```text\n{warning}\n```" in page
    assert "example_dags/import_and_fan_out.py" in page
