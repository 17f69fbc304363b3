"""Owns the wait that holds no worker: what is stored while a task is deferred, and the loop behind it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.states import Finish, Wait, Watch


class PolysyncPipelineExecutionTrigger(BaseTrigger):
    """
    Wait for a SageMaker pipeline execution to end, then fire one event.

    Looks only; it starts and stops nothing, since it may run twice at once while triggerers change. Its
    class path and arguments are stored in Airflow's database: they are public, and hold no credentials.

    :param execution_arn: the execution.
    :param pipeline_name: its pipeline, for log lines; None where only the ARN is known.
    :param polysync_conn_id: Airflow connection.
    :param region_name: AWS region; None for the connection's.
    :param poll_interval: seconds between two looks.
    :param since: when the wait began (seconds since the epoch).
    :param deadline: when it ends at the latest (seconds since the epoch). Absolute, so that a move to
        another triggerer does not begin it anew.
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
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's has no annotations
        self.execution_arn = execution_arn
        self.pipeline_name = pipeline_name
        self.polysync_conn_id = polysync_conn_id
        self.region_name = region_name
        self.poll_interval = poll_interval
        self.since = since
        self.deadline = deadline

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
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look until the decision core says that the wait is over; yield its event as JSON-able dict."""
        hook = PolysyncSageMakerHook(self.polysync_conn_id, self.region_name)
        watch = Watch(self.execution_arn, self.pipeline_name, self.poll_interval, self.since, self.deadline)
        step: Wait | Finish = watch.begin(time.time())
        while isinstance(step, Wait):
            await asyncio.sleep(step.seconds)
            # boto3 blocks: a thread keeps it off the event loop that all triggers share.
            answer = await asyncio.to_thread(hook.observe_pipeline_execution, self.execution_arn)
            step = step.watch.decide(answer, time.time())
            for note in step.notes:
                self.log.log(note.level, "%s", note.text)
        payload = step.event.model_dump(mode="json")
        yield TriggerEvent(payload)  # type: ignore[no-untyped-call]  # Airflow's has no annotations
