"""
Tests of the installed provider: Airflow's commands, and the connection form in the UI.
"""

from __future__ import annotations

import json

import psutil
import pytest

from tests.system.airflow.private_airflow import HOST, PrivateAirflow
from tests.system.airflow.versions import INSTALLED

pytestmark = pytest.mark.system
needs_form = pytest.mark.skipif(
    not INSTALLED.connection_forms,
    reason="this Airflow has the form only in its HTML pages",
)


def test_providers_list_shows_the_provider(airflow: PrivateAirflow) -> None:
    """``airflow providers list`` shows the package with its version."""
    from polysync_airflow import __version__

    listing = json.loads(airflow.command("providers", "list", "--output", "json"))

    ours = [
        provider
        for provider in listing
        if provider["package_name"] == "polysync-airflow"
    ]
    assert [provider["version"] for provider in ours] == [__version__]


def test_providers_hooks_shows_the_connection_type(airflow: PrivateAirflow) -> None:
    """
    ``airflow providers hooks`` shows the connection type with the class path of its
    hook.
    """
    listing = json.loads(airflow.command("providers", "hooks", "--output", "json"))

    ours = [hook for hook in listing if hook["connection_type"] == "polysync_sagemaker"]
    assert [hook["class"] for hook in ours] == [
        "polysync_airflow.hooks.PolysyncSageMakerHook"
    ]
    assert [hook["conn_id_attribute_name"] for hook in ours] == ["polysync_conn_id"]


@needs_form
def test_connection_form_has_the_fields(airflow: PrivateAirflow) -> None:
    """
    The form has the provider's fields and labels, masks the secret ones, and hides
    host, port and schema.
    """
    form = airflow.client.connection_form("polysync_sagemaker")

    fields, standard = form["extra_fields"], form["standard_fields"]
    assert form["hook_name"] == "Polysync SageMaker"
    assert {"auth_method", "region_name", "session_token", "endpoint_url"} <= set(
        fields
    )
    assert fields["session_token"]["schema"]["format"] == "password"
    assert standard["login"]["title"] == "Access key ID"
    assert standard["password"]["title"] == "Secret access key"
    assert all(standard[name]["hidden"] for name in ("host", "port", "url_schema"))


@needs_form
def test_every_choice_of_the_form_has_a_label(airflow: PrivateAirflow) -> None:
    """
    Each value of a choice, including the empty one, has a label, and the fields are
    grouped in sections.
    """
    fields = airflow.client.connection_form("polysync_sagemaker")["extra_fields"]
    schemas = {name: field["schema"] for name, field in fields.items()}

    choices = {name: schema for name, schema in schemas.items() if schema.get("enum")}
    assert set(choices) == {"auth_method", "identity_source", "entra_credential"}
    for schema in choices.values():
        assert set(schema["values_display"]) == {
            value or "null" for value in schema["enum"]
        }
    assert {schema.get("section") for schema in schemas.values()} == {
        None,
        "Web Identity",
        "Other methods",
        "Options",
    }
    assert "section" not in schemas["auth_method"]


def test_airflow_listens_on_loopback_only(airflow: PrivateAirflow) -> None:
    """
    All ports are on the loopback interface, because every user of the private Airflow
    is an administrator.
    """
    pids = {
        pid for component in airflow.components.values() for pid in component.members()
    }

    addresses = [
        connection.laddr.ip
        for connection in psutil.net_connections("inet")
        if connection.pid in pids
        and connection.status == psutil.CONN_LISTEN
        and connection.laddr
    ]

    assert set(addresses) == {HOST}
