"""
Connections: tells one that does not exist from one for which Airflow could not look.

It also has the connection form of Airflow 2, made from what later versions read from the provider
information.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES


def is_missing(connection_id: str) -> bool:
    """
    Return whether every place where Airflow looks for connections responds that it has no such connection.

    Airflow raises ``AirflowNotFoundException`` also if a place does not respond (``_get_connection`` in
    airflow/sdk/execution_time/context.py, ``get_connection_from_secrets`` in airflow/models/connection.py of
    Airflow 2). So this function asks each place again, and an error means that it may have the connection.

    The answer is not certain: behind the API server, Airflow handles errors of the database in the same way.
    """
    try:
        return not any(_may_have(backend, connection_id) for backend in _secrets_backends())
    except Exception:
        return False


def _secrets_backends() -> list[Any]:
    # Imported here, since operators import the triggers, and Airflow's supervisor is large. A triggerer has
    # imported it anyway.
    if CAPABILITIES.task_sdk:
        from airflow.sdk.execution_time.supervisor import ensure_secrets_backend_loaded

        return list(ensure_secrets_backend_loaded())
    from airflow.configuration import ensure_secrets_loaded

    return list(ensure_secrets_loaded())


def _may_have(backend: Any, connection_id: str) -> bool:
    if not CAPABILITIES.task_sdk:
        return backend.get_connection(conn_id=connection_id) is not None
    from airflow.sdk.exceptions import ErrorType
    from airflow.sdk.execution_time import task_runner
    from airflow.sdk.execution_time.comms import ErrorResponse, GetConnection
    from airflow.sdk.execution_time.secrets import ExecutionAPISecretsBackend

    if not isinstance(backend, ExecutionAPISecretsBackend):
        return backend.get_connection(conn_id=connection_id) is not None
    # This backend returns None for all errors, so its request is made here. ``send`` raises the API server's
    # errors, except "not found".
    response = task_runner.SUPERVISOR_COMMS.send(GetConnection(conn_id=connection_id))
    return not (isinstance(response, ErrorResponse) and response.error is ErrorType.CONNECTION_NOT_FOUND)


def form_widget(field: Mapping[str, Any]) -> Any:
    """
    Return the form field for ``get_connection_form_widgets`` of a hook.

    https://airflow.apache.org/docs/apache-airflow/2.11.2/howto/connection.html

    :param field: a field of ``conn-fields`` of the provider information.
    """
    # Only Airflow 2 installs these packages. It accepts no other classes of fields than these, so a choice is
    # a text with a check.
    from flask_appbuilder.fieldwidgets import BS3PasswordFieldWidget, BS3TextFieldWidget
    from wtforms import IntegerField, PasswordField, StringField
    from wtforms.validators import AnyOf, NumberRange, Optional

    schema, label = field["schema"], field["label"]
    texts = {"description": field["description"], "default": schema.get("default")}
    if "enum" in schema:
        choices = [value for value in schema["enum"] if value]
        texts["description"] += f" One of: {', '.join(choices)}."
        validators = [Optional(), AnyOf(choices)]
        return StringField(label, validators=validators, widget=BS3TextFieldWidget(), **texts)
    if schema.get("format") == "password":
        return PasswordField(label, widget=BS3PasswordFieldWidget(), **texts)
    if "minimum" in schema:
        limits = NumberRange(schema["minimum"], schema["maximum"])
        return IntegerField(label, validators=[Optional(), limits], widget=BS3TextFieldWidget(), **texts)
    return StringField(label, widget=BS3TextFieldWidget(), **texts)
