"""
Arguments of the operator and of the decorator, and what others have stored in Airflow's
database.
"""

from __future__ import annotations

from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG, TaskDeferred

from polysync_airflow import exceptions
from polysync_airflow.operators import (
    PolysyncCallbackStepOperator,
    PolysyncStopPipelineOperator,
    callback_step,
)
from tests.tasks import TaskInstance
from tests.unit.operators.callback.conftest import STEP, Pipeline
from tests.unit.operators.callback.test_answers import approve
from tests.world import LIST_STEPS, deny


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            {"execution_arn": "callback-lambda"},
            "execution_arn = 'callback-lambda' is not the ARN",
        ),
        ({"step_name": ""}, "step_name = '' is not the name of a step"),
        ({"step_name": 7}, "step_name = 7 is not the name of a step"),
        (
            {"step_name": "WaitForAproval"},
            "is not a step of type Callback of the pipeline: do you mean 'WaitForApproval'?",
        ),
        ({"step_name": "Q"}, "it has WaitForApproval."),
        ({"step_name": "Deploy"}, "is a step of type Processing"),
        (
            {"region_name": "eu-central-1"},
            "is not the region of the execution, us-east-1",
        ),
        ({"op_kwargs": ["a"]}, "op_kwargs = a list of 1 is not valid"),
    ],
)
def test_arguments_that_are_not_valid_are_refused_before_the_wait(
    arguments: Any, text: str, pipeline: Pipeline
) -> None:
    """The error names field, value and cure, before the task waits for anything."""
    run = pipeline.answer(approve, deferrable=True, **arguments)

    assert type(run.error) is exceptions.ParametersError
    assert text in str(run.error)
    assert run.trigger is None


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            {"python_callable": "approve"},
            "python_callable = 'approve' is not valid: give a function",
        ),
        ({"poll_interval": 0}, "poll_interval = 0 is not valid"),
        ({"timeout": "1 h"}, "timeout = '1 h' is not valid"),
        ({"deferrable": "yes"}, "deferrable = 'yes' is not valid"),
    ],
)
def test_invalid_choices_are_refused_in_the_dag_file(arguments: Any, text: str) -> None:
    """They are errors when the DAG file is parsed."""
    valid = {"execution_arn": "x", "step_name": STEP, "python_callable": approve}

    with pytest.raises(exceptions.ParametersError) as caught:
        PolysyncCallbackStepOperator(task_id="answer", **{**valid, **arguments})

    assert text in str(caught.value)


def test_step_is_answered_without_the_permission_for_the_definition(
    pipeline: Pipeline,
) -> None:
    """
    The permission to read it is optional: the step is answered without the check of its
    name.
    """
    deny(pipeline.emulator, "DescribePipelineDefinitionForExecution")

    assert pipeline.answer(approve).result == {"ok": "yes to T-1"}


def test_task_names_the_missing_permission_for_the_steps(
    deferrable: bool, pipeline: Pipeline
) -> None:
    """
    The permission to list them is needed. If it is withdrawn while the task waits, the
    task says so.
    """
    deny(pipeline.emulator, LIST_STEPS, skip=1)

    run = pipeline.answer(approve, deferrable=deferrable)

    assert type(run.error) is exceptions.SageMakerApiError
    assert "sagemaker:ListPipelineExecutionSteps" in str(run.error)


def test_limit_of_the_wait_stays_if_the_task_is_deferred_again(
    pipeline: Pipeline,
) -> None:
    """The trigger has seen a change, and the step has not begun yet."""
    now = pipeline.time.time()
    limit = {"since": now - 60, "deadline": now + 60}
    task = PolysyncCallbackStepOperator(
        task_id="answer",
        execution_arn=pipeline.arn,
        step_name=STEP,
        python_callable=approve,
        deferrable=True,
    )

    with pytest.raises(TaskDeferred) as deferred:
        task.execute_complete(
            TaskInstance("answer").context(task), {"outcome": "step_changed", **limit}
        )

    _, arguments = deferred.value.trigger.serialize()
    assert limit.items() <= arguments.items()


def test_decorated_function_adds_a_task(pipeline: Pipeline) -> None:
    """
    A call of the function adds a task; keyword arguments of the call go to the
    function.
    """
    with DAG("serving", schedule=None) as dag:

        @callback_step(execution_arn=pipeline.arn, step_name=STEP, retries=2)
        def decide(ticket: str, limit: int) -> dict[str, Any]:
            """Decide about a ticket."""
            return {"ok": f"{ticket} {limit}"}

        result = decide(limit=5)
        after = PolysyncStopPipelineOperator(
            task_id="after", execution_arn=pipeline.arn
        )
        result >> after

    task: Any = dag.get_task("decide")
    assert task.retries == 2
    assert task.op_kwargs == {"limit": 5}
    assert decide.__doc__ == "Decide about a ticket."
    assert task.downstream_task_ids == {"after"}
    run = pipeline.answer(task.python_callable, op_kwargs=task.op_kwargs)
    assert run.result == {"ok": "T-1 5"}
