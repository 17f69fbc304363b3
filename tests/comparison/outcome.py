"""Runs a task as worker and triggerer do, and describes its outcome as text."""

from __future__ import annotations

import asyncio
import importlib
import json
import re
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowTaskTimeout, TaskDeferred

from tests.comparison.environment import INTERVAL, Clock, EndlessWaitError, KilledError
from tests.fakes.simulated_airflow import AIRFLOW
from tests.tasks import TaskInstance

MESSAGE_LENGTH = 240


@dataclass
class Outcome:
    """
    The outcome of a task.

    :param ending: how the task ended, as text.
    :param error: the exception that failed the task; None if it did not fail.
    :param deferred: whether the task was deferred.
    """

    ending: str = ""
    error: BaseException | None = None
    deferred: bool = False


def outcome_of(task: BaseOperator, clock: Clock) -> Outcome:
    """
    Run a task to its end as Airflow does; if it defers, in the trigger and then in a
    second worker process.
    """
    outcome, resumed_task = Outcome(), copy(task)
    AIRFLOW.clear()
    ti = TaskInstance(task.task_id)
    context = ti.context(task)
    resumed_task.__dict__.pop("hook", None)
    failure = "task fails"
    try:
        try:
            result = in_worker(task, ti, clock, lambda: task.execute(context))
        except TaskDeferred as deferral:
            outcome.deferred, failure = True, "trigger raises, so the task fails"
            timeout: timedelta | None = deferral.timeout
            clock.timeout_at = (
                clock.time() + timeout.total_seconds() if timeout else None
            )
            event = asyncio.run(in_triggerer(deferral, ti))
            failure, method = "task fails", deferral.method_name
            result = in_worker(
                resumed_task,
                ti,
                clock,
                lambda: getattr(resumed_task, method)(context, event),
            )
        outcome.ending = f"task succeeds, returns {brief(str(result))}"
    except KilledError:
        outcome.ending = "task killed"
    except EndlessWaitError:
        outcome.ending = f"still waiting after {clock.polls} polls, {INTERVAL} s apart"
    except (Exception, AirflowTaskTimeout) as error:
        outcome.error = error
        outcome.ending = f"{failure}: {type(error).__name__}: {brief(str(error))}"
    return outcome


def in_worker(
    task: BaseOperator, ti: TaskInstance, clock: Clock, method: Callable[[], Any]
) -> Any:
    """
    Run a method of a task with ``execution_timeout``; a timeout, and a kill by a user,
    call ``on_kill``.
    """
    timeout = task.execution_timeout
    clock.timeout_at = clock.time() + timeout.total_seconds() if timeout else None
    try:
        return method()
    except (AirflowTaskTimeout, KilledError) as error:
        if isinstance(error, KilledError):
            ti.state = lambda: "failed"
        task.on_kill()
        raise
    finally:
        clock.timeout_at = None


async def in_triggerer(deferral: TaskDeferred, ti: TaskInstance) -> Any:
    """
    Create the trigger from its serialized form, and return the payload of its event; a
    kill calls ``on_kill``.
    """
    class_path, kwargs = json.loads(json.dumps(deferral.trigger.serialize()))
    module, _, name = class_path.rpartition(".")
    trigger = getattr(importlib.import_module(module), name)(**kwargs)
    trigger.task_instance = ti
    try:
        return json.loads(json.dumps((await anext(trigger.run())).payload))
    except KilledError:
        ti.state = lambda: "failed"
        await trigger.on_kill()
        raise


def brief(text: str) -> str:
    """Return a message in a form that fits into a table cell."""
    text = re.sub(
        r"arn:aws:sagemaker:\S+/execution/\w+", "ARN", " ".join(text.split())
    ).replace("|", r"\|")
    return text if len(text) <= MESSAGE_LENGTH else f"{text[:MESSAGE_LENGTH]}…"
