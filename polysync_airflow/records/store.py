"""The record of one task instance, in its Variable."""

from __future__ import annotations

import logging
import math
import uuid
from functools import cached_property
from typing import Any, Final, Self

from airflow.providers.common.compat.sdk import Context, Variable

from polysync_airflow.airflow_compat import task_instances, teams
from polysync_airflow.deployment import (
    configured_name,
    ensure_deployment,
    read_deployment,
)
from polysync_airflow.exceptions import PolysyncError, StoredRecordError
from polysync_airflow.execution import clock
from polysync_airflow.execution.lifecycle import instructions
from polysync_airflow.execution.lifecycle.ending import Owner, owner_by_record
from polysync_airflow.execution.lifecycle.instructions import (
    NO_EPOCH,
    ExecutionRecord,
    TaskKey,
)
from polysync_airflow.execution.lifecycle.provenance import Provenance
from polysync_airflow.records import serialization
from polysync_airflow.records.keys import RECORD_KEY, place_of, variable_key
from polysync_airflow.states import DELETED

log = logging.getLogger(__name__)


def incarnation_of(context: Context) -> instructions.Incarnation:
    """Return the incarnation of a task instance. For a worker."""
    return instructions.Incarnation.model_validate(
        task_instances.read_incarnation(context)
    )


def read_record(ti: Any) -> ExecutionRecord | None:
    """
    Return the record of a task instance; None if there is none, or if it is not proven.

    :param ti: the task instance, in a triggerer or in the DAG processor.
    :raises Exception: Airflow does not respond.
    """
    return RecordStore.outside(ti).read()


# Airflow takes longer than this to end a try and to begin the next one: what it has
# said about a try is still true, unless the process was frozen since. A record that is
# deleted too soon is found again by the name of its execution.
CONFIRMED_SECONDS: Final = 5.0
CONFIRMED_SECONDS_OF_SUCCESS: Final = 60.0


class RecordStore:
    """
    Reads and writes the record of a task's execution, which outlives tries, crashes,
    deferrals and clears.

    A worker can write Variables in all versions of Airflow. (The task state store of
    Airflow 3.3 is not used: from 3.4 on, Airflow empties it when a user clears the
    task.)

    Every try can write the Variable, whether Airflow has replaced it or not. So each
    try that continues with an execution writes its number into the record. Before a
    write, and before a request that costs money, Airflow has confirmed within
    ``CONFIRMED_SECONDS`` that the try is still the current one. A process that was
    frozen, and comes back when a later try exists, leaves the record and the execution
    alone.

    A task that succeeds deletes its Variable. If its process dies before Airflow stores
    that it has succeeded, the retry gets the same execution by its client token. The
    Variable of any other task is kept: its clear needs it, whichever DAG runs have come
    since.

    Airflow hides the Variables of a team from the DAG processor and the triggerer. So
    the record of its tasks has a copy for them: an XCom, which Airflow deletes when the
    next try begins, and which that try writes again. Airflow also hides them from the
    process of a try that it has replaced.

    Made by ``on_worker`` or ``outside``.
    """

    def __init__(
        self, context: Context, *, is_on_worker: bool, is_of_group: bool = False
    ) -> None:
        self._context = context
        self._ti: Any = context["ti"]
        self._task = TaskKey.of(self._ti)
        self._key = variable_key(self._task)
        self._place = place_of(self._key)
        self._is_copied = teams.may_be_hidden(context)
        self._is_on_worker = is_on_worker
        self._is_of_group = is_of_group
        # The record that this process has read or written last.
        self._latest: ExecutionRecord | None = None
        # When Airflow has last confirmed that this try is the current one.
        self._confirmed_at = -math.inf
        # Whether the record has a stop of this process, while its main thread may still
        # go on.
        self._has_announced = False
        # Why the record that is stored cannot be believed.
        self.unproven: StoredRecordError | None = None

    @classmethod
    def on_worker(cls, context: Context, *, is_of_group: bool = False) -> Self:
        """
        Return the store of the try that this process executes.

        :param is_of_group: whether the task is that of a group of steps.
        """
        return cls(context, is_on_worker=True, is_of_group=is_of_group)

    @classmethod
    def outside(cls, ti: Any) -> Self:
        """
        Return the store of a task instance in a process that does not execute it: a
        triggerer, the DAG processor, or the failure callback of an ended try.
        """
        return cls({"ti": ti}, is_on_worker=False)

    @property
    def try_number(self) -> int:
        """The number of this try."""
        return int(self._ti.try_number)

    @cached_property
    def identity(self) -> instructions.TaskIdentity:
        """
        What tells the starts of this task instance from all others. For a worker.

        :raises PolysyncError: Airflow does not store the identity of the deployment.
        :raises Exception: Airflow does not respond.
        """
        # A test run begins at its date, also the next time: it must not get the
        # execution of the last time.
        nonce = ""
        if task_instances.is_start_planned(self._context):
            nonce = uuid.uuid4().hex
        return instructions.TaskIdentity(
            key=self._task,
            deployment=self._own_deployment(),
            incarnation=incarnation_of(self._context),
            nonce=nonce,
        )

    def _own_deployment(self) -> str:
        """Return the identity of this deployment, which its first task makes."""
        recorded = None
        if self._latest:
            recorded = self._latest.deployment
        if recorded and recorded == self._deployment:
            # It was read with the record.
            return recorded
        self._deployment = ensure_deployment(recorded, teams.team_of(self._context))
        return self._deployment

    @cached_property
    def _deployment(self) -> str | None:
        if self._is_hidden:
            return configured_name()
        return read_deployment(teams.team_of(self._context))

    @property
    def provenance(self) -> Provenance:
        """
        What tells which deployment has started an execution, where ``read`` has
        returned None.

        :raises Exception: Airflow does not respond.
        """
        named_deployment = None
        if self.unproven:
            named_deployment = self.unproven.deployment
        return Provenance(
            key=self._task,
            deployment=self._deployment,
            named_deployment=named_deployment,
            is_hidden=self._is_hidden,
        )

    @property
    def _is_hidden(self) -> bool:
        """Whether Airflow may hide the Variables of the task from this process."""
        return self._is_copied and not self._is_on_worker

    def read(self) -> ExecutionRecord | None:
        """
        Return the record that earlier tries stored; None if there is none, or if it
        cannot be believed.
        """
        self._latest = self._read_if_proven()
        return self._latest

    def proven_record(self, value: Any) -> ExecutionRecord | None:
        """
        Return the record that an XCom holds for this task instance; None if there is
        none that is proven.
        """
        if value is None:
            return None
        place = f"the XCom {RECORD_KEY!r}"
        try:
            record = serialization.from_stored(value, self._task, place=place)
            serialization.check_deployment(record, self._deployment, place=place)
        except StoredRecordError as error:
            log.warning("XCom %r is ignored: %s", RECORD_KEY, error)
            self.unproven = error
            return None
        return record

    def confirm(self, seconds: float = CONFIRMED_SECONDS) -> None:
        """
        Ask Airflow whether this try is the current one of its task instance.

        :param seconds: for how long an earlier answer counts.
        :raises PolysyncError: it is not, or this process stops its execution.
        :raises Exception: Airflow does not respond.
        """
        now = clock.time()
        is_confirmed = 0 <= now - self._confirmed_at <= seconds
        if not is_confirmed and task_instances.is_current(self._ti):
            is_confirmed = True
            self._confirmed_at = now
        if not is_confirmed or self._has_announced:
            raise PolysyncError(
                f"Airflow does not run try {self.try_number} of this task any longer,"
                " so it ends.",
                permanent=False,
            )

    def write(self, record: ExecutionRecord) -> None:
        """
        Store the record.

        :raises PolysyncError: this try is no longer the current one.
        :raises Exception: Airflow does not respond.
        """
        self.confirm()
        self._put(record)
        if self._is_copied:
            self._put_copy(record)

    def delete(self) -> None:
        """
        Delete the record. Only correct if AWS has certainly not started an execution.

        :raises PolysyncError: this try is no longer the current one.
        :raises Exception: Airflow does not respond.
        """
        self.confirm()
        self._delete()

    def announce_stop(self, record: ExecutionRecord) -> Owner:
        """
        Find out whether this try may stop its execution, and store that it is going to
        do so.

        By the stored number of the try, a later try tells this stop from a cancellation
        by somebody else.
        """
        owner, stored, state = self.owner(record)
        # A task instance that was deleted has no later try, and Airflow 3.4 does not
        # let it write.
        # After a clear of a group, only the end of the epoch is stored, and no stop.
        is_end_of_epoch = owner is Owner.NEXT_TRY and record.epoch == NO_EPOCH
        owns = owner in (Owner.THIS_TRY, Owner.NOBODY) or is_end_of_epoch
        if owns and state != DELETED:
            try:
                self.store_announcement(record, stored)
            except Exception as error:
                return self._unknown(error)
        return owner

    def store_announcement(
        self, record: ExecutionRecord, stored: ExecutionRecord | None
    ) -> None:
        """
        Store that this process is going to stop the execution. It has asked Airflow
        before whether it may.

        :param record: the record with the number of this try.
        :param stored: the record that Airflow has now.
        :raises Exception: Airflow does not respond.
        """
        self._has_announced = True
        self.write_unconfirmed(record.with_choice_of(stored))

    def withdraw_stop(self, record: ExecutionRecord) -> None:
        """
        Store that a stop that was announced has failed. Raises no error: the task ends
        with its own.
        """
        try:
            if self._read_if_proven() == self._latest:
                self.write_unconfirmed(record.with_choice_of(self._latest))
        except Exception as error:
            log.warning("The record cannot be updated: %s", error)

    def owner(
        self, record: ExecutionRecord
    ) -> tuple[Owner, ExecutionRecord | None, str | None]:
        """
        Return who decides about the execution of this try, the stored record, and the
        task's state.
        """
        try:
            stored = self._read_if_proven()
            state = task_instances.read_state(self._ti)
            is_current = state != DELETED and task_instances.is_current(self._ti)
        except Exception as error:
            return self._unknown(error), None, None
        owner = owner_by_record(
            record,
            self.try_number,
            state,
            stored,
            is_current=is_current,
            is_of_group=self._is_of_group,
        )
        return owner, stored, state

    def forget(self, *, began_at: float = -math.inf) -> None:
        """
        Delete the record of a task that succeeds. Raises no error: the task has done
        its work.

        :param began_at: when Airflow has begun this session of the try, which confirms
            that it is the current one.
        """
        self._confirmed_at = max(self._confirmed_at, began_at)
        try:
            self.confirm(CONFIRMED_SECONDS_OF_SUCCESS)
            self._delete()
        except Exception as error:
            log.warning("The record of this task cannot be deleted: %s", error)

    def _read(self) -> ExecutionRecord | None:
        text = task_instances.get_variable(self._key)
        if text is None and self._is_copied:
            return self._read_hidden()
        if text is None:
            return None
        record = serialization.from_variable(text, self._task)
        serialization.check_deployment(record, self._deployment, place=self._place)
        return record

    def _read_if_proven(self) -> ExecutionRecord | None:
        # This try holds a record of its own. What somebody else has written in its
        # place must not keep it from its work, and above all not from the stop of its
        # execution.
        try:
            return self._read()
        except StoredRecordError as error:
            if self.unproven is None:
                log.warning("%s It is not used: %s.", error.problem, self._place)
            self.unproven = error
            return None

    def _put(self, record: ExecutionRecord) -> None:
        description = (
            f"The SageMaker pipeline execution of task {self._task.task_id} of DAG"
            f" {self._task.dag_id}, try {self.try_number}. Do not edit or delete it"
            " while the task runs."
        )
        text = serialization.to_variable(record, self._task)
        Variable.set(self._key, text, description=description)
        self._latest = record.without_values()

    def _put_copy(self, record: ExecutionRecord) -> None:
        value = serialization.to_stored(record, self._task)
        task_instances.write_xcom(self._ti, RECORD_KEY, value)

    def write_unconfirmed(self, record: ExecutionRecord) -> None:
        """Store the record. Airflow has just said that this process may."""
        # Only the next try must know of a worker's stop, and it reads the Variable.
        # Airflow lets a worker that it has replaced write no XCom of a team.
        self._put(record)
        if self._is_hidden:
            self._put_copy(record)

    def _read_hidden(self) -> ExecutionRecord | None:
        """
        Return the record in a Variable that Airflow hides from this process; None if
        there is none.
        """
        if not self._is_on_worker:
            copy = task_instances.read_xcom(self._ti, RECORD_KEY)
            return self.proven_record(copy)
        if self._latest and teams.is_hidden_variable(self._key):
            # Even a record of a later try that has ended names an execution for which
            # nobody waits.
            return self._latest
        return None

    def _delete(self) -> None:
        Variable.delete(self._key)
        if self._is_copied:
            task_instances.delete_xcom(self._ti, RECORD_KEY)

    def _unknown(self, error: Exception) -> Owner:
        log.warning(
            "Whether a later try has the execution cannot be read from Airflow: %s",
            error,
        )
        return Owner.UNKNOWN
