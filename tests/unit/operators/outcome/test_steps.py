"""
The steps of an execution in XComs and in the task's log, in both modes, and without the
permissions for it.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest

from polysync_airflow.exceptions import ParametersError, PipelineExecutionFailedError
from polysync_airflow.operators import (
    PolysyncStartPipelineOperator,
    PolysyncStopPipelineOperator,
)
from polysync_airflow.operators.start import MAP_INDEX_TEMPLATE, RESUME_BUTTON
from sagemaker_emulator import EmulatorServer
from tests.conftest import IN_BOTH_MODES
from tests.fakes.log_capture import capture_logs
from tests.fakes.simulated_airflow import AIRFLOW
from tests.tasks import EmulatedTime, Run, TaskInstance, run_task
from tests.unit.jobs.catalogue.builders import put_pipelines

LIST_STEPS = "ListPipelineExecutionSteps"
CONSOLE = "https://us-east-1.console.aws.amazon.com"


def run_churn(
    deferrable: bool, ti: TaskInstance | None = None, **arguments: Any
) -> Run:
    """Run a task that starts the retraining pipeline."""
    arguments = {"poll_interval": 60, **arguments}
    task = PolysyncStartPipelineOperator(
        task_id="train",
        pipeline_name="churn-tuning",
        deferrable=deferrable,
        **arguments,
    )
    return run_task(task, ti)


# Tuning takes half an hour otherwise.
SHORT = {"steps": {"ChurnTune": {"duration": 300}}}


def deny(emulator: EmulatorServer, operation: str, service: str = "sagemaker") -> None:
    """Deny an operation."""
    emulator.control.add_fault(
        "error",
        operation,
        service=service,
        code="AccessDeniedException",
        message="not authorized",
    )


def texts_of(lines: list[dict[str, Any]], beginning: str) -> list[str]:
    """Return the lines of the task's log that begin like this."""
    texts = [
        line["event"] % line.get("positional_args", ())
        for line in lines
        if isinstance(line["event"], str)
    ]
    return [text for text in texts if text.startswith(beginning)]


@IN_BOTH_MODES
def test_steps_and_outputs_of_a_success(
    deferrable: bool, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """
    Each change has one line, in both modes; the steps are in the order of the
    definition.
    """
    emulator.control.put_scenario(SHORT)
    with capture_logs() as log:
        run = run_churn(deferrable)

    assert run.error is None
    steps = {row["name"]: row for row in run.xcoms["steps"]}
    assert list(steps) == [
        "ChurnPreprocess", "ChurnTune", "ChurnEvaluate", "AucCheck", "ChurnRegister", "ChurnReport"
    ]  # fmt: skip
    assert [row["state"] for row in run.xcoms["steps"]] == ["Success"] * 5 + [
        "NotStarted"
    ]
    assert [row["not_taken"] for row in run.xcoms["steps"]] == [False] * 5 + [True]
    assert [(row["condition"], row["branch"]) for row in run.xcoms["steps"][3:]] == [
        (None, None), ("AucCheck", "True"), ("AucCheck", "False")
    ]  # fmt: skip
    assert steps["ChurnPreprocess"]["type"] == "Processing"
    name = steps["ChurnPreprocess"]["job_name"]
    assert steps["ChurnPreprocess"]["console_url"].endswith(f"#/processing-jobs/{name}")
    assert run.xcoms["outputs"]["AucCheck"] == {"outcome": "True"}
    arn = run.xcoms["outputs"]["ChurnRegister"]["model_package_arn"]
    assert arn.startswith("arn:aws:sagemaker:us-east-1:123456789012:model-package/")
    lines = "\n".join(texts_of(log, "Step ")).splitlines()
    for step in list(steps)[:5]:
        assert (
            len(
                [
                    line
                    for line in lines
                    if line.startswith(f"Step {step} succeeded after")
                ]
            )
            == 1
        )
    assert len(lines) == len(set(lines))
    assert "Step ChurnTune started" in lines
    assert run.xcoms["run"]["steps_note"] is None


@IN_BOTH_MODES
def test_steps_are_updated_while_the_task_waits(
    deferrable: bool, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """
    Before the first poll, the XCom has the steps of the definition; from then on, what
    has changed.
    """
    emulator.control.put_scenario(
        {"steps": {"ChurnPreprocess": {"duration": 600}, **SHORT["steps"]}}
    )
    seen: list[tuple[str, str]] = []
    task = PolysyncStartPipelineOperator(
        task_id="train",
        pipeline_name="churn-tuning",
        deferrable=deferrable,
        poll_interval=30,
    )

    def look() -> None:
        rows = AIRFLOW.instances[-1].xcoms["steps"]
        seen.append((rows[0]["state"], rows[1]["state"]))

    emulated_time.after(4, look)
    emulated_time.after(80, look)
    emulated_time.after(200, look)
    emulated_time.after(900, look)

    run = run_task(task)

    assert run.error is None
    assert seen == [
        ("NotStarted", "NotStarted"),
        ("Running", "NotStarted"),
        ("Running", "NotStarted"),
        ("Success", "Running"),
    ]


@IN_BOTH_MODES
def test_steps_are_listed_once_in_the_interval(
    deferrable: bool, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """
    However often the execution is polled: one call more for each minute, and one at the
    end.
    """
    emulator.control.put_scenario(SHORT)

    run = run_churn(deferrable, poll_interval=20)

    minutes = run.xcoms["run"]["seconds"] / 60
    calls = len(emulator.control.calls(LIST_STEPS))
    assert minutes * 0.8 < calls <= minutes + 2
    assert len(emulator.control.calls("DescribePipelineDefinitionForExecution")) == 1


@pytest.mark.parametrize("kind", ["EMR", "EMRServerless"])
def test_failed_emr_step_leads_to_its_log_in_s3(
    kind: str, deferrable: bool, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """
    The entry of the step, the button and the error have the link; the entry has the id
    of the job.
    """
    steps = [{"Name": "Spark", "Type": kind, "Arguments": {}}]
    put_pipelines(
        emulator,
        {"churn-tuning": {"Version": "2020-12-01", "Steps": steps}},
        update=True,
    )
    emulator.control.put_scenario(
        {"steps": {"Spark": {"fail": {"reason": "ExitCode 1"}}}}
    )

    run = run_churn(deferrable)

    (row,) = run.xcoms["steps"]
    made = run.xcoms["outputs"]["Spark"]
    folder = (
        made["log_file_path"]
        .removeprefix("s3://aws-logs-123456789012-us-east-1/")
        .rpartition("/")[0]
    )
    url = (
        f"{CONSOLE}/s3/buckets/aws-logs-123456789012-us-east-1?region=us-east-1&prefix="
    )
    assert row["log_url"] == f"{url}{quote(folder, safe='')}%2F"
    assert run.xcoms["failed_step_log_url"] == row["log_url"]
    assert row["job_name"] == made["cluster_id" if kind == "EMR" else "job_run_id"]
    assert f"  Log: {row['log_url']}" in str(run.error).splitlines()
    page = f"{CONSOLE}/emr/home?region=us-east-1#/clusterDetails/{row['job_name']}"
    assert row["console_url"] == (page if kind == "EMR" else None)


def test_error_leads_to_the_log_of_the_failed_step(
    deferrable: bool, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """
    The error has the verdict first, and for the failed step its job, links and the last
    lines of its log.
    """
    emulator.control.put_scenario(
        {
            "steps": {
                "ChurnPreprocess": {
                    "fail": {
                        "reason": "AlgorithmError: exit code 1",
                        "log_lines": ["reading", "KeyError: '{{ x }}'\x1b[0m"],
                    }
                }
            }
        }
    )

    run = run_churn(deferrable)

    assert isinstance(run.error, PipelineExecutionFailedError)
    row = run.xcoms["steps"][0]
    lines = str(run.error).splitlines()
    assert lines[0].startswith("Pipeline churn-tuning failed after ")
    at = lines.index("Step ChurnPreprocess failed: AlgorithmError: exit code 1")
    assert [*lines[at + 1 : at + 5], *lines[at + 9 : at + 11]] == [
        f"  Job: {row['job_name']}",
        f"  Log: {CONSOLE}/cloudwatch/home?region=us-east-1#logsV2:log-groups/log-group/"
        f"$252Faws$252Fsagemaker$252FProcessingJobs$3FlogStreamNameFilter$3D{row['job_name']}$252F",
        f"  Job in the console: {CONSOLE}/sagemaker/home?region=us-east-1#/processing-jobs/{row['job_name']}",
        "  Last lines of the log:",
        "  | reading",
        "  | KeyError: '{{ x }}'\N{REPLACEMENT CHARACTER}[0m",
    ]
    assert f"Execution: {run.xcoms['execution_arn']}" in lines
    assert row["log_lines"][-2:] == [
        "reading",
        "KeyError: '{{ x }}'\N{REPLACEMENT CHARACTER}[0m",
    ]
    assert run.xcoms["failed_step_log_url"] == row["log_url"]
    assert run.xcoms["steps"][1]["state"] == "NotStarted"


@pytest.mark.parametrize(
    ("on_clear", "cure"),
    [
        ("new", f'on_clear="resume" {RESUME_BUTTON}repeats'),
        ("resume", f"That {RESUME_BUTTON}repeats only the steps"),
    ],
)
def test_log_has_all_lines_and_the_error_the_last_and_the_cure(
    on_clear: str,
    cure: str,
    deferrable: bool,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
) -> None:
    """The lines before the error have what does not fit beside the verdict."""
    lines = [f"epoch {number}" for number in range(20)]
    failure = {"reason": "AlgorithmError: exit code 1", "log_lines": lines}
    emulator.control.put_scenario({"steps": {"ChurnPreprocess": {"fail": failure}}})

    with capture_logs() as logs:
        run = run_churn(deferrable, on_clear=on_clear)

    quoted = [line for line in str(run.error).splitlines() if line.startswith("  | ")]
    assert quoted == [f"  | {line}" for line in lines[-6:]]
    assert "Next: mend the cause, then clear the task." in str(run.error)
    assert cure in str(run.error)
    text = "\n".join(f"| {line}" for line in lines)
    logged = texts_of(logs, "Step ChurnPreprocess: ")
    assert logged == [f"Step ChurnPreprocess: the last 20 lines of its log\n{text}"]


@pytest.mark.parametrize(
    ("try_number", "arguments", "text"),
    [
        (
            1,
            {},
            "Next: Airflow retries the task in 7 min. The retry starts a new execution and",
        ),
        (
            1,
            {"retry_mode": "resume"},
            "Next: Airflow retries the task in 7 min. The retry resumes the",
        ),
        (2, {"retry_mode": "resume"}, "Next: mend the cause, then clear the task."),
    ],
)
def test_error_says_what_comes_next(
    try_number: int,
    arguments: dict[str, Any],
    text: str,
    deferrable: bool,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
) -> None:
    """While retries are left, nobody has to clear the task."""
    emulator.control.put_scenario(
        {"steps": {"ChurnPreprocess": {"fail": {"reason": "x"}}}}
    )
    ti = TaskInstance("train", try_number=try_number, max_tries=1)

    run = run_churn(
        deferrable, ti=ti, retries=1, retry_delay=timedelta(minutes=7), **arguments
    )

    assert f"\n{text}" in str(run.error)
    assert ("clear the task" in str(run.error)) == (try_number == 2)


@pytest.mark.parametrize(
    ("operation", "service", "note"),
    [
        (
            LIST_STEPS,
            "sagemaker",
            "The steps of the execution could not be listed: ListPipelineExecutionSteps failed",
        ),
        (
            "DescribeLogStreams",
            "logs",
            "The log of step ChurnPreprocess could not be read: DescribeLogStreams failed",
        ),
        (
            "GetLogEvents",
            "logs",
            "The log of step ChurnPreprocess could not be read: GetLogEvents failed",
        ),
        ("DescribePipelineDefinitionForExecution", "sagemaker", None),
    ],
)
def test_each_permission_is_optional(
    deferrable: bool,
    operation: str,
    service: str,
    note: str | None,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
) -> None:
    """
    Without a permission, one line says what is missing, and everything else works.
    """
    emulator.control.put_scenario(
        {"steps": {"ChurnPreprocess": {"fail": {"reason": "no data"}}}}
    )
    deny(emulator, operation, service)

    with capture_logs() as log:
        run = run_churn(deferrable)

    assert isinstance(run.error, PipelineExecutionFailedError)
    if note is None:
        assert [row["name"] for row in run.xcoms["steps"]] == ["ChurnPreprocess"]
        assert run.xcoms["run"]["steps_note"] is None
        assert (
            len(
                texts_of(log, "The steps are shown as soon as they begin, not before: ")
            )
            == 1
        )
        return
    assert note in run.xcoms["run"]["steps_note"]
    assert (
        len([line for line in str(run.error).splitlines() if line.startswith(note)])
        == 1
    )
    if operation == LIST_STEPS:
        assert {row["state"] for row in run.xcoms["steps"]} == {"NotStarted"}
        assert len(texts_of(log, "The log has no lines about steps: ")) == 1
    else:
        assert "Step ChurnPreprocess failed: no data" in str(run.error)


@IN_BOTH_MODES
def test_throttled_lists_do_not_disturb_the_wait(
    deferrable: bool, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """
    While AWS throttles the lists, the task waits and ends in time, without an error.
    """
    emulator.control.put_scenario(SHORT)
    emulator.control.add_fault("throttle", LIST_STEPS, count=5)

    run = run_churn(deferrable)

    assert run.error is None
    assert len(run.xcoms["outputs"]) == 5


@pytest.mark.parametrize(
    "arguments",
    [
        {"progress_interval": 5},
        {"progress_interval": "60"},
        {"progress_interval": True},
    ],
)
def test_arguments_are_checked_when_the_dag_is_parsed(
    arguments: dict[str, Any],
) -> None:
    """The error names the argument, its value and what is valid."""
    ((name, value),) = arguments.items()
    with pytest.raises(
        ParametersError, match=f"{name} = {value!r} is not valid: give a "
    ):
        PolysyncStartPipelineOperator(task_id="t", pipeline_name="p", **arguments)


@IN_BOTH_MODES
def test_stop_shows_the_execution_that_it_stops(
    deferrable: bool, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
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

    emulated_time.after(1, look)
    run = run_task(task)

    assert seen == [("Running", "Stopping")]
    record = run.xcoms["run"]
    assert (record["execution_arn"], record["pipeline_name"]) == (arn, "churn-tuning")
    assert (record["state"], record["status"], run.xcoms["state"]) == (
        "Cancelled",
        "Stopped",
        "Cancelled",
    )
    assert record["started_at"] < record["ended_at"]
    assert record["seconds"] > 0


def test_stop_shows_an_execution_that_has_ended(
    emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """With its times and its end, although the task has waited for nothing."""
    started = run_churn(False)

    run = run_task(
        PolysyncStopPipelineOperator(task_id="stop", execution_arn=started.result)
    )

    keys = ("state", "status", "started_at", "ended_at")
    assert {key: run.xcoms["run"][key] for key in keys} == {
        key: started.xcoms["run"][key] for key in keys
    }


def test_mapped_tasks_are_named_by_their_pipelines() -> None:
    """
    Unless the author has set another template, or all of them start the same pipeline.
    """
    partial = PolysyncStartPipelineOperator.partial
    assert partial(task_id="a").kwargs["map_index_template"] == MAP_INDEX_TEMPLATE
    assert (
        partial(task_id="b", map_index_template="{{ 1 }}").kwargs["map_index_template"]
        == "{{ 1 }}"
    )
    assert (
        partial(task_id="c", pipeline_name="churn").kwargs.get("map_index_template")
        is None
    )
