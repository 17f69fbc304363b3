"""
The part of Airflow that a worker or a triggerer asks: the states of tasks, XComs and
Variables.

On Airflow 3, it is behind the channel to the supervisor; on Airflow 2, it is the
database.
"""

from __future__ import annotations

import importlib
import json
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, Final

import pytest

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES

# What the Variable that identifies the deployment of these tests has.
DEPLOYMENT: Final = "tests"
MISSING: Any = object()


class AirflowService(ABC):
    """What answers the requests. Each method may raise an error in place of Airflow."""

    @abstractmethod
    def task_state(self, dag_id: str, run_id: str, task_id: str, map_index: int) -> Any:
        """
        Return the state of a task instance; MISSING if there is no such task instance.
        """

    @abstractmethod
    def xcom(
        self, dag_id: str, run_id: str, task_id: str, map_index: int, key: str
    ) -> Any:
        """Return the value of an XCom."""

    def is_current(self, ti_id: uuid.UUID) -> bool:
        """
        Return whether a task instance has this id: each try has another one. On Airflow
        3.
        """
        return True

    def try_number(self, dag_id: str, run_id: str, task_id: str, map_index: int) -> Any:
        """
        Return the number of the newest try; MISSING if there is no such task instance.
        On Airflow 2.
        """
        return 1

    @abstractmethod
    def put_xcom(
        self,
        dag_id: str,
        run_id: str,
        task_id: str,
        map_index: int,
        key: str,
        value: Any,
    ) -> None:
        """Store an XCom."""

    @abstractmethod
    def remove_xcom(
        self, dag_id: str, run_id: str, task_id: str, map_index: int, key: str
    ) -> None:
        """Delete an XCom."""

    @abstractmethod
    def variable(self, key: str) -> str | None:
        """Return the value of a Variable; None if there is none."""

    def variable_keys(self) -> list[str]:
        """Return the keys of all Variables, also of those that Airflow hides."""
        return []

    @abstractmethod
    def put_variable(self, key: str, value: str, description: str) -> None:
        """Store a Variable."""

    @abstractmethod
    def delete_variable(self, key: str) -> None:
        """Delete a Variable."""


def install(monkeypatch: pytest.MonkeyPatch, service: AirflowService) -> None:
    """
    Let Airflow's client code ask a service.

    :param monkeypatch: removes it again.
    :param service: the service.
    """
    if CAPABILITIES.task_sdk:
        from airflow.sdk.execution_time import task_runner

        monkeypatch.setattr(
            task_runner, "SUPERVISOR_COMMS", Channel(service), raising=False
        )
    else:
        _install_in_airflow_2(monkeypatch, service)


@contextmanager
def forgotten_secrets() -> Iterator[None]:
    """
    Forget afterwards the secrets that Airflow hides: with each new one, it compiles a
    pattern of all.
    """
    module = (
        "airflow.sdk._shared.secrets_masker"
        if CAPABILITIES.task_sdk
        else "airflow.utils.log.secrets_masker"
    )
    masker = importlib.import_module(module)._secrets_masker()
    patterns, replacer = set(masker.patterns), masker.replacer
    yield
    masker.patterns, masker.replacer = patterns, replacer


class Channel:
    """
    The channel to the supervisor. Its answers are those of the routes in
    airflow/api_fastapi/execution_api.
    """

    def __init__(self, service: AirflowService) -> None:
        self._service = service

    def send(self, msg: Any) -> Any:
        """Return the response to a request."""
        answer = getattr(self, f"_answer_{type(msg).__name__}", None)
        assert answer, msg
        return answer(msg)

    def _answer_GetTaskStates(self, msg: Any) -> Any:  # the name of the message
        from airflow.sdk.execution_time.comms import TaskStatesResult

        (run_id,) = msg.run_ids
        map_index = -1 if msg.map_index is None else msg.map_index
        found = {
            each: self._service.task_state(msg.dag_id, run_id, each, map_index)
            for each in msg.task_ids
        }
        suffix = "" if map_index < 0 else f"_{map_index}"
        states = {
            f"{each}{suffix}": state
            for each, state in found.items()
            if state is not MISSING
        }
        return TaskStatesResult(task_states={run_id: states} if states else {})

    def _answer_GetXCom(self, msg: Any) -> Any:
        from airflow.sdk.execution_time.comms import XComResult

        value = self._service.xcom(
            msg.dag_id, msg.run_id, msg.task_id, msg.map_index, msg.key
        )
        return XComResult(key=msg.key, value=value)

    def _answer_GetXComSequenceSlice(self, msg: Any) -> Any:
        from airflow.sdk.execution_time.comms import XComSequenceSliceResult

        value = self._service.xcom(msg.dag_id, msg.run_id, msg.task_id, -1, msg.key)
        return XComSequenceSliceResult(root=[] if value is None else [value])

    def _answer_ValidateInletsAndOutlets(self, msg: Any) -> Any:
        from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
        from airflow.sdk.execution_time.comms import ErrorResponse, InactiveAssetsResult

        if self._service.is_current(msg.ti_id):
            return InactiveAssetsResult(inactive_assets=[])
        detail = {"status_code": 404, "message": "Task Instance not found"}
        raise AirflowRuntimeError(
            ErrorResponse(error=ErrorType.API_SERVER_ERROR, detail=detail)
        )

    def _answer_SetXCom(self, msg: Any) -> Any:
        from airflow.sdk.execution_time.comms import OKResponse

        self._service.put_xcom(
            msg.dag_id, msg.run_id, msg.task_id, msg.map_index, msg.key, msg.value
        )
        return OKResponse(ok=True)

    def _answer_DeleteXCom(self, msg: Any) -> Any:
        from airflow.sdk.execution_time.comms import OKResponse

        self._service.remove_xcom(
            msg.dag_id, msg.run_id, msg.task_id, msg.map_index, msg.key
        )
        return OKResponse(ok=True)

    def _answer_GetConnection(self, msg: Any) -> Any:
        # The connections of the tests are environment variables.
        from airflow.sdk.exceptions import ErrorType
        from airflow.sdk.execution_time.comms import ErrorResponse

        return ErrorResponse(
            error=ErrorType.CONNECTION_NOT_FOUND, detail={"conn_id": msg.conn_id}
        )

    def _answer_GetVariable(self, msg: Any) -> Any:
        from airflow.sdk.exceptions import ErrorType
        from airflow.sdk.execution_time.comms import ErrorResponse, VariableResult

        value = self._service.variable(msg.key)
        if value is None:
            return ErrorResponse(
                error=ErrorType.VARIABLE_NOT_FOUND, detail={"key": msg.key}
            )
        return VariableResult(key=msg.key, value=value)

    def _answer_GetVariableKeys(self, msg: Any) -> Any:
        from airflow.sdk.execution_time.comms import VariableKeysResult

        found = [
            key for key in self._service.variable_keys() if key.startswith(msg.prefix)
        ]
        return VariableKeysResult(keys=found[: msg.limit], total_entries=len(found))

    def _answer_PutVariable(self, msg: Any) -> Any:
        from airflow.sdk.execution_time.comms import OKResponse

        self._service.put_variable(msg.key, msg.value, msg.description)
        return OKResponse(ok=True)

    def _answer_DeleteVariable(self, msg: Any) -> Any:
        from airflow.sdk.execution_time.comms import OKResponse

        self._service.delete_variable(msg.key)
        return OKResponse(ok=True)

    def _answer_MaskSecret(self, msg: Any) -> None:
        """Nothing is returned for this message."""


class _Rows:
    """The rows of the database that the provider's process of a task reads."""

    def __init__(self, service: AirflowService) -> None:
        self._service = service

    def __call__(self, query: Any, session: Any = None) -> list[Any]:
        """Answer a query for states, for the number of a try, or for an XCom."""
        asked = {
            name.removesuffix("_1"): value
            for name, value in query.compile().params.items()
        }
        names = ["dag_id", "run_id", "task_id", "map_index"]
        key = {name: asked[name] for name in names}
        columns = [column.name for column in query.selected_columns]
        if columns == ["try_number"]:
            number = self._service.try_number(**key)
            return [] if number is MISSING else [(number,)]
        if columns == ["task_id", "state"]:
            return list(self._states(key))
        value = self._service.xcom(**key, key=asked["key"])
        return [SimpleNamespace(stored=1, short=json.dumps(value).encode())]

    def _states(self, key: dict[str, Any]) -> Iterator[Any]:
        for task_id in key["task_id"]:
            state = self._service.task_state(**{**key, "task_id": task_id})
            if state is not MISSING:
                yield SimpleNamespace(task_id=task_id, state=state)


def _install_in_airflow_2(
    monkeypatch: pytest.MonkeyPatch, service: AirflowService
) -> None:
    from airflow.models.variable import Variable
    from airflow.models.xcom import XCom
    from airflow.secrets.metastore import MetastoreBackend

    from polysync_airflow.airflow_compat import reads

    def set_xcom(
        key: str, value: Any, *, dag_id: str, run_id: str, task_id: str, map_index: int
    ) -> None:
        service.put_xcom(dag_id, run_id, task_id, map_index, key, value)

    def set_variable(key: str, value: str, description: str | None = None) -> None:
        service.put_variable(key, value, description or "")

    # The connections of the tests are environment variables; the database has none.
    monkeypatch.setattr(MetastoreBackend, "_fetch_connection", lambda *_, **__: None)
    monkeypatch.setattr(reads, "rows", _Rows(service))
    monkeypatch.setattr(XCom, "set", set_xcom)
    monkeypatch.setattr(
        Variable,
        "get",
        lambda key, default_var: _or(service.variable(key), default_var),
    )
    monkeypatch.setattr(Variable, "set", set_variable)
    monkeypatch.setattr(Variable, "delete", service.delete_variable)


def _or(value: str | None, default: Any) -> Any:
    return default if value is None else value
