"""What calls AWS for a poller: one client for all waits of a connection and region."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Final

from botocore.config import Config
from pydantic import BaseModel

from polysync_airflow.auth.base_hook import LiveConnection, Response, Result
from polysync_airflow.aws import responses
from polysync_airflow.aws.rate_limiter import rate_limiter_for
from polysync_airflow.aws.sessions import RATE_LIMITED_CONFIG
from polysync_airflow.exceptions import CredentialsError, PolysyncError
from polysync_airflow.execution import clock
from polysync_airflow.execution.models import ExecutionDescription
from polysync_airflow.execution.steps.descriptions import StepDescription
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.hooks.executions import result_or_error
from polysync_airflow.triggers.activity import Activity
from polysync_airflow.triggers.schedule import Listing

# How many calls run at the same time, and so the number of connections to AWS.
WORKERS: Final = 8
# Requests hold ARNs that AWS returned. To validate them for each call would take a
# twentieth of its CPU.
_CONFIG: Final = RATE_LIMITED_CONFIG.merge(
    Config(max_pool_connections=WORKERS, parameter_validation=False)
)


class PollingHook(PolysyncSageMakerHook):
    """
    The hook of a poller. Its client has only the operations that polls, searches and a
    stop need.
    """

    client_operations: tuple[str, ...] = (
        "DescribePipelineExecution",
        "ListPipelineExecutions",
        "ListPipelineExecutionSteps",
        "ListPipelineParametersForExecution",
        "StopPipelineExecution",
    )
    max_response_bytes = responses.MAX_POLL_RESPONSE_BYTES
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
    Calls AWS with one connection in one region, under a rate limiter, and counts the
    calls. Thread-safe.

    :param polls: what its user polls, for the metrics.
    :param operations: those that its user needs; None for those that concern
        executions.
    :param model: that of a response. It is built before the first call: older pydantic
        versions let threads that use a model for the first time see it half built.
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
            hook.client_operations = operations
            hook.activity = self.activity
            return hook

        super().__init__(connection_id, make_hook)

    def read(self) -> CredentialsError | None:
        """
        Read the connection, and report the metrics: this comes regularly, and not
        often.
        """
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
        call_page = self.later_pages_limited(is_wanted)
        return self.result(
            lambda hook: hook.list_pipeline_execution_steps(
                execution_arn, through=call_page
            )
        )

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

        The pages after the first wait for the rate limiter. There are no more pages
        than descriptions of each wanted execution would take calls.

        :param since: leave out executions that were created before.
        :param wanted: the ARNs of the wanted executions.
        :param is_wanted: whether to go on, which is asked before each page.
        """
        executions: dict[str, ExecutionDescription] = {}
        pages = 0
        call_page = self.later_pages_limited(is_wanted)

        def list_page(
            token: str | None,
        ) -> tuple[list[ExecutionDescription], str | None]:
            return call_page(
                lambda: self.call(
                    lambda hook: hook.list_pipeline_executions(
                        pipeline, created_after=since, page_token=token
                    )
                )
            )

        try:
            for rows in responses.paginate("ListPipelineExecutions", list_page):
                pages += 1
                for row in rows:
                    if row.execution_arn in wanted:
                        executions[row.execution_arn] = row
                if len(executions) == len(wanted) or pages == len(wanted):
                    break
        except PolysyncError as error:
            return Listing(executions, pages, error)
        return Listing(executions, pages)

    def later_pages_limited(
        self, is_wanted: Callable[[], bool]
    ) -> Callable[[Callable[[], Result]], Result]:
        """
        Return a function that calls for the pages of a list: the first at once, the
        others under the limiter.

        :param is_wanted: whether to go on, which is asked before each page.
        """
        # The poller has taken the token of the first page.
        pages = itertools.count()

        def sleep(seconds: float) -> None:
            clock.sleep(seconds)
            check()

        def check() -> None:
            if not is_wanted():
                raise responses.pagination_error("The list", "its wait has ended")

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
        """Make a call, and tell the rate limiter if AWS throttles it."""
        return super().call(lambda hook: self.limiter.observe(partial(call, hook)))
