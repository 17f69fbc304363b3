"""What a worker asks Airflow about its try, and about the Variable of its record."""

from __future__ import annotations

import uuid
from types import SimpleNamespace
from typing import Any

import pytest

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.airflow_compat.task_instances import (
    get_variable,
    is_current,
    read_xcom,
)
from polysync_airflow.execution.json_input import MAX_BYTES, UNREADABLE

pytestmark = pytest.mark.skipif(
    not CAPABILITIES.task_sdk, reason="this Airflow has no API server for tasks"
)


def answer(monkeypatch: pytest.MonkeyPatch, response: Any) -> list[Any]:
    """
    Let Airflow's supervisor answer with a response or an error; return what it is
    asked.
    """
    from airflow.sdk.execution_time import task_runner

    asked: list[Any] = []

    def send(message: Any) -> Any:
        asked.append(message)
        if isinstance(response, Exception):
            raise response
        return response

    monkeypatch.setattr(
        task_runner, "SUPERVISOR_COMMS", SimpleNamespace(send=send), raising=False
    )
    return asked


def refusal(status_code: int | None) -> Exception:
    """
    Return the error of a request that the API server has refused, or that has not
    reached it.
    """
    from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
    from airflow.sdk.execution_time.comms import ErrorResponse

    detail = {"status_code": status_code, "message": "no"}
    return AirflowRuntimeError(
        ErrorResponse(error=ErrorType.API_SERVER_ERROR, detail=detail)
    )


@pytest.mark.parametrize("status_code", [404, 410])
def test_try_whose_id_is_gone_is_not_current(
    status_code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The API server does not know the id, or has it in the history of the task instance.
    """
    ti = SimpleNamespace(id=uuid.uuid4())
    asked = answer(monkeypatch, refusal(status_code))

    assert is_current(ti) is False
    assert [message.ti_id for message in asked] == [ti.id]


@pytest.mark.parametrize("status_code", [403, 500, None])
def test_other_refusals_say_nothing_about_the_try(
    status_code: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An expired token, or an API server that does not respond."""
    error = refusal(status_code)
    answer(monkeypatch, error)

    with pytest.raises(type(error)):
        is_current(SimpleNamespace(id=uuid.uuid4()))


def test_variable_that_cannot_be_read_is_not_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    A try that took it for missing would look for its execution in AWS, and lose what
    the record says.
    """
    from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
    from airflow.sdk.execution_time.comms import ErrorResponse

    answer(monkeypatch, ErrorResponse(error=ErrorType.VARIABLE_NOT_FOUND))
    assert get_variable("key") is None

    answer(monkeypatch, ErrorResponse(error=ErrorType.API_SERVER_ERROR))
    with pytest.raises(AirflowRuntimeError):
        get_variable("key")


@pytest.mark.parametrize(
    ("size", "found"), [(MAX_BYTES, "x" * MAX_BYTES), (MAX_BYTES + 1, UNREADABLE)]
)
def test_large_xcom_is_unreadable(
    size: int, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow has sent it whole; nothing looks into it."""
    from airflow.sdk.execution_time.comms import XComResult

    answer(monkeypatch, XComResult(key="run", value="x" * size))
    ti = SimpleNamespace(dag_id="d", run_id="r", task_id="t", map_index=-1)

    assert read_xcom(ti, "run") == found
