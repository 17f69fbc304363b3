"""
The steps of an execution in XComs and in the task's log, in both modes, and without the
permissions for it.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from polysync_airflow.exceptions import PipelineExecutionFailedError
from polysync_airflow.operators import (
    PolysyncStartPipelineOperator,
    PolysyncStopPipelineOperator,
)
from polysync_airflow.operators.reporting import RESUME_BUTTON
from polysync_airflow.operators.start import MAP_INDEX_TEMPLATE
from tests.conftest import IN_BOTH_MODES
from tests.fakes.log_capture import capture_logs, texts_of
from tests.fakes.simulated_airflow import AIRFLOW
from tests.tasks import Run, TaskInstance, run_task
from tests.world import LIST_STEPS, World

CONSOLE = "https://us-east-1.console.aws.amazon.com"


def run_churn(
    deferrable: bool, ti: TaskInstance | None = None, **arguments: Any
) -> Run:
    """Run a task that starts the retraining pipeline."""
    arguments = {"poll_interval": 60, "deferrable": deferrable, **arguments}
    task: Any = partial(PolysyncStartPipelineOperator, pipeline_name="churn-tuning")
    return run_task(task(task_id="train", **arguments), ti)


# Tuning takes half an hour otherwise.
SHORT = {"steps": {"ChurnTune": {"duration": 300}}}


def beginning(lines: list[dict[str, Any]], begin: str) -> list[str]:
    """Return the lines of the task's log that begin like this."""
    return [text for text in texts_of(lines) if text.startswith(begin)]


@IN_BOTH_MODES
def test_steps_are_updated_while_the_task_waits(deferrable: bool, world: World) -> None:
    """
    Before the first poll, the XCom has the steps of the definition; from then on, what
    has changed.
    """
    slow = {"ChurnPreprocess": {"duration": 600}, **SHORT["steps"]}
    world.control.put_scenario({"steps": slow})
    seen: list[tuple[str, str]] = []

    def look() -> None:
        rows = AIRFLOW.instances[-1].xcoms["steps"]
        seen.append((rows[0]["state"], rows[1]["state"]))

    for seconds in (4, 80, 200, 900):
        world.time.after(seconds, look)

    run = run_churn(deferrable, poll_interval=30)

    assert run.error is None
    assert seen == [
        ("NotStarted", "NotStarted"),
        ("Running", "NotStarted"),
        ("Running", "NotStarted"),
        ("Success", "Running"),
    ]


@pytest.mark.parametrize(
    ("on_clear", "cure"),
    [
        ("new", f'on_clear="resume" {RESUME_BUTTON}repeats'),
        ("resume", f"That {RESUME_BUTTON}repeats only the steps"),
    ],
)
def test_log_has_all_lines_and_the_error_the_last_and_the_cure(
    on_clear: str, cure: str, deferrable: bool, world: World
) -> None:
    """The lines before the error have what does not fit beside the verdict."""
    lines = [f"epoch {number}" for number in range(20)]
    failure = {"reason": "AlgorithmError: exit code 1", "log_lines": lines}
    world.control.put_scenario({"steps": {"ChurnPreprocess": {"fail": failure}}})

    with capture_logs() as logs:
        run = run_churn(deferrable, on_clear=on_clear)

    quoted = [line for line in str(run.error).splitlines() if line.startswith("  | ")]
    assert quoted == [f"  | {line}" for line in lines[-6:]]
    assert "Next: mend the cause, then clear the task." in str(run.error)
    assert cure in str(run.error)
    text = "\n".join(f"| {line}" for line in lines)
    logged = beginning(logs, "Step ChurnPreprocess: ")
    assert logged == [f"Step ChurnPreprocess: the last 20 lines of its log\n{text}"]


NO_LOG = "The log of step ChurnPreprocess could not be read"
NOT_BEFORE = "The steps are shown as soon as they begin, not before: "


@pytest.mark.parametrize(
    ("operation", "service", "note"),
    [
        (LIST_STEPS, "sagemaker", "The steps of the execution could not be listed"),
        ("DescribeLogStreams", "logs", NO_LOG),
        ("GetLogEvents", "logs", NO_LOG),
        ("DescribePipelineDefinitionForExecution", "sagemaker", None),
    ],
)
def test_each_permission_is_optional(
    deferrable: bool, operation: str, service: str, note: str | None, world: World
) -> None:
    """
    Without a permission, one line says what is missing, and everything else works.
    """
    failure = {"reason": "no data"}
    world.control.put_scenario({"steps": {"ChurnPreprocess": {"fail": failure}}})
    world.deny(operation, service=service)

    with capture_logs() as log:
        run = run_churn(deferrable)

    assert isinstance(run.error, PipelineExecutionFailedError)
    if note is None:
        assert [row["name"] for row in run.xcoms["steps"]] == ["ChurnPreprocess"]
        assert run.xcoms["run"]["steps_note"] is None
        assert len(beginning(log, NOT_BEFORE)) == 1
        return
    note = f"{note}: {operation} failed"
    assert note in run.xcoms["run"]["steps_note"]
    assert sum(x.startswith(note) for x in str(run.error).splitlines()) == 1
    if operation == LIST_STEPS:
        assert {row["state"] for row in run.xcoms["steps"]} == {"NotStarted"}
        assert len(beginning(log, "The log has no lines about steps: ")) == 1
    else:
        assert "Step ChurnPreprocess failed: no data" in str(run.error)


@IN_BOTH_MODES
def test_stop_shows_the_execution_that_it_stops(deferrable: bool, world: World) -> None:
    """
    The tab of the task reads the XCom ``run``: while the execution stops, and at its
    end.
    """
    arn = run_churn(False, wait_for_completion=False).xcoms["execution_arn"]
    seen: list[tuple[str, str]] = []
    task = PolysyncStopPipelineOperator(
        task_id="stop", execution_arn=arn, deferrable=deferrable
    )

    def look() -> None:
        record = AIRFLOW.instances[-1].xcoms["run"]
        seen.append((record["state"], record["status"]))

    world.time.after(1, look)
    run = run_task(task)

    assert seen == [("Running", "Stopping")]
    record = run.xcoms["run"]
    assert (record["execution_arn"], record["pipeline_name"]) == (arn, "churn-tuning")
    assert record["state"] == run.xcoms["state"] == "Cancelled"
    assert record["status"] == "Stopped"
    assert record["started_at"] < record["ended_at"]
    assert record["seconds"] > 0


def test_mapped_tasks_are_named_by_their_pipelines() -> None:
    """
    Unless the author has set another template, or all of them start the same pipeline.
    """

    def template(**arguments: Any) -> Any:
        mapped = PolysyncStartPipelineOperator.partial(task_id="a", **arguments)
        return mapped.kwargs.get("map_index_template")

    assert template() == MAP_INDEX_TEMPLATE
    assert template(map_index_template="{{ 1 }}") == "{{ 1 }}"
    assert template(pipeline_name="churn") is None
