"""The decorator that makes a function the answer to a callback step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import TYPE_CHECKING, Any

from polysync_airflow.operators.callback.operator import PolysyncCallbackStepOperator

if TYPE_CHECKING:
    from airflow.sdk import XComArg


def callback_step(
    *, execution_arn: str | XComArg, step_name: str, **arguments: Any
) -> Callable[[Callable[..., Mapping[str, Any] | None]], Callable[..., XComArg]]:
    """
    Decorate a function that answers a callback step. A call of it adds a task to the current DAG.

    The keyword arguments of the call become ``op_kwargs``: further arguments of the function. It returns the
    result of the task, as the call of a function with Airflow's ``@task`` does.

    :param execution_arn: the ARN of the execution (templated).
    :param step_name: the name of the callback step (templated).
    :param arguments: further arguments of ``PolysyncCallbackStepOperator``. The default ``task_id`` is the
        name of the function.
    """

    def decorate(function: Callable[..., Mapping[str, Any] | None]) -> Callable[..., XComArg]:
        @wraps(function)
        def add_task(**op_kwargs: Any) -> XComArg:
            operator = PolysyncCallbackStepOperator(
                execution_arn=execution_arn,
                step_name=step_name,
                python_callable=function,
                op_kwargs=op_kwargs or None,
                **{"task_id": function.__name__, **arguments},
            )
            return operator.output

        return add_task

    return decorate
