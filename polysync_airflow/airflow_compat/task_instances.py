"""
Task instances: their state, XComs and asset events, how sensors wait, and Airflow's
Variables.

Airflow stores the values of Variables encrypted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from datetime import datetime
from importlib import import_module
from types import SimpleNamespace
from typing import Any, cast

from airflow.providers.common.compat.sdk import (
    Asset,
    AssetAlias,
    Context,
    Variable,
    XCom,
)

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.execution.json_input import UNREADABLE, is_larger
from polysync_airflow.states import DELETED


def read_state(ti: Any) -> str | None:
    """
    Return the state of a task instance; ``DELETED`` if it was deleted, for example with
    its DAG run.

    The state is that of the latest try, whichever try asks.

    :raises Exception: Airflow's API server or database does not respond, or refuses the
        request.
    """
    return read_states(ti, [ti.task_id]).get(ti.task_id, DELETED)


def read_states(ti: Any, task_ids: Sequence[str]) -> dict[str, str | None]:
    """
    Return the states of task instances of the same DAG run and map index, by task id.

    A task instance that does not exist is left out.

    :raises Exception: Airflow's API server or database does not respond, or refuses the
        request.
    """
    if not CAPABILITIES.task_sdk:
        rows = _rows_in_database(ti, task_ids)
        return {row.task_id: row.state for row in rows}
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    by_run: dict[str, dict[str, str | None]] = RuntimeTaskInstance.get_task_states(
        dag_id=ti.dag_id,
        task_ids=list(task_ids),
        run_ids=[ti.run_id],
        map_index=ti.map_index,
    )
    states = by_run.get(ti.run_id, {})
    suffix = ""
    if ti.map_index not in (None, -1):
        # The key of a mapped task instance ends with its map index.
        suffix = f"_{ti.map_index}"
    return {
        task_id: states[task_id + suffix]
        for task_id in task_ids
        if task_id + suffix in states
    }


def is_current(ti: Any) -> bool:
    """
    Return whether the try of this process is still the current one of its task
    instance. For a worker.

    On Airflow 3, each try has an id of its own, and a retry or a clear gives the task
    instance another one (``prepare_db_for_next_try`` in
    airflow/models/taskinstance.py).

    :raises Exception: Airflow's API server or database does not respond, or refuses the
        request.
    """
    if not CAPABILITIES.task_sdk:
        return newest_try_number(ti) == int(ti.try_number)
    from polysync_airflow.airflow_compat import requests

    return requests.is_current(ti)


def newest_try_number(ti: Any) -> int | None:
    """
    Return the number of the newest try of a task instance; None if it was deleted. For
    a worker of Airflow 2.

    :raises Exception: Airflow's database does not respond.
    """
    from airflow.models.taskinstance import TaskInstance
    from sqlalchemy import select

    from polysync_airflow.airflow_compat import reads

    query = select(TaskInstance.try_number).filter_by(**_key(ti))
    number: int | None = reads.value(query)
    return number


def _rows_in_database(ti: Any, task_ids: Sequence[str]) -> list[Any]:
    from airflow.models.taskinstance import TaskInstance
    from sqlalchemy import select

    from polysync_airflow.airflow_compat import reads

    key = {name: value for name, value in _key(ti).items() if name != "task_id"}
    query = select(TaskInstance.task_id, TaskInstance.state).filter_by(**key)
    return reads.rows(query.where(TaskInstance.task_id.in_(task_ids)))


def read_incarnation(context: Context) -> dict[str, Any]:
    """Return the values of ``Incarnation`` of a task instance. For a worker."""
    dag_run = context["dag_run"]
    ti: Any = context["ti"]
    region = None
    # From Airflow 3.4 on. Outside of loops and expansions, its id is 0.
    region_id = getattr(ti, "region_id", None)
    if region_id and region_id.int:
        region = f"{region_id}/{ti.region_index}"
    return {
        "dag_run_started_at": dag_run.start_date,
        "clear_number": dag_run.clear_number or 0,
        "region": region,
    }


def is_start_planned(context: Context) -> bool:
    """
    Return whether the start of the DAG run is not the moment in which it started, but
    its date.

    ``airflow dags test`` and ``airflow tasks test`` take the logical date, which
    another run may have as well. For a worker.
    """
    dag_run: Any = context["dag_run"]
    dates = (getattr(dag_run, name, None) for name in ("logical_date", "run_after"))
    return dag_run.start_date is None or dag_run.start_date in dates


def read_xcom(ti: Any, key: str) -> Any:
    """
    Return the value of an XCom of a task instance; None if there is none,
    ``UNREADABLE`` if it is too large or Airflow cannot decode it. For a triggerer.
    """
    if CAPABILITIES.task_sdk:
        return decoded(lambda: XCom.get_one(key=key, **_key(ti)))
    from polysync_airflow.airflow_compat import xcoms

    return xcoms.read_xcom(key, **_key(ti))


def decoded(read: Callable[[], Any]) -> Any:
    """
    Return the value of an XCom; ``UNREADABLE`` if it is too large, or nested so deeply
    that Airflow cannot decode it.

    Airflow's API server has no request for the size of an XCom, and no limit for it. So
    a large one reaches this process, but no further.

    :param read: asks Airflow for it.
    """
    try:
        value = read()
    except RecursionError:
        return UNREADABLE
    if is_larger(value):
        return UNREADABLE
    return value


def pull_own(context: Context, key: str) -> Any:
    """
    Return an XCom of this task instance; None if there is none, ``UNREADABLE`` if it is
    too large or Airflow cannot decode it.
    """
    ti: Any = context["ti"]
    return decoded(
        lambda: ti.xcom_pull(task_ids=ti.task_id, key=key, map_indexes=ti.map_index)
    )


def write_xcom(ti: Any, key: str, value: Any) -> None:
    """
    Store an XCom of a task instance. For a triggerer.

    :param value: its value, as JSON.
    """
    XCom.set(key=key, value=value, **_key(ti))


def delete_xcom(ti: Any, key: str) -> None:
    """
    Delete an XCom of a task instance, if there is one. For a triggerer.

    On Airflow 2, which has no such method, its value is None then.
    """
    if CAPABILITIES.task_sdk:
        XCom.delete(key=key, **_key(ti))
    else:
        write_xcom(ti, key, None)


def _key(ti: Any) -> dict[str, Any]:
    return {
        name: getattr(ti, name) for name in ("dag_id", "run_id", "task_id", "map_index")
    }


def without_dag(ti: Any) -> Any:
    """
    Return the key and the try of a task instance, and let Airflow's own forget the DAG.
    For a triggerer.

    Airflow makes a copy of the whole DAG for each task that starts in the triggerer,
    and keeps it until the task ends (``create_runtime_ti`` in
    airflow/jobs/triggerer_job_runner.py). For a group of 50 steps, each copy takes 0.2
    MiB.
    """
    bare = SimpleNamespace(
        **_key(ti),
        id=ti.id,
        try_number=ti.try_number,
        task=None,
        # Its templates are rendered, so its context may be empty.
        get_template_context=dict,
    )
    context = getattr(ti, "_cached_template_context", None)
    if context:
        context.clear()
        ti.task = None
    return bare


def outlet_event_extras(context: Context, outlet: Any) -> Iterator[dict[str, Any]]:
    """
    Yield the dicts that become the ``extra`` of an outlet's events.

    An asset has one event. An alias has one event for each asset that a hook of the
    task has added. The dict of the alias itself comes first: no event stores it, but a
    later hook may pass it on. Airflow also allows outlets of other types, which have no
    events.
    https://airflow.apache.org/docs/apache-airflow/stable/authoring-and-scheduling/asset-scheduling.html
    """
    types: tuple[type, ...] = (Asset, AssetAlias)
    if CAPABILITIES.task_sdk:
        from airflow.sdk.definitions.asset import AssetRef

        types = (*types, AssetRef)
    if not isinstance(outlet, types):
        return
    accessors: Any = context["outlet_events"]
    accessor = accessors[outlet]
    yield accessor.extra
    if CAPABILITIES.task_sdk:
        for event in accessor.asset_alias_events:
            yield event.extra
    else:
        # Airflow 2 calls assets datasets, and an event of an alias is a dict there.
        for event in accessor.dataset_alias_events:
            yield event["extra"]


def get_variable(key: str) -> str | None:
    """
    Return the value of a Variable as text; None if there is none. For a worker, a
    triggerer or a callback.

    :raises Exception: Airflow does not respond.
    """
    if not CAPABILITIES.task_sdk:
        get: Any = Variable.get
        return cast("str | None", get(key, default_var=None))
    from polysync_airflow.airflow_compat import requests

    return requests.variable(key)


def poke_until_done(sensor: Any, context: Context) -> Any:
    """
    Let a sensor wait as its ``mode`` says, with its method ``poke``; return the value
    of the last poke.

    All errors are raised as they are: after which ones Airflow skips a task differs
    between the modes.
    """
    from airflow.providers.common.compat.sdk import BaseSensorOperator

    strict = copy(sensor)
    strict.soft_fail = strict.never_fail = strict.silent_fail = False
    strict.poke = sensor.poke
    execute: Any = BaseSensorOperator.execute
    # Without Airflow's decorator: Airflow 2 warns of a subclass that calls it.
    return getattr(execute, "__wrapped__", execute)(strict, context)


def first_session(context: Context) -> datetime | None:
    """
    Return when the first session of a rescheduled try began; None in the first one. For
    a worker.
    """
    ti: Any = context["ti"]
    if CAPABILITIES.task_sdk:
        return cast("datetime | None", ti.get_first_reschedule_date(context))
    # Airflow 2 has no method for it. Its sensors call this function.
    first: Any = import_module("airflow.sensors.base")._orig_start_date
    return cast(
        "datetime | None",
        first(ti.dag_id, ti.task_id, ti.run_id, ti.map_index, ti.try_number),
    )
