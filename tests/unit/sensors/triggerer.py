"""
Runs a task that starts in the triggerer, by Airflow's own code: how it stores the DAG,
renders and runs triggers.

For Airflow 3.3: the models of the triggerer differ between the versions.
"""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from copy import copy
from datetime import UTC, datetime
from importlib import import_module
from typing import Any
from unittest.mock import patch

import pytest
from airflow.providers.common.compat.sdk import (
    DAG,
    AirflowFailException,
    AirflowSkipException,
    BaseOperator,
)
from airflow.triggers.base import (
    TaskFailedEvent,
    TaskSkippedEvent,
    TaskSuccessEvent,
    TriggerEvent,
)

from polysync_airflow.triggers.task_end import TaskEnd
from tests.fakes.simulated_airflow import AIRFLOW
from tests.tasks import Run, TaskInstance


class Started:
    """
    A task that has started in the triggerer.

    ``trigger`` is its trigger, and ``task`` what the triggerer knows of the task.
    """

    def __init__(
        self, operator: BaseOperator, ti: TaskInstance, *, dag: DAG | None = None
    ) -> None:
        from airflow.jobs.triggerer_job_runner import TriggerRunner
        from airflow.models.trigger import Trigger
        from airflow.serialization.decoders import smart_decode_trigger_kwargs
        from airflow.serialization.serialized_objects import DagSerialization

        if dag is None:
            operator = copy(operator)
            operator.__dict__.pop("_dag", None)
            dag = DAG(ti.dag_id, schedule=None)
            operator.dag = dag
        stored = json.loads(json.dumps(DagSerialization.to_dict(dag)))
        runtime_ti = TriggerRunner.create_runtime_ti(
            sent_ti(ti), stored, sent_dag_run(ti)
        )
        self.ti = ti
        self.task = runtime_ti.task
        arguments: Any = self.task.start_trigger_args
        kwargs = Trigger._decrypt_kwargs(
            Trigger.encrypt_kwargs(arguments.trigger_kwargs)
        )
        module, _, name = arguments.trigger_cls.rpartition(".")
        decode: Any = smart_decode_trigger_kwargs
        decoded = {key: decode(value) for key, value in kwargs.items()}
        self.trigger: Any = getattr(import_module(module), name)(**decoded)
        context = runtime_ti.get_template_context()
        self.trigger.task_instance = runtime_ti
        self.trigger.render_template_fields(context)
        self._next_method = arguments.next_method

    def run(self, operator: Any) -> Run:
        """
        Run the trigger to its only event, and the worker that Airflow starts after an
        event without a state.
        """
        run = Run(self.ti)
        errors = list[BaseException]()
        failed = TaskEnd._failed
        log = _Log(self.trigger.log)

        def record(end: TaskEnd, error: Exception, context: Any) -> TriggerEvent:
            errors.append(error)
            return failed(end, error, context)

        own_log = patch.object(type(self.trigger), "log", log)
        with (
            patch.object(TaskEnd, "_failed", record),
            AIRFLOW.process(self.ti),
            own_log,
        ):
            event = asyncio.run(_only_event(self.trigger))
        if type(event) is TaskSuccessEvent:
            run.result = self.ti.xcoms["return_value"]
        elif type(event) is TaskSkippedEvent:
            run.error = AirflowSkipException(log.after("Task is skipped: "))
        else:
            (run.error,) = errors
            name = type(run.error).__name__
            assert log.after(f"Task failed with {name}: ") == str(run.error)
            if type(event) is not TaskFailedEvent:
                with pytest.raises(
                    AirflowFailException, match=re.escape(f"{name}: {run.error}")
                ):
                    getattr(operator, self._next_method)({}, event.payload)
        run.event = event
        return run


class _Log:
    """The log of a trigger, which keeps the texts of its lines."""

    def __init__(self, log: Any) -> None:
        self._log = log
        self._texts: list[str] = []

    def __getattr__(self, level: str) -> Any:
        def write(text: str, *arguments: Any, **more: Any) -> None:
            self._texts.append(text % arguments)
            getattr(self._log, level)(text, *arguments, **more)

        return write

    def after(self, begin: str) -> str:
        """Return what follows the begin of the only line that has it."""
        (text,) = [text for text in self._texts if text.startswith(begin)]
        return text.removeprefix(begin)


async def _only_event(trigger: Any) -> Any:
    (event,) = [event async for event in trigger.run()]
    return event


def sent_ti(ti: TaskInstance) -> Any:
    """Return what Airflow sends to the triggerer of a task instance."""
    from airflow.executors.workloads.task import TaskInstanceDTO

    return TaskInstanceDTO.model_construct(
        id=ti.id,
        dag_id=ti.dag_id,
        task_id=ti.task_id,
        run_id=ti.run_id,
        map_index=ti.map_index,
        try_number=ti.try_number,
        dag_version_id=uuid.uuid4(),
        pool_slots=1,
        priority_weight=1,
    )


def sent_dag_run(ti: TaskInstance) -> dict[str, Any]:
    """Return what Airflow sends to the triggerer of the DAG run of a task instance."""
    start, end = ti.interval or (None, None)
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return {
        "dag_id": ti.dag_id,
        "run_id": ti.run_id,
        "logical_date": start,
        "data_interval_start": start,
        "data_interval_end": end,
        "run_after": now,
        "start_date": ti.dag_run.start_date or now,
        "end_date": None,
        "clear_number": 0,
        "run_type": "manual",
        "state": "running",
        "conf": {},
        "consumed_asset_events": [],
        "partition_key": None,
        "partition_date": None,
    }


def run_from_trigger(operator: BaseOperator, ti: TaskInstance) -> Run:
    """Run a task from its start to its end in the triggerer."""
    return Started(operator, ti).run(operator)
