"""
The tasks of a group that shows a pipeline step by step: the execution task, and a task
for each step.

``steps_execution_run.py`` and ``step_task_run.py`` run them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from airflow.triggers.base import StartTriggerArgs

from polysync_airflow import links
from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.airflow_compat.sdk import conf
from polysync_airflow.execution import clock
from polysync_airflow.operators import base
from polysync_airflow.operators.start import PolysyncStartPipelineOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from polysync_airflow.operators.step_task_run import StepTaskRun
    from polysync_airflow.operators.steps_execution_run import StepsExecutionRun

# Airflow sends the whole DAG to the triggerer for each task that starts there. With 200
# such tasks at a time in a DAG of a thousand, that takes 2 GiB.
MAX_TASKS_IN_TRIGGERER: Final = 200
# The class path that Airflow stores of the trigger that runs a whole task.
_TASK_END_TRIGGER: Final = (
    "polysync_airflow.start_in_triggerer.PolysyncStepTaskEndTrigger"
)


class PolysyncStepsExecutionOperator(PolysyncStartPipelineOperator):
    """
    Start the execution whose steps are tasks of their own, and wait for its end: the
    *execution task*.

    ``PolysyncPipelineTaskGroup`` makes it. It is below the tasks of all steps, so that
    a clear with "Downstream" clears it, too, and starts as soon as the group's first
    task has succeeded.

    :param first_task_id: the first task of the group. It never runs, so its XComs stay
        when it is cleared.
    :param step_task_ids: the ids of the tasks of the steps, by step, in the order of
        the definition.
    :param kwargs: the arguments of ``PolysyncStartPipelineOperator``. It is always
        deferred, and a retry resumes the execution.
    """

    def __init__(
        self, *, first_task_id: str, step_task_ids: Mapping[str, str], **kwargs: Any
    ) -> None:
        kwargs |= {
            "deferrable": True,
            "wait_for_completion": True,
            "retry_mode": "resume",
            "on_clear": "new",
        }
        # It starts at once, although it is below the tasks of the steps.
        super().__init__(**{**kwargs, "trigger_rule": "one_success"})
        self.first_task_id = first_task_id
        self.step_task_ids = dict(step_task_ids)

    def _run_in(self, context: Context) -> StepsExecutionRun:
        from polysync_airflow.operators.steps_execution_run import StepsExecutionRun

        return StepsExecutionRun(self, context)


class PolysyncPipelineStepOperator(base.PolysyncOperator):
    """
    Wait for one step of the execution that another task of the same DAG run starts.

    ``PolysyncPipelineTaskGroup`` makes it. It only watches: a person who marks it as
    failed or as success changes nothing in AWS. XComs: ``execution_arn``, ``step`` (the
    entry of the XCom ``steps``, with what its job cost and used), ``console_url`` and
    ``log_url`` of its job.

    :param execution_task_id: the task that starts the execution.
    :param step_name: the name of the step.
    :param polysync_conn_id: Airflow connection (templated).
    :param region_name: AWS region; overrides the region of the connection (templated).
    :param poll_interval: seconds, or a timedelta, between two lists of the steps, which
        all tasks of the execution share.
    :param property_files: read the JSON files that the step declares: True for all, or
        the names of some.
    :return: what the step made, as in the XCom ``outputs`` of a Start task: metrics,
        artefacts, ...
    :raises PipelineExecutionFailedError: the step has failed, or AWS has not run it.
    :raises PipelineExecutionCancelledError: somebody has stopped the step.
    :raises SageMakerApiError: AWS refuses to list the steps.
    """

    template_fields: Sequence[str] = ("polysync_conn_id", "region_name")
    operator_extra_links = (links.PolysyncStepLink(), links.PolysyncStepLogLink())
    ui_color = "#e5f1ff"

    def __init__(
        self,
        *,
        execution_task_id: str,
        step_name: str,
        polysync_conn_id: str = base.DEFAULT_CONNECTION,
        region_name: str | None = None,
        poll_interval: float | timedelta = base.DEFAULT_POLL_INTERVAL,
        property_files: bool | Sequence[str] = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{**kwargs, "trigger_rule": "all_success"})
        self.execution_task_id = execution_task_id
        self.step_name = step_name
        self.polysync_conn_id = polysync_conn_id
        self.region_name = region_name
        self.poll_interval = poll_interval
        self.property_files = property_files
        if CAPABILITIES.start_from_trigger:
            trigger_kwargs = self.trigger_arguments
            if property_files:
                trigger_kwargs["property_files"] = property_files
            self.start_trigger_args = StartTriggerArgs(
                trigger_cls=_TASK_END_TRIGGER,
                trigger_kwargs=trigger_kwargs,
                next_method="execute_failed",
            )

    @property
    def start_from_trigger(self) -> bool:  # type: ignore[override]  # Airflow has an attribute
        """
        Whether the task starts and ends in the triggerer. Airflow asks when it
        serializes the DAG.
        """
        if not CAPABILITIES.start_from_trigger:
            return False
        if conf.getboolean("triggerer", "queues_enabled", fallback=False):
            # Airflow gives its trigger no queue (``defer_task`` in
            # airflow/models/taskinstance.py), so a triggerer with queues never runs it.
            return False
        if any(getattr(self, name, None) for name in base.ON_WORKERS_ONLY):
            return False
        has_dag: Any = self.has_dag
        return not has_dag() or len(self.dag.task_ids) <= MAX_TASKS_IN_TRIGGERER

    @property
    def trigger_arguments(self) -> dict[str, Any]:
        """The arguments of the trigger that waits for the step."""
        arguments: dict[str, Any] = {
            "execution_task_id": self.execution_task_id,
            "step_name": self.step_name,
            "polysync_conn_id": self.polysync_conn_id,
            "poll_interval": clock.as_seconds(self.poll_interval),
        }
        # These are left out if they have their defaults: Airflow copies the arguments
        # of all steps for each that starts.
        if self.region_name:
            arguments["region_name"] = self.region_name
        if self.retries:
            arguments["retries"] = self.retries
        return arguments

    def _run_in(self, context: Context) -> StepTaskRun:
        from polysync_airflow.operators.step_task_run import StepTaskRun

        return StepTaskRun(self, context)

    @base.apply_retry_policy
    def execute(self, context: Context) -> None:
        """Wait in the triggerer."""
        self._run_in(context).execute()

    @base.apply_retry_policy
    def execute_complete(self, context: Context, event: Any = None) -> dict[str, Any]:
        """
        Push what the step made, and succeed, fail or skip as the step has.

        :raises TriggerEventError: ``event`` is not an event of this provider's trigger.
        """
        return self._run_in(context).complete(event)
