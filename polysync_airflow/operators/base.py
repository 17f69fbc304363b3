"""Owns a task's wait for an execution: whether, how and how long, the same for Start and Stop."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, TypeVar

from airflow.sdk import BaseOperator, conf
from airflow.sdk.exceptions import AirflowTaskTimeout

from polysync_airflow.aws.retry import call_with_retry
from polysync_airflow.exceptions import ParametersError
from polysync_airflow.execution.models import ExecutionEvent, region_from_arn
from polysync_airflow.execution.waiter import Finish, Wait, Waiter
from polysync_airflow.retrying import PolysyncRetryPolicy

if TYPE_CHECKING:
    from datetime import datetime

    from airflow.sdk import Context

    # Imported in the tasks alone, since it brings boto3: a DAG file is parsed every 30 seconds.
    from polysync_airflow.hooks import PolysyncSageMakerHook

Answer = TypeVar("Answer")

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

    def hook_in(self, region_name: str | None) -> PolysyncSageMakerHook:
        """
        Return the hook for a region: executions stay in theirs, whatever the task's arguments say later.

        :param region_name: AWS region; None for the task's own.
        """
        from polysync_airflow.hooks import PolysyncSageMakerHook

        if region_name in (None, self.hook.region_name):
            return self.hook
        return PolysyncSageMakerHook(self.polysync_conn_id, region_name)

    @property
    def _limit(self) -> float:
        # Airflow's own timer does not run while a task is deferred.
        airflows = self.execution_timeout.total_seconds() if self.execution_timeout else self.timeout
        return min(self.timeout, airflows)

    def _call_with_retry(self, call: Callable[[], Answer]) -> Answer:
        return call_with_retry(call, until=time.time() + self._limit, warn=self.log.warning)

    def _watch(
        self,
        execution_arn: str,
        pipeline_name: str | None,
        *,
        since: datetime | None = None,
        attempt: int = 0,
    ) -> Waiter:
        begun = since.timestamp() if since else time.time()
        return Waiter(
            execution_arn, pipeline_name, self.poll_interval, begun, begun + self._limit, attempt=attempt
        )

    def _wait_for_end(
        self, watch: Waiter, *, then: str = "execute_complete", stop_on_kill: bool = False
    ) -> ExecutionEvent:
        """
        Wait on the worker, or defer to a trigger and be resumed in the method ``then``.

        :param stop_on_kill: whether the trigger stops the execution when the task is killed.
        """
        if self.deferrable:
            self._defer_until_end(watch, then, stop_on_kill=stop_on_kill)
        return self._wait_here(watch)

    def _defer_until_end(self, watch: Waiter, then: str, *, stop_on_kill: bool) -> None:
        from polysync_airflow.triggers import PolysyncPipelineExecutionTrigger

        self.defer(
            trigger=PolysyncPipelineExecutionTrigger(
                execution_arn=watch.execution_arn,
                pipeline_name=watch.pipeline_name,
                polysync_conn_id=self.polysync_conn_id,
                region_name=region_from_arn(watch.execution_arn),
                poll_interval=watch.poll_interval,
                since=watch.since,
                deadline=watch.deadline,
                attempt=watch.attempt,
                stop_on_kill=stop_on_kill,
            ),
            method_name=then,
        )

    def _wait_here(self, watch: Waiter) -> ExecutionEvent:
        hook = self.hook_in(region_from_arn(watch.execution_arn))
        step: Wait | Finish = watch.begin(time.time())
        try:
            while isinstance(step, Wait):
                time.sleep(step.seconds)
                answer = hook.poll_pipeline_execution(watch.execution_arn)
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


def _require_positive(name: str, value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        raise ParametersError(f"{name} = {value!r} is not legal: give a number of seconds above 0.")
