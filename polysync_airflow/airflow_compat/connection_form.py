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
