"""
The triggers that wait for an execution that others start, and for the approval of a
model package, and their pollers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from threading import Lock
from typing import Final

from polysync_airflow.exceptions import PolysyncError
from polysync_airflow.execution import approval, clock, search
from polysync_airflow.triggers.poller import Poller, poller_for
from polysync_airflow.triggers.shared_client import PollingHook, SharedClient
from polysync_airflow.triggers.wait_triggers import WaitTrigger

# The parameters of so many executions are kept.
MAX_EXECUTIONS: Final = 1000


class SearchPoller(Poller[search.SearchWaiter, search.SearchPage]):
    """
    Lists executions for the search that has listed least; the others share the list.

    It remembers the parameters of executions, which never change.
    """

    def __init__(self, connection_id: str, region_name: str | None) -> None:
        client = SharedClient(
            connection_id, region_name, polls="searches", model=search.ListedExecution
        )
        super().__init__(client)
        self._parameters: dict[str, Mapping[str, str]] = {}
        self._parameters_lock = Lock()

    def poll(
        self, waiters: Sequence[search.SearchWaiter], is_wanted: Callable[[], bool]
    ) -> list[search.SearchPage | PolysyncError]:
        """List what is new in a pipeline, and return what each search finds in it."""
        now = clock.time()
        pipeline = waiters[0].group
        after = min(waiter.list_after for waiter in waiters)
        call_page = self.client.later_pages_limited(is_wanted)

        def find(hook: PollingHook) -> Sequence[search.ListedExecution]:
            executions = hook.find_pipeline_executions(
                pipeline, created_after=after, through=call_page
            )
            return list(islice(executions, search.MAX_LISTED + 1))

        listed = self.client.result(find)
        return [
            search.page_of(waiter.search, listed, self._parameters_of, now)
            for waiter in waiters
        ]

    def _parameters_of(self, execution_arn: str) -> Mapping[str, str]:
        # One call for all searches that need them at the same time.
        with self._parameters_lock:
            parameters = self._parameters.get(execution_arn)
            if parameters is not None:
                return parameters
            parameters = self.client.call(
                lambda hook: hook.list_pipeline_parameters_for_execution(
                    execution_arn, through=self.client.limiter.call
                )
            )
            if len(self._parameters) >= MAX_EXECUTIONS:
                oldest = next(iter(self._parameters))
                del self._parameters[oldest]
            self._parameters[execution_arn] = parameters
            return parameters


class PolysyncPipelineSearchTrigger(
    search.SearchArguments, WaitTrigger[search.SearchWaiter]
):
    """
    Wait for an execution of a SageMaker pipeline that somebody starts, then fire one
    event.
    """

    __module__ = "polysync_airflow.triggers"

    def _waiter(self) -> search.SearchWaiter:
        return self.checked().wait_of(search.SearchWaiter)

    def _find_poller(self) -> SearchPoller:
        return poller_for(SearchPoller, self.polysync_conn_id, self.region_name)


class ApprovalPoller(Poller[approval.ApprovalWaiter, approval.ModelPackageDescription]):
    """Polls for the waits for model packages."""

    def __init__(self, connection_id: str, region_name: str | None) -> None:
        client = SharedClient(
            connection_id,
            region_name,
            polls="model_packages",
            operations=("DescribeModelPackage",),
            model=approval.ModelPackageDescription,
        )
        super().__init__(client)

    def poll(
        self, waiters: Sequence[approval.ApprovalWaiter], is_wanted: Callable[[], bool]
    ) -> Sequence[approval.ModelPackageDescription | PolysyncError]:
        """Describe the model package for which they all wait."""
        arn = waiters[0].model_package_arn
        return len(waiters) * [
            self.client.result(lambda hook: hook.describe_model_package(arn))
        ]


class PolysyncModelApprovalTrigger(
    approval.ApprovalTriggerArguments, WaitTrigger[approval.ApprovalWaiter]
):
    """Wait until a model package is approved or rejected, then fire one event."""

    __module__ = "polysync_airflow.triggers"

    def _waiter(self) -> approval.ApprovalWaiter:
        return self.checked().wait_of(approval.ApprovalWaiter)

    def _find_poller(self) -> ApprovalPoller:
        return poller_for(ApprovalPoller, self.polysync_conn_id, self.region_name)
