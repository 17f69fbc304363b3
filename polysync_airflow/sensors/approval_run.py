"""What runs the sensor for approvals of model packages."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Final, NoReturn

from polysync_airflow import exceptions
from polysync_airflow.airflow_compat import sdk
from polysync_airflow.aws.retry import call_with_retry
from polysync_airflow.execution import approval, clock, models, outcome, parameters
from polysync_airflow.execution.waiter import Finish, check_event
from polysync_airflow.hooks import PolysyncSageMakerHook, executions
from polysync_airflow.operators.task_run import write_lines
from polysync_airflow.sensors.sensor_run import SensorRun
from polysync_airflow.triggers import PolysyncModelApprovalTrigger

if TYPE_CHECKING:
    from polysync_airflow.sensors import model_approval

# A key of the task state store: the version that a rescheduled sensor has found.
VERSION_KEY: Final = "polysync_model_package"


class ApprovalRun(SensorRun[approval.ApprovalEvent]):
    """One session of the sensor."""

    task: model_approval.PolysyncModelApprovalSensor
    options: model_approval.ApprovalOptions
    trigger_classes = (PolysyncModelApprovalTrigger,)
    _began_at: datetime
    # The first poll begins it, in each session of a rescheduled sensor.
    _waiter: approval.ApprovalWaiter | None = None

    @cached_property
    def hook(self) -> PolysyncSageMakerHook:
        """The hook for the task's connection and the region of the model package."""
        region = self.task.region_name
        package = self.task.model_package_arn or self.task.model_package_group or ""
        if package.startswith("arn:"):
            region = models.region_from_arn(package)
        return PolysyncSageMakerHook(self.task.polysync_conn_id, region)

    @property
    def _store(self) -> Any:
        return self.context["task_state_store"]

    def complete(self, event: Mapping[str, object] | None) -> str:
        return self.end(check_event(approval.ApprovalEvent, event))

    def begin(self, began_at: datetime) -> None:
        arn = self.task.model_package_arn
        group = self.task.model_package_group
        if arn is not None and group is None:
            approval.check_model_package_arn(arn)
            self.check_region(arn, "model package")
        elif group is not None and arn is None:
            approval.check_model_package_group(group)
            if group.startswith("arn:"):
                self.check_region(group, "model package group")
            if self.is_rescheduled and "task_state_store" not in self.context:
                raise exceptions.ParametersError(
                    'model_package_group cannot be used with mode="reschedule" before'
                    " Airflow 3.3, where nothing is kept of a rescheduled sensor, so"
                    " that another version could be the newest one each time: set"
                    " deferrable=True, or give model_package_arn."
                )
        else:
            given = "both"
            if arn is None:
                given = "neither"
            raise exceptions.ParametersError(
                f"model_package_arn and model_package_group: {given} is given. Give one"
                " of them: the ARN of a version, or a group, whose newest version is"
                " meant."
            )
        self._began_at = began_at

    def _choose_version(self) -> str:
        """Return the ARN of the version for which the task waits, and push it."""
        arn = self.task.model_package_arn
        if arn is None and self.is_rescheduled:
            arn = self._stored_version()
        if arn is None:
            arn = self._find_newest_version()
        self.ti.xcom_push("model_package_arn", arn)
        return arn

    def _stored_version(self) -> str | None:
        """
        Return the version of the group that an earlier session of this try has found.
        """
        stored = self._store.get(VERSION_KEY)
        # Users can edit it.
        if not isinstance(stored, dict):
            return None
        if stored.get("try_number") != self.ti.try_number:
            # A new try finds the version anew.
            return None
        arn = str(stored.get("model_package_arn"))
        if not parameters.is_valid(approval.VERSION_ARN, arn):
            return None
        group = str(self.task.model_package_group)
        if approval.group_of(arn) != approval.group_of(group):
            return None
        return arn

    def _find_newest_version(self) -> str:
        """
        Return the newest version of the group, and keep it for the next sessions of a
        rescheduled sensor.
        """
        group = str(self.task.model_package_group)
        newest = call_with_retry(
            partial(self.hook.newest_model_package, group),
            until=self.deadline_from(self._began_at),
            warn=self.log.warning,
        )
        if newest is None:
            raise exceptions.ModelApprovalError(
                f"The model package group {group} has no version: let this task run"
                " after the one that registers the model, and check the name of the"
                " group.",
                model_package_arn=None,
                permanent=False,
            )
        self.log.info("Newest version of model package group %s: %s", group, newest.arn)
        if self.is_rescheduled:
            version = {
                "model_package_arn": newest.arn,
                "try_number": self.ti.try_number,
            }
            self._store.set(VERSION_KEY, version)
        return newest.arn

    def poll(self) -> approval.ApprovalEvent | None:
        waiter = self._waiter
        if waiter is None:
            waiter = approval.ApprovalWaiter(
                model_package_arn=self._choose_version(),
                poll_interval=self.options.poke_interval,
                since=self._began_at.timestamp(),
                deadline=self.deadline_from(self._began_at),
            )
        polled = executions.result_or_error(
            self.hook.describe_model_package, waiter.model_package_arn
        )
        result = waiter.decide(polled, clock.time())
        write_lines(self.log, result.log_lines)
        if isinstance(result, Finish):
            return result.event
        self._waiter = result.waiter
        return None

    def defer_wait(self) -> NoReturn:
        waiter = self._waiter
        if waiter is None:
            raise RuntimeError("the first poll has not begun the wait")
        trigger = PolysyncModelApprovalTrigger(
            model_package_arn=waiter.model_package_arn,
            polysync_conn_id=self.task.polysync_conn_id,
            region_name=models.region_from_arn(waiter.model_package_arn),
            poll_interval=waiter.poll_interval,
            since=waiter.since,
            deadline=waiter.deadline,
        )
        self.task.defer(trigger=trigger, method_name="execute_complete")

    def end(self, end: approval.ApprovalEvent) -> str:
        self.ti.xcom_push("approval_status", end.approval_status)
        self.ti.xcom_push("approval_description", end.approval_description)
        self.ti.xcom_push("last_modified_by", end.modified_by)
        arn = end.model_package_arn
        message = approval.approval_message(end)
        is_late = end.outcome == "timed_out"
        if end.outcome == "refused" or (is_late and end.error_code):
            # Of a wait whose time is over, the last poll has failed.
            raise outcome.refusal_error(end, message)
        if is_late:
            raise sdk.AirflowSensorTimeout(message)
        if end.outcome == "failed":
            raise exceptions.ModelApprovalError(message, model_package_arn=arn)
        if end.outcome == "rejected" and self.options.on_rejected == "skip":
            raise sdk.AirflowSkipException(message)
        if end.outcome == "rejected":
            raise exceptions.ModelRejectedError(message, model_package_arn=arn)
        self.log.info("%s", message)
        return arn
