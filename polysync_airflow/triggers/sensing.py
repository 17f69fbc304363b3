"""
The triggers of the sensors that wait for what others do: for the approval of a model, and for an execution.

One list of a pipeline serves all searches in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from threading import Lock
from typing import Any, Final, TypeVar

from polysync_airflow.exceptions import PolysyncError
from polysync_airflow.execution import clock
from polysync_airflow.execution.approval import ApprovalTriggerArguments
from polysync_airflow.execution.search import (
    MAX_LISTED,
    ListedExecution,
    Looked,
    SearchArguments,
    SearchWaiter,
    look,
)
from polysync_airflow.triggers.poller import Poller, ResourceTrigger, WaitTrigger, poller_for
from polysync_airflow.triggers.shared_client import SharedClient

Result = TypeVar("Result")

# The parameters of so many executions are kept.
MAX_KNOWN: Final = 1000


class PolysyncModelApprovalTrigger(ResourceTrigger):
    """
    Wait until a model package is approved or rejected, then fire one event.

    :param model_package_arn: the version of a model package group.
    :param polysync_conn_id: Airflow connection.
    :param region_name: AWS region of the model package.
    :param poll_interval: seconds between two polls.
    :param since: when the wait began, in seconds since the epoch.
    :param deadline: when it ends at the latest, in seconds since the epoch. It is absolute, so that it stays
        the same when the trigger moves to another triggerer.
    """

    arguments_model = ApprovalTriggerArguments
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
        super().__init__(
            resource=model_package_arn,
            polysync_conn_id=polysync_conn_id,
            region_name=region_name,
            poll_interval=poll_interval,
            since=since,
            deadline=deadline,
        )


class SearchPoller(Poller):
    """
    Lists executions with one connection in one region, for the search that has listed least.

    It remembers the parameters of executions, which never change.
    """

    def __init__(self, connection_id: str, region_name: str | None) -> None:
        super().__init__(SharedClient(connection_id, region_name, polls="searches", model=ListedExecution))
        self._parameters: dict[str, Mapping[str, str]] = {}
        self._parameters_lock = Lock()

    def poll(
        self, waiters: Sequence[SearchWaiter], is_wanted: Callable[[], bool]
    ) -> list[Looked | PolysyncError]:
        """List what is new in a pipeline, and return what each search finds in it."""
        at, name = clock.time(), waiters[0].group
        after = min(waiter.list_after for waiter in waiters)
        through = self.client.later_pages_limited(is_wanted)

        def find(hook: Any) -> Sequence[ListedExecution]:
            listed = hook.find_pipeline_executions(name, created_after=after, through=through)
            return list(islice(listed, MAX_LISTED + 1))

        listed = self.client.result(find)
        return [look(waiter, listed, self._parameters_of, at) for waiter in waiters]

    def _parameters_of(self, execution_arn: str) -> Mapping[str, str]:
        # One call for all searches that need them at the same time.
        with self._parameters_lock:
            known = self._parameters.get(execution_arn)
            if known is None:
                known = self.client.call(
                    lambda hook: hook.list_pipeline_parameters_for_execution(
                        execution_arn, through=self._call_limited
                    )
                )
                if len(self._parameters) >= MAX_KNOWN:
                    self._parameters.pop(next(iter(self._parameters)))
                self._parameters[execution_arn] = known
            return known

    def _call_limited(self, call: Callable[[], Result]) -> Result:
        self.client.limiter.acquire()
        return call()


class PolysyncPipelineSearchTrigger(WaitTrigger):
    """
    Wait for an execution of a SageMaker pipeline that somebody starts, then fire one event.

    :param search: what is looked for: the fields of ``Search``, as JSON.
    :param polysync_conn_id: Airflow connection.
    :param region_name: AWS region; None for the connection's own.
    :param poll_interval: seconds between two lists.
    :param listed_until: when the sensor has listed the executions on a worker, in seconds since the epoch;
        None if it has not.
    :param deadline: when the search ends at the latest, in seconds since the epoch.
    """

    arguments_model = SearchArguments
    __module__ = "polysync_airflow.triggers"

    def __init__(
        self,
        *,
        search: Mapping[str, Any],
        polysync_conn_id: str,
        region_name: str | None,
        poll_interval: float,
        listed_until: float | None,
        deadline: float,
    ) -> None:
        super().__init__()
        self.search = search
        self.polysync_conn_id = polysync_conn_id
        self.region_name = region_name
        self.poll_interval = poll_interval
        self.listed_until = listed_until
        self.deadline = deadline

    def _find_poller(self) -> SearchPoller:
        return poller_for(SearchPoller, self.polysync_conn_id, self.region_name)
