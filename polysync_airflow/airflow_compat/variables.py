"""Reads and writes Airflow's Variables in a worker. Airflow stores their values encrypted."""

from __future__ import annotations

from typing import Any

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES


def get_variable(key: str) -> str | None:
    """
    Return the value of a Variable as text; None if there is none.

    :raises Exception: Airflow does not respond.
    """
    from airflow.providers.common.compat.sdk import Variable

    default: Any = {"default" if CAPABILITIES.task_sdk else "default_var": None}
    value: str | None = Variable.get(key, **default)
    return value


def set_variable(key: str, value: str, description: str) -> None:
    """
    Store a Variable.

    :param key: the key, at most 250 characters.
    :param description: what users of the UI see beside it.
    :raises Exception: Airflow does not respond.
    """
    from airflow.providers.common.compat.sdk import Variable

    Variable.set(key, value, description=description)


def delete_variable(key: str) -> None:
    """
    Delete a Variable, if there is one.

    :raises Exception: Airflow does not respond.
    """
    from airflow.providers.common.compat.sdk import Variable

    Variable.delete(key)
