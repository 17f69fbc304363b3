"""
The sensor that waits until a model package is approved.

What each poll means is decided in ``execution/approval.py``, for all modes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Final, Literal, NoReturn, cast

from airflow.providers.common.compat.sdk import Context, XComArg

from polysync_airflow.airflow_compat.sdk import (
    AirflowSensorTimeout,
    AirflowSkipException,
)
from polysync_airflow.aws.retry import call_with_retry
from polysync_airflow.exceptions import (
    ModelApprovalError,
    ModelRejectedError,
    ParametersError,
)
from polysync_airflow.execution import approval
from polysync_airflow.execution.models import region_from_arn
from polysync_airflow.execution.outcome import refusal_error
from polysync_airflow.execution.parameters import is_valid
from polysync_airflow.execution.waiter import Finish, check_event
from polysync_airflow.operators import base
from polysync_airflow.sensors.base import PolysyncSensor, SensorOptions

OnRejected = Literal["fail", "skip"]
# A key of the task state store: the version that a rescheduled sensor has found.
VERSION_KEY: Final = "polysync_model_package"


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
    # Of this process: a rescheduled sensor begins the wait anew in each session.
    _waiter: approval.ApprovalWaiter | None = None

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

    def _check_arguments(self, context: Context) -> None:
        arn = self.model_package_arn
        group = self.model_package_group
        if arn is not None and group is None:
            approval.check_model_package_arn(arn)
            self._use_region_of(arn, "model package")
        elif group is not None and arn is None:
            approval.check_model_package_group(group)
            if group.startswith("arn:"):
                self._use_region_of(group, "model package group")
            if self._is_rescheduled and "task_state_store" not in context:
                raise ParametersError(
                    'model_package_group cannot be used with mode="reschedule" before'
                    " Airflow 3.3, where nothing is kept of a rescheduled sensor, so"
                    " that another version could be the newest one each time: set"
                    " deferrable=True, or give model_package_arn."
                )
        else:
            given = "both"
            if arn is None:
                given = "neither"
            raise ParametersError(
                f"model_package_arn and model_package_group: {given} is given. Give one"
                " of them: the ARN of a version, or a group, whose newest version is"
                " meant."
            )

    def _use_region_of(self, arn: str, kind: str) -> None:
        self._check_region(arn, kind)
        self.region_name = region_from_arn(arn)

    def _choose_version(self, context: Context) -> str:
        """Return the ARN of the version for which the task waits, and push it."""
        arn = self.model_package_arn
        if arn is None and self._is_rescheduled:
            arn = self._stored_version(context)
        if arn is None:
            arn = self._find_newest_version(context)
        context["ti"].xcom_push("model_package_arn", arn)
        return arn

    def _stored_version(self, context: Context) -> str | None:
        """
        Return the version of the group that an earlier session of this try has found.
        """
        store: Any = context["task_state_store"]
        stored = store.get(VERSION_KEY)
        # Users can edit it.
        if not isinstance(stored, dict):
            return None
        if stored.get("try_number") != context["ti"].try_number:
            # A new try finds the version anew.
            return None
        arn: Any = stored.get("model_package_arn")
        if not is_valid(approval.VERSION_ARN, arn):
            return None
        if approval.group_of(arn) != approval.group_of(str(self.model_package_group)):
            return None
        return str(arn)

    def _find_newest_version(self, context: Context) -> str:
        """
        Return the newest version of the group, and keep it for the next sessions of a
        rescheduled sensor.
        """
        group = str(self.model_package_group)
        find = partial(self.hook.newest_model_package, group)
        newest = call_with_retry(find, until=self._deadline, warn=self.log.warning)
        if newest is None:
            raise ModelApprovalError(
                f"The model package group {group} has no version: let this task run"
                " after the one that registers the model, and check the name of the"
                " group.",
                model_package_arn=None,
                permanent=False,
            )
        self.log.info("Newest version of model package group %s: %s", group, newest.arn)
        if self._is_rescheduled:
            store: Any = context["task_state_store"]
            version = {
                "model_package_arn": newest.arn,
                "try_number": context["ti"].try_number,
            }
            store.set(VERSION_KEY, version)
        return newest.arn

    @base.apply_retry_policy
    def execute_complete(
        self, context: Context, event: dict[str, Any] | None = None
    ) -> str:
        """
        Finish the task when the trigger's wait has ended.

        :raises TriggerEventError: ``event`` is not an event of this provider's trigger.
        """
        with self.soft_failures():
            return self._end(context, check_event(approval.ApprovalEvent, event))

    def _poll(self, context: Context) -> approval.ApprovalEvent | None:
        from polysync_airflow.hooks.executions import result_or_error

        waiter = self._waiter
        if waiter is None:
            waiter = approval.ApprovalWaiter(
                model_package_arn=self._choose_version(context),
                poll_interval=self.options.poke_interval,
                since=self._began_at.timestamp(),
                deadline=self._deadline,
            )
        polled = result_or_error(
            self.hook.describe_model_package, waiter.model_package_arn
        )
        result = self._decide(waiter, polled)
        if isinstance(result, Finish):
            event: approval.ApprovalEvent = result.event
            return event
        self._waiter = result.waiter
        return None

    def _defer(self) -> NoReturn:
        from polysync_airflow.triggers import PolysyncModelApprovalTrigger

        waiter = self._waiter
        if waiter is None:
            raise RuntimeError("the first look has not begun the wait")
        trigger = PolysyncModelApprovalTrigger(
            model_package_arn=waiter.model_package_arn,
            polysync_conn_id=self.polysync_conn_id,
            region_name=region_from_arn(waiter.model_package_arn),
            poll_interval=waiter.poll_interval,
            since=waiter.since,
            deadline=waiter.deadline,
        )
        self.defer(trigger=trigger, method_name="execute_complete")

    def _end(self, context: Context, end: approval.ApprovalEvent) -> str:
        ti = context["ti"]
        ti.xcom_push("approval_status", end.approval_status)
        ti.xcom_push("approval_description", end.approval_description)
        ti.xcom_push("last_modified_by", end.modified_by)
        arn = end.model_package_arn
        message = approval.approval_message(end)
        if end.outcome == "refused":
            raise refusal_error(end, message)
        if end.outcome == "timed_out" and end.error_code:
            # The last poll has failed.
            raise refusal_error(end, message)
        if end.outcome == "timed_out":
            raise AirflowSensorTimeout(message)
        if end.outcome == "failed":
            raise ModelApprovalError(message, model_package_arn=arn)
        if end.outcome == "rejected" and self.options.on_rejected == "skip":
            raise AirflowSkipException(message)
        if end.outcome == "rejected":
            raise ModelRejectedError(message, model_package_arn=arn)
        self.log.info("%s", message)
        return arn
