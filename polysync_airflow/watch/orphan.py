"""
Looks after one execution by its record, and stops it, for any process that reaches
Airflow in a way of its own.

``execution/lifecycle/orphans.py`` decides. Airflow is asked twice: before AWS, and
again before the stop.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any, ClassVar, Final

from polysync_airflow.aws.responses import PAGE_SIZE
from polysync_airflow.aws.retry import call_with_retry
from polysync_airflow.exceptions import RESOURCE_NOT_FOUND, SageMakerApiError, has_code
from polysync_airflow.execution import clock, models
from polysync_airflow.execution.lifecycle import ending, lookup, machine, orphans
from polysync_airflow.execution.lifecycle.ending import Owner, TryEnd
from polysync_airflow.execution.lifecycle.instructions import (
    ExecutionRecord,
    ExecutionsListed,
    TaskKey,
    UnattendedStop,
)
from polysync_airflow.execution.lifecycle.orphans import Finding, TaskSnapshot, Verdict
from polysync_airflow.execution.outcome import RunSummary, StopProcess
from polysync_airflow.hooks import executions, stops

# How long transient errors of AWS's are retried before the execution is stopped
# without its status.
DESCRIBE_SECONDS: Final = 60.0

# Returns the hook for a connection and a region.
Connect = Callable[[str, str], executions.ExecutionMethods]
# Returns the record to store in place of the one that is stored; None for none.
Choose = Callable[[ExecutionRecord | None, TaskSnapshot], ExecutionRecord | None]


class AirflowAccess(ABC):
    """
    How a process reaches Airflow. All methods raise an error if Airflow does not
    respond.
    """

    process: ClassVar[StopProcess]

    @abstractmethod
    def read_record(self, task: TaskKey) -> ExecutionRecord | None:
        """
        Return the record of a task instance; None if there is none.

        :raises StoredRecordError: it cannot be believed.
        """

    @abstractmethod
    def read_task(self, task: TaskKey) -> TaskSnapshot:
        """Return what Airflow says of a task instance now."""

    @abstractmethod
    def replace_record(self, task: TaskKey, choose: Choose) -> None:
        """Replace the record of a task instance, if a function says so."""

    @abstractmethod
    def read_summary(self, task: TaskKey) -> Any:
        """Return the XCom ``run``."""

    @abstractmethod
    def write_summary(self, task: TaskKey, summary: RunSummary) -> None:
        """Push the XComs ``run``, ``state`` and, if it has one, ``spending``."""


@dataclass(frozen=True)
class Examined:
    """
    What was found out about the execution of a record.

    :param record: the record, with the ARN of the execution if AWS knows it; None if
        there is none.
    :param status: AWS's status of the execution; None if it is not known.
    """

    task: TaskKey
    verdict: Verdict
    record: ExecutionRecord | None = None
    status: str | None = None

    @property
    def execution_arn(self) -> str | None:
        """The ARN of the execution; None if it is not known."""
        if self.record is None:
            return None
        return self.record.execution_arn


@dataclass(frozen=True)
class Watch:
    """
    Looks after executions whose task may have ended without one of its processes.

    :param connect: returns the hook for a connection and a region.
    :param lag_seconds: for how long AWS is asked again for an execution that it does
        not know: it may have been started a moment ago.
    """

    access: AirflowAccess
    connect: Connect
    log: Any
    lag_seconds: float

    def examine(self, task: TaskKey) -> Examined:
        """
        Find out whether the execution of a task instance is to be stopped.

        :raises StoredRecordError: the record cannot be believed.
        :raises PolysyncError: the connection cannot be used.
        :raises Exception: Airflow does not respond.
        """
        record = self.access.read_record(task)
        if record is None:
            verdict = Verdict(Finding.KEEP, "There is no record that is proven.")
            return Examined(task, verdict)
        verdict = orphans.judge_task(record, self.access.read_task(task))
        examined = Examined(task, verdict, record)
        stop = record.unattended_stop
        if verdict.finding is not Finding.STOP or stop is None:
            return examined
        return self._ask_aws(examined, record, stop)

    def stop(self, examined: Examined) -> tuple[OrphanStop, stops.StopOutcome]:
        """
        Stop the execution that was examined, unless a user or a later try has it now.
        """
        stop = self.stop_of(examined)
        record = stop.record
        try_end = ending.leave(record, record.try_number, stop_on_kill=True)
        return stop, stop.carry_out(try_end)

    def stop_of(self, examined: Examined) -> OrphanStop:
        """Return the stop of the execution that was examined. It asks nobody yet."""
        record = examined.record
        if record is None or record.unattended_stop is None:
            raise LookupError(f"{examined.task} has no record")
        connection_id = record.unattended_stop.polysync_conn_id
        return OrphanStop(
            process=self.access.process,
            log=self.log,
            task=examined.task,
            record=record,
            connection_id=connection_id,
            access=self.access,
            hook_for_region=partial(self.connect, connection_id),
        )

    def _ask_aws(
        self, examined: Examined, record: ExecutionRecord, stop: UnattendedStop
    ) -> Examined:
        arn = record.execution_arn
        if arn is None:
            arn = self._ask_again(lambda: self._find(record, stop))
        if arn is None:
            text = f"{examined.verdict.text} AWS lists no execution of its request."
            verdict = Verdict(Finding.OVER, text)
            return Examined(examined.task, verdict, record)
        record = record.model_copy(update={"execution_arn": arn})
        status = None
        verdict = examined.verdict
        try:
            status = self._ask_again(lambda: self._status_of(arn, stop))
        except SageMakerApiError as error:
            self.log.warning(
                "The status of an execution is not known, so it is stopped: %s"
                " Execution: %s",
                error,
                arn,
            )
        else:
            if status is None:
                text = f"{verdict.text} AWS does not know the execution."
                verdict = Verdict(Finding.OVER, text)
        verdict = orphans.with_status(verdict, status)
        return Examined(examined.task, verdict, record, status)

    def _ask_again(self, ask: Callable[[], str | None]) -> str | None:
        """Return what AWS says; None if it still does not know the execution."""
        until = clock.time() + self.lag_seconds
        while True:
            answer = ask()
            if answer is not None or clock.time() >= until:
                return answer
            clock.sleep(machine.ASK_AGAIN_SECONDS)

    def _status_of(self, arn: str, stop: UnattendedStop) -> str | None:
        """Return the status of an execution; None if AWS does not know it."""
        hook = self.connect(stop.polysync_conn_id, models.region_from_arn(arn))
        try:
            return call_with_retry(
                partial(hook.describe_pipeline_execution, arn),
                until=clock.time() + DESCRIBE_SECONDS,
                warn=self.log.warning,
            ).status
        except SageMakerApiError as error:
            if has_code(error, RESOURCE_NOT_FOUND):
                return None
            raise

    def _find(self, record: ExecutionRecord, stop: UnattendedStop) -> str | None:
        """
        Return the ARN of the execution of a request to which AWS's response is not
        known; None if AWS lists none.

        The request is not sent again: nobody would wait for what it may start.
        """
        hook = self.connect(stop.polysync_conn_id, record.region_name)
        pipeline_name = record.request.pipeline_name
        token = None
        for _ in range(lookup.MAX_LISTED // PAGE_SIZE):
            page, token = call_with_retry(
                partial(hook.list_pipeline_executions, pipeline_name, page_token=token),
                until=clock.time() + DESCRIBE_SECONDS,
                warn=self.log.warning,
            )
            arn = lookup.arn_of(record, ExecutionsListed(pipeline_name, page))
            if arn or not token:
                return arn
        return None


@dataclass(kw_only=True)
class OrphanStop(stops.ReportedStop):
    """
    The stop of an execution that no process of its task is left to stop.

    :param record: the record of the execution, as it was examined.
    :param connection_id: the connection of the task.
    """

    task: TaskKey
    record: ExecutionRecord
    connection_id: str
    access: AirflowAccess
    hook_for_region: Callable[[str], executions.ExecutionMethods]

    def _announce(self, try_end: TryEnd) -> stops.Announcement:
        owner = self._replace_record(try_end.announced)
        return stops.Announcement(owner, withdraw=self._withdraw)

    def _withdraw(self) -> None:
        before = {"stop_requested_by": self.record.stop_requested_by}
        self._replace_record(lambda stored: stored.model_copy(update=before))

    def _replace_record(
        self, change: Callable[[ExecutionRecord], ExecutionRecord]
    ) -> Owner:
        """Change the record that is stored, and return who decides about it."""
        owner = Owner.UNKNOWN

        def choose(
            stored: ExecutionRecord | None, task: TaskSnapshot
        ) -> ExecutionRecord | None:
            nonlocal owner
            owner = orphans.owner_of_orphan(stored, self.record, task)
            if stored is None or owner is not Owner.NOBODY or not task.exists:
                return None
            return change(stored)

        try:
            self.access.replace_record(self.task, choose)
        except Exception as error:
            self.log.warning(
                "The record of a stop cannot be updated: %s: %s. Execution: %s",
                type(error).__name__,
                error,
                self.record.execution_arn,
            )
        return owner

    def _ask_aws(self) -> executions.StopResult:
        return stops.stop_execution_by_arn(
            self.record.arn, self.record.resumes, self.hook_for_region, self.log.warning
        )

    def lacks_end(self) -> bool:
        """
        Return whether Airflow has stored the execution, but not how it has ended and
        what it has cost.

        :raises Exception: Airflow does not respond.
        """
        summary = self._read_summary()
        return summary is not None and not summary.is_added_up

    def _read_summary(self) -> RunSummary | None:
        if not self.access.read_task(self.task).exists:
            # The task has no XComs.
            return None
        value = self.access.read_summary(self.task)
        record = self.record
        return stops.summary_of(value, record.arn, record.resumes, self.log.warning)

    def _write_summary(self, summary: RunSummary) -> None:
        self.access.write_summary(self.task, summary)


def ti_of(task: TaskKey, try_number: int) -> Any:
    """Return what has the key of a task instance and the number of a try."""
    return SimpleNamespace(**asdict(task), try_number=try_number)
