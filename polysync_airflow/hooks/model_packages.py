"""The methods of the hook for the approval of model packages: one for each AWS operation."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from polysync_airflow.aws.error_mapping import invalid_response_error
from polysync_airflow.exceptions import PolysyncError
from polysync_airflow.execution.models import region_from_arn
from polysync_airflow.hooks.calls import HookCalls, describe, entries_of, parse

if TYPE_CHECKING:
    # Imported when they are used: most tasks and triggerers have nothing to do with model packages.
    from polysync_airflow.execution.approval import (
        ApprovalStatus,
        ModelPackageDescription,
        ModelPackageSummary,
    )


class ModelPackageMethods(HookCalls):
    """Describe versions of model package groups, find the newest one, and set their approval status."""

    def describe_model_package(self, model_package_arn: str) -> ModelPackageDescription:
        """
        Describe a version of a model package group.

        https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribeModelPackage.html

        :raises ParametersError: the value is not the ARN of a version.
        :raises SageMakerApiError: the call failed.
        """
        from polysync_airflow.execution.approval import ApprovalWaiter, check_model_package_arn

        arn = check_model_package_arn(model_package_arn)
        return cast("ModelPackageDescription", describe(self, ApprovalWaiter, arn))

    def poll_model_package(self, model_package_arn: str) -> ModelPackageDescription | PolysyncError:
        """Describe a version; return an error instead of raising it. ``ApprovalWaiter.decide`` takes both."""
        try:
            return self.describe_model_package(model_package_arn)
        except PolysyncError as error:
            return error

    def newest_model_package(self, model_package_group: str) -> ModelPackageSummary | None:
        """
        Return the version of a model package group that was registered last, whatever its status.

        https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ListModelPackages.html

        :param model_package_group: name or ARN of the group.
        :return: None if the group has no version.
        :raises ParametersError: the value is neither a name nor an ARN.
        :raises SageMakerApiError: the call failed.
        """
        from polysync_airflow.execution.approval import (
            ModelPackageSummary,
            check_model_package_group,
            group_of,
        )

        group, operation = check_model_package_group(model_package_group), "ListModelPackages"
        order = {"SortBy": "CreationTime", "SortOrder": "Descending"}
        page = self.call(operation, ModelPackageGroupName=group, MaxResults=1, **order)
        entries = entries_of(page, operation, "ModelPackageSummaryList")
        if not entries:
            return None
        newest = parse(ModelPackageSummary, operation, entries[0])
        if group_of(newest.arn) != group_of(group) or region_from_arn(newest.arn) != self.region_name:
            raise invalid_response_error(operation, f"it lists {newest.arn}, which is not of group {group}")
        return newest

    def update_model_approval(
        self, model_package_arn: str, status: ApprovalStatus, description: str | None = None
    ) -> None:
        """
        Set the approval status of a version of a model package group. The same call can be repeated.

        https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_UpdateModelPackage.html

        :param status: ``Approved``, ``Rejected`` or ``PendingManualApproval``.
        :param description: why, at most 1,024 characters without line breaks; None keeps the one it has.
        :raises ParametersError: an argument is not valid. AWS was not called.
        :raises SageMakerApiError: the call failed.
        """
        from polysync_airflow.execution.approval import check_approval, check_model_package_arn

        arn = check_model_package_arn(model_package_arn)
        check_approval(status, description)
        self.call(
            "UpdateModelPackage",
            ModelPackageArn=arn,
            ModelApprovalStatus=status,
            ApprovalDescription=description,
        )
