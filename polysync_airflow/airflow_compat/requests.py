"""
What this process asks Airflow's API server through its supervisor, from Airflow 3 on.
"""

from __future__ import annotations

from typing import Any, cast

from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
from airflow.sdk.execution_time import comms, task_runner
from airflow.sdk.execution_time.secrets import ExecutionAPISecretsBackend


def is_current(ti: Any) -> bool:
    """
    Return whether a task instance still has its id: each try has one of its own.

    Of the requests that name the id, this one changes nothing:
    ``validate_inlets_and_outlets`` in
    airflow/api_fastapi/execution_api/routes/task_instances.py.

    :raises Exception: Airflow's API server does not respond, or refuses the request.
    """
    try:
        _send(comms.ValidateInletsAndOutlets(ti_id=ti.id))
    except AirflowRuntimeError as error:
        # 410 if an earlier try had the id.
        if (error.error.detail or {}).get("status_code") in (404, 410):
            return False
        raise
    return True


def variable(key: str) -> str | None:
    """
    Return the value of a Variable as text; None if there is none.

    ``Variable.get`` says that there is none also if Airflow does not respond.

    :raises Exception: Airflow does not respond.
    """
    response = _send(comms.GetVariable(key=key))
    if not isinstance(response, comms.ErrorResponse):
        return cast("str | None", response.value)
    if response.error is ErrorType.VARIABLE_NOT_FOUND:
        return None
    raise AirflowRuntimeError(response)


def has_variable_key(key: str) -> bool:
    """
    Return whether Airflow knows the key of a Variable, which it may hide.

    :raises Exception: Airflow does not respond.
    """
    response = _send(comms.GetVariableKeys(prefix=key, limit=1))
    return key in getattr(response, "keys", ())


def may_have_connection(backend: Any, connection_id: str) -> bool:
    """
    Return whether a secrets backend has a connection, or has not said that it has none.

    :raises Exception: it does not respond.
    """
    if not isinstance(backend, ExecutionAPISecretsBackend):
        return backend.get_connection(conn_id=connection_id) is not None
    # This backend returns None for all errors, so its request is made here. ``send``
    # raises the API server's errors, except "not found".
    response = _send(comms.GetConnection(conn_id=connection_id))
    return not (
        isinstance(response, comms.ErrorResponse)
        and response.error is ErrorType.CONNECTION_NOT_FOUND
    )


def _send(request: Any) -> Any:
    return task_runner.SUPERVISOR_COMMS.send(request)
