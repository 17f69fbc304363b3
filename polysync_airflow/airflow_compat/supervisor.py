"""
The supervisor of a task or of a triggerer: calls of Airflow that go through it, and
tasks that have lost it.

Before Airflow 3.2.2, the channel from a triggerer to its supervisor belongs to the
event loop: a request from a thread that does not know the loop corrupts the channel and
ends all triggers of the triggerer. asgiref's threads know it. Later versions accept
requests from any thread, and Airflow 2 has no supervisor.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from importlib import import_module
from typing import Any, Final, TypeVar

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.airflow_compat.response_times import RESPONSE_TIMES
from polysync_airflow.airflow_compat.task_instances import newest_try_number

Result = TypeVar("Result")

# Airflow's own requests take at most about this long. A triggerer that ends does not
# respond at all.
TIMEOUT_SECONDS: Final = 60.0
# How often a call that may be repeated is made, if Airflow does not respond in time.
MAX_CALLS: Final = 3

_MASKER = "airflow.utils.log.secrets_masker"
if CAPABILITIES.task_sdk:
    _MASKER = "airflow.sdk.log"

# The event loop of the triggerer, if this process is one.
_event_loop: asyncio.AbstractEventLoop | None = None
_inside = threading.local()


class NoResponseError(TimeoutError):
    """Raised when Airflow does not respond to a triggerer in time."""


def _channel_needs_event_loop() -> bool:
    """Return whether the channel of this triggerer belongs to its event loop."""
    # A triggerer has imported these modules. Where nobody has, there is no such
    # channel, and their import would cost a worker or a test a second.
    triggerer = sys.modules.get("airflow.jobs.triggerer_job_runner")
    decoder = getattr(triggerer, "TriggerCommsDecoder", None)
    if decoder is None or hasattr(decoder, "start_reader"):
        return False
    task_runner = sys.modules.get("airflow.sdk.execution_time.task_runner")
    return isinstance(getattr(task_runner, "SUPERVISOR_COMMS", None), decoder)


def use_event_loop() -> None:
    """Remember the running event loop as that of the triggerer."""
    global _event_loop  # noqa: PLW0603 # a triggerer has one event loop
    _event_loop = asyncio.get_running_loop()


def in_triggerer() -> bool:
    """Return whether this process runs triggers of this provider."""
    return _event_loop is not None and not _event_loop.is_closed()


def call_airflow(function: Callable[[], Result]) -> Result:
    """
    Call a function that may send requests to Airflow. For any thread, but not for an
    event loop.

    In a triggerer, the call has a time limit: Airflow itself has none, and a thread
    that waits for ever would keep the process from ending. The function then stays
    behind in a thread that does not.

    :raises NoResponseError: Airflow does not respond.
    """
    loop = _event_loop
    if loop is None or loop.is_closed() or getattr(_inside, "called", False):
        return function()

    def call() -> Result:
        _inside.called = True
        try:
            return function()
        finally:
            _inside.called = False

    if _channel_needs_event_loop():
        from asgiref.sync import sync_to_async

        # Not in the event loop's own threads: this one may be among them, and if all of
        # them came here, none would be left for the calls that they wait for.
        threads: Any = _DaemonThreads()
        in_thread_of_loop = sync_to_async(
            call, thread_sensitive=False, executor=threads
        )
        future = asyncio.run_coroutine_threadsafe(in_thread_of_loop(), loop)
    else:
        future = call_in_daemon_thread(partial(contextvars.copy_context().run, call))
    try:
        with RESPONSE_TIMES.measured():
            return future.result(TIMEOUT_SECONDS)
    except TimeoutError:
        if future.done():
            # It is the error of the function.
            raise
        raise NoResponseError(
            f"Airflow has not responded to the triggerer within {TIMEOUT_SECONDS:.0f} s"
        ) from None


def call_slow_airflow(
    function: Callable[[], Result], warn: Callable[[str], object]
) -> Result:
    """
    Call a function as ``call_airflow`` does, and again if Airflow does not respond. A
    fresh triggerer on a busy machine may wait for a minute.

    :param function: what is the same if it is called twice.
    :param warn: called with a message before each further call.
    :raises NoResponseError: Airflow has not responded to ``MAX_CALLS`` calls.
    """
    for _ in range(MAX_CALLS - 1):
        try:
            return call_airflow(function)
        except NoResponseError as error:
            warn(f"{error}, asking again")
    return call_airflow(function)


class _DaemonThreads(Executor):
    """
    Runs each function in a thread of its own, which does not keep the process from
    ending.
    """

    def submit(
        self, fn: Callable[..., Result], /, *args: Any, **kwargs: Any
    ) -> Future[Result]:
        return call_in_daemon_thread(partial(fn, *args, **kwargs))


def call_in_daemon_thread(function: Callable[[], Result]) -> Future[Result]:
    """
    Call a function in a thread of its own, which does not keep the process from ending.
    """
    future: Future[Result] = Future()

    def call() -> None:
        # A triggerer that ends cancels the calls that it waits for.
        if not future.set_running_or_notify_cancel():
            return
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=call, name="polysync-airflow", daemon=True).start()
    return future


def mask_secret(secret: str) -> None:
    """
    Register a secret with Airflow's secrets masker, which replaces it in log lines by
    ``***``.
    """
    mask = import_module(_MASKER).mask_secret
    call_airflow(lambda: mask(secret))


def redact(text: str) -> str:
    """
    Return a text in which ``***`` replaces the secrets that Airflow's secrets masker
    knows.
    """
    redacted: str = import_module(_MASKER).redact(text)
    return redacted


def is_missing(connection_id: str) -> bool:
    """
    Return whether every place where Airflow looks for connections responds that it has
    no such connection.

    Airflow raises ``AirflowNotFoundException`` also if a place does not respond
    (``_get_connection`` in airflow/sdk/execution_time/context.py,
    ``get_connection_from_secrets`` in airflow/models/connection.py of Airflow 2). So
    this function asks each place again, and an error means that it may have the
    connection.

    The answer is not certain: behind the API server, Airflow handles errors of the
    database in the same way.
    """
    try:
        return not any(
            _may_have(backend, connection_id) for backend in _secrets_backends()
        )
    except Exception:
        return False


def _secrets_backends() -> list[Any]:
    if CAPABILITIES.task_sdk:
        from airflow.sdk.execution_time.supervisor import ensure_secrets_backend_loaded

        return list(ensure_secrets_backend_loaded())
    from airflow.configuration import ensure_secrets_loaded

    return list(ensure_secrets_loaded())


def _may_have(backend: Any, connection_id: str) -> bool:
    """
    Return whether one place has a connection, or has not said that it has none.

    :raises Exception: it does not respond.
    """
    if not CAPABILITIES.task_sdk:
        return backend.get_connection(conn_id=connection_id) is not None
    from polysync_airflow.airflow_compat import requests

    return requests.may_have_connection(backend, connection_id)


# On Airflow 2, the process of a task writes the task's state into the database,
# whichever try is running. From Airflow 3 on, Airflow refuses what the process of an
# earlier try reports.


def exit_if_orphaned(parent: int, warn: Callable[[str], object]) -> None:
    """
    End this process if its supervisor has died, and do not let it report a result. Only
    on Airflow 2.

    Airflow counts a task without a supervisor as dead and starts its next try, so what
    this process reports would end that try. From Airflow 3 on, a process without a
    supervisor reaches nothing.

    :param parent: the id of the parent process from before.
    :param warn: called with a message before the process ends.
    """
    if CAPABILITIES.task_sdk or os.getppid() == parent:
        return
    warn(
        "The process that supervised this task has died, and Airflow starts the task's"
        " next try. This process ends without a result; the execution goes on."
    )
    # An exception would be reported as the result.
    os._exit(1)


def exit_if_replaced(ti: Any, warn: Callable[[str], object]) -> None:
    """
    End this process if a later try of its task has begun, in place of failing that try.
    Only on Airflow 2.

    That happens if a process goes on after it was frozen for so long that Airflow has
    started the next try.

    :param ti: the task instance. In ``dag.test()`` and in tests, the process is not
        that of a task.
    :param warn: called with a message before the process ends.
    """
    if CAPABILITIES.task_sdk or not getattr(ti, "raw", False):
        return
    try:
        newest = newest_try_number(ti)
    except Exception as error:
        warn(
            "Whether a later try of this task has begun cannot be read from Airflow:"
            f" {error}"
        )
        return
    if newest is not None and newest > ti.try_number:
        warn(
            f"Try {newest} of this task has begun. The process of try {ti.try_number}"
            " ends without a result."
        )
        os._exit(1)
