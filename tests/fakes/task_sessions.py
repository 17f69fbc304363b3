"""
Runs a deferred task with Airflow's own task runner, and counts what its sessions and
its trigger ask Airflow.

For Airflow 3.3: the models of the task runner differ between the versions.
"""

from __future__ import annotations

import asyncio
import importlib
import uuid
from collections import Counter
from datetime import UTC, datetime
from typing import Any, Final

import pytest
import structlog
from airflow.sdk import DAG, BaseOperator
from airflow.sdk.api.datamodels._generated import (
    DagRun,
    DagRunState,
    DagRunType,
    TIRunContext,
)
from airflow.sdk.exceptions import ErrorType
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import ErrorResponse

from polysync_airflow.deployment import DEPLOYMENT_KEY
from tests.fakes.airflow_encoding import delivered, pulled
from tests.fakes.airflow_service import DEPLOYMENT, AirflowService, Channel

# What each deferred task costs, whichever operator it has.
_OF_AIRFLOW: Final = {
    "DeferTask",
    "SucceedTask",
    "TaskState",
    "SetRenderedFields",
    "SetRenderedMapIndex",
}
_NOT_COUNTED: Final = {*_OF_AIRFLOW, "GetConnection", "MaskSecret"}
_NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)


class TaskSessions(AirflowService):
    """
    The sessions of one task instance, from its start to its end.

    ``requests`` lists the type and the key of each request for the data of the
    provider, and ``masked`` the secrets that are registered.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.requests: list[tuple[str, str | None]] = []
        self.masked: list[Any] = []
        self.xcoms: dict[str, Any] = {}
        self._variables: dict[str, str] = {DEPLOYMENT_KEY: DEPLOYMENT}
        monkeypatch.setattr(
            task_runner, "SUPERVISOR_COMMS", _CountedChannel(self), raising=False
        )

    def run(self, operator: BaseOperator, event: Any = None) -> None:
        """
        Run a task to its end.

        :param event: the event of its trigger; None to run the trigger.
        """
        operator.dag = DAG("retraining", schedule=None)
        deferral = self._session(operator)
        event = event or asyncio.run(self._fire(deferral))
        next_kwargs = {**deferral.next_kwargs, "event": event}
        self._session(
            operator, next_method=deferral.next_method, next_kwargs=next_kwargs
        )

    @property
    def counts(self) -> Counter[str]:
        """How many requests of each type there were."""
        return Counter(name for name, _ in self.requests)

    def _session(self, operator: BaseOperator, **resumed: Any) -> Any:
        dag_run = DagRun(
            dag_id="retraining",
            run_id="manual",
            logical_date=None,
            data_interval_start=None,
            data_interval_end=None,
            run_after=_NOW,
            start_date=datetime.now(UTC),
            end_date=None,
            run_type=DagRunType.MANUAL,
            state=DagRunState.RUNNING,
            consumed_asset_events=[],
            partition_key=None,
        )
        construct: Any = task_runner.RuntimeTaskInstance.model_construct
        self._ti = ti = construct(
            id=uuid.uuid4(),
            dag_id="retraining",
            task_id=operator.task_id,
            run_id="manual",
            map_index=-1,
            try_number=1,
            max_tries=0,
            start_date=_NOW,
            task=operator,
            _ti_context_from_server=TIRunContext(
                dag_run=dag_run, max_tries=0, **resumed
            ),
        )
        context, log = ti.get_template_context(), structlog.get_logger("task")
        state, message, error = task_runner.run(ti, context, log)
        task_runner.finalize(ti, state, context, log, error)
        if error:
            raise error
        return message

    async def _fire(self, deferral: Any) -> Any:
        module, _, name = deferral.classpath.rpartition(".")
        trigger = getattr(importlib.import_module(module), name)(
            **delivered(deferral.trigger_kwargs)
        )
        trigger.task_instance = self._ti
        (event,) = [event async for event in trigger.run()]
        return delivered(event.payload)

    # ---- the answers

    def task_state(self, *_: Any) -> str:
        """Return that the task runs."""
        return "running"

    def xcom(self, *task: Any) -> Any:
        """Return the value of an XCom."""
        return self.xcoms.get(task[-1])

    def put_xcom(self, *task: Any) -> None:
        """Store an XCom."""
        *_, key, value = task
        self.xcoms[key] = pulled(value)

    def remove_xcom(
        self, dag_id: str, run_id: str, task_id: str, map_index: int, key: str
    ) -> None:
        """Delete an XCom."""
        self.xcoms.pop(key, None)

    def variable(self, key: str) -> str | None:
        """Return the value of a Variable; None if there is none."""
        return self._variables.get(key)

    def put_variable(self, key: str, value: str, description: str) -> None:
        """Store a Variable."""
        self._variables[key] = value

    def delete_variable(self, key: str) -> None:
        """Delete a Variable."""
        del self._variables[key]


class _CountedChannel(Channel):
    _service: TaskSessions

    def _answer_GetTaskStateStore(self, msg: Any) -> Any:  # the name of the message
        return ErrorResponse(error=ErrorType.TASK_STORE_NOT_FOUND)

    def send(self, msg: Any) -> Any:
        name = type(msg).__name__
        if name == "MaskSecret":
            self._service.masked.append(msg.value)
        if name not in _NOT_COUNTED:
            self._service.requests.append((name, getattr(msg, "key", None)))
        return None if name in _OF_AIRFLOW else super().send(msg)
