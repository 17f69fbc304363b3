"""Owns the outcome of a task: how a worker and a triggerer run it, and how it ended, in words."""

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

from tests.comparison.world import INTERVAL, Clock, KilledError, StillWaitingError
from tests.tasks import TaskInstance

MESSAGE_LENGTH = 240


@dataclass
class Outcome:
    """What came of a task."""

    ending: str = ""
    error: BaseException | None = None
    deferred: bool = False


def outcome_of(task: BaseOperator, clock: Clock) -> Outcome:
    """Run a task to its end as Airflow does, through trigger and second worker session if it defers."""
    outcome, elsewhere = Outcome(), copy(task)
    ti = TaskInstance(task.task_id)
    context: Any = {"ti": ti, "task": task, "task_state_store": ti.store}
    elsewhere.__dict__.pop("hook", None)
    where = "task fails"
    try:
        try:
            result = in_worker(task, clock, lambda: task.execute(context))
        except TaskDeferred as deferral:
            outcome.deferred, where = True, "trigger raises, so the task fails"
            limit: timedelta | None = deferral.timeout
            clock.alarm = clock.time() + limit.total_seconds() if limit else None
            event = asyncio.run(in_triggerer(deferral))
            where, method = "task fails", deferral.method_name
            result = in_worker(elsewhere, clock, lambda: getattr(elsewhere, method)(context, event))
        outcome.ending = f"task succeeds, returns {brief(str(result))}"
    except KilledError:
        outcome.ending = "task killed"
    except StillWaitingError:
        outcome.ending = f"still waiting after {clock.looks} looks, {INTERVAL} s apart"
    except (Exception, AirflowTaskTimeout) as error:
        outcome.error = error
        outcome.ending = f"{where}: {type(error).__name__}: {brief(str(error))}"
    return outcome


def in_worker(task: BaseOperator, clock: Clock, session: Callable[[], Any]) -> Any:
    """Run one worker session under ``execution_timeout``; a timeout and a kill call ``on_kill``."""
    limit = task.execution_timeout
    clock.alarm = clock.time() + limit.total_seconds() if limit else None
    try:
        return session()
    except (AirflowTaskTimeout, KilledError):
        task.on_kill()
        raise
    finally:
        clock.alarm = None


async def in_triggerer(deferral: TaskDeferred) -> Any:
    """Rebuild the trigger from what Airflow stores and return its event; a kill calls its ``on_kill``."""
    class_path, kwargs = json.loads(json.dumps(deferral.trigger.serialize()))
    module, _, name = class_path.rpartition(".")
    trigger = getattr(importlib.import_module(module), name)(**kwargs)
    try:
        return json.loads(json.dumps((await anext(trigger.run())).payload))
    except KilledError:
        await trigger.on_kill()
        raise


def brief(text: str) -> str:
    """Return a message as it fits into a cell."""
    text = re.sub(r"arn:aws:sagemaker:\S+/execution/\w+", "ARN", " ".join(text.split())).replace("|", r"\|")
    return text if len(text) <= MESSAGE_LENGTH else f"{text[:MESSAGE_LENGTH]}…"
