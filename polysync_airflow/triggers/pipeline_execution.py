"""Owns the wait that holds no worker: what is stored while a task is deferred, and the loop behind it."""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance
from airflow.sdk.execution_time.xcom import XCom
from airflow.triggers.base import BaseTrigger, TriggerEvent

from polysync_airflow.aws.stop import stop_execution
from polysync_airflow.execution.waiter import Finish, Wait, Waiter
from polysync_airflow.triggers.poller import subscribe
from polysync_airflow.triggers.shared_client import SharedClient

DEFERRED: Final = "deferred"
# Seconds between questions for the task's state, should Airflow not answer.
STATE_PAUSES: Final = (1.0, 4.0, 15.0)
# Not the event loop's own pool, which all triggers share: a stop that AWS throttles may take minutes.
_STOPPERS: Final = ThreadPoolExecutor(max_workers=8, thread_name_prefix="polysync-stop")


class PolysyncPipelineExecutionTrigger(BaseTrigger):
    """
    Wait for a SageMaker pipeline execution to end, then fire one event.

    Its loop looks only, since it may run twice at once while triggers move between triggerers. Its class
    path and arguments are stored in Airflow's database: they are public, and hold no credentials.

    :param execution_arn: the execution.
    :param pipeline_name: its pipeline, for log lines; None where only the ARN is known.
    :param polysync_conn_id: Airflow connection.
    :param region_name: AWS region; None for the connection's.
    :param poll_interval: seconds between two looks.
    :param since: when the wait began (seconds since the epoch).
    :param deadline: when it ends at the latest (seconds since the epoch). Absolute, so that a move to
        another triggerer does not begin it anew.
    :param attempt: which attempt of the execution it is: 0 for its start, n for its n-th resume.
    :param stop_on_kill: stop the execution when a user, or the DAG run, ends the deferred task.
    """

    def __init__(
        self,
        *,
        execution_arn: str,
        pipeline_name: str | None,
        polysync_conn_id: str,
        region_name: str | None,
        poll_interval: float,
        since: float,
        deadline: float,
        attempt: int = 0,
        stop_on_kill: bool = False,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's has no annotations
        self.execution_arn = execution_arn
        self.pipeline_name = pipeline_name
        self.polysync_conn_id = polysync_conn_id
        self.region_name = region_name
        self.poll_interval = poll_interval
        self.since = since
        self.deadline = deadline
        self.attempt = attempt
        self.stop_on_kill = stop_on_kill
        self._channel: SharedClient | None = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what Airflow stores: the class path and the arguments."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "execution_arn": self.execution_arn,
                "pipeline_name": self.pipeline_name,
                "polysync_conn_id": self.polysync_conn_id,
                "region_name": self.region_name,
                "poll_interval": self.poll_interval,
                "since": self.since,
                "deadline": self.deadline,
                "attempt": self.attempt,
                "stop_on_kill": self.stop_on_kill,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait until the decision core says that the wait is over; yield its event as JSON-able dict."""
        with subscribe(self.polysync_conn_id, self.region_name, self._watch()) as subscription:
            self._channel = subscription.channel
            payload = None
            while payload is None:
                payload = self._report(await subscription.next_step())
            yield TriggerEvent(payload)  # type: ignore[no-untyped-call]  # Airflow's has no annotations

    def _watch(self) -> Waiter:
        return Waiter(
            self.execution_arn,
            self.pipeline_name,
            self.poll_interval,
            self.since,
            self.deadline,
            self.attempt,
        )

    def _report(self, step: Wait | Finish) -> dict[str, Any] | None:
        # From here, so that it reaches the log of this task and of no other: Airflow tells lines apart by the
        # context that they are written in. By the class's logger, as one for each trigger is twenty objects.
        log = self.logger()
        for note in step.notes:
            log.log(note.level, "%s", note.text)
        return step.event.model_dump(mode="json") if isinstance(step, Finish) else None

    async def on_kill(self) -> None:
        """Stop the execution if the task was ended by a user or with its DAG run."""
        if not self.stop_on_kill or self.task_instance is None:
            return
        stopping = _STOPPERS.submit(contextvars.copy_context().run, self._stop_unless_deferred)
        # Airflow cancels this coroutine after about a second. The thread must not be cancelled with it.
        await asyncio.shield(asyncio.wrap_future(stopping))

    def _stop_unless_deferred(self) -> None:
        # Airflow calls on_kill also when the trigger has only moved to another triggerer; then the task is
        # still deferred. (A cleared task may be deferred anew: its new try has stopped this execution.)
        try:
            state = self._task_state()
        except Exception as error:
            self.log.error(
                "Execution %s may be running on: it is to be stopped if its task was ended, and Airflow does "
                "not tell whether it was: %s",
                self.execution_arn,
                error,
            )
            raise
        if state == DEFERRED:
            self.log.info("The task is still deferred: its trigger has moved, and nothing is stopped.")
            return
        if self._is_superseded():
            self.log.info("A later try has resumed the execution: nothing is stopped.")
            return
        channel = self._channel or SharedClient(self.polysync_conn_id, self.region_name)
        told = stop_execution(channel.hook, self.execution_arn, attempt=self.attempt, warn=self.log.warning)
        self.log.warning("The task was ended (it is %s). Execution %s: %s", state, self.execution_arn, told)

    def _is_superseded(self) -> bool:
        # A triggerer that was suspended may learn only after the next try that its trigger has moved.
        ti = self.task_instance
        try:
            run: Any = ti and XCom.get_one(
                key="run", dag_id=ti.dag_id, task_id=ti.task_id, run_id=ti.run_id, map_index=ti.map_index
            )
        except Exception as error:
            # The task has ended, that is known: no error of Airflow's is a reason to leave it running.
            self.log.warning("Whether a later try has resumed the execution cannot be read: %s", error)
            return False
        same = isinstance(run, dict) and run.get("execution_arn") == self.execution_arn
        return bool(same and run.get("resumes", 0) > self.attempt)

    def _task_state(self) -> str | None:
        ti = self.task_instance
        if ti is None:
            return None
        for pause in STATE_PAUSES:
            try:
                states = self._ask_for_state(ti)
                break
            except Exception as error:
                self.log.warning("Airflow does not tell the task's state: %s", error)
                time.sleep(pause)
        else:
            states = self._ask_for_state(ti)
        found: dict[str, str | None] = states.get(ti.run_id, {})
        # A mapped task instance's key has its index at its end.
        return next(iter(found.values()), None)

    @staticmethod
    def _ask_for_state(ti: Any) -> dict[str, dict[str, str | None]]:
        return RuntimeTaskInstance.get_task_states(
            dag_id=ti.dag_id, task_ids=[ti.task_id], run_ids=[ti.run_id], map_index=ti.map_index
        )
