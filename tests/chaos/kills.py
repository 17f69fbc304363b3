"""Owns the kill points: where, inside a task's process, that process is killed with SIGKILL.

Each is a ``pre_execute`` of an operator, so that the operator itself is the one that people use. It strikes on
the first try alone and leaves the mark ``killed`` first, without which nobody may say that a kill happened.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from typing import Any, NoReturn

from tests.chaos import marks

Hook = Callable[[Any], None]


def on_wire(operation: str, *, answered: bool) -> Hook:
    """
    Kill at a request to SageMaker.

    :param operation: such as ``StartPipelineExecution``.
    :param answered: once its answer is here, but before anybody could read it; otherwise before it is sent.
    """

    def arm(context: Any) -> None:
        from botocore.httpsession import URLLib3Session

        if not _is_first_try(context):
            return
        pipeline, send = _pipeline(context), URLLib3Session.send

        def deadly(session: URLLib3Session, request: Any) -> Any:
            if _text(request.headers.get("X-Amz-Target", "")) != f"SageMaker.{operation}":
                return send(session, request)
            if answered:
                send(session, request)
            body = json.loads(_text(request.body))
            _die(pipeline, operation=operation, token=body.get("ClientRequestToken"))

        URLLib3Session.send = deadly  # type: ignore[method-assign, assignment]

    return arm


def at_deferral() -> Hook:
    """Kill when the operator is about to defer."""

    def arm(context: Any) -> None:
        if not _is_first_try(context):
            return

        def deadly(operator: Any, **arguments: Any) -> NoReturn:
            _die(_pipeline(context), operation="defer")

        type(context["task"]).defer = deadly

    return arm


def tell_process() -> Hook:
    """Kill nothing, but tell each try's process and its parent, so that the suite can kill those."""

    def tell(context: Any) -> None:
        name = f"try-{context['ti'].try_number}"
        marks.leave(_pipeline(context), name, pid=os.getpid(), parent=os.getppid())

    return tell


def _is_first_try(context: Any) -> bool:
    return bool(context["ti"].try_number == 1)


def _pipeline(context: Any) -> str:
    return str(context["dag_run"].conf["pipeline"])


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _die(pipeline: str, **about: Any) -> NoReturn:
    marks.leave(pipeline, "killed", pid=os.getpid(), **about)
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("a killed process goes on")
