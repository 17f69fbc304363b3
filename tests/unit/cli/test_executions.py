"""
``polysync executions``: what it lists and shows, whom it asks before a stop, and how a
watch ends.
"""

from __future__ import annotations

import json
import re
from functools import partial
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import BaseOperator

from polysync_airflow.aws import job_logs
from polysync_airflow.cli.executions import LOG_DELAY_SECONDS
from polysync_airflow.operators import PolysyncStartPipelineOperator
from tests.tasks import EmulatedTime, TaskInstance, run_task
from tests.unit.cli.conftest import FAILURE, Executions, Terminal
from tests.world import DESCRIBE, LIST, LIST_STEPS, STOP, deny

ACCOUNT = "123456789012"
pytestmark = pytest.mark.usefixtures("emulated_waits")


def start_as_a_task() -> str:
    """Let a task start an execution, and return its ARN."""
    task: BaseOperator = PolysyncStartPipelineOperator(
        task_id="train", pipeline_name="fanout", wait_for_completion=False
    )
    return str(run_task(task, TaskInstance("train")).result)


def test_list_has_the_newest_first(executions: Executions) -> None:
    """
    Executions of all pipelines are sorted by their start. The table fits 160
    characters; --wide has the ARN in full, and AWS's status.
    """
    executions.control.put_scenario(FAILURE)
    arns: list[str] = []
    for pipeline in ("fanout", "churn-tuning", "fanout"):
        arns.insert(
            0, executions.start(pipeline, PipelineExecutionDisplayName=f"of-{pipeline}")
        )
        executions.control.advance(3600)

    done = executions("list")
    wide = executions("list", "--wide")
    document = executions("list", "--output", "json").document
    limited = executions("list", "--pipeline=fanout", "--max-executions=1")

    head, *lines = done.out.splitlines()
    assert done.code == 0
    summary = "3 executions of 5 pipelines in us-east-1; --wide adds their ARNs"
    assert done.error == summary
    assert head.split("  ")[0] == "STATE"
    assert re.fullmatch(
        r"Failed +20\d\d-\d\d-\d\d \d\d:\d\d:\d\d +[0-9a-z ]+ +fanout/[0-9a-z]+ +Shard3",
        lines[0],
    )
    _, *wide_lines = wide.out.splitlines()
    assert [line.split()[-1] for line in wide_lines] == arns
    assert wide_lines[0].split()[-3:-1] == ["Failed", "of-fanout"]
    rows = document["executions"]
    assert [row["execution_arn"] for row in rows] == arns
    assert document["version"] == 1
    assert rows[0]["status"] == "Failed"
    assert rows[0]["failed_steps"] == ["Shard3"]
    assert rows[0]["seconds"] > 0
    assert limited.out.split()[-8:] == lines[0].split()[-8:]
    there_are_more = "there are more: give --max-executions"
    assert limited.error.endswith(f"ARNs; {there_are_more}")


def listed(executions: Executions, *options: str) -> list[str]:
    """Return the ARNs of a list."""
    done = executions("list", "--output", "json", *options)
    assert done.code == 0, done.err
    return [row["execution_arn"] for row in done.document["executions"]]


def test_list_finds_the_executions_of_a_task_exactly(executions: Executions) -> None:
    """
    By DAG, task and run, which the description has. The table fits whatever they are,
    and has their ends.
    """
    arn = start_as_a_task()
    executions.control.advance(60)
    executions.start(PipelineExecutionDescription="Airflow: dags/retraining")
    page = f"dags/{'d' * 100}/runs/{'r' * 99}x/tasks/train/mapped/3"
    long = executions.start(PipelineExecutionDescription=f"Airflow: {page}")

    run = "scheduled__2026-01-01T00:00:00+00:00"
    options = ("--dag", "retraining", "--task", "train", "--run", run)
    assert listed(executions, *options) == [arn]
    assert listed(executions, "--dag", "retrain") == []
    assert listed(executions, "--run", "scheduled") == []
    assert listed(executions, "--task", "train") == [long, arn]
    lines = executions("list", "--task=train").out.splitlines()
    assert max(map(len, lines)) == 160
    task = r"d+\N{HORIZONTAL ELLIPSIS}d+/train\[3\]"
    assert re.search(rf"{task} +r+\N{{HORIZONTAL ELLIPSIS}}r+x$", lines[1])
    assert re.search(
        rf"fanout/[0-9a-z]+ +retraining/train +{re.escape(run)}$", lines[2]
    )
    wide = executions("list", "--task=train", "--wide").out
    assert f"{'d' * 100}/train[3]  {'r' * 99}x" in wide


def test_list_fits_a_narrow_terminal(
    executions: Executions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name that people copy is whole."""
    page = f"dags/{'d' * 100}/runs/{'r' * 100}/tasks/train"
    arn = executions.fail(PipelineExecutionDescription=f"Airflow: {page}")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)

    lines = executions("list").out.splitlines()

    assert max(map(len, lines)) <= 80
    assert lines[1].endswith(f"  fanout/{arn.rpartition('/')[2]}")
    assert lines[2].startswith(f"    task {'d' * 60}")


def test_list_says_what_it_may_not_read(executions: Executions) -> None:
    """Neither a duration nor a failed step is made up. An outage is no refusal."""
    executions.fail()
    outage = {"code": "InternalFailure", "message": "no", "status": 500, "count": 2}
    executions.control.add_fault("error", DESCRIBE, **outage)
    assert "not known" not in executions("list").out
    for operation, missing in (
        (DESCRIBE, ["durations", "failed steps"]),
        (LIST_STEPS, ["failed steps"]),
    ):
        deny(executions.emulator, operation, count=1)

        done = executions("list")

        assert done.code == 0
        assert done.out.splitlines()[1].split("  ")[-1].strip() == "not known"
        assert done.out.count("not known") == len(missing)
        warning = f"warning: {', '.join(missing)}: not known, AccessDenied:"
        assert f"{warning} sagemaker:{operation}\n" in done.err


def test_list_is_limited_by_pipeline_prefix_state_and_age(
    executions: Executions,
) -> None:
    """By pipeline, prefix, state and age; what is older is not asked for."""
    old = executions.start()
    executions.control.advance(48 * 3600)
    new = executions.start()
    other = executions.start("churn-tuning")
    arn = f"arn:aws:sagemaker:us-east-1:{ACCOUNT}:pipeline/fanout"

    assert listed(executions, "--pipeline", "fanout") == [new, old]
    assert listed(executions, "--pipeline", arn) == [new, old]
    assert listed(executions, "--prefix", "churn-") == [other]
    assert listed(executions, "--state", "Success") == [old]
    assert {*listed(executions, "--since", "1d")} == {new, other}
    (call,) = executions.control.calls(LIST)[-1:]
    assert call["request"]["CreatedAfter"]


def test_list_reads_few_pages(
    executions: Executions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A state that no new execution has does not make it read all executions of a
    pipeline.
    """
    monkeypatch.setattr("polysync_airflow.hooks.executions.PAGE_SIZE", 1)
    monkeypatch.setattr("polysync_airflow.cli.execution_list.MAX_LISTED", 10)
    for _ in range(11):
        executions.start()

    done = executions("list", "--pipeline=fanout", "--state=Cancelled")

    assert done.code == 0
    assert done.out == ""
    assert len(executions.control.calls(LIST)) == 10


NO_PIPELINE = "there is no such pipeline in region us-east-1."


@pytest.mark.parametrize(
    ("option", "problem"),
    [
        (
            ("--pipeline", "fanuot"),
            f"--pipeline 'fanuot': {NO_PIPELINE} Did you mean fanout?",
        ),
        (
            ("--prefix", "chrun-"),
            f"--prefix 'chrun-': {NO_PIPELINE} Did you mean churn-tuning?",
        ),
        (
            ("--prefix", "zzz"),
            f"--prefix 'zzz': {NO_PIPELINE} Pipelines there: abalone, "
            "callback-lambda, churn-tuning, fanout, scoring-required-params.",
        ),
        (("--pipeline", "a b"), "'a b' is not valid as pipeline names"),
        (
            ("--state", "failed"),
            "argument --state: invalid choice: 'failed' (choose from 'Running', "
            "'Waiting', 'Success', 'Failed', 'Cancelled', 'Unknown'). Did you mean Failed?",
        ),
        (
            ("--since", "1m"),
            "argument --since: '1m' is no age: give days or hours, such as 30d or 12h.",
        ),
        (
            ("--max-executions", "0"),
            "argument --max-executions: give a whole number from 1 to 1,000.",
        ),
    ],
)
def test_list_of_nothing_is_an_error(
    option: tuple[str, str], problem: str, executions: Executions
) -> None:
    """A misspelled name names those that are near."""
    done = executions("list", *option)

    assert problem in done.refusal


@pytest.mark.usefixtures("airflow_database")
def test_show_says_why_an_execution_and_its_steps_failed(
    executions: Executions,
) -> None:
    """
    It says how the execution ended and why, and of each step its state, reason, job and
    log.
    """
    arn = executions.fail(PipelineParameters=[{"Name": "Shards", "Value": "2"}])

    done = executions("show", arn)
    document = executions("show", arn, "--output", "json").document

    assert done.code == 0
    assert done.err == ""
    assert done.out.startswith("Pipeline fanout failed after ")
    assert "(AWS status Failed)" in done.out
    assert f"Execution: {arn}\n" in done.out
    assert re.search(
        r"^Started at: (\S+)T\S+\+00:00\nEnded at: \1T\d\d:\d\d:\d\d\+00:00$",
        done.out,
        re.MULTILINE,
    )
    sagemaker_console = "https://us-east-1.console.aws.amazon.com/sagemaker/home"
    page = f"#/pipelines/fanout/executions/{arn}"
    console = f"{sagemaker_console}?region=us-east-1{page}"
    assert done.out.count(console) >= 1
    lines = done.out.splitlines()
    assert lines[1].startswith("Reason: ")
    assert lines[2].startswith("Step Shard3 failed: ")
    assert lines[2].endswith("no data")
    assert "  Log: https://us-east-1.console.aws.amazon.com/cloudwatch/" in lines[4]
    end_of_log = lines.index("  Last lines of the log:") + 6
    assert lines[end_of_log].startswith("  | RuntimeError: ")
    assert lines[end_of_log + 1] == f"Execution: {arn}"
    assert re.search(r"^Shard3 +Failed +[0-9a-z ]+ pipelines-", done.out, re.MULTILINE)
    assert re.search(r"^Merge +NotStarted$", done.out, re.MULTILINE)
    # Each fact is there once.
    assert done.out.count(arn) == 1 + done.out.count(console)
    assert done.out.count("no data") == 2
    assert '"Shards": "2"' in done.out
    assert document["state"] == "Failed"
    assert document["status"] == "Failed"
    assert document["failed_steps"] == ["Shard3"]
    assert document["parameters"]["Shards"] == "2"
    assert document["console_url"] == console
    steps = {row["name"]: row for row in document["steps"]}
    assert steps["Shard3"]["log_url"].startswith("https://us-east-1.console")
    assert document["seconds"] > 0


# The other jobs of the pipeline cost nothing.
PRICES = {
    "currency": "USD",
    "date": "2026-11-01",
    "prices": {"us-east-1": {"ml.m5.large": 0, "ml.m5.xlarge": 3600}},
}


def test_show_has_the_cost_of_a_tuning_step_as_its_task_has(
    executions: Executions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Four training jobs ran for 500 seconds each. A task and the command count all of
    them.
    """
    monkeypatch.setenv("AIRFLOW__POLYSYNC_SAGEMAKER__HOURLY_PRICES", json.dumps(PRICES))
    executions.control.put_scenario({"steps": {"ChurnTune": {"duration": 1060}}})
    task = PolysyncStartPipelineOperator(task_id="tune", pipeline_name="churn-tuning")

    run = run_task(task)
    shown = executions("show", run.result)
    document = executions("show", run.result, "--output", "json").document

    summary = run.xcoms["run"]
    assert summary["cost"]["amount"] == 4 * 500
    assert summary["cost"]["note"] is None
    assert run.xcoms["outputs"]["ChurnTune"]["billable_seconds"] == 4 * 500
    for member in ("cost", "billable_seconds", "billable_seconds_by_instance_type"):
        assert document[member] == summary[member]
    lines = shown.out.splitlines()
    assert "Estimated cost: 2,000.00 USD, by prices of 2026-11-01." in lines
    # Property files may be large, and nothing is shown of them.
    assert [
        call for call in executions.control.calls() if call["service"] == "s3"
    ] == []


def test_list_has_the_costs_of_the_newest_executions_that_have_ended(
    executions: Executions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Only their jobs are described, each once; without prices, AWS is asked for nothing.
    """
    executions.control.put_scenario({"steps": {"ChurnTune": {"duration": 1060}}})
    for _ in range(3):
        executions.start("churn-tuning")
        executions.control.advance(7200)
    executions.start("churn-tuning")
    options = "list", "--pipeline=churn-tuning", "--costs=2"

    refused = executions(*options)
    assert "--costs needs the prices of instances" in refused.refusal
    assert executions.control.calls(LIST) == []
    monkeypatch.setenv("AIRFLOW__POLYSYNC_SAGEMAKER__HOURLY_PRICES", json.dumps(PRICES))
    listed = executions(*options)
    tuning_jobs = executions.control.calls("DescribeHyperParameterTuningJob")
    document = executions(*options, "--output=json").document

    lines = listed.out.splitlines()
    assert lines[0].endswith("FAILED STEP  COST")
    cost = re.compile(r" 2,000.00 USD, as of \d{4}-\d\d-\d\d \d\d:\d\d$")
    assert [bool(cost.search(line)) for line in lines[1:]] == [0, 1, 1, 0]
    assert len(tuning_jobs) == 2
    costs = [row.get("cost") for row in document["executions"]]
    assert [cost and cost["amount"] for cost in costs] == [None, 2000, 2000, None]


def test_start_of_a_task_is_shown(executions: Executions) -> None:
    """
    By the name that Start gives it, the DAG, the task and the DAG run are shown, and
    its page where its address is known. A step that runs has its duration until now.
    """
    arn = start_as_a_task()
    executions.control.advance(100)
    page = "https://airflow.example.com/dags/retraining/runs/first/tasks/train"
    linked = executions.start(PipelineExecutionDescription=f"Mine. Airflow: {page}")

    done = executions("show", arn)

    text = f"Airflow task: retraining/train/first\nAirflow page: {page}\n"
    assert text in executions("show", linked).out
    assert done.code == 0
    assert done.out.startswith("Pipeline fanout: Running (AWS status Executing).\n")
    task = "retraining/train/scheduled__2026-01-01T00:00:00+00:00"
    assert f"Airflow task: {task}\n" in done.out
    assert "Ended at" not in done.out
    assert "Airflow page" not in done.out
    lines = done.out.splitlines()
    assert any(re.match(r"Shard0 +Running +1 min 3\d s ", line) for line in lines)
    assert lines[-1] == "Merge   NotStarted"


@pytest.mark.usefixtures("airflow_database")
def test_show_never_states_what_it_may_not_read(executions: Executions) -> None:
    """
    It says that this is not known, which permission is missing, and all else; a watch
    ends with the same.
    """
    arn = executions.fail()
    operations = LIST_STEPS, "ListPipelineParametersForExecution"
    deny(executions.emulator, *operations, count=9)

    done = executions("show", arn)
    shown = executions("show", arn, "--output", "json")
    watched = executions("watch", arn)

    refusal = "AccessDenied: sagemaker:ListPipelineExecutionSteps"
    assert done.code == shown.code == 2
    assert watched.code == 1
    for result in (done, watched):
        assert f"\nSteps: not known, {refusal}\n" in result.out
        assert result.err.count("warning: ") == 2
        assert "NotStarted" not in result.out
    assert "Parameters: not known, AccessDenied: sagemaker:List" in done.out
    document = shown.document
    assert document["not_known"]["steps"] == refusal
    for name in ("steps", "failed_steps", "parameters"):
        assert document[name] is None


def test_logs_are_those_of_the_step(executions: Executions) -> None:
    """At most so many of the last lines; other names and steps without a log are errors."""
    arn = executions.fail()

    done = executions("logs", arn, "Shard3")
    short = executions("logs", arn, "Shard3", "--lines", 1)
    document = executions("logs", arn, "Shard3", "--output=json").document
    misspelt = executions("logs", arn, "Shrad3")
    unknown = executions("logs", arn, "Evaluate")

    assert done.code == 0
    assert done.out.startswith("Starting the container of ")
    assert short.out.splitlines() == done.out.splitlines()[-1:]
    assert short.out.startswith("RuntimeError: ")
    assert document["lines"] == done.out.splitlines()
    assert document["log_url"].startswith("https://us-east-1.console")
    assert misspelt.refusal.endswith("has begun. Did you mean Shard3?")
    assert unknown.refusal.endswith("Steps that have begun: Shard0, Shard3.")


def test_logs_of_a_step_without_a_job_are_refused(executions: Executions) -> None:
    """A condition writes none."""
    url = {"Name": "InputDataUrl", "Value": "s3://ml-bucket/abalone.csv"}
    arn = executions.start("abalone", PipelineParameters=[url])
    executions.control.advance(7200)

    done = executions("logs", arn, "AbaloneMSECond")
    both = executions("logs", arn, "x", "--follow", "--output=json")

    assert "or one that writes no log to CloudWatch Logs" in done.refusal
    assert "--follow writes text" in both.refusal


@pytest.mark.parametrize("advance", [0, 3600])
def test_logs_of_a_step_that_has_not_begun(
    executions: Executions, emulated_time: EmulatedTime, advance: int
) -> None:
    """It is no misspelt one. --follow waits for it, while the execution runs."""
    executions.control.put_scenario(FAILURE)
    arn = executions.start()
    executions.control.advance(10 + advance)

    refused = executions("logs", arn, "Merge")
    waited = executions("logs", arn, "Merge", "--follow")

    problem = "Step Merge has not begun. Steps that have begun: Shard0, Shard"
    assert problem in refused.refusal
    assert problem in waited.err
    assert waited.code == 2
    if not advance:
        executions.control.put_scenario({})
        running = executions.start()
        followed = executions("logs", running, "Merge", "--follow")
        whole = executions("logs", running, "Merge")
        assert (followed.code, problem in followed.err) == (0, False)
        assert "Step Merge has not begun" in followed.err
        assert followed.out.splitlines() == whole.out.splitlines() != []


@pytest.mark.parametrize("lines_of_a_call", [10_000, 1])
def test_logs_are_followed_until_the_step_ends(
    executions: Executions,
    emulated_time: EmulatedTime,
    monkeypatch: pytest.MonkeyPatch,
    lines_of_a_call: int,
) -> None:
    """
    Each line is printed once, also those from before, and those that CloudWatch stores
    after the end, however many calls they need.
    """
    monkeypatch.setattr(job_logs, "MAX_LINES", lines_of_a_call)
    arn = executions.start()
    executions.control.advance(4)

    followed = executions("logs", arn, "Shard0", "--follow", "--lines=1")
    whole = executions("logs", arn, "Shard0")

    assert followed.code == 0, followed.err
    assert emulated_time.slept[-1] == LOG_DELAY_SECONDS
    lines = whole.out.splitlines()
    assert followed.out.splitlines() == lines
    assert lines[-1] == "Done"


@pytest.mark.parametrize("step", ["Shard0", None])
def test_logs_are_followed_through_an_outage(
    executions: Executions, emulated_time: EmulatedTime, step: str | None
) -> None:
    """It ends neither the command nor loses a line. A lasting refusal ends it."""
    arn = executions.start()
    executions.control.advance(4)
    add_fault = executions.control.add_fault
    remove_faults = executions.control.remove_faults
    emulated_time.after(15, lambda: add_fault("http", status=503))
    emulated_time.after(1200, remove_faults)
    options = [step, "--follow"] if step else ["--follow"]

    followed = executions("logs", arn, *options)
    whole = executions("logs", arn, "Shard0")

    assert followed.code == 0, followed.err
    assert "warning: ListPipelineExecutionSteps failed: 503" in followed.err
    for line in whole.out.splitlines():
        assert followed.out.count(line) >= 1
    running = executions.start()
    executions.control.advance(4)
    emulated_time.after(15, lambda: deny(executions.emulator, LIST_STEPS))
    assert executions("logs", running, *options).code == 2


def test_logs_of_all_running_jobs_are_followed_until_the_execution_ends(
    executions: Executions, emulated_time: EmulatedTime
) -> None:
    """Each line is printed once, below the name of its step."""
    arn = executions.start()

    others = executions("logs", arn, "--follow")

    assert others.code == 0, others.err
    written: dict[str, list[str]] = {}
    for line in others.out.splitlines():
        if line.startswith("Step "):
            lines = written.setdefault(line.split()[1].rstrip(":"), [])
        else:
            lines.append(line.removeprefix("| "))
    for step in ("Shard0", "Shard3", "Merge"):
        assert written[step] == executions("logs", arn, step).out.splitlines()
    assert "name a STEP" in executions("logs", arn).err


@pytest.mark.parametrize(
    ("answer", "options", "code"),
    [
        ("y\n", (), 0),
        ("Yes\n", (), 0),
        ("\n", (), 1),
        ("", (), 1),
        (None, (), 2),
        (None, ("--yes",), 0),
    ],
)
def test_stop_asks_a_person(
    answer: str | None,
    options: tuple[str, ...],
    code: int,
    executions: Executions,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    A script must say --yes. All are told which task fails by the stop, before AWS is
    asked for it.
    """
    arn = start_as_a_task()
    monkeypatch.setattr("sys.stdin", Terminal(answer))

    done = executions("stop", arn, *options)

    assert done.code == code
    name = "retraining/train/scheduled__2026-01-01T00:00:00+00:00"
    assert f"is that of an Airflow task: {name}" in done.err
    assert "The task will fail, or do what its on_cancelled says." in done.err
    assert ("add --yes" in done.error) == (code == 2)
    assert len(executions.control.calls(STOP)) == (code == 0)
    asked = f"The execution was asked to stop. {arn}\n"
    assert done.out == (asked if code == 0 else "")


@pytest.mark.parametrize(
    ("word", "operation"), [("show", LIST_STEPS), ("stop", STOP), ("watch", DESCRIBE)]
)
def test_throttled_calls_are_made_again(
    word: str, operation: str, executions: Executions
) -> None:
    """Somebody waits for the answer: for a minute at most."""
    arn = executions.start()
    executions.control.add_fault("throttle", operation, count=5)

    done = executions(word, arn, *["--yes"] * (word == "stop"))

    assert done.code == 0
    assert f"AWS throttles {operation}: asking again in 5 s\n" in done.err

    executions.control.add_fault("throttle", DESCRIBE, count=100)
    late = executions(word, arn)
    assert late.code == 2
    assert late.error.startswith("error: DescribePipelineExecution failed: Throttling")
    assert late.err.count("asking again") == 12


def test_execution_that_is_being_stopped(executions: Executions) -> None:
    """
    Its state is that of the tab and the page, and it is among those that run; programs
    get the two of XCom.
    """
    arn = executions.start()
    executions.control.advance(10)
    executions("stop", arn, "--yes")

    listed = executions("list", "--state", "Running")
    shown = executions("show", arn)
    document = executions("show", arn, "--output=json").document

    assert listed.out.splitlines()[1].startswith("Stopping  ")
    assert shown.out.startswith("Pipeline fanout: Stopping (AWS status Stopping).\n")
    assert (document["state"], document["status"]) == ("Running", "Stopping")


def test_list_says_how_to_leave_out_what_may_not_be_read(
    executions: Executions,
) -> None:
    """A policy may allow some of the pipelines only."""
    deny(executions.emulator, LIST)
    choice = "Or list only what the identity may read: --prefix, --pipeline"

    assert executions("list").error.endswith(choice)
    one = executions("list", "--pipeline", "fanout")
    assert "AccessDeniedException" in one.error
    assert choice not in one.error


def test_stop_prints_one_json_document(executions: Executions) -> None:
    """
    A script learns the status, and whether a stop was needed; an execution of nobody's
    is said to be so.
    """
    arn = executions.start()

    done = executions("stop", arn, "--yes", "--output", "json")
    again = executions("stop", arn, "--output", "json")

    first = done.document
    second = again.document
    assert done.code == 0
    assert first["status"] == "Stopping"
    assert first["stop"] == "The execution was asked to stop."
    assert "No Airflow task owns it, as far as its name says." in done.err
    assert again.code == 0
    assert second["stop"].split(":")[0] == "No stop was needed"
    assert first["airflow_task"] is None


@pytest.mark.parametrize(
    ("scenario", "code", "end"),
    [({}, 0, "succeeded"), (FAILURE, 1, "failed"), ({"stop": True}, 1, "was stopped")],
)
def test_watch_ends_with_the_execution(
    scenario: dict[str, Any],
    code: int,
    end: str,
    executions: Executions,
    emulated_time: EmulatedTime,
) -> None:
    """
    Each change is a line when it is seen; then comes how it has ended, with the last
    lines of the failed step's log. The exit code is that of the end.
    """
    executions.control.put_scenario(
        {key: value for key, value in scenario.items() if key == "steps"}
    )
    arn = executions.start()
    if "stop" in scenario:
        stop = executions.sagemaker.stop_pipeline_execution
        emulated_time.after(60, partial(stop, PipelineExecutionArn=arn))

    done = executions("watch", arn)

    assert done.code == code, done.err
    lines = done.out.splitlines()
    assert lines[0].endswith(f"Executing: Pipeline fanout, execution {arn}")
    assert sum("Step Shard0 started" in line for line in lines) == 1
    assert any(line.startswith(f"Pipeline fanout {end} after ") for line in lines)
    is_failure = "steps" in scenario
    assert ("no data" in done.out) == is_failure
    assert ("  | RuntimeError: " in "\n".join(lines[-4:])) == is_failure


def test_watch_ends_with_one_json_document(executions: Executions) -> None:
    """stdout has one document at the end; the changes are on stderr."""
    arn = executions.start()

    done = executions("watch", arn, "--output", "json")

    assert done.code == 0
    assert done.document["state"] == "Success"
    assert "Step Merge succeeded after" in done.err


def test_watch_goes_on_after_a_lost_response(executions: Executions) -> None:
    """
    A failure of AWS while it watches is a line; that the identity may not look any more
    is an error.
    """
    arn = executions.start()
    executions.control.add_fault(
        "error",
        DESCRIBE,
        code="InternalFailure",
        message="no",
        status=500,
        count=2,
        skip=1,
    )

    done = executions("watch", arn)
    deny(executions.emulator, DESCRIBE, skip=1)
    refused = executions("watch", executions.start())

    assert done.code == 0
    assert "Poll failed, retrying: " in done.out
    assert refused.code == 2
    assert "Allow sagemaker:DescribePipelineExecution" in refused.error


def test_interrupted_watch_stops_nothing(
    executions: Executions, emulated_time: EmulatedTime
) -> None:
    """
    Ctrl-C ends the command, which says that the execution goes on, and stops nothing.
    """
    arn = executions.start()

    def interrupt() -> None:
        raise KeyboardInterrupt

    emulated_time.after(15, interrupt)
    done = executions("watch", arn)

    assert done.code == 130
    assert done.err == f"The execution goes on: {arn}\nerror: interrupted\n"
    assert executions.control.calls(STOP) == []


def test_names_write_no_control_characters(executions: Executions) -> None:
    """Control characters in a description reach no terminal, however written."""
    page = "dags/x%1B%5B2J/runs/r/tasks/t"
    for description in ("x\x1b[2Jx", f"Airflow: {page}"):
        arn = executions.start(PipelineExecutionDescription=description)

        shown = executions("show", arn)
        listed = executions("list")

        assert "\x1b" not in shown.out + shown.err + listed.out
    assert "Airflow task: x\N{REPLACEMENT CHARACTER}[2J/t/r\n" in shown.out
