"""An Airflow connection that a process uses for a long time, and whose changes it follows."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final, Generic, TypeVar, cast

from airflow.providers.common.compat.sdk import AirflowNotFoundException

from polysync_airflow.airflow_compat.supervisor import call_airflow, is_missing
from polysync_airflow.auth.base_hook import PolysyncBaseHook
from polysync_airflow.exceptions import CredentialsError, PolysyncError
from polysync_airflow.execution import clock
from polysync_airflow.execution.texts import clean_text
from polysync_airflow.execution.waiter import Deletion

log = logging.getLogger(__name__)

Hook = TypeVar("Hook", bound=PolysyncBaseHook)
Result = TypeVar("Result")

# How often the Airflow connection is read, and how soon again after a read that failed.
READ_SECONDS: Final = 20.0
READ_RETRY_SECONDS: Final = 7.0
# How often at most it is read because of failed calls, however many waits have them.
MIN_READ_SECONDS: Final = 5.0


class LiveConnection(Generic[Hook]):
    """
    Calls AWS with what was read of a connection last. Thread-safe.

    Its user calls ``read`` when that is due. While the connection cannot be read, calls use what was read
    before: Airflow's API server may be restarted without any effect on them.

    :param make_hook: returns a new hook with the connection, which has not read it yet.
    :param read_seconds: how often the connection is read.
    """

    def __init__(
        self, connection_id: str, make_hook: Callable[[], Hook], *, read_seconds: float | None = None
    ) -> None:
        self._id = connection_id
        self._make_hook = make_hook
        self._read_seconds = read_seconds
        # Held while the connection is read. Calls do not take it: a slow read does not delay them.
        self._lock = threading.Lock()
        self._hook: Hook | None = None
        self._read_at = clock.monotonic()
        # Of the last read, if it failed.
        self._error: PolysyncError | None = None
        self._deletion = Deletion(connection_id)

    @property
    def hook(self) -> Hook:
        """
        The hook; a new one if the connection has changed.

        :raises PolysyncError: if the connection has never been read.
        """
        return self._hook or self._first_hook()

    @property
    def seconds_until_read(self) -> float:
        """The seconds until ``read`` is due; negative if it is overdue."""
        interval = READ_SECONDS if self._read_seconds is None else self._read_seconds
        return (READ_RETRY_SECONDS if self._error else interval) - self._seconds_since_read

    def read(self) -> CredentialsError | None:
        """
        Read the connection, and use it for the next calls if it has changed. Not for an event loop.

        :return: an error if the connection has been deleted.
        """
        with self._lock:
            self._read()
            return self._deletion.error

    def call(self, call: Callable[[Hook], Result]) -> Result:
        """
        Make a call. It is repeated once with the new connection if it fails, and the connection has changed.

        :raises PolysyncError: the call failed; or the connection was deleted, or has never been read.
        """
        deletion = self._deletion.error
        if deletion:
            raise deletion.with_traceback(None)
        hook = self.hook
        try:
            return call(hook)
        except PolysyncError as error:
            # A person who repairs or rotates a connection expects that running waits use it.
            if error.transient or not self._has_changed_from(hook):
                raise
        return call(self.hook)

    def _first_hook(self) -> Hook:
        with self._lock:
            # All users share a read that fails, too.
            recent = self._error and self._seconds_since_read <= MIN_READ_SECONDS
            if self._hook is None and not recent:
                self._read()
            if self._hook is None:
                raise cast("PolysyncError", self._error).with_traceback(None)
            return self._hook

    def _has_changed_from(self, hook: Hook) -> bool:
        with self._lock:
            if self._hook is hook and self._seconds_since_read > MIN_READ_SECONDS:
                self._read()
            return self._hook is not hook

    @property
    def _seconds_since_read(self) -> float:
        return clock.monotonic() - self._read_at

    def _read(self) -> None:
        missing, error = False, None
        try:
            error = self._try_to_read()
            if error and isinstance(error.__cause__, AirflowNotFoundException):
                missing = call_airflow(lambda: is_missing(self._id))
        finally:
            self._read_at = clock.monotonic()
        self._deletion.after_read(self._read_at, is_missing=missing)
        # One line for an outage, not one for each read.
        if error and not self._error:
            log.warning("Connection %r cannot be read now, retrying: %s", self._id, error)
        elif self._error and not error:
            log.info("Connection %r can be read again.", self._id)
        self._error = error

    def _try_to_read(self) -> PolysyncError | None:
        hook = self._make_hook()
        try:
            if not call_airflow(lambda: hook.has_same_connection(self._hook)):
                if self._hook is not None:
                    log.info("Connection %r has changed: the new one is used from now on.", self._id)
                self._hook = hook
        except PolysyncError as error:
            return error
        except Exception as error:
            # For example, the API server refuses the request. Whatever it is, the next read may succeed.
            return CredentialsError(
                f"polysync_conn_id = {self._id!r}: Airflow does not return the connection: "
                f"{type(error).__name__}: {clean_text(str(error))}",
                permanent=False,
            )
        return None
