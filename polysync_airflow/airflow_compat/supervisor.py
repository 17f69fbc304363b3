"""
Calls of Airflow that go through the supervisor of a task or of a triggerer.

Before Airflow 3.2.2, the channel from a triggerer to its supervisor belongs to the event loop: a request from
a thread that does not know the loop corrupts the channel and ends all triggers of the triggerer. asgiref's
threads know it. Later versions accept requests from any thread, and Airflow 2 has no supervisor.
"""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from importlib import import_module
from typing import Any, Final, TypeVar

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES

Result = TypeVar("Result")

# Airflow's own requests take at most about this long. A triggerer that ends does not respond at all.
TIMEOUT_SECONDS: Final = 60.0

_MASKER: Final = "airflow.sdk.log" if CAPABILITIES.task_sdk else "airflow.utils.log.secrets_masker"

_event_loop: asyncio.AbstractEventLoop | None = None
_inside = threading.local()


def _channel_needs_event_loop() -> bool:
    # A triggerer has imported this module. Where nobody has, there is no such channel, and its import would
    # cost a worker or a test a second.
    triggerer = sys.modules.get("airflow.jobs.triggerer_job_runner")
    decoder = getattr(triggerer, "TriggerCommsDecoder", None)
    return decoder is not None and not hasattr(decoder, "start_reader")


def use_event_loop() -> None:
    """Remember the running event loop as that of the triggerer."""
    global _event_loop  # noqa: PLW0603 # a triggerer has one event loop
    _event_loop = asyncio.get_running_loop()


def in_triggerer() -> bool:
    """Return whether this process runs triggers of this provider."""
    return _event_loop is not None and not _event_loop.is_closed()


def call_airflow(function: Callable[[], Result]) -> Result:
    """
    Call a function that may send requests to Airflow. For any thread, but not for an event loop.

    In a triggerer, the call has a time limit: Airflow itself has none, and a thread that waits for ever would
    keep the process from ending. The function then stays behind in a thread that does not.

    :raises TimeoutError: Airflow does not respond.
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

        # Not in the event loop's own threads: this one may be among them, and if all of them came here, none
        # would be left for the calls that they wait for.
        threads: Any = _DaemonThreads()
        in_thread_of_loop = sync_to_async(call, thread_sensitive=False, executor=threads)
        future = asyncio.run_coroutine_threadsafe(in_thread_of_loop(), loop)
    else:
        future = call_in_daemon_thread(partial(contextvars.copy_context().run, call))
    return future.result(TIMEOUT_SECONDS)


class _DaemonThreads(Executor):
    """Runs each function in a thread of its own, which does not keep the process from ending."""

    def submit(self, fn: Callable[..., Result], /, *args: Any, **kwargs: Any) -> Future[Result]:
        return call_in_daemon_thread(partial(fn, *args, **kwargs))


def call_in_daemon_thread(function: Callable[[], Result]) -> Future[Result]:
    """Call a function in a thread of its own, which does not keep the process from ending."""
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
    """Register a secret with Airflow's secrets masker, which replaces it in log lines by ``***``."""
    mask = import_module(_MASKER).mask_secret
    call_airflow(lambda: mask(secret))


def redact(text: str) -> str:
    """Return a text in which ``***`` replaces the secrets that Airflow's secrets masker knows."""
    redacted: str = import_module(_MASKER).redact(text)
    return redacted
