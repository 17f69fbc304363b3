"""The operators' retry policy: who may replace it, and what becomes of errors in both modes."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk import DAG, BaseOperator, ExceptionRetryPolicy, RetryAction, RetryDecision, TaskGroup
from airflow.sdk.exceptions import AirflowFailException
from airflow.serialization.serialized_objects import DagSerialization

from polysync_airflow.emulator import EmulatorServer
from polysync_airflow.exceptions import TriggerEventError
from polysync_airflow.operators import (
    PolysyncListImportOperator,
    PolysyncStartPipelineOperator,
    PolysyncStopPipelineOperator,
)
from polysync_airflow.retrying import PolysyncRetryPolicy
from tests.conftest import connection
from tests.tasks import EmulatedTime, Run, TaskInstance, run_task

RETRIES = 3
OFF = ExceptionRetryPolicy(rules=[])
OURS = PolysyncRetryPolicy()
OPERATORS: list[tuple[type[BaseOperator], dict[str, Any]]] = [
    (PolysyncStartPipelineOperator, {"pipeline_name": "fanout"}),
    (PolysyncStopPipelineOperator, {"execution_arn": "arn"}),
    (PolysyncListImportOperator, {"pipeline_names": ["fanout"]}),
]
each_operator = pytest.mark.parametrize(("operator", "arguments"), OPERATORS)
each_mode = pytest.mark.parametrize("deferrable", [False, True], ids=["sync", "deferred"])


def decided(task: BaseOperator, run: Run) -> RetryDecision:
    """Ask the task's policy about the error that ended its first try."""
    assert task.retry_policy
    assert run.error
    context: Any = {"task": task, "ti": run.ti}
    return task.retry_policy.evaluate(run.error, 1, RETRIES, context)


def as_mapped(operator: type[BaseOperator], arguments: dict[str, Any], **given: Any) -> BaseOperator:
    """Map an operator over its argument, and return one of its tasks as the worker makes it."""
    ((name, value),) = arguments.items()
    mapped = operator.partial(task_id="mapped", **given).expand(**{name: [value]})
    task: BaseOperator = mapped.unmap({name: value})
    return task


@each_operator
def test_without_a_word_the_policy_is_ours(operator: type[BaseOperator], arguments: dict[str, Any]) -> None:
    """Plain and mapped, in a DAG or in none."""
    with DAG("d"):
        plain, mapped = operator(task_id="plain", **arguments), as_mapped(operator, arguments)

    assert plain.retry_policy == mapped.retry_policy == OURS
    assert operator(task_id="alone", **arguments).retry_policy == OURS


@each_operator
def test_the_argument_replaces_it(operator: type[BaseOperator], arguments: dict[str, Any]) -> None:
    """A policy given to the task, or to ``partial``, is the task's."""
    with DAG("d", default_args={"retry_policy": OURS}):
        plain = operator(task_id="plain", retry_policy=OFF, **arguments)
        mapped = as_mapped(operator, arguments, retry_policy=OFF)

    assert plain.retry_policy is mapped.retry_policy is OFF


@each_operator
def test_default_args_replace_it(operator: type[BaseOperator], arguments: dict[str, Any]) -> None:
    """So does one in the DAG's ``default_args``, or in those of a task group, which go before them."""
    with DAG("d", default_args={"retry_policy": OFF}):
        of_dag = operator(task_id="plain", **arguments), as_mapped(operator, arguments)
        other = PolysyncRetryPolicy(retry_after={"SomethingNew": timedelta(minutes=1)})
        group_args: Any = {"retry_policy": other}
        with TaskGroup("g", default_args=group_args):
            of_group = operator(task_id="plain", **arguments), as_mapped(operator, arguments)

    assert all(task.retry_policy is OFF for task in of_dag)
    assert all(task.retry_policy == other for task in of_group)


def test_a_dag_with_it_can_be_stored() -> None:
    """Airflow stores that there is a policy, never the policy, and the same at every parse."""

    def stored() -> dict[str, Any]:
        with DAG("d", schedule=None, default_args={"retry_policy": OURS}) as by_default_args:
            PolysyncStartPipelineOperator(task_id="plain", pipeline_name="fanout")
            PolysyncStartPipelineOperator.partial(task_id="mapped").expand(pipeline_name=["a", "b"])
        with DAG("e", schedule=None) as by_default:
            for operator, arguments in OPERATORS:
                operator(task_id=operator.__name__, **arguments)
            PolysyncStartPipelineOperator.partial(task_id="mapped").expand(pipeline_name=["a", "b"])
        return {dag.dag_id: DagSerialization.to_dict(dag) for dag in (by_default_args, by_default)}

    text = json.dumps(stored(), sort_keys=True)
    dags = {name: DagSerialization.from_dict(dag) for name, dag in json.loads(text).items()}

    assert text == json.dumps(stored(), sort_keys=True)
    assert "PolysyncRetryPolicy" not in text
    assert all(task.has_retry_policy for task in dags["d"].tasks)
    assert all(task.has_retry_policy for task in dags["e"].tasks if task.task_id != "mapped")


@each_mode
@pytest.mark.parametrize(
    ("operation", "code", "expected"),
    [
        (
            "StartPipelineExecution",
            "AccessDeniedException",
            RetryDecision.fail("AccessDeniedException: trying again cannot cure it"),
        ),
        (
            "StartPipelineExecution",
            "ResourceLimitExceeded",
            RetryDecision.retry(timedelta(minutes=10), "ResourceLimitExceeded: next try after 600 s"),
        ),
        ("StartPipelineExecution", "SomethingNew", RetryDecision.default()),
        (
            "DescribePipelineExecution",
            "AccessDeniedException",
            RetryDecision.fail("AccessDeniedException: trying again cannot cure it"),
        ),
        (
            "DescribePipelineExecution",
            "ResourceNotFound",
            RetryDecision.fail("ResourceNotFound: trying again cannot cure it"),
        ),
    ],
)
def test_a_refusal_is_decided_the_same_in_both_modes(
    operation: str,
    code: str,
    expected: RetryDecision,
    deferrable: bool,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
) -> None:
    """At the start and in the wait, whose refusal comes back from the triggerer as JSON."""
    emulator.control.add_fault("error", operation, code=code, message="no")
    task = PolysyncStartPipelineOperator(
        task_id="t", pipeline_name="fanout", deferrable=deferrable, retries=RETRIES
    )

    run = run_task(task)

    assert bool(run.trigger) is (deferrable and operation == "DescribePipelineExecution")
    assert decided(task, run) == expected


@each_mode
@pytest.mark.parametrize(
    ("scenario", "arguments", "error"),
    [
        ({"steps": {"Shard3": {"fail": {"reason": "no data"}}}}, {}, "PipelineExecutionFailedError"),
        ({"steps": {"Merge": {"duration": None}}}, {"timeout": 3600}, "PipelineExecutionTimeoutError"),
    ],
)
def test_an_execution_that_went_wrong_is_the_tasks_own_retries(
    scenario: dict[str, Any],
    arguments: dict[str, Any],
    error: str,
    deferrable: bool,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
) -> None:
    """Another execution may do better: the policy has no opinion on failed or timed-out ones."""
    emulator.control.put_scenario(scenario)
    task = PolysyncStartPipelineOperator(
        task_id="t", pipeline_name="fanout", deferrable=deferrable, retries=RETRIES, **arguments
    )

    run = run_task(task)

    assert type(run.error).__name__ == error
    assert decided(task, run) == RetryDecision.default()


@pytest.mark.parametrize(
    ("conn", "action"),
    [
        (None, RetryAction.DEFAULT),
        (connection(region_name=None), RetryAction.FAIL),
        (connection(auth_method="password"), RetryAction.FAIL),
    ],
    ids=["missing", "incomplete", "illegal"],
)
def test_a_bad_connection_fails_at_once_a_missing_one_is_tried_again(
    conn: str | None, action: RetryAction, emulator: EmulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A secrets backend that does not answer looks like a missing connection, so that may pass."""
    if conn is None:
        monkeypatch.delenv("AIRFLOW_CONN_POLYSYNC_DEFAULT")
    else:
        monkeypatch.setenv("AIRFLOW_CONN_POLYSYNC_DEFAULT", conn)
    task = PolysyncListImportOperator(task_id="t", retries=RETRIES)

    assert decided(task, run_task(task)).action is action


def test_bad_input_fails_at_once(emulator: EmulatorServer) -> None:
    """An argument that is not legal stays so."""
    task = PolysyncStartPipelineOperator(task_id="t", pipeline_name="not legal!", retries=RETRIES)

    reason = "ParametersError: trying again cannot cure it"
    assert decided(task, run_task(task)) == RetryDecision.fail(reason)


def test_an_event_that_is_not_ours_is_tried_again(emulator: EmulatorServer) -> None:
    """The next try sends a trigger of its own."""
    task = PolysyncStartPipelineOperator(task_id="t", pipeline_name="fanout", retries=RETRIES)
    ti = TaskInstance("t")
    context: Any = {"ti": ti}

    with pytest.raises(TriggerEventError) as caught:
        task.execute_complete(context, {"outcome": "dunno"})

    assert decided(task, Run(ti, error=caught.value)) == RetryDecision.default()


def test_nothing_that_has_ended_can_be_stopped_by_another_try(
    emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """``fail_if_not_running`` is bound to one execution, which never runs again."""
    started = run_task(PolysyncStartPipelineOperator(task_id="t", pipeline_name="fanout"))
    task = PolysyncStopPipelineOperator(
        task_id="stop", execution_arn=started.result, fail_if_not_running=True, retries=RETRIES
    )

    run = run_task(task)

    assert not isinstance(run.error, AirflowFailException)
    assert decided(task, run).action is RetryAction.FAIL
