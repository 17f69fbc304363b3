"""The connection form of Airflow 2, made from what later versions read from the provider information."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def form_widgets(fields: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """
    Return the form fields for ``get_connection_form_widgets`` of a hook.

    https://airflow.apache.org/docs/apache-airflow/2.11.2/howto/connection.html

    :param fields: ``conn-fields`` of the provider information.
    """
    return {name: _widget(field) for name, field in fields.items()}


def ui_field_behaviour(behaviour: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return the value for ``get_ui_field_behaviour`` of a hook.

    :param behaviour: ``ui-field-behaviour`` of the provider information.
    """
    return {name.replace("-", "_"): value for name, value in behaviour.items()}


def _widget(field: Mapping[str, Any]) -> Any:
    # Only Airflow 2 installs these packages.
    from flask_appbuilder.fieldwidgets import BS3PasswordFieldWidget, BS3TextFieldWidget, Select2Widget
    from wtforms import IntegerField, PasswordField, SelectField, StringField
    from wtforms.validators import NumberRange, Optional

    schema, label, description = field["schema"], field["label"], field["description"]
    texts = {"description": description, "default": schema.get("default")}
    if "enum" in schema:
        choices = [(value or "", schema["values_display"][value or "null"]) for value in schema["enum"]]
        return SelectField(label, choices=choices, validators=[Optional()], widget=Select2Widget(), **texts)
    if schema.get("format") == "password":
        return PasswordField(label, widget=BS3PasswordFieldWidget(), **texts)
    if "minimum" in schema:
        limits = NumberRange(schema["minimum"], schema["maximum"])
        return IntegerField(label, validators=[Optional(), limits], widget=BS3TextFieldWidget(), **texts)
    return StringField(label, widget=BS3TextFieldWidget(), **texts)
