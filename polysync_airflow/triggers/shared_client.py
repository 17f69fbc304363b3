"""The SageMaker client that all waits of a process with the same connection and region share."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from botocore.config import Config

from polysync_airflow.airflow_compat.connections import is_missing
from polysync_airflow.airflow_compat.sdk import AirflowNotFoundException
from polysync_airflow.airflow_compat.supervisor import call_airflow
from polysync_airflow.auth.base_hook import Response
from polysync_airflow.aws.rate_limiter import rate_limiter_for
from polysync_airflow.aws.response_limits import MAX_POLL_RESPONSE_BYTES, paginate, pagination_error
from polysync_airflow.aws.sessions import RATE_LIMITED_CONFIG
from polysync_airflow.exceptions import CredentialsError, PolysyncError, is_throttling
from polysync_airflow.execution import clock
from polysync_airflow.execution.durations import format_seconds
from polysync_airflow.execution.models import CONNECTION_NOT_FOUND, ExecutionDescription
from polysync_airflow.execution.steps.descriptions import StepDescription
from polysync_airflow.execution.texts import clean_text
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.triggers.activity import Activity

if TYPE_CHECKING:
    from polysync_airflow.execution.approval.models import ModelPackageDescription

log = logging.getLogger(__name__)

Result = TypeVar("Result")

# How many calls run at the same time, and so the number of connections to AWS.
WORKERS: Final = 8
# How often the Airflow connection is read, and how soon again after a read that failed.
READ_SECONDS: Final = 20.0
READ_RETRY_SECONDS: Final = 7.0
# How often at most it is read because of failed calls, however many waits have them.
MIN_READ_SECONDS: Final = 5.0
# The connection counts as deleted if no read has found it for this long. A single "not found" proves nothing:
# Airflow says the same if its database does not respond. With the times above, this takes four reads, and
# waits end 41 s after the deletion, so within a minute even if Airflow responds slowly.
DELETED_AFTER_SECONDS: Final = 20.0
# Requests hold ARNs that AWS returned. To validate them for each call would take a twentieth of its CPU.
_CONFIG: Final = RATE_LIMITED_CONFIG.merge(Config(max_pool_connections=WORKERS, parameter_validation=False))


class PollingHook(PolysyncSageMakerHook):
    """The hook of a poller. Its client has only the operations that polls, searches and a stop need."""

    client_operations: tuple[str, ...] = (
        "DescribePipelineExecution",
        "ListPipelineExecutions",
        "ListPipelineExecutionSteps",
        "ListPipelineParametersForExecution",
        "StopPipelineExecution",
    )
    max_response_bytes = MAX_POLL_RESPONSE_BYTES
    # What counts its calls; None for nothing.
    activity: Activity | None = None

    def call(self, operation: str, **request: Any) -> Response:
        """Call a SageMaker operation, and count the call."""
        if self.activity is None:
            return super().call(operation, **request)
        try:
            response = super().call(operation, **request)
        except PolysyncError as error:
            self.activity.failed(operation, error)
            raise
        self.activity.succeeded(operation)
        return response


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

    Its user calls ``read_connection`` when it is due. While the connection cannot be read, calls use what was
    read last: Airflow's API server may be restarted without any effect on polls.

    :param hook_class: the class of its hook, with the operations that its user needs.
    :param polls: what its user polls, for the metrics.
    """

    def __init__(
        self,
        connection_id: str,
        region_name: str | None,
        hook_class: type[PollingHook] = PollingHook,
        *,
        polls: str = "executions",
    ) -> None:
        self.activity = Activity(polls, connection_id, region_name)
        self._hook_class = hook_class
        # Clients with the same key share a poller and a rate limiter.
        self.key = connection_id, region_name
        # Held while the connection is read. Calls do not take it: a slow read does not delay them.
        self._lock = threading.Lock()
        self._hook: PollingHook | None = None
        self._read_at = clock.monotonic()
        # Of the last read, if it failed.
        self._error: PolysyncError | None = None
        # The first of the reads since which the connection has not been found; None if the last one found it.
        self._missing_since: float | None = None
        self.limiter = rate_limiter_for(self.key, clock.monotonic())
        self.can_list = True

    @property
    def hook(self) -> PolysyncSageMakerHook:
        """
        The hook; a new one if the connection has changed.

        :raises PolysyncError: if the connection has never been read.
        """
        return self._hook or self._first_hook()

    @property
    def seconds_until_read(self) -> float:
        """The seconds until ``read_connection`` is due; negative if it is overdue."""
        return (READ_RETRY_SECONDS if self._error else READ_SECONDS) - self._seconds_since_read

    def read_connection(self) -> CredentialsError | None:
        """
        Read the connection, and use it for the next calls if it has changed. Not for an event loop.

        This is also when the metrics are reported: it comes regularly, and not often.

        :return: an error if the connection has been deleted.
        """
        self.report()
        with self._lock:
            self._read()
            if self._missing_since is None or self._read_at - self._missing_since < DELETED_AFTER_SECONDS:
                return None
            error = CredentialsError(
                f"polysync_conn_id = {self.key[0]!r}: the connection was deleted or renamed. Airflow has not "
                f"found it for {format_seconds(self._read_at - self._missing_since)}. Add it again under "
                "Admin > Connections. If no retry follows, clear the task."
            )
            error.error_code = CONNECTION_NOT_FOUND
            return error

    def report(self, *, is_last: bool = False) -> None:
        """
        Send the metrics, and write the line of the log if it is due. Does not block.

        :param is_last: no other report follows for some time.
        """
        self.activity.report(self.limiter.rate, is_last=is_last)

    def describe(self, execution_arn: str) -> ExecutionDescription | PolysyncError:
        """Describe an execution; return an error instead of raising it."""
        return self._result(lambda hook: hook.describe_pipeline_execution(execution_arn))

    def describe_model_package(self, arn: str) -> ModelPackageDescription | PolysyncError:
        """Describe a model package; return an error instead of raising it."""
        return self._result(lambda hook: hook.describe_model_package(arn))

    def list_steps(
        self, execution_arn: str, *, is_wanted: Callable[[], bool]
    ) -> Sequence[StepDescription] | PolysyncError:
        """
        List the steps of an execution; return an error instead of raising it.

        The pages after the first wait for the rate limiter.

        :param is_wanted: whether to go on, which is asked before each page.
        """
        through = self._later_pages_limited(is_wanted)
        return self._result(lambda hook: hook.list_pipeline_execution_steps(execution_arn, through=through))

    def list_executions(
        self,
        pipeline: str,
        since: datetime,
        wanted: Collection[str],
        *,
        is_wanted: Callable[[], bool],
    ) -> Listing:
        """
        List a pipeline's executions, the newest first, until all wanted ones are found.

        The pages after the first wait for the rate limiter. There are no more pages than descriptions of each
        wanted execution would take calls.

        :param since: leave out executions that were created before.
        :param wanted: the ARNs of the wanted executions.
        :param is_wanted: whether to go on, which is asked before each page.
        """
        executions: dict[str, ExecutionDescription] = {}
        pages = 0
        through = self._later_pages_limited(is_wanted)

        def list_page(token: str | None) -> tuple[list[ExecutionDescription], str | None]:
            request = partial(_list_page, pipeline=pipeline, created_after=since, page_token=token)
            return through(partial(self._call, request))

        try:
            for rows in paginate("ListPipelineExecutions", list_page):
                pages += 1
                executions |= {row.execution_arn: row for row in rows if row.execution_arn in wanted}
                if len(executions) == len(wanted) or pages == len(wanted):
                    break
        except PolysyncError as error:
            return Listing(executions, pages, error)
        return Listing(executions, pages)

    def _later_pages_limited(self, is_wanted: Callable[[], bool]) -> Callable[[Callable[[], Result]], Result]:
        # The poller has taken the token of the first page.
        pages = itertools.count()

        def sleep(seconds: float) -> None:
            clock.sleep(seconds)
            check()

        def check() -> None:
            if not is_wanted():
                raise pagination_error("The list", "its wait has ended")

        def call(list_page: Callable[[], Result]) -> Result:
            check()
            if next(pages):
                self.limiter.acquire(sleep)
            return list_page()

        return call

    def _result(self, call: Callable[[PolysyncSageMakerHook], Result]) -> Result | PolysyncError:
        try:
            return self._call(call)
        except PolysyncError as error:
            return error

    def _call(self, call: Callable[[PolysyncSageMakerHook], Result]) -> Result:
        hook = self.hook
        try:
            return call(hook)
        except PolysyncError as error:
            if is_throttling(error):
                self.limiter.throttled(clock.monotonic())
            # A person who repairs or rotates a connection expects that running waits use it.
            if error.transient or not self._has_changed_from(hook):
                raise
        return call(self.hook)

    def _first_hook(self) -> PollingHook:
        with self._lock:
            # All waits share a read that fails, too.
            recent = self._error and self._seconds_since_read <= MIN_READ_SECONDS
            if self._hook is None and not recent:
                self._read()
            if self._hook is None:
                raise cast("PolysyncError", self._error).with_traceback(None)
            return self._hook

    def _has_changed_from(self, hook: PolysyncSageMakerHook) -> bool:
        with self._lock:
            if self._hook is hook and self._seconds_since_read > MIN_READ_SECONDS:
                self._read()
            return self._hook is not hook

    @property
    def _seconds_since_read(self) -> float:
        return clock.monotonic() - self._read_at

    def _read(self) -> None:
        missing, error = False, None
        try:
            error = self._try_to_read()
            if error and isinstance(error.__cause__, AirflowNotFoundException):
                missing = call_airflow(lambda: is_missing(self.key[0]))
        finally:
            self._read_at = clock.monotonic()
        if not missing:
            self._missing_since = None
        elif self._missing_since is None:
            self._missing_since = self._read_at
        # One line for an outage, not one for each read.
        if error and not self._error:
            log.warning("Connection %r cannot be read now, retrying: %s", self.key[0], error)
        elif self._error and not error:
            log.info("Connection %r can be read again.", self.key[0])
        self._error = error

    def _try_to_read(self) -> PolysyncError | None:
        hook = self._hook_class(*self.key, config=_CONFIG)
        hook.activity = self.activity
        try:
            if not call_airflow(lambda: hook.has_same_connection(self._hook)):
                self._replace_hook(hook)
        except PolysyncError as error:
            return error
        except Exception as error:
            # For example, the API server refuses the request. Whatever it is, the next read may succeed.
            return CredentialsError(
                f"polysync_conn_id = {self.key[0]!r}: Airflow does not return the connection: "
                f"{type(error).__name__}: {clean_text(str(error))}",
                permanent=False,
            )
        return None

    def _replace_hook(self, hook: PollingHook) -> None:
        if self._hook is None:
            # Older pydantic versions let threads that use a model for the first time see it half built.
            ExecutionDescription.model_rebuild()
        else:
            log.info("Connection %r has changed: polling uses the new one.", self.key[0])
        self._hook, self.can_list = hook, True


def _list_page(hook: PolysyncSageMakerHook, **request: Any) -> tuple[list[ExecutionDescription], str | None]:
    return hook.list_pipeline_executions(request.pop("pipeline"), **request)
