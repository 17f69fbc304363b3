"""What a person who has installed the provider sees of it in Airflow's commands and connection form."""

from __future__ import annotations

import json

import psutil
import pytest

from tests.system.private_airflow import HOST, PrivateAirflow

pytestmark = pytest.mark.system


def test_providers_list_shows_us(airflow: PrivateAirflow) -> None:
    """``airflow providers list`` shows the distribution with its version."""
    from polysync_airflow import __version__

    listed = json.loads(airflow.command("providers", "list", "--output", "json"))

    ours = [provider for provider in listed if provider["package_name"] == "polysync-airflow"]
    assert [provider["version"] for provider in ours] == [__version__]


def test_providers_hooks_shows_the_connection_type(airflow: PrivateAirflow) -> None:
    """``airflow providers hooks`` shows our connection type with a hook that can be imported."""
    listed = json.loads(airflow.command("providers", "hooks", "--output", "json"))

    ours = [hook for hook in listed if hook["connection_type"] == "polysync_sagemaker"]
    assert [hook["class"] for hook in ours] == ["polysync_airflow.hooks.PolysyncSageMakerHook"]
    assert [hook["conn_id_attribute_name"] for hook in ours] == ["polysync_conn_id"]


def test_the_connection_form_has_our_fields(airflow: PrivateAirflow) -> None:
    """The UI is told our fields' labels, which are secret, and that a host or a port make no sense."""
    form = airflow.client.connection_form("polysync_sagemaker")

    fields, standard = form["extra_fields"], form["standard_fields"]
    assert form["hook_name"] == "Polysync SageMaker"
    assert {"auth_method", "region_name", "session_token", "endpoint_url"} <= set(fields)
    assert fields["session_token"]["schema"]["format"] == "password"
    assert standard["login"]["title"] == "Access key ID"
    assert standard["password"]["title"] == "Secret access key"
    assert all(standard[name]["hidden"] for name in ("host", "port", "url_schema"))


def test_every_choice_of_the_form_has_words(airflow: PrivateAirflow) -> None:
    """The UI is told words for each value of a choice, the absent one included, and the form's sections."""
    fields = airflow.client.connection_form("polysync_sagemaker")["extra_fields"]
    schemas = {name: field["schema"] for name, field in fields.items()}

    choices = {name: schema for name, schema in schemas.items() if schema.get("enum")}
    assert set(choices) == {"auth_method", "identity_source", "entra_credential"}
    for schema in choices.values():
        assert set(schema["values_display"]) == {value or "null" for value in schema["enum"]}
    assert {schema.get("section") for schema in schemas.values()} == {None, "Web Identity", "Options"}
    assert "section" not in schemas["auth_method"]


def test_nothing_listens_beyond_this_machine(airflow: PrivateAirflow) -> None:
    """Everybody is the private Airflow's administrator, so each of its ports is on the loopback interface."""
    ours = {pid for component in airflow.components.values() for pid in component.members()}

    listening = [
        connection.laddr.ip
        for connection in psutil.net_connections("inet")
        if connection.pid in ours and connection.status == psutil.CONN_LISTEN and connection.laddr
    ]

    assert set(listening) == {HOST}
