"""
The sensor that waits until a model package is approved.

What each poll means is decided in ``execution/approval/wait.py``, for all modes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, cast

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowSensorTimeout,
    BaseSensorOperator,
    PokeReturnValue,
)

from polysync_airflow.airflow_compat.sdk import AirflowSkipException
from polysync_airflow.aws.retry import call_with_retry
from polysync_airflow.exceptions import (
    CredentialsError,
    ModelApprovalError,
    ModelRejectedError,
    ParametersError,
    SageMakerApiError,
)
from polysync_airflow.execution import clock
from polysync_airflow.execution.approval.models import (
    ApprovalEvent,
    check_model_package_arn,
    check_model_package_group,
    group_of,
    parse_approval_event,
)
from polysync_airflow.execution.approval.wait import ApprovalWait, Wait, approval_message
from polysync_airflow.execution.choices import Choices, Flag, Seconds, seconds
from polysync_airflow.execution.models import MAX_POLL_INTERVAL, MIN_POLL_INTERVAL, region_from_arn
from polysync_airflow.operators.base import (
    DEFAULT_CONNECTION,
    DEFAULT_DEFERRABLE,
    MAX_TIMEOUT,
    PolysyncOperator,
    apply_retry_policy,
)

if TYPE_CHECKING:
    from airflow.sdk import Context, XComArg

    # Imported when a task runs, because it imports boto3: Airflow parses a DAG file every 30 seconds.
    from polysync_airflow.hooks import PolysyncSageMakerHook

OnRejected = Literal["fail", "skip"]
# In the task state store: the version that a rescheduled sensor has found.
FOUND_KEY: Final = "polysync_model_package"


class ApprovalChoices(Choices):
    """What the DAG author chose for the wait."""

    on_rejected: OnRejected
    deferrable: Flag
    poke_interval: Annotated[Seconds, seconds(MIN_POLL_INTERVAL, MAX_POLL_INTERVAL)]
    timeout: Annotated[Seconds, seconds(0, MAX_TIMEOUT)]


class PolysyncModelApprovalSensor(PolysyncOperator, BaseSensorOperator):
    """
    Wait until a version of a SageMaker model package group is approved.

    Approved ends the wait with success, once the package's own status is Completed, too; Rejected fails the
    task without using its retries, or skips it; PendingManualApproval waits. ``poke_interval``, ``timeout``
    (both in seconds, or a timedelta), ``mode``, ``soft_fail`` and the other arguments are those of Airflow's
    ``BaseSensorOperator``:
    https://airflow.apache.org/docs/apache-airflow/stable/core-concepts/sensors.html
    API: https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribeModelPackage.html

    :param model_package_arn: the ARN of the version (templated). Give this or ``model_package_group``.
    :param model_package_group: name or ARN of a group (templated): its version that was registered last when
        the task began to wait. Versions that are registered later do not change it.
    :param on_rejected: what a rejection does: ``fail``, without using the task's retries, or ``skip``.
    :param deferrable: wait in the triggerer instead of on a worker; ``mode`` is ignored.
        Default: ``[operators] default_deferrable``.
    :param polysync_conn_id: Airflow connection of type ``polysync_sagemaker`` or ``aws`` (templated).
    :param region_name: AWS region; overrides the region of the connection (templated).
    :return: the ARN of the approved version (XCom ``return_value``).
    :raises ParametersError: an argument is not valid. AWS was not called.
    :raises CredentialsError: the connection is missing or unusable.
    :raises SageMakerApiError: AWS refused a call, for example because the model package was deleted.
    :raises ModelRejectedError: the version was rejected.
    :raises ModelApprovalError: the group has no version, or AWS could not create the model package.
    :raises AirflowSensorTimeout: the version was not approved in time.
    """

    template_fields: Sequence[str] = (
        "model_package_arn",
        "model_package_group",
        "polysync_conn_id",
        "region_name",
    )
    ui_color = "#eaf7ea"

    def __init__(
        self,
        *,
        model_package_arn: str | XComArg | None = None,
        model_package_group: str | XComArg | None = None,
        on_rejected: OnRejected = "fail",
        deferrable: bool = DEFAULT_DEFERRABLE,
        polysync_conn_id: str = DEFAULT_CONNECTION,
        region_name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        # Airflow replaces an XComArg by the rendered text before it calls execute.
        self.model_package_arn = cast("str | None", model_package_arn)
        self.model_package_group = cast("str | None", model_package_group)
        self.on_rejected = on_rejected
        self.deferrable = deferrable
        self.polysync_conn_id = polysync_conn_id
        self.region_name = region_name
        # In one process only: a rescheduled sensor begins anew.
        self._wait: ApprovalWait | None = None
        _ = self.choices

    @property
    def choices(self) -> ApprovalChoices:
        """What the DAG author chose, validated."""
        return ApprovalChoices.of({name: getattr(self, name) for name in ApprovalChoices.model_fields})

    @cached_property
    def hook(self) -> PolysyncSageMakerHook:
        """The hook for the task's connection, in the region of the model package."""
        from polysync_airflow.hooks import PolysyncSageMakerHook

        return PolysyncSageMakerHook(self.polysync_conn_id, self._region)

    @property
    def _region(self) -> str | None:
        named = str(self.model_package_arn or self.model_package_group)
        return region_from_arn(named) if named.startswith("arn:") else self.region_name

    @apply_retry_policy
    def execute(self, context: Context) -> Any:
        """Wait on the worker, or look once and then defer."""
        self._check_arguments(context)
        if not self.choices.deferrable:
            return super().execute(context)
        first = self.poke(context)
        if first.is_done:
            return first.xcom_value
        self._defer()
        return None

    def poke(self, context: Context) -> PokeReturnValue:
        """Look once. Airflow calls this method for a sensor on a worker."""
        with self._skipping_softly():
            wait = self._wait or self._begin(context)
            step = wait.decide(self.hook.poll_model_package(wait.model_package_arn), clock.time())
            for line in step.log_lines:
                self.log.log(line.level, "%s", line.text)
            if isinstance(step, Wait):
                self._wait = step.wait
                return PokeReturnValue(is_done=False)
            return PokeReturnValue(is_done=True, xcom_value=self._finish(context, step.event))

    @apply_retry_policy
    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> str:
        """
        Finish the task when the trigger's wait has ended.

        :raises TriggerEventError: ``event`` is not an event of this provider's trigger.
        """
        with self._skipping_softly():
            return self._finish(context, parse_approval_event(event))

    def _check_arguments(self, context: Context) -> None:
        arn, group = self.model_package_arn, self.model_package_group
        if (arn is None) == (group is None):
            given = "neither" if arn is None else "both"
            raise ParametersError(
                f"model_package_arn and model_package_group: {given} is given. Give one of them: the ARN of "
                "a version, or a group, whose newest version is meant."
            )
        named = check_model_package_group(group) if arn is None else check_model_package_arn(arn)
        region = region_from_arn(named) if named.startswith("arn:") else self.region_name
        if self.region_name and self.region_name != region:
            raise ParametersError(
                f"region_name = {self.region_name!r:.100} is not the region of {named}: correct region_name, "
                "or leave it out."
            )
        if arn is None and self._is_rescheduled and "task_state_store" not in context:
            raise ParametersError(
                'model_package_group cannot be used with mode="reschedule" before Airflow 3.3, where nothing '
                "is kept of a rescheduled sensor, so that another version could be the newest one each time: "
                "set deferrable=True, or give model_package_arn."
            )

    @property
    def _is_rescheduled(self) -> bool:
        return bool(self.reschedule) and not self.choices.deferrable

    def _begin(self, context: Context) -> ApprovalWait:
        """Return the wait for the model package, and push its ARN."""
        arn = self.model_package_arn or self._found(context) or self._find(context)
        context["ti"].xcom_push("model_package_arn", arn)
        return ApprovalWait(str(arn), self.choices.poke_interval, clock.time())

    def _found(self, context: Context) -> str | None:
        """Return the version of the group that an earlier poke of this try has found."""
        if not self._is_rescheduled:
            return None
        store: Any = context["task_state_store"]
        kept = store.get(FOUND_KEY)
        # Users can edit it, and a new try looks again.
        if not isinstance(kept, dict) or kept.get("try_number") != context["ti"].try_number:
            return None
        try:
            arn = check_model_package_arn(kept.get("model_package_arn"))
        except ParametersError:
            return None
        return arn if group_of(arn) == group_of(str(self.model_package_group)) else None

    def _find(self, context: Context) -> str:
        """Find the newest version of the group, and keep it for the next pokes."""
        group = str(self.model_package_group)
        newest = call_with_retry(
            lambda: self.hook.newest_model_package(group),
            until=clock.time() + self.choices.timeout,
            warn=self.log.warning,
        )
        if newest is None:
            raise ModelApprovalError(
                f"The model package group {group} has no version: let this task run after the one that "
                "registers the model, and check the name of the group.",
                model_package_arn=None,
                permanent=False,
            )
        self.log.info("Newest version of model package group %s: %s", group, newest.arn)
        if self._is_rescheduled:
            store: Any = context["task_state_store"]
            kept = {"model_package_arn": newest.arn, "try_number": context["ti"].try_number}
            store.set(FOUND_KEY, kept)
        return newest.arn

    def _defer(self) -> None:
        from polysync_airflow.triggers import PolysyncModelApprovalTrigger

        wait = self._wait
        if wait is None:
            raise RuntimeError("the first look has not begun the wait")
        trigger = PolysyncModelApprovalTrigger(
            model_package_arn=wait.model_package_arn,
            polysync_conn_id=self.polysync_conn_id,
            region_name=region_from_arn(wait.model_package_arn),
            poll_interval=wait.poll_interval,
            since=wait.since,
            deadline=wait.since + self.choices.timeout,
        )
        self.defer(trigger=trigger, method_name="execute_complete")

    def _finish(self, context: Context, end: ApprovalEvent) -> str:
        """Push what is known of the approval, and return the ARN, or raise the error of the task."""
        ti = context["ti"]
        ti.xcom_push("approval_status", end.approval_status)
        ti.xcom_push("approval_description", end.approval_description)
        ti.xcom_push("last_modified_by", end.modified_by)
        message, arn = approval_message(end), end.model_package_arn
        if end.outcome == "approved":
            self.log.info("%s", message)
            return arn
        if end.outcome == "rejected":
            if self.choices.on_rejected == "skip":
                raise AirflowSkipException(message)
            raise ModelRejectedError(message, model_package_arn=arn)
        if end.outcome == "timed_out":
            raise AirflowSensorTimeout(message)
        if end.outcome == "failed":
            raise ModelApprovalError(message, model_package_arn=arn)
        if end.error_code and end.operation:
            raise SageMakerApiError(
                message, error_code=end.error_code, operation=end.operation, permanent=True
            )
        raise CredentialsError(message)

    @contextmanager
    def _skipping_softly(self) -> Iterator[None]:
        """Skip the task in place of an error, if ``soft_fail`` or ``never_fail`` says so."""
        # Airflow does so for some errors in some modes only.
        try:
            yield
        except AirflowSkipException:
            raise
        except AirflowException as error:
            if self.soft_fail or self.never_fail:
                raise AirflowSkipException(str(error)) from error
            raise
