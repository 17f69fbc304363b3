"""Airflow's base class of sensors, and how it waits."""

from __future__ import annotations

from copy import copy
from datetime import datetime
from importlib import import_module
from typing import Any, cast

from airflow.providers.common.compat.sdk import BaseSensorOperator, Context, PokeReturnValue

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES

__all__ = ["BaseSensorOperator", "PokeReturnValue", "first_session", "poke_until_done"]


def poke_until_done(sensor: BaseSensorOperator, context: Context) -> Any:
    """
    Let a sensor wait as its ``mode`` says, with its method ``poke``; return the value of the last poke.

    All errors are raised as they are: after which ones Airflow skips a task differs between the modes.
    """
    strict: Any = copy(sensor)
    strict.soft_fail = strict.never_fail = strict.silent_fail = False
    strict.poke = sensor.poke
    execute = BaseSensorOperator.execute
    # Without Airflow's decorator: Airflow 2 warns of a subclass that calls it.
    return getattr(execute, "__wrapped__", execute)(strict, context)


def first_session(context: Context) -> datetime | None:
    """Return when the first session of a rescheduled try began; None in the first one. For a worker."""
    ti: Any = context["ti"]
    if CAPABILITIES.task_sdk:
        return cast("datetime | None", ti.get_first_reschedule_date(context))
    # Airflow 2 has no method for it. Its sensors call this function.
    first: Any = import_module("airflow.sensors.base")._orig_start_date
    return cast("datetime | None", first(ti.dag_id, ti.task_id, ti.run_id, ti.map_index, ti.try_number))
