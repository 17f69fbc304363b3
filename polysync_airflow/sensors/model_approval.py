"""
The sensor that waits until a model package is approved.

What each poll means is decided in ``execution/approval.py``, for all modes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, cast

from airflow.providers.common.compat.sdk import Context, XComArg

from polysync_airflow.operators import base
from polysync_airflow.sensors.base import PolysyncSensor, SensorOptions

if TYPE_CHECKING:
    from polysync_airflow.sensors.approval_run import ApprovalRun

OnRejected = Literal["fail", "skip"]


class ApprovalOptions(SensorOptions):
    """The options of the sensor."""

    on_rejected: OnRejected


class PolysyncModelApprovalSensor(PolysyncSensor):
    """
    Wait until a version of a SageMaker model package group is approved.

    Approved ends the wait with success, once the package's own status is Completed,
    too; Rejected fails the task without using its retries, or skips it;
    PendingManualApproval waits. ``poke_interval``, ``timeout`` (both in seconds, or a
    timedelta), ``mode``, ``soft_fail`` and the other arguments are those of Airflow's
    ``BaseSensorOperator``:
    https://airflow.apache.org/docs/apache-airflow/stable/core-concepts/sensors.html
    With ``soft_fail``, the task is skipped if the version is rejected, cannot be used,
    is not approved in time, or if the group has none, but not after an error of the
    arguments, the connection or AWS. API:
    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribeModelPackage.html

    :param model_package_arn: the ARN of the version (templated). Give this or
        ``model_package_group``.
    :param model_package_group: name or ARN of a group (templated): its version that was
        registered last when the task began to wait. Versions that are registered later
        do not change it.
    :param on_rejected: what a rejection does: ``fail``, without using the task's
        retries, or ``skip``.
    :param deferrable: wait in the triggerer instead of on a worker; ``mode`` is
        ignored. Default: ``[operators] default_deferrable``.
    :param start_from_trigger: start, wait and end in the triggerer, without a worker;
        ``deferrable`` is then True. From Airflow 3.3 on; the reference says what
        Airflow does not do for such a task.
    :param polysync_conn_id: Airflow connection of type ``polysync_sagemaker`` or
        ``aws`` (templated).
    :param region_name: AWS region; overrides the region of the connection (templated).
    :return: the ARN of the approved version (XCom ``return_value``).
    :raises ParametersError: an argument is not valid. AWS was not called.
    :raises CredentialsError: the connection is missing or unusable.
    :raises SageMakerApiError: AWS refused a call, for example because the model package
        was deleted.
    :raises ModelRejectedError: the version was rejected.
    :raises ModelApprovalError: the group has no version, or AWS could not create the
        model package.
    :raises AirflowSensorTimeout: the version was not approved in time.
    """

    template_fields: Sequence[str] = (
        "model_package_arn",
        "model_package_group",
        "polysync_conn_id",
        "region_name",
    )
    ui_color = "#eaf7ea"
    options = base.ValidatedOptions(ApprovalOptions)

    def __init__(
        self,
        *,
        model_package_arn: str | XComArg | None = None,
        model_package_group: str | XComArg | None = None,
        on_rejected: OnRejected = "fail",
        deferrable: bool = base.DEFAULT_DEFERRABLE,
        start_from_trigger: bool = False,
        polysync_conn_id: str = base.DEFAULT_CONNECTION,
        region_name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        # Airflow replaces an XComArg by the rendered text before it calls execute.
        self.model_package_arn = cast("str | None", model_package_arn)
        self.model_package_group = cast("str | None", model_package_group)
        self.on_rejected = on_rejected
        self.deferrable = deferrable or start_from_trigger
        self.polysync_conn_id = polysync_conn_id
        self.region_name = region_name
        self.start_from_trigger = start_from_trigger
        self._check_options()

    def _run_in(self, context: Context) -> ApprovalRun:
        from polysync_airflow.sensors.approval_run import ApprovalRun

        return ApprovalRun(self, context)
