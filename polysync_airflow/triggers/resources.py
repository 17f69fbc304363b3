"""
The triggers that wait for a resource that one operation of AWS describes, such as a
model package, and their poller.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from polysync_airflow.execution.approval import ApprovalTriggerArguments
from polysync_airflow.execution.resource_waiter import ResourceArguments, ResourceWaiter
from polysync_airflow.hooks.executions import describe
from polysync_airflow.triggers.poller import Poller, SharedClient, poller_for
from polysync_airflow.triggers.wait_triggers import WaitTrigger


class ResourcePoller(Poller):
    """
    Polls for the waits for resources of one kind: model packages, for example.

    :param waiter: the class of the waits.
    """

    def __init__(
        self,
        connection_id: str,
        region_name: str | None,
        waiter: type[ResourceWaiter[Any]],
    ) -> None:
        client = SharedClient(
            connection_id,
            region_name,
            polls=waiter.polls,
            operations=(waiter.operation,),
            model=waiter.description_model,
        )
        super().__init__(client)
        self._waiter = waiter

    def poll(
        self, waiters: Sequence[ResourceWaiter[Any]], is_wanted: Callable[[], bool]
    ) -> list[Any]:
        """Describe the resource for which they all wait."""
        resource = waiters[0].resource
        return len(waiters) * [
            self.client.result(lambda hook: describe(hook, self._waiter, resource))
        ]


class ResourceTrigger(WaitTrigger):
    """
    Wait for a resource that one operation of AWS describes. A subclass sets the
    attributes.
    """

    arguments_model: ClassVar[type[ResourceArguments]]

    def _find_poller(self) -> ResourcePoller:
        kind = self.arguments_model.waiter_class
        return poller_for(ResourcePoller, self.polysync_conn_id, self.region_name, kind)


class PolysyncModelApprovalTrigger(ResourceTrigger):
    """
    Wait until a model package is approved or rejected, then fire one event.

    :param model_package_arn: the version of a model package group.
    :param polysync_conn_id: Airflow connection.
    :param region_name: AWS region of the model package.
    :param poll_interval: seconds between two polls.
    :param since: when the wait began, as Unix time.
    :param deadline: when it ends at the latest, as Unix time, which stays the same when
        the trigger moves to another triggerer.
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
        super().__init__(polysync_conn_id, region_name, poll_interval)
        self.resource = model_package_arn
        self.since = since
        self.deadline = deadline
