"""
The trigger that waits for the approval of a model package without a worker.

What it decides is decided in ``execution/approval/wait.py``, as for a sensor on a worker. All triggers of a
process with the same connection and region share a client, a rate limiter and a few threads.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Lock
from typing import Any, Final
from weakref import WeakValueDictionary

from airflow.triggers.base import BaseTrigger, TriggerEvent

from polysync_airflow.airflow_compat.supervisor import use_event_loop
from polysync_airflow.aws.response_limits import time_limit
from polysync_airflow.exceptions import PolysyncError
from polysync_airflow.execution import clock
from polysync_airflow.execution.approval.models import (
    ApprovalTriggerArguments,
    ModelPackageDescription,
)
from polysync_airflow.execution.approval.wait import ApprovalWait, Finish, Wait
from polysync_airflow.execution.parameters import check_trigger_arguments
from polysync_airflow.execution.waiter import NO_FAILURES
from polysync_airflow.triggers.shared_client import PollingHook, SharedClient

# People approve within hours: a few threads serve thousands of waits.
MAX_THREADS: Final = 4
# How long a poll may take, so that an endpoint that does not respond keeps no thread for long.
POLL_SECONDS: Final = 60.0
_WAITS: Final = "model packages"


class ModelPackageHook(PollingHook):
    """The hook of these polls. Its client has the operation that they need."""

    client_operations = ("DescribeModelPackage",)


class ModelPackagePolls:
    """Describes model packages for all triggers with one connection and region. Thread-safe."""

    def __init__(self, connection_id: str, region_name: str) -> None:
        self._client = SharedClient(connection_id, region_name, ModelPackageHook, polls="model_packages")
        # How many tasks wait. Not a method of this object, which then would not end with its last trigger.
        self._waiting: dict[str, int] = {}
        self._client.activity.waits = self._waiting.copy
        self._reading = Lock()
        self._threads = ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="polysync-approval")
        # Older pydantic versions let threads that use a model for the first time see it half built.
        ModelPackageDescription.model_rebuild()

    @contextmanager
    def waiting(self) -> Iterator[Callable[[ApprovalWait], None]]:
        """Count a task that waits, and yield what notes its polls. Its event loop only may use it."""
        wait = object()
        self._waiting[_WAITS] = self._waiting.get(_WAITS, 0) + 1
        try:
            yield lambda state: self._client.activity.polled(wait, state.model_package_arn, state.failures)
        finally:
            self._client.activity.polled(wait, "", NO_FAILURES)
            self._waiting[_WAITS] -= 1
            if not self._waiting[_WAITS]:
                self._client.report(is_last=True)

    async def describe(self, arn: str) -> ModelPackageDescription | PolysyncError:
        """Describe a model package in a thread; return an error instead of raising it."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._describe, arn)

    def _describe(self, arn: str) -> ModelPackageDescription | PolysyncError:
        with time_limit(POLL_SECONDS):
            error = self._read_connection()
            if error:
                return error
            self._client.limiter.acquire()
            return self._client.describe_model_package(arn)

    def _read_connection(self) -> PolysyncError | None:
        # The other threads go on with what was read last.
        if self._client.seconds_until_read > 0 or not self._reading.acquire(blocking=False):
            return None
        try:
            return self._client.read_connection()
        finally:
            self._reading.release()


# Only those that a trigger uses. Their threads end with them.
_POLLS: Final[WeakValueDictionary[tuple[str, str], ModelPackagePolls]] = WeakValueDictionary()
_POLLS_LOCK: Final = Lock()


def polls_for(connection_id: str, region_name: str) -> ModelPackagePolls:
    """Return what the triggers of this process with a connection and region share, as long as one uses it."""
    with _POLLS_LOCK:
        polls = _POLLS.get((connection_id, region_name))
        if polls is None:
            polls = _POLLS[connection_id, region_name] = ModelPackagePolls(connection_id, region_name)
        return polls


class PolysyncModelApprovalTrigger(BaseTrigger):
    """
    Wait until a model package is approved or rejected, then fire one event.

    It changes nothing in AWS, so Airflow may run it twice at the same time. The class path and the arguments
    are stored in Airflow's database: they are public, and hold no credentials.

    :param model_package_arn: the version of a model package group.
    :param polysync_conn_id: Airflow connection.
    :param region_name: AWS region of the model package.
    :param poll_interval: seconds between two polls.
    :param since: when the wait began, in seconds since the epoch.
    :param deadline: when it ends at the latest, in seconds since the epoch. It is absolute, so that it stays
        the same when the trigger moves to another triggerer.
    """

    # The class path that Airflow stores is the public one, wherever this module is.
    __module__ = "polysync_airflow.triggers"

    def __init__(
        self,
        *,
        model_package_arn: str,
        polysync_conn_id: str,
        region_name: str,
        poll_interval: float,
        since: float,
        deadline: float,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's has no annotations
        self.model_package_arn = model_package_arn
        self.polysync_conn_id = polysync_conn_id
        self.region_name = region_name
        self.poll_interval = poll_interval
        self.since = since
        self.deadline = deadline

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what Airflow stores: the class path and the arguments."""
        arguments = {name: getattr(self, name) for name in ApprovalTriggerArguments.model_fields}
        return f"{type(self).__module__}.{type(self).__qualname__}", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """
        Poll until the decision core ends the wait; yield its event as a JSON-able dict.

        :raises ParametersError: an argument of the stored trigger is not valid. Not raised by ``__init__``,
            where any error but a TypeError ends the triggerer.
        """
        use_event_loop()
        arguments = check_trigger_arguments(ApprovalTriggerArguments, self.serialize()[1])
        polls = polls_for(arguments.polysync_conn_id, arguments.region_name)
        wait = ApprovalWait(
            arguments.model_package_arn,
            arguments.poll_interval,
            arguments.since,
            arguments.deadline,
            rate_limited=True,
        )
        step: Wait | Finish = wait.first_wait(clock.time())
        with polls.waiting() as note:
            while isinstance(step, Wait):
                await asyncio.sleep(clock.timeout(step.seconds, idle=True) or 0)
                response = await polls.describe(arguments.model_package_arn)
                step = step.wait.decide(response, clock.time())
                if isinstance(step, Wait):
                    note(step.wait)
                for line in step.log_lines:
                    self.log.log(line.level, "%s", line.text)
        yield TriggerEvent(step.event.model_dump(mode="json"))  # type: ignore[no-untyped-call]
