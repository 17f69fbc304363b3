"""What Airflow is told about the provider, from the installed distribution, through Airflow's own manager."""

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
from polysync_airflow.auth.connection import ways
from polysync_airflow.get_provider_info import get_provider_info
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.links import PolysyncPipelineExecutionLink

DISTRIBUTION = "polysync-airflow"
CONNECTION_TYPE = PolysyncSageMakerHook.conn_type

# Where the standard fields of a connection go.
STANDARD_FIELDS = {"access_key_id": "login", "secret_access_key": "password"}
# In the extras, what the credentials take beyond the connection's own columns.
EXTRA_FIELDS = {name for way in ways() for name in way.model_fields} - set(STANDARD_FIELDS)


@pytest.fixture(scope="module")
def manager() -> ProvidersManager:
    """Airflow's own view of all installed providers."""
    return ProvidersManager()  # type: ignore[no-untyped-call]  # Airflow's has no annotations


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    """Airflow's own schema; for connection types the stricter one that its own providers are held to."""
    info, yaml = (
        json.loads((files("airflow") / name).read_text())
        for name in ("provider_info.schema.json", "provider.yaml.schema.json")
    )
    info["properties"]["connection-types"] = yaml["properties"]["connection-types"]
    return dict(info)


def unknown_keys(value: Any, schema: dict[str, Any], path: str = "") -> Iterator[str]:
    """Find keys that a schema does not name, which Airflow would pass over in silence."""
    if isinstance(value, list):
        for item in value:
            yield from unknown_keys(item, schema.get("items", {}), f"{path}[]")
    elif isinstance(value, dict) and "properties" in schema:
        for key, member in value.items():
            if key not in schema["properties"]:
                yield f"{path}.{key}"
            else:
                yield from unknown_keys(member, schema["properties"][key], f"{path}.{key}")


def test_airflow_finds_the_installed_provider(manager: ProvidersManager) -> None:
    """The entry point of the distribution brings the provider, with the version that the package tells."""
    assert manager.providers[DISTRIBUTION].version == __version__


def test_package_name_is_the_distributions_name() -> None:
    """The two names are equal: otherwise every ``airflow`` command of the deployment fails."""
    [entry_point] = [
        found
        for found in importlib.metadata.entry_points(group="apache_airflow_provider")
        if found.value.startswith("polysync_airflow.")
    ]

    assert entry_point.dist is not None
    assert entry_point.dist.name == DISTRIBUTION
    assert entry_point.load()()["package-name"] == DISTRIBUTION


def test_every_entry_is_valid(schema: dict[str, Any]) -> None:
    """The information matches Airflow's schema, and has no key that the schema does not know."""
    info = get_provider_info()

    jsonschema.validate(info, schema)

    assert list(unknown_keys(info, schema)) == []


def test_a_misspelt_key_would_be_found(schema: dict[str, Any]) -> None:
    """The check above sees a key at any depth, so it is no empty one."""
    info = {"extra_links": [], "connection-types": [{"hook-clas-name": "x"}]}

    assert list(unknown_keys(info, schema)) == [".extra_links", ".connection-types[].hook-clas-name"]


@pytest.mark.parametrize("kind", ["operators", "hooks", "triggers"])
def test_every_module_exists(kind: str) -> None:
    """Each module named to Airflow can be imported."""
    for entry in get_provider_info()[kind]:
        for module in entry["python-modules"]:
            importlib.import_module(module)


@pytest.mark.filterwarnings("ignore:ProvidersManager.hooks is deprecated")  # the connection form uses it
def test_airflow_knows_the_hook(manager: ProvidersManager) -> None:
    """The connection type leads to the hook class, with the names that operators use."""
    hook = manager.hooks[CONNECTION_TYPE]

    assert hook is not None
    assert hook.hook_class_name == "polysync_airflow.hooks.PolysyncSageMakerHook"
    assert hook.package_name == DISTRIBUTION
    assert hook.connection_id_attribute_name == PolysyncSageMakerHook.conn_name_attr == "polysync_conn_id"


def test_airflow_knows_the_button(manager: ProvidersManager) -> None:
    """The button's class is registered, or Airflow would not show the button."""
    link = PolysyncPipelineExecutionLink

    assert f"{link.__module__}.{link.__qualname__}" in manager.extra_links_class_names


def test_the_form_offers_what_the_credentials_take(manager: ProvidersManager) -> None:
    """Every field of the form is one that a connection may have, and none is missing."""
    prefix = f"extra__{CONNECTION_TYPE}__"
    manager.initialize_providers_hooks()

    offered = {
        name.removeprefix(prefix)
        for name in manager._connection_form_widgets_from_metadata
        if name.startswith(prefix)
    }

    assert offered == EXTRA_FIELDS


def test_the_form_hides_what_a_connection_must_not_have() -> None:
    """Of the standard fields only those remain that the credentials read."""
    behaviour = get_provider_info()["connection-types"][0]["ui-field-behaviour"]

    shown = {"host", "schema", "login", "password", "port"} - set(behaviour["hidden-fields"])

    assert shown == set(behaviour["relabeling"]) == set(STANDARD_FIELDS.values())


def test_secrets_are_masked_in_the_form() -> None:
    """Each extra field that the credentials hold as a secret is a password field of the form."""
    fields = get_provider_info()["connection-types"][0]["conn-fields"]
    secret = {
        name
        for way in ways()
        for name, field in way.model_fields.items()
        if "Secret" in str(field.annotation) and name in EXTRA_FIELDS
    }

    masked = {name for name, field in fields.items() if field["schema"].get("format") == "password"}

    assert masked == secret == {"session_token", "client_secret"}
