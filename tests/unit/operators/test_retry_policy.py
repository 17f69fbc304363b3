"""The retry policy of the operators: how it is replaced, and what it refuses."""

from __future__ import annotations

import json
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
from tests.tasks import Run, run_task
from tests.unit.test_retrying import PolicyOfAnAuthor
from tests.world import World

RETRIES = 3
DISABLED = ExceptionRetryPolicy(rules=[])
DEFAULT = PolysyncRetryPolicy()
OPERATORS: list[tuple[type[BaseOperator], dict[str, Any]]] = [
    (PolysyncStartPipelineOperator, {"pipeline_name": "fanout"}),
    (PolysyncStopPipelineOperator, {"execution_arn": "arn"}),
    (PolysyncListImportOperator, {"pipeline_names": ["fanout"]}),
]


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


@pytest.mark.parametrize(("operator", "arguments"), OPERATORS)
def test_the_nearest_policy_is_used(
    operator: type[BaseOperator], arguments: dict[str, Any]
) -> None:
    """
    The argument, then ``default_args`` of the task group and of the DAG, then the
    provider's own: for plain and for mapped tasks.
    """
    other = PolicyOfAnAuthor()

    def policies(**given: Any) -> list[Any]:
        plain = operator(task_id="plain", **arguments, **given)
        mapped = make_mapped(operator, arguments, **given)
        return [plain.retry_policy, mapped.retry_policy]

    alone = operator(task_id="alone", **arguments)
    with DAG("own"):
        of_provider = policies()
    with DAG("given", default_args={"retry_policy": DEFAULT}):
        given = policies(retry_policy=DISABLED)
    with DAG("default_args", default_args={"retry_policy": DISABLED}):
        of_dag = policies()
        group_args: Any = {"retry_policy": other}
        with TaskGroup("g", default_args=group_args):
            of_group = policies()

    assert [alone.retry_policy, *of_provider] == 3 * [DEFAULT]
    assert given == of_dag == 2 * [DISABLED]
    assert of_group == 2 * [other]


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


def test_stop_of_an_ended_execution_fails_without_retry(world: World) -> None:
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
