"""
The retry policy of the operators: how it is replaced, and its decisions in both modes.
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.sdk import (
    DAG,
    BaseOperator,
    ExceptionRetryPolicy,
    RetryAction,
    RetryDecision,
    TaskGroup,
)
from airflow.serialization.serialized_objects import DagSerialization

from polysync_airflow.operators import (
    PolysyncListImportOperator,
    PolysyncStartPipelineOperator,
    PolysyncStopPipelineOperator,
)
from polysync_airflow.retrying import PolysyncRetryPolicy
from sagemaker_emulator import EmulatorServer
from tests.conftest import connection
from tests.tasks import EmulatedTime, Run, run_task

RETRIES = 3
DISABLED = ExceptionRetryPolicy(rules=[])
DEFAULT = PolysyncRetryPolicy()
OPERATORS: list[tuple[type[BaseOperator], dict[str, Any]]] = [
    (PolysyncStartPipelineOperator, {"pipeline_name": "fanout"}),
    (PolysyncStopPipelineOperator, {"execution_arn": "arn"}),
    (PolysyncListImportOperator, {"pipeline_names": ["fanout"]}),
]
for_each_operator = pytest.mark.parametrize(("operator", "arguments"), OPERATORS)


def decide(task: BaseOperator, run: Run) -> RetryDecision:
    """Return the decision of the task's policy about the error of its first try."""
    assert task.retry_policy
    assert run.error
    context: Any = {"task": task, "ti": run.ti}
    return task.retry_policy.evaluate(run.error, 1, RETRIES, context)


def make_mapped(
    operator: type[BaseOperator], arguments: dict[str, Any], **given: Any
) -> BaseOperator:
    """
    Map an operator over its argument, and return one of its tasks as the worker creates
    it.
    """
    ((name, value),) = arguments.items()
    mapped = operator.partial(task_id="mapped", **given).expand(**{name: [value]})
    task: BaseOperator = mapped.unmap({name: value})
    return task


@for_each_operator
def test_default_policy_is_polysync_retry_policy(
    operator: type[BaseOperator], arguments: dict[str, Any]
) -> None:
    """
    Plain and mapped tasks, in a DAG or in none, have the provider's policy by default.
    """
    with DAG("d"):
        plain, mapped = (
            operator(task_id="plain", **arguments),
            make_mapped(operator, arguments),
        )

    assert plain.retry_policy == mapped.retry_policy == DEFAULT
    assert operator(task_id="alone", **arguments).retry_policy == DEFAULT


@for_each_operator
def test_argument_replaces_the_default_policy(
    operator: type[BaseOperator], arguments: dict[str, Any]
) -> None:
    """
    A policy that is given to the operator, or to ``partial``, replaces the default
    policy.
    """
    with DAG("d", default_args={"retry_policy": DEFAULT}):
        plain = operator(task_id="plain", retry_policy=DISABLED, **arguments)
        mapped = make_mapped(operator, arguments, retry_policy=DISABLED)

    assert plain.retry_policy is mapped.retry_policy is DISABLED


@for_each_operator
def test_default_args_replace_the_default_policy(
    operator: type[BaseOperator], arguments: dict[str, Any]
) -> None:
    """
    A policy in ``default_args`` of the DAG, or first of a task group, replaces the
    default policy.
    """
    with DAG("d", default_args={"retry_policy": DISABLED}):
        of_dag = (
            operator(task_id="plain", **arguments),
            make_mapped(operator, arguments),
        )
        other = PolysyncRetryPolicy(retry_after={"SomethingNew": timedelta(minutes=1)})
        group_args: Any = {"retry_policy": other}
        with TaskGroup("g", default_args=group_args):
            of_group = (
                operator(task_id="plain", **arguments),
                make_mapped(operator, arguments),
            )

    assert all(task.retry_policy is DISABLED for task in of_dag)
    assert all(task.retry_policy == other for task in of_group)


def test_dag_with_the_policy_can_be_serialized() -> None:
    """
    Airflow serializes only that there is a policy, not the policy, and the same at
    every parse.
    """

    def serialize_dags() -> dict[str, Any]:
        with DAG(
            "d", schedule=None, default_args={"retry_policy": DEFAULT}
        ) as by_default_args:
            PolysyncStartPipelineOperator(task_id="plain", pipeline_name="fanout")
            PolysyncStartPipelineOperator.partial(task_id="mapped").expand(
                pipeline_name=["a", "b"]
            )
        with DAG("e", schedule=None) as by_default:
            for operator, arguments in OPERATORS:
                operator(task_id=operator.__name__, **arguments)
            PolysyncStartPipelineOperator.partial(task_id="mapped").expand(
                pipeline_name=["a", "b"]
            )
        return {
            dag.dag_id: DagSerialization.to_dict(dag)
            for dag in (by_default_args, by_default)
        }

    text = json.dumps(serialize_dags(), sort_keys=True)
    dags = {
        name: DagSerialization.from_dict(dag) for name, dag in json.loads(text).items()
    }

    assert text == json.dumps(serialize_dags(), sort_keys=True)
    assert "PolysyncRetryPolicy" not in text
    assert all(task.has_retry_policy for task in dags["d"].tasks)
    assert all(
        task.has_retry_policy for task in dags["e"].tasks if task.task_id != "mapped"
    )


@pytest.mark.parametrize(
    ("operation", "code", "expected", "deferrable"),
    [
        (
            "StartPipelineExecution",
            "ResourceLimitExceeded",
            RetryDecision.retry(
                timedelta(minutes=10), "ResourceLimitExceeded: next try after 10 min"
            ),
            False,
        ),
        ("StartPipelineExecution", "SomethingNew", RetryDecision.default(), False),
        *(
            (
                "DescribePipelineExecution",
                code,
                RetryDecision.fail(f"{code}: permanent error, a retry cannot succeed"),
                deferrable,
            )
            for code, deferrable in (
                ("AccessDeniedException", False),
                ("ResourceNotFound", True),
            )
        ),
    ],
)
def test_refusal_decides_about_the_retry(
    operation: str,
    code: str,
    expected: RetryDecision,
    deferrable: bool,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
) -> None:
    """
    A refusal of the start or of a poll, which the triggerer returns as JSON, gets the
    same decision.
    """
    emulator.control.add_fault("error", operation, code=code, message="no")
    task = PolysyncStartPipelineOperator(
        task_id="t", pipeline_name="fanout", deferrable=deferrable, retries=RETRIES
    )

    run = run_task(task)

    assert bool(run.trigger) is (
        deferrable and operation == "DescribePipelineExecution"
    )
    assert decide(task, run) == expected


@pytest.mark.parametrize(
    ("conn", "action"),
    [
        (None, RetryAction.DEFAULT),
        (connection(region_name=None), RetryAction.FAIL),
        (connection(auth_method="password"), RetryAction.FAIL),
    ],
    ids=["missing", "incomplete", "invalid"],
)
def test_invalid_connection_fails_and_missing_one_is_retried(
    conn: str | None,
    action: RetryAction,
    emulator: EmulatorServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    A missing connection may be a secrets backend that does not respond, so the task is
    retried.
    """
    if conn is None:
        monkeypatch.delenv("AIRFLOW_CONN_POLYSYNC_DEFAULT")
    else:
        monkeypatch.setenv("AIRFLOW_CONN_POLYSYNC_DEFAULT", conn)
    task = PolysyncListImportOperator(task_id="t", retries=RETRIES)

    assert decide(task, run_task(task)).action is action


def test_stop_of_an_ended_execution_fails_without_retry(
    emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """
    With ``fail_if_not_running`` the task depends on one execution, which does not run
    again.
    """
    started = run_task(
        PolysyncStartPipelineOperator(task_id="t", pipeline_name="fanout")
    )
    task = PolysyncStopPipelineOperator(
        task_id="stop",
        execution_arn=started.result,
        fail_if_not_running=True,
        retries=RETRIES,
    )

    run = run_task(task)

    assert not isinstance(run.error, AirflowFailException)
    assert decide(task, run).action is RetryAction.FAIL
