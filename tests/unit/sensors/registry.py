"""
A model package group on the emulator, whose versions a test registers, approves and
deletes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from moto.backends import get_backend

from polysync_airflow.hooks import PolysyncSageMakerHook

GROUP = "Churn"
PREFIX = "arn:aws:sagemaker:us-east-1:123456789012:model-package"


def version(number: int) -> str:
    """Return the ARN of a version of the group."""
    return f"{PREFIX}/{GROUP.lower()}/{number}"


@dataclass
class Registry:
    """The group, through the connection ``polysync_default``."""

    hook: PolysyncSageMakerHook

    @property
    def client(self) -> Any:
        """The client of SageMaker."""
        return self.hook.conn

    def create_group(self) -> None:
        """Create the group, without a version."""
        self.client.create_model_package_group(ModelPackageGroupName=GROUP)

    def register(self, status: str = "PendingManualApproval") -> str:
        """Register a version, and return its ARN."""
        response = self.client.create_model_package(
            ModelPackageGroupName=GROUP, ModelApprovalStatus=status
        )
        return str(response["ModelPackageArn"])

    def set(self, arn: str, status: str, description: str | None = None) -> None:
        """Set the approval status of a version."""
        more = {} if description is None else {"ApprovalDescription": description}
        self.client.update_model_package(
            ModelPackageArn=arn, ModelApprovalStatus=status, **more
        )

    def delete(self, arn: str) -> None:
        """Delete a version."""
        self.client.delete_model_package(ModelPackageName=arn)

    def set_package_status(
        self, arn: str, status: str, reason: str | None = None
    ) -> None:
        """Set the status of the package itself, which the emulator does not change."""
        package: Any = get_backend("sagemaker")["123456789012"][
            "us-east-1"
        ].model_packages[arn]
        package.model_package_status = status
        item: dict[str, Any] = {
            "Name": arn,
            "Status": "Failed",
            "FailureReason": reason,
        }
        package.model_package_status_details = {
            "ValidationStatuses": [item] if reason else []
        }
