"""
What becomes of a value on its way through Airflow: encoded as the installed version
does, and stored in PostgreSQL.

On Airflow 3, the process of a task sends msgpack to its supervisor, which sends JSON to
the API server; the way back is the same. PostgreSQL stores it as JSONB:
https://www.postgresql.org/docs/current/datatype-json.html
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from importlib import import_module
from types import SimpleNamespace
from typing import Any

from airflow.providers.common.compat.sdk import DAG, BaseOperator, XCom
from airflow.serialization.helpers import serialize_template_field

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES


def pulled(value: Any) -> Any:
    """
    Return what a task pulls of an XCom that another one has pushed.

    :raises Exception: as Airflow or PostgreSQL does if the value cannot be sent, stored
        or read.
    """
    if not CAPABILITIES.task_sdk:
        return XCom.deserialize_value(
            SimpleNamespace(value=XCom.serialize_value(value))
        )
    from airflow.sdk.execution_time.comms import SetXCom, XComResult

    message = SetXCom(
        key="k", value=XCom.serialize_value(value), dag_id="d", run_id="r", task_id="t"
    )
    stored = _in_postgresql(_sent(message.model_dump())["value"])
    response = XComResult(key="k", value=stored).model_dump()
    return XCom.deserialize_value(SimpleNamespace(value=_sent(response)["value"]))


def delivered(payload: Any) -> Any:
    """
    Return what a trigger gets of its arguments, or a resumed task of the payload of an
    event; see ``pulled``.
    """
    if not CAPABILITIES.task_sdk:
        objects: Any = import_module("airflow.serialization.serialized_objects")
        encoding = objects.BaseSerialization
        text = json.dumps(encoding.serialize(payload))
        return encoding.deserialize(json.loads(text))
    from airflow.sdk.serde import deserialize, serialize

    return deserialize(
        _sent({"value": _in_postgresql(serialize(_sent({"value": payload})["value"]))})[
            "value"
        ]
    )


def check_task(operator: BaseOperator) -> None:
    """
    Check that Airflow can show the rendered arguments of a task, which it does before
    it runs the task.
    """
    fields = {
        name: serialize_template_field(getattr(operator, name), name)
        for name in operator.template_fields
    }
    json.dumps(
        _sent(fields) if CAPABILITIES.task_sdk else fields, allow_nan=False
    ).encode()


def check_dag(dag: DAG) -> None:
    """
    Check that the process which parses a DAG file can send the DAG, and the database
    store it.
    """
    module: Any = import_module("airflow.serialization.serialized_objects")
    stored = getattr(module, "DagSerialization", module.SerializedDAG).to_dict(dag)
    json.dumps(
        _sent(stored) if CAPABILITIES.task_sdk else stored, allow_nan=False
    ).encode()


def _sent(body: dict[str, Any]) -> Any:
    """
    Return what the other end of the channel between a process and its supervisor reads.
    """
    import msgspec
    from airflow.sdk.execution_time.comms import _RequestFrame

    content = bytes(_RequestFrame(id=0, body=body).as_bytes()[4:])
    return msgspec.msgpack.decode(content, type=_RequestFrame).body


def _in_postgresql(value: Any) -> Any:
    """Return what is read of a value from a column of the type JSONB."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=False)
    text.encode()
    if any("\x00" in each for each in _texts_in(value)):
        raise ValueError(
            "unsupported Unicode escape sequence: \\u0000 cannot be converted to text"
        )
    # A number has no exponent there, so a large one comes back as an integer.
    return json.loads(
        text, parse_float=lambda number: json.loads(format(Decimal(number), "f"))
    )


def _texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for each in (
        (*value, *value.values())
        if isinstance(value, dict)
        else value
        if isinstance(value, list)
        else ()
    ):
        yield from _texts_in(each)
