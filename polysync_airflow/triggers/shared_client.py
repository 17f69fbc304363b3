"""The SageMaker client that all waits of a kind in a process with the same connection and region share."""

from __future__ import annotations

import itertools
import logging
import platform
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass
from datetime import datetime
from threading import Lock
from typing import Any, Final, TypeVar

from botocore.config import Config
from pydantic import BaseModel

from polysync_airflow import metrics
from polysync_airflow.auth.base_hook import LiveConnection, Response
from polysync_airflow.aws.rate_limiter import rate_limiter_for
from polysync_airflow.aws.responses import MAX_POLL_RESPONSE_BYTES, paginate, pagination_error
from polysync_airflow.aws.sessions import RATE_LIMITED_CONFIG
from polysync_airflow.exceptions import CredentialsError, PolysyncError, is_throttling
from polysync_airflow.execution import clock
from polysync_airflow.execution.models import ExecutionDescription
from polysync_airflow.execution.steps.descriptions import StepDescription
from polysync_airflow.execution.texts import format_seconds
from polysync_airflow.execution.waiter import Failures
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.hooks.executions import result_or_error
from polysync_airflow.triggers.schedule import Listing

log = logging.getLogger(__name__)

# How many waits a line of the log names.
MAX_NAMED_WAITS: Final = 3
# When the log says that polls fail. Most waits have polled by then, and throttled polls have been repeated.
SETTLE_SECONDS: Final = 30.0


class Activity:
    """
    What one poller does. Thread-safe.

    :param poller: what it polls: the metrics' tag ``poller``.
    """

    def __init__(self, poller: str, connection_id: str, region_name: str | None) -> None:
        region = region_name or "default"
        self._name = f"Poller of {poller.replace('_', ' ')}, connection {connection_id!r}, region {region}"
        self._tally = metrics.Tally(poller=poller, connection=connection_id, region=region)
        # For how many tasks it polls now.
        self.waits: Callable[[], int] = int
        self._last_success = clock.monotonic()
        self._reporting = Lock()
        self._longest_delay = 0.0
        # The waits whose last poll has failed, with their names; and what the log says of them.
        self._failing: dict[Hashable, tuple[str, Failures]] = {}
        self._logged: _Logged | None = None

    def succeeded(self, operation: str) -> None:
        """Count a call of AWS that was successful."""
        self._count(operation)
        self._last_success = clock.monotonic()

    def failed(self, operation: str, error: PolysyncError) -> None:
        """Count a call of AWS that has failed."""
        self._count(operation)
        self._tally.add(metrics.CALLS_FAILED, operation=operation)
        self._tally.add(metrics.CALLS_THROTTLED, int(is_throttling(error)), operation=operation)

    def _count(self, operation: str) -> None:
        self._tally.add(metrics.CALLS, operation=operation)
        # Let the series of what goes wrong begin before it does.
        self._tally.add(metrics.CALLS_FAILED, 0, operation=operation)
        self._tally.add(metrics.CALLS_THROTTLED, 0, operation=operation)

    def detected(self, seconds: float) -> None:
        """Note how long after its end, in seconds, an execution was found to have ended."""
        # The clocks of AWS and of this host may differ.
        self._longest_delay = max(self._longest_delay, seconds)

    def polled(self, wait: Hashable, name: str, failures: Failures) -> None:
        """
        Note whether the polls of a wait fail.

        :param name: what it waits for.
        :param failures: those since its last successful poll; none if it has ended.
        """
        if failures.count:
            self._failing[wait] = name, failures
        else:
            self._failing.pop(wait, None)

    def report(self, rate: float, *, is_last: bool = False) -> None:
        """
        Send the metrics, and log polls that fail. Does not block, and raises no errors.

        :param rate: the calls per second to which the poller limits itself.
        :param is_last: no other report follows.
        """
        # The last report must not come before one of another thread, which has counted the waits already.
        with self._reporting:
            waits = self.waits()
            gauges = {
                metrics.WAITS: waits,
                metrics.CALL_RATE: round(rate, 1),
                metrics.LAST_CALL_AGE: round(clock.monotonic() - self._last_success, 1) if waits else 0,
                metrics.DETECTION_DELAY: round(self._longest_delay, 1),
            }
            if self._tally.report(gauges, host=platform.node(), is_last=is_last):
                self._longest_delay = 0.0
            self._log_failures(waits)

    def _log_failures(self, waits: int) -> None:
        """Write one line for an error of any number of waits, and one when no poll fails any more."""
        # A copy, which is made at once: the event loop may change the original meanwhile.
        failing, logged, now = list(self._failing.values()), self._logged, clock.time()
        errors = Counter(failures.last for _, failures in failing)
        if logged:
            logged.waits = max(logged.waits, len(failing))
        if not errors:
            if logged:
                text = f"up to {logged.waits:,} waits have failed, for {format_seconds(now - logged.since)}"
                log.info("%s: no polls fail any more. Those of %s.", self._name, text)
            self._logged = None
            return
        since = logged.since if logged else min(failures.since for _, failures in failing)
        if now - since < SETTLE_SECONDS or (logged and logged.error in errors):
            return
        ((error, _),) = errors.most_common(1)
        self._logged = _Logged(error, since, max(len(failing), logged.waits if logged else 0))
        names = [name for name, failures in failing if failures.last == error][:MAX_NAMED_WAITS]
        numbers = f"polls of {len(failing):,} of {waits:,} waits fail, and are repeated"
        examples = f"for example of {', '.join(names)}"
        log.warning("%s: %s, %s. The most frequent error: %s", self._name, numbers, examples, error)


@dataclass
class _Logged:
    """
    What the log says of polls that fail.

    :param since: when the first of them failed, in seconds since the epoch.
    :param waits: of how many waits, at most.
    """

    error: str
    since: float
    waits: int


Result = TypeVar("Result")

# How many calls run at the same time, and so the number of connections to AWS.
WORKERS: Final = 8
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


class SharedClient(LiveConnection[PollingHook]):
    """
    Calls AWS with one connection in one region, under a rate limiter, and counts the calls. Thread-safe.

    :param polls: what its user polls, for the metrics.
    :param operations: those that its user needs; None for those that concern executions.
    :param model: that of a response. It is built before the first call: older pydantic versions let threads
        that use a model for the first time see it half built.
    """

    def __init__(
        self,
        connection_id: str,
        region_name: str | None,
        *,
        polls: str = "executions",
        operations: tuple[str, ...] = PollingHook.client_operations,
        model: type[BaseModel] = ExecutionDescription,
    ) -> None:
        self.activity = Activity(polls, connection_id, region_name)
        # Clients with the same key share a rate limiter.
        self.key = connection_id, region_name
        self.limiter = rate_limiter_for(self.key, clock.monotonic())

        def make_hook() -> PollingHook:
            model.model_rebuild()
            hook = PollingHook(*self.key, config=_CONFIG)
            hook.client_operations, hook.activity = operations, self.activity
            return hook

        super().__init__(connection_id, make_hook)

    def read(self) -> CredentialsError | None:
        """Read the connection, and report the metrics: this comes regularly, and not often."""
        self.report()
        return super().read()

    def report(self, *, is_last: bool = False) -> None:
        """
        Send the metrics. Does not block.

        :param is_last: no other report follows for some time.
        """
        self.activity.report(self.limiter.rate, is_last=is_last)

    def describe(self, execution_arn: str) -> ExecutionDescription | PolysyncError:
        """Describe an execution; return an error instead of raising it."""
        return self.result(lambda hook: hook.describe_pipeline_execution(execution_arn))

    def list_steps(
        self, execution_arn: str, *, is_wanted: Callable[[], bool]
    ) -> Sequence[StepDescription] | PolysyncError:
        """
        List the steps of an execution; return an error instead of raising it.

        The pages after the first wait for the rate limiter.

        :param is_wanted: whether to go on, which is asked before each page.
        """
        through = self.later_pages_limited(is_wanted)
        return self.result(lambda hook: hook.list_pipeline_execution_steps(execution_arn, through=through))

    def list_executions(
        self, pipeline: str, since: datetime, wanted: Collection[str], *, is_wanted: Callable[[], bool]
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
        through = self.later_pages_limited(is_wanted)

        def list_page(token: str | None) -> tuple[list[ExecutionDescription], str | None]:
            request: Any = {"created_after": since, "page_token": token}
            return through(lambda: self.call(lambda hook: hook.list_pipeline_executions(pipeline, **request)))

        try:
            for rows in paginate("ListPipelineExecutions", list_page):
                pages += 1
                executions |= {row.execution_arn: row for row in rows if row.execution_arn in wanted}
                if len(executions) == len(wanted) or pages == len(wanted):
                    break
        except PolysyncError as error:
            return Listing(executions, pages, error)
        return Listing(executions, pages)

    def later_pages_limited(self, is_wanted: Callable[[], bool]) -> Callable[[Callable[[], Result]], Result]:
        """
        Return a function that calls for the pages of a list: the first at once, the others under the limiter.

        :param is_wanted: whether to go on, which is asked before each page.
        """
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

    def result(self, call: Callable[[PollingHook], Result]) -> Result | PolysyncError:
        """Make a call; return an error instead of raising it."""
        return result_or_error(self.call, call)

    def call(self, call: Callable[[PollingHook], Result]) -> Result:
        """Make a call as before, and tell the rate limiter if AWS throttles it."""

        def count(hook: PollingHook) -> Result:
            try:
                return call(hook)
            except PolysyncError as error:
                if is_throttling(error):
                    self.limiter.throttled(clock.monotonic())
                raise

        return super().call(count)
