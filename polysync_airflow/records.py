"""
The record of a task's execution, kept between the tries in a Variable for each task
instance.

Its fields are defined by ``ExecutionRecord`` in
``execution/lifecycle/instructions.py``. Airflow's users can edit it, so it is signed
(``airflow_compat/signatures.py``), and a task believes only what it has written itself.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import re
import uuid
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict
from datetime import datetime
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from airflow.providers.common.compat.sdk import Context, Variable
from pydantic import ValidationError

from polysync_airflow.airflow_compat import task_instances, teams
from polysync_airflow.airflow_compat.signatures import (
    SIGNATURE,
    is_genuine,
    signed,
    signing_keys,
)
from polysync_airflow.deployment import (
    DEPLOYMENT_KEY,
    configured_name,
    doubt_about,
    ensure_deployment,
    find_deployment,
    read_deployment,
    stored_identity,
)
from polysync_airflow.exceptions import PolysyncError, StoredRecordError
from polysync_airflow.execution import clock
from polysync_airflow.execution.json_input import UnreadableJsonError, read_json
from polysync_airflow.execution.lifecycle import instructions
from polysync_airflow.execution.lifecycle.ending import Owner, owner_by_record
from polysync_airflow.execution.lifecycle.instructions import (
    NO_EPOCH,
    ExecutionRecord,
    TaskKey,
)
from polysync_airflow.execution.lifecycle.options import OnClear
from polysync_airflow.execution.lifecycle.orphans import ENDED_STATES
from polysync_airflow.execution.lifecycle.provenance import Provenance, has_never_begun
from polysync_airflow.execution.models import MAX_INTEGER
from polysync_airflow.execution.texts import describe_validation_error, is_storable_text
from polysync_airflow.get_provider_info import DEPLOYMENT
from polysync_airflow.states import DELETED

if TYPE_CHECKING:
    # It imports the models of Airflow's database, which workers must not use.
    from polysync_airflow.airflow_compat.database import StoredVariable

log = logging.getLogger(__name__)

# Running tasks have stored their record under this key. With another one, their next
# try would not find the record and would start a second execution.
RECORD_KEY: Final = "polysync_execution"


def to_stored(record: ExecutionRecord, task: TaskKey) -> dict[str, Any]:
    """Return the JSON-able form of a record, signed if the deployment has a key."""
    values = record.model_dump(mode="json", exclude_none=True)
    keys = signing_keys()
    if not keys:
        return values
    return signed(values, task, keys[0])


def from_stored(value: Any, task: TaskKey, *, place: str) -> ExecutionRecord:
    """
    Return the record that a stored value holds.

    :param place: where the value is, and what a user must delete if it is refused.
    :raises StoredRecordError: the value is not a record of this task instance, or that
        is not proven.
    :raises PolysyncError: the deployment's key cannot be used.
    """
    values = value
    signature = None
    if isinstance(value, Mapping):
        values = dict(value)
        signature = values.pop(SIGNATURE, None)
    try:
        record = ExecutionRecord.model_validate(values)
    except ValidationError as error:
        problems = describe_validation_error(error)
        raise _refused(f"is damaged ({problems})", place) from None
    keys = signing_keys()
    if not keys or is_genuine(values, signature, task, keys):
        return record
    problem = (
        "its signature is not that of this task. Somebody edited it or copied it from"
        " another task, or [core] fernet_key was rotated, or is another one on the host"
        " that wrote it"
    )
    if signature is None:
        problem = (
            "it has no signature. Somebody edited it, or [core] fernet_key was not set"
            " on the host that wrote it"
        )
    raise _refused(f"is not proven: {problem}", place, record)


def _refused(
    problem: str, place: str, record: ExecutionRecord | None = None
) -> StoredRecordError:
    problem = (
        "The record that earlier tries of this task stored about their execution"
        f" {problem}."
    )
    return StoredRecordError(
        f"{problem} Nothing was started, stopped or continued, because that execution"
        " may still be running. Look for it in the SageMaker console, and stop it"
        f" there if it is running. Then delete {place}, and clear the task.",
        problem=problem,
        record=record,
    )


def check_deployment(
    record: ExecutionRecord, deployment: str | None, *, place: str
) -> None:
    """
    Refuse a record that a task of another deployment wrote, for example one in a copy
    of its database. Its execution is neither continued nor stopped.

    :param deployment: the identity of this deployment; None if it has none, because its
        Variable was deleted. A copy of a database has the Variable.
    :raises StoredRecordError: the record is that of another deployment.
    """
    if deployment in (None, record.deployment):
        return
    section, option = DEPLOYMENT
    raise _refused(
        f"is that of another deployment of Airflow ({record.deployment}, and this one"
        f" is {deployment}). If it is that of this one, whose address or Variable"
        f" {DEPLOYMENT_KEY} has changed, set [{section}] {option} ="
        f" {record.deployment}",
        place,
    )


def incarnation_of(context: Context) -> instructions.Incarnation:
    """Return the incarnation of a task instance. For a worker."""
    return instructions.Incarnation.model_validate(
        task_instances.read_incarnation(context)
    )


KEY_PREFIX: Final = f"{RECORD_KEY}."
# The key of a Variable has at most 250 characters.
_READABLE_CHARACTERS: Final = 200
TASK: Final = "task"
RECORD: Final = "record"


def variable_key(task: TaskKey) -> str:
    """
    Return the key of the Variable of a task instance:
    ``polysync_execution.<dag>.<task>.<map>.<run>.<hash>``.

    Secrets backends are asked for the key too. It has only characters that those of AWS
    allow.
    """
    parts = [task.dag_id, task.task_id, task.run_id]
    if task.map_index >= 0:
        parts.insert(2, str(task.map_index))
    content = json.dumps(asdict(task), sort_keys=True)
    unique = hashlib.sha256(content.encode()).hexdigest()[:16]
    return f"{KEY_PREFIX}{_readable(*parts)}.{unique}"


def dag_prefix(dag_id: str) -> str:
    """
    Return how the keys of the Variables of a DAG begin. So do the keys of a DAG whose
    id begins with ``<dag>.``.
    """
    return f"{KEY_PREFIX}{_readable(dag_id, '')}"


def _readable(*parts: str) -> str:
    text = re.sub(r"[^A-Za-z0-9_.-]+", "_", ".".join(parts))
    return text[:_READABLE_CHARACTERS]


def place_of(key: str) -> str:
    """Return where a user finds a record, and deletes it."""
    return f"the Variable {key!r} under Admin > Variables"


def to_variable(value: dict[str, Any], task: TaskKey) -> str:
    """
    Return the text of the Variable that holds a record.

    :param value: the record, as ``to_stored`` returns it.
    """
    return json.dumps({TASK: asdict(task), RECORD: value})


def from_variable(text: str, task: TaskKey, *, place: str) -> ExecutionRecord:
    """
    Return the record that the text of a Variable holds.

    :raises StoredRecordError: the text holds no record of this task instance.
    """
    try:
        value = read_json(text, "it")
    except UnreadableJsonError as error:
        raise _refused(f"is damaged ({error})", place) from None
    record = value
    if isinstance(value, dict):
        record = value.get(RECORD)
    if record is None:
        # A Variable without a record in it is damaged, which is not the same as no
        # record.
        record = text
    return from_stored(record, task, place=place)


def task_in(text: str) -> TaskKey:
    """
    Return the task instance that the text of a Variable names for its record.

    :raises StoredRecordError: it holds no record of a task. The message says why.
    """
    try:
        value = read_json(text, "it")
        key = TaskKey(**value[TASK])
    except UnreadableJsonError as error:
        raise StoredRecordError(str(error)) from None
    except (KeyError, TypeError):
        raise StoredRecordError("it names no task") from None
    if not _may_exist(key):
        raise StoredRecordError("it names a task that Airflow cannot have")
    return key


def read_record(ti: Any) -> ExecutionRecord | None:
    """
    Return the record of a task instance; None if there is none, or if it is not proven.

    :param ti: the task instance, in a triggerer or in the DAG processor.
    :raises Exception: Airflow does not respond.
    """
    context: Any = {"ti": ti}
    return RecordStore(context).read()


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

    :param confirmed_at: when Airflow has confirmed that this try is the current one.
    """

    def __init__(self, context: Context, *, confirmed_at: float = -math.inf) -> None:
        self._context = context
        self._ti: Any = context["ti"]
        self._task = TaskKey.of(self._ti)
        self._key = variable_key(self._task)
        self.place = place_of(self._key)
        self._is_copied = teams.may_be_hidden(context)
        self._is_on_worker = "dag_run" in context
        # The record that this process has read or written last.
        self._latest: ExecutionRecord | None = None
        self._confirmed_at = confirmed_at
        # Whether the task is that of a group of steps.
        self.is_of_group = False
        # Whether the record has a stop of this process, while its main thread may still
        # go on.
        self._has_announced = False
        # Why the record that is stored cannot be believed.
        self.unproven: StoredRecordError | None = None
        # The deployment that it names, proven or not.
        self._named_deployment: str | None = None

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
        return Provenance(
            key=self._task,
            deployment=self._deployment,
            named_deployment=self._named_deployment,
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
            return self._checked(from_stored(value, self._task, place=place), place)
        except StoredRecordError as error:
            log.warning("XCom %r is ignored: %s", RECORD_KEY, error)
            self._remember(error)
            return None

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
        decide = partial(owner_by_record, is_of_group=self.is_of_group)
        owner = decide(record, self.try_number, state, stored, is_current=is_current)
        return owner, stored, state

    def forget(self) -> None:
        """
        Delete the record of a task that succeeds. Raises no error: the task has done
        its work.
        """
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
        record = from_variable(text, self._task, place=self.place)
        return self._checked(record, self.place)

    def _checked(self, record: ExecutionRecord, place: str) -> ExecutionRecord:
        self._named_deployment = record.deployment
        check_deployment(record, self._deployment, place=place)
        return record

    def _remember(self, error: StoredRecordError) -> None:
        """Remember why a record is not believed, and which deployment it names."""
        self.unproven = error
        if error.record:
            self._named_deployment = error.record.deployment

    def _read_if_proven(self) -> ExecutionRecord | None:
        # This try holds a record of its own. What somebody else has written in its
        # place must not keep it from its work, and above all not from the stop of its
        # execution.
        try:
            return self._read()
        except StoredRecordError as error:
            if self.unproven is None:
                log.warning("%s It is not used: %s.", error.problem, self.place)
            self._remember(error)
            return None

    def _put(self, record: ExecutionRecord) -> None:
        record = record.without_values()
        value = to_stored(record, self._task)
        description = (
            f"The SageMaker pipeline execution of task {self._task.task_id} of DAG"
            f" {self._task.dag_id}, try {self.try_number}. Do not edit or delete it"
            " while the task runs."
        )
        Variable.set(self._key, to_variable(value, self._task), description=description)
        self._latest = record

    def _put_copy(self, record: ExecutionRecord) -> None:
        value = to_stored(record.without_values(), self._task)
        task_instances.write_xcom(self._ti, RECORD_KEY, value)

    def write_unconfirmed(self, record: ExecutionRecord) -> None:
        """Store the record. Airflow has just said that this process may."""
        # Of a worker's stop, only the next try must know, and reads the Variable.
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
            # If it is that of a later try that has ended, it names an execution for
            # which nobody waits either.
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


# ---- records in Airflow's database, without a task: choices, and the expiry
#
# A running try and the API server must not overwrite each other: the API server writes
# only if the task has ended.


class StoredTask(NamedTuple):
    """
    The task of a record.

    :param dag_run_state: the state of its DAG run; None if it was deleted.
    :param ended_at: when its DAG run has ended. If it was deleted, when it had started.
        None if that is not known.
    :param task_states: the states of the task instance; empty if it was deleted.
    """

    key: TaskKey
    dag_run_state: str | None
    ended_at: datetime | None
    task_states: tuple[str | None, ...]

    def has_ended_before(self, time: datetime) -> bool:
        """
        Return whether the task has ended before a time, and cannot run again by itself.
        """
        if self.dag_run_state not in (None, "success", "failed"):
            return False
        if not ENDED_STATES.issuperset(self.task_states):
            return False
        return self.ended_at is not None and self.ended_at < time


def stored_task(variable: StoredVariable) -> StoredTask | None:
    """
    Return the task of the record in a Variable; None if there is no such Variable.

    :raises StoredRecordError: it holds no record of a task. The message says why.
    """
    if not variable.exists:
        return None
    if variable.value is None:
        raise StoredRecordError("it cannot be decrypted with [core] fernet_key")
    key = task_in(variable.value)
    state, ended_at = variable.dag_run(key.dag_id, key.run_id)
    states = tuple(variable.states_of(**asdict(key)))
    if state is None:
        ended_at = _started_at(read_json(variable.value, "it"))
    return StoredTask(key, state, ended_at, states)


def _may_exist(key: TaskKey) -> bool:
    """Return whether Airflow's database can be asked for a task instance."""
    for text in (key.dag_id, key.run_id, key.task_id):
        if not isinstance(text, str) or not is_storable_text(text):
            return False
    return isinstance(key.map_index, int) and -1 <= key.map_index <= MAX_INTEGER


def _started_at(value: Any) -> datetime | None:
    with suppress(ValidationError, KeyError, TypeError):
        return instructions.Incarnation.model_validate(
            value[RECORD]["incarnation"]
        ).dag_run_started_at
    return None


class NoRecordError(PolysyncError):
    """The task instance has no record of an execution."""


class TaskNotEndedError(PolysyncError):
    """A try of the task instance runs or is on its way, and may write the record."""


def _variable_of(
    task: TaskKey, *, lock: bool
) -> AbstractContextManager[StoredVariable]:
    from polysync_airflow.airflow_compat.database import stored_variable

    return stored_variable(variable_key(task), lock=lock)


def read_clear_choice(task: TaskKey) -> OnClear | None:
    """
    Return what a user chose for the next clear; None if ``on_clear`` decides.

    :raises NoRecordError: the task instance has no record.
    :raises StoredRecordError: the record is damaged, or was not written by this task.
    :raises PolysyncError: the deployment's Fernet key cannot be used, or cannot decrypt
        the record.
    """
    with _variable_of(task, lock=False) as variable:
        choice = _record_in(variable, task).clear_choice
    if choice is None or choice.epoch is not None:
        return None
    return choice.on_clear


def store_clear_choice(task: TaskKey, on_clear: OnClear | None) -> None:
    """
    Store what the next clear of a task does, in place of its ``on_clear``.

    :param on_clear: what it does; None withdraws a choice that was stored before.
    :raises TaskNotEndedError: a try of the task runs or is on its way.
    :raises NoRecordError: the task instance has no record.
    :raises StoredRecordError: the record is damaged, or was not written by this task.
    :raises PolysyncError: the deployment's Fernet key cannot be used, or cannot decrypt
        the record.
    """
    with _variable_of(task, lock=True) as variable:
        record = _record_in(variable, task)
        states = variable.states_of(**asdict(task))
        if not states or not ENDED_STATES.issuperset(states):
            raise TaskNotEndedError(
                f"The task has not ended. Its state is {', '.join(map(str, states))}."
            )
        choice = None
        if on_clear is not None:
            choice = instructions.ClearChoice(on_clear=on_clear)
        changed = record.model_copy(update={"clear_choice": choice})
        variable.replace(to_variable(to_stored(changed, task), task))


def deployment_of_database() -> tuple[str | None, str | None]:
    """
    Return the identity of this deployment, without teams, and why it may be taken for
    another one; None if it may not. For commands.
    """
    from polysync_airflow.airflow_compat.database import stored_variable

    with stored_variable(DEPLOYMENT_KEY, lock=False) as variable:
        identity = find_deployment(None, variable.value_of)
        stored = stored_identity(None, variable.value_of)
    doubt = None
    if stored is not None:
        doubt = doubt_about(stored)
    return identity, doubt


def imported_records() -> list[str]:
    """
    Return the keys of the records whose task has never begun in this database. For
    commands.
    """
    from polysync_airflow.airflow_compat.database import stored_variables

    keys = []
    for variable in stored_variables(KEY_PREFIX):
        with suppress(StoredRecordError):
            task = task_in(variable.value or "")
            if is_imported(variable, task):
                keys.append(variable_key(task))
    return keys


def is_imported(variable: StoredVariable, task: TaskKey) -> bool:
    """
    Return whether no try of a task instance has begun in the database of a Variable, so
    that another deployment has written its record.
    """
    key = asdict(task)
    numbers = [number for _, number in variable.tries_of(**key)]
    return has_never_begun(numbers, lambda: variable.has_begun(**key))


def stored_record(task: TaskKey) -> ExecutionRecord | None:
    """
    Return the record of a task instance; None if there is none. For commands.

    :raises StoredRecordError: the record is damaged, or was not written by this task,
        or is that of another deployment.
    :raises PolysyncError: the deployment's Fernet key cannot be used, or cannot decrypt
        the record.
    """
    with _variable_of(task, lock=False) as variable:
        if not variable.exists:
            return None
        return _record_in(variable, task)


def _record_in(variable: StoredVariable, task: TaskKey) -> ExecutionRecord:
    if not variable.exists:
        raise NoRecordError("The task has no record of an execution.")
    text = variable.value
    if text is None:
        raise PolysyncError(
            f"The Variable {variable_key(task)!r} cannot be decrypted with the"
            " deployment's Fernet key ([core] fernet_key)."
        )
    place = place_of(variable_key(task))
    record = from_variable(text, task, place=place)
    deployment = find_deployment(variable.team, variable.value_of)
    check_deployment(record, deployment, place=place)
    return record
