"""
The provider information, as Airflow's ProvidersManager reads it from the installed
distribution.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import jsonschema
import pytest
from airflow.providers_manager import ProvidersManager

from polysync_airflow import __version__
from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.auth.connection import credentials_classes
from polysync_airflow.get_provider_info import get_provider_info
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.links import PolysyncPipelineExecutionLink

DISTRIBUTION = "polysync-airflow"
CONNECTION_TYPE = PolysyncSageMakerHook.conn_type

# From Airflow 3.3 on, the public attribute imports the hooks of all providers, and
# wants the packages of Airflow 2.
FORM_IN_3_3 = "_connection_form_widgets_from_metadata"
# Airflow 3.2 takes the name of the hook from its class.
ONLY_IN_3_3 = [] if CAPABILITIES.retry_policy else [".connection-types[].hook-name"]
# The fields of the credentials that are standard fields of an Airflow connection.
STANDARD_FIELDS = {"access_key_id": "login", "secret_access_key": "password"}
# All other fields of the credentials are in the extra of the connection.
EXTRA_FIELDS = {
    name for method in credentials_classes() for name in method.model_fields
} - set(STANDARD_FIELDS)


@pytest.fixture(scope="module")
def manager() -> ProvidersManager:
    """Return Airflow's manager of the installed providers."""
    return ProvidersManager()  # type: ignore[no-untyped-call]  # Airflow's has no annotations


needs_form_in_provider_info = pytest.mark.skipif(
    not CAPABILITIES.form_from_provider_info,
    reason="this Airflow makes the form from the hook",
)


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    """
    Return Airflow's schema, with the stricter one of Airflow's own providers for
    connection types.
    """
    info, yaml = (
        json.loads((files("airflow") / name).read_text())
        for name in ("provider_info.schema.json", "provider.yaml.schema.json")
    )
    info["properties"]["connection-types"] = yaml["properties"]["connection-types"]
    return dict(info)


def unknown_keys(value: Any, schema: dict[str, Any], path: str = "") -> Iterator[str]:
    """
    Yield the keys that are not in a schema. Airflow ignores such keys without a
    warning.
    """
    if isinstance(value, list):
        for item in value:
            yield from unknown_keys(item, schema.get("items", {}), f"{path}[]")
    elif isinstance(value, dict) and "properties" in schema:
        for key, member in value.items():
            if key not in schema["properties"]:
                yield f"{path}.{key}"
            else:
                yield from unknown_keys(
                    member, schema["properties"][key], f"{path}.{key}"
                )


def test_airflow_finds_the_installed_provider(manager: ProvidersManager) -> None:
    """
    Airflow finds the provider by its entry point, with the version of the package.
    """
    assert manager.providers[DISTRIBUTION].version == __version__


def test_package_name_is_the_name_of_the_distribution() -> None:
    """
    The two names are equal; otherwise every ``airflow`` command of the deployment
    fails.
    """
    [entry_point] = [
        entry_point
        for entry_point in importlib.metadata.entry_points(
            group="apache_airflow_provider"
        )
        if entry_point.value.startswith("polysync_airflow.")
    ]

    assert entry_point.dist is not None
    assert entry_point.dist.name == DISTRIBUTION
    assert entry_point.load()()["package-name"] == DISTRIBUTION


@needs_form_in_provider_info
def test_every_entry_is_valid(schema: dict[str, Any]) -> None:
    """
    The provider information is valid by Airflow's schema, and has no key that is not in
    the schema.
    """
    info = get_provider_info()

    jsonschema.validate(info, schema)

    assert list(unknown_keys(info, schema)) == ONLY_IN_3_3


@needs_form_in_provider_info
def test_unknown_keys_finds_misspelt_keys(schema: dict[str, Any]) -> None:
    """The helper of the test above finds misspelt keys at any depth."""
    info = {"extra_links": [], "connection-types": [{"hook-clas-name": "x"}]}

    assert list(unknown_keys(info, schema)) == [
        ".extra_links",
        ".connection-types[].hook-clas-name",
    ]


@pytest.mark.parametrize("kind", ["operators", "sensors", "hooks", "triggers"])
def test_every_module_exists(kind: str) -> None:
    """Each module in the provider information can be imported."""
    for entry in get_provider_info()[kind]:
        for module in entry["python-modules"]:
            importlib.import_module(module)


@pytest.mark.filterwarnings(
    "ignore:ProvidersManager.hooks is deprecated"
)  # the connection form uses it
def test_airflow_knows_the_hook(manager: ProvidersManager) -> None:
    """
    Airflow finds the hook class by the connection type, with the argument name of the
    connection id.
    """
    hook = manager.hooks[CONNECTION_TYPE]

    assert hook is not None
    assert hook.hook_class_name == "polysync_airflow.hooks.PolysyncSageMakerHook"
    assert hook.package_name == DISTRIBUTION
    assert (
        hook.connection_id_attribute_name
        == PolysyncSageMakerHook.conn_name_attr
        == "polysync_conn_id"
    )


def test_airflow_knows_the_button(manager: ProvidersManager) -> None:
    """The class of the button is registered; Airflow shows only registered buttons."""
    link = PolysyncPipelineExecutionLink

    assert f"{link.__module__}.{link.__qualname__}" in manager.extra_links_class_names


def test_form_has_the_fields_of_the_credentials(manager: ProvidersManager) -> None:
    """The connection form has exactly the extra fields that the credentials accept."""
    prefix = f"extra__{CONNECTION_TYPE}__"
    manager.initialize_providers_hooks()

    form_fields = {
        name.removeprefix(prefix)
        for name in getattr(manager, FORM_IN_3_3, None)
        or manager.connection_form_widgets
        if name.startswith(prefix)
    }

    assert form_fields == EXTRA_FIELDS


@pytest.mark.skipif(
    CAPABILITIES.form_from_provider_info,
    reason="only Airflow 2 makes widgets from the hook",
)
def test_widgets_of_airflow_2() -> None:
    """
    The widgets have the labels, choices and defaults of the fields; secrets are
    password fields.
    """
    from wtforms import Form

    fields = get_provider_info()["connection-types"][0]["conn-fields"]
    form = type(
        "ConnectionForm", (Form,), PolysyncSageMakerHook.get_connection_form_widgets()
    )()

    assert {name: field.label.text for name, field in form._fields.items()} == {
        name: field["label"] for name, field in fields.items()
    }
    assert form.auth_method.data == "web_identity"
    assert "One of: entra, file." in form.identity_source.description
    assert form.duration_seconds.type == "IntegerField"
    passwords = {
        name for name, field in form._fields.items() if field.type == "PasswordField"
    }
    assert passwords == {"session_token", "client_secret"}
    assert PolysyncSageMakerHook.get_ui_field_behaviour()["hidden_fields"] == [
        "host",
        "schema",
        "port",
        "extra",
    ]


def test_form_hides_unused_standard_fields() -> None:
    """The form shows only the standard fields that the credentials use."""
    behaviour = get_provider_info()["connection-types"][0]["ui-field-behaviour"]

    shown = {"host", "schema", "login", "password", "port"} - set(
        behaviour["hidden-fields"]
    )

    assert shown == set(behaviour["relabeling"]) == set(STANDARD_FIELDS.values())


def test_secrets_are_masked_in_the_form() -> None:
    """
    Each extra field that is a secret in the credentials is a password field in the
    form.
    """
    fields = get_provider_info()["connection-types"][0]["conn-fields"]
    secrets = {
        name
        for method in credentials_classes()
        for name, field in method.model_fields.items()
        if "Secret" in str(field.annotation) and name in EXTRA_FIELDS
    }

    masked = {
        name
        for name, field in fields.items()
        if field["schema"].get("format") == "password"
    }

    assert masked == secrets == {"session_token", "client_secret"}
