"""
The command ``polysync executions resume``: what the button "Resume failed steps" of the
tab does, and a resume by AWS alone of an execution that no task has.
"""

from __future__ import annotations

import uuid
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final

from sqlalchemy.exc import SQLAlchemyError

from polysync_airflow.airflow_compat import endpoints, xcoms
from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.airflow_compat.database import is_paused
from polysync_airflow.cli import execution_facts, executions, output
from polysync_airflow.exceptions import ParametersError
from polysync_airflow.execution import clock, parameters
from polysync_airflow.execution.lifecycle.instructions import TaskKey
from polysync_airflow.execution.lifecycle.orphans import ENDED_STATES, why_not_resumed
from polysync_airflow.execution.models import ExecutionDescription
from polysync_airflow.execution.steps.descriptions import rows_of
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.operators.results import StepReport
from polysync_airflow.records import database
from polysync_airflow.records.database import OwnTask

# As ui/static/execution.js has it.
_STEP_OPERATOR: Final = "PolysyncPipelineStepOperator"
_GROUP_OPERATOR: Final = "PolysyncStepsExecutionOperator"


def main(args: Namespace) -> int:
    """Run the command, and return its exit code."""
    hook, execution = execution_facts.named_execution(args)
    with output.airflow_in_use(args.conn_id):
        arn = execution.execution_arn
        steps = [*hook.list_pipeline_execution_steps(arn)]
        task = _task_of(execution)
    problem = why_not_resumed(
        execution.status,
        by_fail_step=StepReport(rows_of(steps, [], arn)).has_fail_step,
        task_states=task and task.states,
        asks_at=_asks_at(task),
    )
    if problem:
        name = execution_facts.short_name(execution)
        raise ParametersError(f"{name} is not resumed. {problem}")
    if task:
        return _resume_task(args, hook, execution, task)
    return _resume_in_aws(args, hook, execution)


def _task_of(execution: ExecutionDescription) -> OwnTask | None:
    """
    Return the task that has an execution; None if no task of this deployment has.

    :raises ParametersError: nobody can say, and a task may have it.
    """
    named = TaskKey.in_description(execution.description)
    try:
        return database.find_own_task(execution.execution_arn, named and named[0])
    except SQLAlchemyError as error:
        owner = execution_facts.facts_of(execution)["airflow_task"]
        problem = output.database_problem(error)
        if owner:
            raise ParametersError(
                f"The execution is that of the task {owner}, by its description or"
                " name, and goes on only with it. Resume it where Airflow's database"
                f" can be used, or in the task's tab SageMaker. {problem}"
            ) from None
        output.write_message(f"warning: whether a task has it is not known. {problem}")
        return None


def _asks_at(task: OwnTask | None) -> datetime | None:
    """Return when a task asks AWS for capacity again; None if it does not wait."""
    wait = task and task.record.capacity
    if wait and wait.nothing_runs:
        return wait.asks_at
    return None


# ---- by the task


def _resume_task(
    args: Namespace,
    hook: PolysyncSageMakerHook,
    execution: ExecutionDescription,
    task: OwnTask,
) -> int:
    key = task.key
    if not CAPABILITIES.react_apps:
        raise ParametersError(
            f"The execution is that of the task {_text(key)}. On Airflow 2, set"
            ' on_clear="resume" in its operator, and clear it.'
        )
    with output.airflow_in_use(args.conn_id):
        cleared = _clear(key, dry_run=True)
        waits_for_dag = is_paused(key.dag_id)
    counted = output.counted(cleared, "task")
    named = _text(key)
    if cleared > 1:
        named += ", and those after it"
    warning = (
        f"This clears {counted}: {named}. Its next try resumes the execution: what has"
        " succeeded is kept. If AWS refuses that, it starts a new execution, and every"
        " step is paid again."
    )
    if waits_for_dag:
        warning += (
            f" The DAG {key.dag_id} is paused: nothing of that runs before somebody"
            " unpauses it."
        )
    question = f"Resume {execution.execution_arn}?"
    if not output.confirms(args, warning, question):
        return output.FAILED
    with output.airflow_in_use(args.conn_id):
        _choose_and_clear(key)
    text = f"{counted} cleared: the next try of {_text(key)} resumes the execution."
    facts = {
        **execution_facts.facts_of(execution),
        "resume": text,
        "cleared_tasks": cleared,
    }
    if not args.wait:
        return output.write(args, facts, [text])
    output.write_message(text)
    return _wait_for_task(args, hook, execution, task)


def _text(key: TaskKey) -> str:
    return execution_facts.task_text(asdict(key) | {"airflow_task": None})


def _choose_and_clear(key: TaskKey) -> None:
    """
    Store the choice, and clear the tasks as ``restart`` in ui/static/actions_api.js.
    """
    database.store_clear_choice(key, "resume")
    try:
        _clear(key)
    except endpoints.ClearError:
        database.store_clear_choice(key, None)
        raise
    steps = endpoints.tasks_before(
        key.dag_id, key.task_id, _STEP_OPERATOR, follower=_GROUP_OPERATOR
    )
    if steps:
        endpoints.clear_tasks(key.dag_id, key.run_id, steps, only_failed=True)


def _clear(key: TaskKey, **options: bool) -> int:
    task: Any = key.task_id
    if key.map_index >= 0:
        task = [key.task_id, key.map_index]
    return endpoints.clear_tasks(key.dag_id, key.run_id, [task], **options)


def _wait_for_task(
    args: Namespace,
    hook: PolysyncSageMakerHook,
    execution: ExecutionDescription,
    before: OwnTask,
) -> int:
    """Write what changes until the task has ended."""
    name = _text(before.key)
    seen = _attempt(before)
    said: Sequence[str | None] = before.states
    try:
        while True:
            with output.airflow_in_use(args.conn_id):
                task_states = database.states_of(before.key)
                task = database.own_task(before.key)
            if task_states != said:
                said = task_states
                text = ", ".join(state or "cleared" for state in said) or "deleted"
                executions.write_change(args, f"Task {name}: {text}")
            if ENDED_STATES.issuperset(task_states):
                break
            if task and _attempt(task) not in (None, seen):
                seen = _attempt(task)
                execution = hook.describe_pipeline_execution(task.record.arn)
                execution = executions.follow(args, hook, execution)
            clock.sleep(executions.POLL_SECONDS)
    except KeyboardInterrupt:
        output.write_message(f"The task goes on: {name}")
        raise
    with output.airflow_in_use(args.conn_id):
        # The task may have started a new one.
        arn = xcoms.read_xcom("execution_arn", **asdict(before.key))
        if not parameters.is_valid(parameters.EXECUTION_ARN, arn):
            arn = execution.execution_arn
        ended = hook.describe_pipeline_execution(arn)
    executions.write_end(args, hook, ended, task_states=[*said])
    if set(said) == {"success"}:
        return output.OK
    return output.FAILED


def _attempt(task: OwnTask) -> tuple[str, int] | None:
    """Return which attempt of which execution a record has; None if none is begun."""
    record = task.record
    if record.execution_arn is None or record.resume_is_pending:
        return None
    return record.execution_arn, record.resumes


# ---- by AWS alone


def _resume_in_aws(
    args: Namespace, hook: PolysyncSageMakerHook, execution: ExecutionDescription
) -> int:
    arn = execution.execution_arn
    facts = execution_facts.facts_of(execution)
    warning = (
        "No task of this Airflow has the execution: AWS resumes it, what has succeeded"
        " is kept, and no task waits for its end."
    )
    owner = facts["airflow_task"]
    if owner:
        warning += f" By its description or name, a task has started it: {owner}."
    if not output.confirms(args, warning, f"Resume {arn}?"):
        return output.FAILED
    with output.airflow_in_use(args.conn_id):
        hook.retry_pipeline_execution(arn, token=f"polysync-{uuid.uuid4()}")
        resumed = hook.describe_pipeline_execution(arn)
    text = f"AWS resumes the execution. {arn}"
    if args.wait:
        output.write_message(text)
        return executions.watch(args, hook, resumed)
    facts = {**execution_facts.facts_of(resumed), "resume": text, "cleared_tasks": 0}
    return output.write(args, facts, [text])
