"""Owns a task's wait for an execution: whether, how and how long, the same for Start and Stop."""

from __future__ import annotations

import time
from abc import abstractmethod
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from airflow.sdk import BaseOperator, conf
from airflow.sdk.exceptions import AirflowTaskTimeout

from polysync_airflow.exceptions import ParametersError, SageMakerApiError
from polysync_airflow.models import ExecutionDescription, ExecutionEvent
from polysync_airflow.retrying import PolysyncRetryPolicy
from polysync_airflow.states import Finish, Wait, Watch, is_stoppable

if TYPE_CHECKING:
    from airflow.sdk import Context

    # Imported in the tasks alone, since it brings boto3: a DAG file is parsed every 30 seconds.
    from polysync_airflow.hooks import PolysyncSageMakerHook

DEFAULT_CONNECTION: Final = "polysync_default"
DEFAULT_POLL_INTERVAL: Final = 30.0
DEFAULT_TIMEOUT: Final = 7 * 24 * 3600.0
DEFAULT_DEFERRABLE: Final = conf.getboolean("operators", "default_deferrable", fallback=False)


class ExecutionOperator(BaseOperator):
    """What Start and Stop share: a connection, and a wait in either mode, ended by ``execute_complete``."""

    def __init__(
        self,
        *,
        polysync_conn_id: str,
        region_name: str | None,
        wait_for_completion: bool,
        deferrable: bool,
        poll_interval: float,
        timeout: float,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.retry_policy = self.retry_policy or PolysyncRetryPolicy()
        _require_positive("poll_interval", poll_interval)
        _require_positive("timeout", timeout)
        self.polysync_conn_id = polysync_conn_id
        self.region_name = region_name
        self.wait_for_completion = wait_for_completion
        self.deferrable = deferrable
        self.poll_interval = poll_interval
        self.timeout = timeout

    @cached_property
    def hook(self) -> PolysyncSageMakerHook:
        """The hook of this task's connection."""
        from polysync_airflow.hooks import PolysyncSageMakerHook

        return PolysyncSageMakerHook(self.polysync_conn_id, self.region_name)

    def _wait_for_end(self, execution_arn: str, pipeline_name: str | None) -> ExecutionEvent:
        now = time.time()
        limit = self.timeout
        if self.execution_timeout:
            # Airflow's own timer does not run while a task is deferred.
            limit = min(limit, self.execution_timeout.total_seconds())
        watch = Watch(execution_arn, pipeline_name, self.poll_interval, since=now, deadline=now + limit)
        if self.deferrable:
            self._defer_until_end(watch)
        return self._wait_here(watch)

    def _defer_until_end(self, watch: Watch) -> None:
        from polysync_airflow.triggers import PolysyncPipelineExecutionTrigger

        self.defer(
            trigger=PolysyncPipelineExecutionTrigger(
                execution_arn=watch.execution_arn,
                pipeline_name=watch.pipeline_name,
                polysync_conn_id=self.polysync_conn_id,
                region_name=self.region_name,
                poll_interval=watch.poll_interval,
                since=watch.since,
                deadline=watch.deadline,
            ),
            method_name="execute_complete",
        )

    def _wait_here(self, watch: Watch) -> ExecutionEvent:
        step: Wait | Finish = watch.begin(time.time())
        try:
            while isinstance(step, Wait):
                time.sleep(step.seconds)
                answer = self.hook.observe_pipeline_execution(watch.execution_arn)
                step = step.watch.decide(answer, time.time())
                for note in step.notes:
                    self.log.log(note.level, "%s", note.text)
        except AirflowTaskTimeout:
            # execution_timeout counts from the task's start, so it fires just before our own deadline; the
            # outcome must be the same as when the task is deferred.
            if isinstance(step, Wait):
                step = step.watch.time_out()
        return step.event

    @abstractmethod
    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> str:
        """
        Act on the end of the wait, in either mode.

        :param context: the task's context.
        :param event: the trigger's event, a JSON-able dict.
        :raises TriggerEventError: if it is not one.
        """


def ask_to_stop(hook: PolysyncSageMakerHook, execution_arn: str) -> str | None:
    """
    Ask for an execution to be stopped.

    :param hook: the connection to AWS.
    :param execution_arn: the execution.
    :return: None if it was asked; the AWS status that makes it moot if it has ended, or is stopping, already.
    :raises SageMakerApiError: if AWS refuses though it runs.
    """
    try:
        hook.stop_pipeline_execution(execution_arn)
    except SageMakerApiError:
        # A look tells more than the refusal's text, which AWS may reword.
        seen = hook.observe_pipeline_execution(execution_arn)
        if isinstance(seen, ExecutionDescription) and not is_stoppable(seen.status):
            return seen.status
        raise
    return None


def _require_positive(name: str, value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        raise ParametersError(f"{name} = {value!r} is not legal: give a number of seconds above 0.")
