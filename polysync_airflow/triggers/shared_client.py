"""The SageMaker client that all waits of a process with the same connection and region share."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final, TypeVar

from botocore.config import Config

from polysync_airflow.aws.rate_limiter import rate_limiter_for
from polysync_airflow.aws.sessions import RATE_LIMITED_CONFIG
from polysync_airflow.exceptions import PolysyncError, is_throttling
from polysync_airflow.execution.models import ExecutionDescription
from polysync_airflow.hooks import PolysyncSageMakerHook

log = logging.getLogger(__name__)

Result = TypeVar("Result")

# How many calls run at the same time, and so the number of connections to AWS.
WORKERS: Final = 8
# How often the Airflow connection is read again while its calls succeed.
RELOAD_SECONDS: Final = 300.0
# How often at most it is read again because of failed calls, however many waits have them.
MIN_RELOAD_SECONDS: Final = 5.0
# Requests hold ARNs that AWS returned. To validate them for each call would take a twentieth of its CPU.
_CONFIG: Final = RATE_LIMITED_CONFIG.merge(Config(max_pool_connections=WORKERS, parameter_validation=False))


class PollingHook(PolysyncSageMakerHook):
    """The hook of a poller. Its client has only the operations that a poller and a stop need."""

    client_operations = (
        "DescribePipelineExecution",
        "ListPipelineExecutions",
        "ListPipelineExecutionSteps",
        "StopPipelineExecution",
    )


@dataclass(frozen=True)
class Listing:
    """
    The result of a listing.

    :param executions: those of the requested executions that were listed, by ARN.
    :param pages: the number of calls that it took.
    :param error: the error that ended it early.
    """

    executions: Mapping[str, ExecutionDescription]
    pages: int
    error: PolysyncError | None = None


class SharedClient:
    """
    Calls AWS with one connection in one region, and follows changes of the Airflow connection. Thread-safe.

    :param connection_id: Airflow connection.
    :param region_name: AWS region; None for the connection's own.
    """

    def __init__(self, connection_id: str, region_name: str | None) -> None:
        # Clients with the same key share a poller and a rate limiter.
        self.key = connection_id, region_name
        self._lock = threading.Lock()
        self._hook: PollingHook | None = None
        self._loaded_at = 0.0
        self.limiter = rate_limiter_for(self.key, time.monotonic())
        self.can_list = True

    @property
    def hook(self) -> PolysyncSageMakerHook:
        """The hook; a new one if the connection has changed."""
        with self._lock:
            if self._hook is None:
                # Older pydantic versions let threads that use a model for the first time see it half built.
                ExecutionDescription.model_rebuild()
                self._hook, self._loaded_at = self._make_hook(), time.time()
            elif time.time() - self._loaded_at > RELOAD_SECONDS:
                self._reload(self._hook)
            return self._hook

    def describe(self, execution_arn: str) -> ExecutionDescription | PolysyncError:
        """
        Describe an execution; return an error instead of raising it.

        :param execution_arn: the execution.
        """
        try:
            return self._call(lambda hook: hook.describe_pipeline_execution(execution_arn))
        except PolysyncError as error:
            return error

    def list_executions(self, pipeline: str, since: datetime, wanted: Collection[str]) -> Listing:
        """
        List a pipeline's executions, the newest first, until all wanted ones are found.

        The pages after the first wait for the rate limiter. There are no more pages than descriptions of each
        wanted execution would take calls.

        :param pipeline: the pipeline's name or ARN.
        :param since: leave out executions that were created before.
        :param wanted: the ARNs of the wanted executions.
        """
        executions: dict[str, ExecutionDescription] = {}
        pages, token = 0, None
        try:
            while len(executions) < len(wanted) and pages < len(wanted) and (token or not pages):
                if pages:
                    self.limiter.acquire()
                rows, token = self._call(
                    partial(_list_page, pipeline=pipeline, created_after=since, page_token=token)
                )
                pages += 1
                executions |= {row.execution_arn: row for row in rows if row.execution_arn in wanted}
        except PolysyncError as error:
            return Listing(executions, pages, error)
        return Listing(executions, pages)

    def _call(self, call: Callable[[PolysyncSageMakerHook], Result]) -> Result:
        hook = self.hook
        try:
            return call(hook)
        except PolysyncError as error:
            if is_throttling(error):
                self.limiter.throttled(time.monotonic())
            # A person who repairs or rotates a connection expects that running waits use it.
            if error.transient or not self._has_changed_from(hook):
                raise
        return call(self.hook)

    def _has_changed_from(self, hook: PolysyncSageMakerHook) -> bool:
        with self._lock:
            if self._hook is hook and time.time() - self._loaded_at > MIN_RELOAD_SECONDS:
                self._reload(hook)
            return self._hook is not hook

    def _reload(self, hook: PolysyncSageMakerHook) -> None:
        self._loaded_at = time.time()
        new_hook = self._make_hook()
        try:
            changed = not new_hook.has_same_connection(hook)
        except PolysyncError as error:
            log.warning(
                "Connection %r cannot be read again, polling goes on with the old one: %s", self.key[0], error
            )
            return
        if changed:
            log.info("Connection %r has changed: polling uses the new one.", self.key[0])
            self._hook, self.can_list = new_hook, True

    def _make_hook(self) -> PollingHook:
        return PollingHook(*self.key, config=_CONFIG)


def _list_page(hook: PolysyncSageMakerHook, **request: Any) -> tuple[list[ExecutionDescription], str | None]:
    return hook.list_pipeline_executions(request.pop("pipeline"), **request)
