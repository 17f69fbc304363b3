"""The trigger that waits for the approval of a model package, and its poller."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from polysync_airflow.exceptions import PolysyncError
from polysync_airflow.execution.approval import (
    ApprovalTriggerArguments,
    ApprovalWaiter,
    ModelPackageDescription,
)
from polysync_airflow.triggers.poller import Poller, poller_for
from polysync_airflow.triggers.shared_client import SharedClient
from polysync_airflow.triggers.wait_triggers import WaitTrigger


class ApprovalPoller(Poller[ApprovalWaiter, ModelPackageDescription]):
    """Polls for the waits for model packages."""

    def __init__(self, connection_id: str, region_name: str | None) -> None:
        client = SharedClient(
            connection_id,
            region_name,
            polls="model_packages",
            operations=("DescribeModelPackage",),
            model=ModelPackageDescription,
        )
        super().__init__(client)

    def poll(
        self, waiters: Sequence[ApprovalWaiter], is_wanted: Callable[[], bool]
    ) -> Sequence[ModelPackageDescription | PolysyncError]:
        """Describe the model package for which they all wait."""
        arn = waiters[0].model_package_arn
        return len(waiters) * [
            self.client.result(lambda hook: hook.describe_model_package(arn))
        ]


class PolysyncModelApprovalTrigger(
    ApprovalTriggerArguments, WaitTrigger[ApprovalWaiter]
):
    """Wait until a model package is approved or rejected, then fire one event."""

    __module__ = "polysync_airflow.triggers"

    def _waiter(self) -> ApprovalWaiter:
        return self.checked().wait_of(ApprovalWaiter)

    def _find_poller(self) -> ApprovalPoller:
        return poller_for(ApprovalPoller, self.polysync_conn_id, self.region_name)
