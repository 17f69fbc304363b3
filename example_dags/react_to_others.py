"""
React to an execution that others start, for example in SageMaker Studio: to one step,
and to its end.
"""

from typing import Any

from airflow.providers.common.compat.sdk import DAG, XComArg, task

from polysync_airflow.sensors import PolysyncPipelineSensor


@task
def report(steps: Any) -> str:
    """Say what has been evaluated, while the execution goes on."""
    (evaluation,) = (step for step in steps if step["name"] == "AbaloneEval")
    return f"Evaluated by {evaluation['job_name']}"


with DAG("react_to_others", schedule=None):
    evaluated = PolysyncPipelineSensor(
        task_id="evaluated",
        pipeline_name="abalone",
        # The latest execution of the last day, or else the next one.
        which="latest",
        created_after=(
            "{{ data_interval_start | default(dag_run.run_after) -"
            " macros.timedelta(days=1) }}"
        ),
        step_name="AbaloneEval",
        deferrable=True,
    )
    # The same execution, whatever others start meanwhile.
    ended = PolysyncPipelineSensor(
        task_id="ended", execution_arn=evaluated.output, deferrable=True
    )

    report(XComArg(evaluated, key="steps"))
