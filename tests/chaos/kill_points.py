"""
Kill points: places in a task's process at which the process kills itself with SIGKILL.

Each kill point is a ``pre_execute`` of an operator, so that the operator itself is
unchanged. It is active in one try of one DAG run only. Before the kill it writes the
marker ``killed``, which proves to the suite that the kill happened.

The other hooks kill nothing: they write markers, so that the suite can kill or freeze
the process or its worker.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from typing import Any, NoReturn

from tests.chaos import markers

PreExecute = Callable[[Any], None]


def kill_at_begin() -> PreExecute:
    """Kill the process before the operator has stored or asked anything."""

    def kill(context: Any) -> None:
        if _is_active(context, 1):
            _kill_own_process(_pipeline(context), operation="execute")

    return kill


def kill_at_call(
    operation: str, *, after_response: bool, try_number: int = 1
) -> PreExecute:
    """
    Kill the process at a call of SageMaker.

    :param operation: the operation, for example ``StartPipelineExecution``.
    :param after_response: True to kill after the response has arrived, but before
        botocore returns it; False to kill before the request is sent.
    :param try_number: the try in which the process is killed.
    """

    def at_call(pipeline: str, token: str | None, send: Callable[[], Any]) -> NoReturn:
        if after_response:
            send()
        _kill_own_process(pipeline, operation=operation, token=token)

    return _at_call(operation, at_call, try_number)


def announce_call(operation: str) -> PreExecute:
    """
    Record the process in the marker ``calling`` just before a request is sent.

    :param operation: the operation, for example ``StartPipelineExecution``.
    """

    def at_call(pipeline: str, _token: str | None, send: Callable[[], Any]) -> Any:
        _record_process(pipeline, "calling")
        return send()

    return _at_call(operation, at_call)


def hang_after_call(operation: str) -> PreExecute:
    """
    Record the process in the marker ``answered`` when a response has arrived, and never
    return it to botocore.

    :param operation: the operation, for example ``StartPipelineExecution``.
    """

    def at_call(pipeline: str, _token: str | None, send: Callable[[], Any]) -> NoReturn:
        send()
        _record_process(pipeline, "answered")
        while True:
            signal.pause()

    return _at_call(operation, at_call)


def kill_at_deferral() -> PreExecute:
    """Kill the process when the operator calls ``defer``."""

    def install(context: Any) -> None:
        if not _is_active(context, 1):
            return

        def kill(operator: Any, **arguments: Any) -> NoReturn:
            _kill_own_process(_pipeline(context), operation="defer")

        type(context["task"]).defer = kill

    return install


def hang_at_deferral(seconds: float) -> PreExecute:
    """
    Record the process in the marker ``deferring`` when the operator calls ``defer``,
    and defer some time later.

    :param seconds: how much later.
    """

    def install(context: Any) -> None:
        if context["ti"].try_number != 1:
            return
        kind = type(context["task"])
        defer = kind.defer

        def hang_and_defer(operator: Any, **arguments: Any) -> NoReturn:
            _record_process(_pipeline(context), "deferring")
            time.sleep(seconds)
            defer(operator, **arguments)
            raise AssertionError("The task was not deferred")

        kind.defer = hang_and_defer

    return install


def record_process() -> PreExecute:
    """
    Record the process id of each try and of its parent, so that the suite can kill
    these processes.
    """

    def record(context: Any) -> None:
        name = f"try-{context['ti'].try_number}"
        _record_process(_pipeline(context), name)

    return record


def _at_call(
    operation: str,
    action: Callable[[str, str | None, Callable[[], Any]], Any],
    try_number: int = 1,
) -> PreExecute:
    """
    Return a hook that puts an action in place of a request; the action gets the
    function that sends it.
    """

    def install(context: Any) -> None:
        from botocore.httpsession import URLLib3Session

        if not _is_active(context, try_number):
            return
        pipeline, send = _pipeline(context), URLLib3Session.send

        def send_or_act(session: URLLib3Session, request: Any) -> Any:
            if (
                _text(request.headers.get("X-Amz-Target", ""))
                != f"SageMaker.{operation}"
            ):
                return send(session, request)
            token = json.loads(_text(request.body)).get("ClientRequestToken")
            return action(pipeline, token, lambda: send(session, request))

        URLLib3Session.send = send_or_act  # type: ignore[method-assign, assignment]

    return install


def _is_active(context: Any, try_number: int) -> bool:
    return context["ti"].try_number == try_number and not markers.was_killed(
        _pipeline(context)
    )


def _record_process(pipeline: str, name: str) -> None:
    markers.write(pipeline, name, pid=os.getpid(), parent=os.getppid())


def _pipeline(context: Any) -> str:
    return str(context["dag_run"].conf["pipeline"])


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _kill_own_process(pipeline: str, **facts: Any) -> NoReturn:
    markers.write(pipeline, markers.KILLED, pid=os.getpid(), **facts)
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("The process runs on after SIGKILL")
