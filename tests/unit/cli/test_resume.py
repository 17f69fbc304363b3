"""
What ``polysync executions`` does with the tasks in Airflow's own database: resume one,
and list those without an execution.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from polysync_airflow.airflow_compat import xcoms
from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.cli import resume
from polysync_airflow.execution.lifecycle.capacity import CapacityWait
from polysync_airflow.execution.lifecycle.instructions import TaskKey
from polysync_airflow.execution.texts import format_seconds
from polysync_airflow.records.keys import variable_key
from polysync_airflow.records.serialization import to_variable
from polysync_airflow.testing import dag_files
from sagemaker_emulator.builders import definition, step
from tests.tasks import EmulatedTime
from tests.unit.cli.conftest import Executions, Terminal
from tests.unit.execution.lifecycle.builders import stored
from tests.unit.ui.stored_tasks import pause, remove_task, stored_variable
from tests.world import RETRY

if not CAPABILITIES.react_apps:
    pytest.skip("this Airflow has no such endpoint", allow_module_level=True)

pytestmark = pytest.mark.usefixtures("emulated_waits")
DAG_FILE = """
from airflow.providers.common.compat.sdk import DAG
from airflow.providers.standard.operators.empty import EmptyOperator
from polysync_airflow.operators import PolysyncStartPipelineOperator
from polysync_airflow.task_groups import PolysyncPipelineTaskGroup

with DAG("nightly", schedule=None):
    train = PolysyncStartPipelineOperator(task_id="train", pipeline_name="fanout")
    group = PolysyncPipelineTaskGroup(
        "steps", pipeline_name="fanout", definition="fanout.json"
    )
    [train, group] >> EmptyOperator(task_id="report")
"""
KEY = TaskKey("nightly", "manual__1", "train", -1)
States = dict[str, str | None]


@pytest.fixture
def states(
    airflow_database: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., States]]:
    """
    Store a DAG run as Airflow does, all of whose tasks have failed. Return a function
    that sets states of its tasks, and returns all.
    """
    from airflow.api.common.delete_dag import delete_dag
    from airflow.models.dagrun import DagRun
    from airflow.models.serialized_dag import SerializedDagModel
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.variable import Variable
    from airflow.utils.session import create_session
    from airflow.utils.types import DagRunTriggeredByType, DagRunType

    monkeypatch.setattr(sys, "path", [*sys.path])
    fanout = definition(step("Shard0"), step("Shard3"))
    (tmp_path / "fanout.json").write_text(fanout)
    path = tmp_path / "dag.py"
    path.write_text(DAG_FILE)
    bag = dag_files._parse(path)
    assert not bag.import_errors
    dag_files._store(bag)
    with create_session() as session:
        dag: Any = SerializedDagModel.get_dag("nightly", session=session)
        dag.create_dagrun(
            run_id=KEY.run_id,
            run_type=DagRunType.MANUAL,
            triggered_by=DagRunTriggeredByType.CLI,
            run_after=stored().incarnation.dag_run_started_at,
            state="failed",
            session=session,
        )

    def change(**new: str | None) -> States:
        with create_session() as session:
            tasks = session.query(TaskInstance).filter_by(dag_id="nightly").all()
            # From Airflow 3.4 on, earlier tries have rows, too.
            tasks = [each for each in tasks if getattr(each, "working_set", True)]
            for task in tasks:
                task.state = new.get(task.task_id, task.state)
                task.try_number = max(task.try_number, 1)
                task.end_date = stored().incarnation.dag_run_started_at
            run = session.query(DagRun).filter_by(dag_id="nightly").one()
            return {"run": run.state, **{each.task_id: each.state for each in tasks}}

    all_failed = dict.fromkeys(change(), "failed")
    change(**all_failed)
    yield change
    with create_session() as session:
        for model in (TaskInstance, DagRun, Variable):
            # By the table: from Airflow 3.4 on, a query of the model leaves out the
            # rows of earlier tries.
            session.execute(model.__table__.delete())
    delete_dag("nightly")


def give_to_task(arn: str, key: TaskKey = KEY, **members: Any) -> None:
    """Store the record of a task that has started an execution."""
    from airflow.models.variable import Variable

    record = stored(execution_arn=arn, **members)
    Variable.set(variable_key(key), to_variable(record, key))


def choice_of(key: TaskKey = KEY) -> Any:
    """Return what somebody chose for the next clear."""
    return json.loads(stored_variable(key)[0])["record"].get("clear_choice")


def short_name(arn: str) -> str:
    """Return the name that a person copies from a list."""
    return f"fanout/{arn.rpartition('/')[2]}"


def page_of(key: TaskKey) -> str:
    return f"Airflow: dags/{key.dag_id}/runs/{key.run_id}/tasks/{key.task_id}"


def test_task_is_cleared_to_resume(executions: Executions, states: Any) -> None:
    """
    With those after it, as by the tab's button. Its name is found in the list. Nothing
    is sent to AWS.
    """
    from airflow.models.log import Log
    from airflow.utils.session import create_session

    arn = executions.fail(PipelineExecutionDescription=page_of(KEY))
    give_to_task(arn)
    name = short_name(arn)
    assert name in executions("list", "--state", "Failed").out

    done = executions("resume", name, "--yes", "--output", "json")

    assert done.code == 0, done.err
    assert "This clears 2 tasks: nightly/train" in done.err
    now = states()
    assert (now["run"], now["train"], now["report"]) == ("queued", None, None)
    assert now["steps.execution"] == "failed"
    assert choice_of() == {"on_clear": "resume"}
    assert done.document["cleared_tasks"] == 2
    assert "the next try of nightly/train resumes" in done.document["resume"]
    assert executions.control.calls(RETRY) == []
    with create_session() as session:
        (row,) = session.query(Log).filter_by(event="post_clear_task_instances")
        assert (row.dag_id, row.run_id) == (KEY.dag_id, KEY.run_id)


def test_group_clears_the_tasks_of_its_failed_steps(
    executions: Executions, states: Any
) -> None:
    """As the tab: those that have succeeded are kept."""
    key = replace(KEY, task_id="steps.execution")
    arn = executions.fail()
    give_to_task(arn, key)
    states(**{"steps.Shard0": "success", "steps.begin": "success"})

    # Neither the description nor the name says whose it is: the records do.
    assert executions("resume", arn, "--yes").code == 0

    now = states()
    cleared = {name for name, state in now.items() if state is None}
    assert cleared == {"steps.execution", "steps.Shard3", "report"}
    assert (choice_of(key), now["train"]) == ({"on_clear": "resume"}, "failed")


def test_paused_dag_is_named_before_the_question(
    executions: Executions, states: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing runs of what is cleared, until somebody unpauses the DAG."""
    from airflow.models.dag import DagModel
    from airflow.utils.session import create_session

    arn = executions.fail()
    give_to_task(arn)
    with create_session() as session:
        session.query(DagModel).filter_by(dag_id="nightly").one().is_paused = True
    monkeypatch.setattr("sys.stdin", Terminal("n\n"))

    declined = executions("resume", arn)

    assert (declined.code, states()["train"]) == (1, "failed")
    assert "The DAG nightly is paused: nothing of that runs before" in declined.err


def test_refused_clear_withdraws_the_choice(
    executions: Executions, states: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a clear of next week would resume."""
    arn = executions.fail()
    give_to_task(arn)
    states(report="running")
    assert executions("resume", arn, "--yes").code == 2
    states(report="failed")
    before = states()

    def run_report(*_: Any) -> None:
        states(report="running")
        return real(*_)

    from polysync_airflow.records import database

    real = database.store_clear_choice
    monkeypatch.setattr(database, "store_clear_choice", run_report)
    done = executions("resume", arn, "--yes")

    assert (done.code, choice_of()) == (2, None)
    assert "Airflow has not cleared the tasks" in done.error
    assert {**states(), "report": "failed"} == before


def test_what_cannot_be_resumed_says_what_to_do(
    executions: Executions, states: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is asked, and nothing is changed."""
    arn = executions.fail()
    give_to_task(arn)
    states(train="up_for_retry")

    done = executions("resume", short_name(arn))
    states(train="failed")
    airflow_2 = CAPABILITIES._replace(react_apps=False)
    monkeypatch.setattr(resume, "CAPABILITIES", airflow_2)
    on_airflow_2 = executions("resume", arn, "--yes").refusal
    states(train="up_for_retry")

    assert 'set on_clear="resume" in its operator, and clear it.' in on_airflow_2
    problem = "The task has not ended. Its state is up_for_retry. It goes on by itself."
    assert f"{short_name(arn)} is not resumed. {problem}" in done.refusal
    assert (states()["train"], choice_of()) == ("up_for_retry", None)


@pytest.mark.parametrize(("end", "code"), [("success", 0), ("failed", 1)])
def test_wait_follows_the_task(
    executions: Executions,
    states: Any,
    emulated_time: EmulatedTime,
    end: str,
    code: int,
) -> None:
    """
    Over its next try and its execution, to the end of the task, which decides.
    """
    arn = executions.fail()
    give_to_task(arn)

    def begin_try() -> None:
        states(train="running")
        executions.control.put_scenario({})
        executions.sagemaker.retry_pipeline_execution(
            PipelineExecutionArn=arn, ClientRequestToken="0" * 32
        )
        at = stored().incarnation.dag_run_started_at
        give_to_task(arn, resumes=1, resume_token="0" * 40, resumed_at=at)
        emulated_time.after(900, lambda: states(train=end))

    emulated_time.after(60, begin_try)

    done = executions("resume", arn, "--yes", "--wait")

    assert done.code == code, done.err
    lines = [line.split(" ", 1)[1] for line in done.out.splitlines()]
    expected = ["cleared", "running", end]
    told = [line for line in lines if line.startswith("Task")]
    assert told == [f"Task nightly/train: {state}" for state in expected]
    assert any("Shard3" in line for line in lines)


@pytest.mark.usefixtures("airflow_database")
def test_execution_of_no_task_is_resumed_by_aws(
    executions: Executions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A person is asked; --wait ends as a watch does. The task that had it was deleted.
    """
    arn = executions.fail(PipelineExecutionDescription=page_of(KEY))
    give_to_task(arn)
    monkeypatch.setattr("sys.stdin", Terminal("n\n"))
    declined = executions("resume", arn)
    monkeypatch.setattr("sys.stdin", Terminal(None))
    unasked = executions("resume", arn)
    assert (declined.code, unasked.code) == (1, 2)
    assert "By its description or name, a task has started it: nightly/" in declined.err
    assert executions.control.calls(RETRY) == []

    executions.control.put_scenario({})
    done = executions("resume", arn, "--yes", "--wait", "--output=json")

    assert (done.code, done.document["status"]) == (0, "Succeeded")
    remove_task(KEY)
    (call,) = executions.control.calls(RETRY)
    assert call["request"]["PipelineExecutionArn"] == arn


@pytest.mark.parametrize("described", [True, False])
def test_without_the_database_no_task_is_passed_over(
    executions: Executions, monkeypatch: pytest.MonkeyPatch, described: bool
) -> None:
    """Its retry would know nothing of a resume by AWS alone."""
    from sqlalchemy.exc import OperationalError

    def refuse(*_: object) -> None:
        raise OperationalError("SELECT", {}, Exception("no route to host"))

    monkeypatch.setattr("airflow.utils.session.create_session", refuse)
    request = {}
    if described:
        request["PipelineExecutionDescription"] = page_of(KEY)
    arn = executions.fail(**request)

    done = executions("resume", arn, "--yes")
    listed = executions("list", "--output=json")

    shown = executions("show", arn, "--output=json")

    unread = "What its task has stored of the cost is not known. Airflow's database"
    assert (unread in shown.err) == described
    assert (unread in (shown.document.get("steps_note") or "")) == described
    assert listed.document["not_known"].keys() == {
        "waiting",
        "failed_before_start",
        "next",
    }
    assert bool(shown.document["not_known"].get("next")) == described
    (row,) = listed.document["executions"]
    assert (row["next"], shown.document["next"]) == (
        (None, None) if described else ([], [])
    )
    assert "warning: tasks that wait for capacity, or failed before" in listed.err
    retried = len(executions.control.calls(RETRY))
    assert (done.code, retried) == ((2, 0) if described else (0, 1))
    assert "Airflow's database cannot be used" in done.err


def list_of(executions: Executions, *options: str) -> Any:
    """Return the lines of a list and its JSON, without the table's head."""
    text = executions("list", *options)
    document = executions("list", *options, "--output=json").document
    return text.out.splitlines(), document


def test_waiting_task_is_listed_as_waiting(executions: Executions, states: Any) -> None:
    """It is not Failed, although its execution is, and is asked for again."""
    arn = executions.fail(PipelineExecutionDescription=page_of(KEY))
    since = stored().incarnation.dag_run_started_at
    wait = {"try_number": 1, "since": since, "pauses": 1, "reason": "no instances"}
    capacity = CapacityWait(**wait, asks_at=since, nothing_runs=True)
    give_to_task(arn, capacity=capacity)
    states(train="deferred")
    waits = capacity.model_dump(mode="json") | {"asks_at": "2100-01-01T00:00:00Z"}
    plan = {"try_number": 1, "max_tries": 0, "until": "2100-01-01T01:00:00Z"}
    run = {"execution_arn": arn, "state": "Failed", "capacity": waits, "next": plan}
    xcoms.write_xcom("run", run, **asdict(KEY))
    pause(KEY.dag_id, is_paused=False)

    lines, document = list_of(executions, "--state=Waiting")

    line, _, said = lines[0].partition(" Next: ")
    assert line.startswith(
        "Waiting for capacity since 2026-01-01 00:00:00 UTC: fanout, task nightly/train"
    )
    assert said == (
        "AWS is asked again at 2100-01-01 00:00:00 UTC. The task gives up at"
        " 2100-01-01 01:00:00 UTC. To give up now, mark the task failed."
    )
    assert lines[2].startswith("Waiting ")
    (row,) = document["executions"]
    assert (row["state"], row["execution_arn"]) == ("Waiting", arn)
    assert document["waiting"][0]["reason"] == "no instances"
    shown = executions("show", arn, "--output=json").document
    following = {"next": shown["next"]}
    assert shown["state"] == "Waiting"
    assert shown["waiting"] | following == document["waiting"][0]
    text = executions("show", arn).out
    assert text.startswith(f"{line}\n")
    assert f"\nNext: {said}\n" in text
    refusal = executions("resume", arn, "--yes").refusal
    assert "waits for capacity, and asks AWS again at 2026-01-01 00:00:00" in refusal
    failed = executions("list", "--state=Failed", "--dag=nightly", "--output=json")
    assert (failed.document["executions"], failed.document["waiting"]) == ([], [])


def test_show_and_list_say_what_comes_next(executions: Executions, states: Any) -> None:
    """
    What the tab says: how long the execution took since its resume, why it was stopped,
    and what follows on the state that its task has now.
    """
    arn = executions.fail(PipelineExecutionDescription=page_of(KEY))
    whole = executions("show", arn, "--output=json").document
    ended_at = datetime.fromisoformat(whole["ended_at"])
    resumed_at = ended_at - timedelta(seconds=13)
    retry = {"does": "resume", "at": "2100-01-01T03:14:00Z"}
    run = {
        "execution_arn": arn,
        "state": "Failed",
        "status": "Failed",
        "resumes": 2,
        "attempt_started_at": resumed_at.isoformat(),
        "attempt_seconds": 13,
        "stop": {
            "requested_at": "2026-01-01T03:00:00Z",
            "reason": "cost",
            "process": "triggerer",
        },
        "next": {
            "try_number": 1,
            "max_tries": 0,
            "retry": retry,
            "resumable": True,
            "repeats": 1,
            "steps": 2,
        },
    }
    xcoms.write_xcom("run", run, **asdict(KEY))
    states(train="up_for_retry")
    pause(KEY.dag_id, is_paused=False)

    shown = executions("show", arn).out
    document = executions("show", arn, "--output=json").document
    lines, listed = list_of(executions, "--wide")

    sentence = "Try 2 of 2 resumes the failed steps (1 of 2) at"
    line = f"{sentence} 2100-01-01 03:14:00 UTC."
    assert f"\nNext: {line}\n" in shown
    assert lines[-1].endswith(f"  {line}")
    duration = f"{format_seconds(whole['seconds'])}, 13 s since resume 2"
    assert f"\nDuration: {duration}\n" in shown
    assert f"  {duration}  " in lines[-1]
    assert "failed 13 s after resume 2 (AWS status Failed)." in shown
    reason = "because the task had spent what it may"
    assert f"by the triggerer at 2026-01-01 03:00:00 UTC, {reason}\n" in shown
    assert document["stop"]["reason"] == "cost"
    (row,) = listed["executions"]
    for found in (document, row):
        assert found["next"] == [{"text": sentence, "at": "2100-01-01T03:14:00+00:00"}]
        assert (found["resumes"], found["attempt_seconds"]) == (2, 13)
        assert found["seconds"] == whole["seconds"] > 13

    states(train="failed")
    text = "Nothing follows by itself: the task has failed"
    assert executions("show", arn, "--output=json").document["next"][0]["text"] == text


def test_description_is_no_proof_of_a_task(executions: Executions, states: Any) -> None:
    """Whoever starts an execution can write it; the task has another execution."""
    arn = executions.fail(PipelineExecutionDescription=page_of(KEY))
    other = executions.fail()
    xcoms.write_xcom("run", {"execution_arn": other, "state": "Failed"}, **asdict(KEY))
    states(train="up_for_retry")

    assert executions("show", arn, "--output=json").document["next"] == []


def test_task_that_failed_before_its_start_is_listed(
    executions: Executions, states: Any
) -> None:
    """With the error in its log, by its state and its names; not by a pipeline."""
    from airflow.configuration import conf

    group = asdict(KEY) | {"task_id": "steps.execution"}
    xcoms.write_xcom("execution_arn", executions.fail(), **group)
    run = Path(
        conf.get("logging", "base_log_folder"), "dag_id=nightly", "run_id=manual__1"
    )
    log = run / "task_id=train" / "attempt=1.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    error = {"exc_type": "ParametersError", "exc_value": "no price of ml.m5.large"}
    entry = {"event": "Task failed", "level": "error", "error_detail": [error]}
    log.write_text(f"{json.dumps(entry)}\n")

    lines, document = list_of(executions, "--state=Failed")

    (task,) = document["failed_before_start"]
    assert TaskKey(*(task[name] for name in asdict(KEY))) == KEY
    assert lines[:-2] == [
        "Failed at 2026-01-01 00:00:00 UTC before it had an execution: task"
        " nightly/train/manual__1: ParametersError: no price of ml.m5.large Next:"
        " Nothing follows by itself: the task has failed."
    ]
    assert task["next"] == [{"text": lines[0].split("Next: ")[1][:-1], "at": None}]
    for others in ("--state=Running", "--dag=other", "--pipeline=fanout"):
        assert list_of(executions, others)[1]["failed_before_start"] == []
    log.unlink()
    assert ": the reason is in its log Next: " in list_of(executions)[0][0]
