"""A connection's content: each way takes its own fields and refuses the others' by name, however it is stored."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import pytest

from polysync_airflow.auth.connection import parse_credentials, ways
from polysync_airflow.exceptions import CredentialsError
from polysync_airflow.get_provider_info import get_provider_info
from polysync_airflow.hooks import PolysyncSageMakerHook

REGION = {"region_name": "eu-central-1"}
ROLE = {"role_arn": "arn:aws:iam::123456789012:role/polysync"}
KEY = {"access_key_id": "AKIAIOSFODNN7EXAMPLE", "secret_access_key": "the-secret"}
APP = {"application_id_uri": "api://polysync", "tenant_id": "tenant", "client_id": "client"}

COMPLETE: dict[str, dict[str, Any]] = {
    "access_key": {"auth_method": "access_key", **REGION, **KEY},
    "assume_role": {"auth_method": "assume_role", **REGION, **KEY, **ROLE, "external_id": "x7"},
    "instance_profile": {"auth_method": "instance_profile", **REGION},
    "web_identity / file": {
        "auth_method": "web_identity", "identity_source": "file", "identity_file": "/x/token", **REGION, **ROLE,
    },
    "web_identity / entra / managed_identity": {
        "auth_method": "web_identity", "identity_source": "entra", "entra_credential": "managed_identity",
        "application_id_uri": "api://polysync", **REGION, **ROLE,
    },
    "web_identity / entra / workload_identity": {
        "auth_method": "web_identity", "identity_source": "entra", "entra_credential": "workload_identity",
        "application_id_uri": "api://polysync", **REGION, **ROLE,
    },
    "web_identity / entra / client_secret": {
        "auth_method": "web_identity", "identity_source": "entra", "entra_credential": "client_secret",
        "client_secret": "the-secret", **APP, **REGION, **ROLE,
    },
    "web_identity / entra / client_certificate": {
        "auth_method": "web_identity", "identity_source": "entra", "entra_credential": "client_certificate",
        "client_certificate": "/x/pem", **APP, **REGION, **ROLE,
    },
}  # fmt: skip


def refusal(fields: dict[str, Any]) -> str:
    """Return what is wrong with a connection."""
    with pytest.raises(CredentialsError) as caught:
        parse_credentials(fields, connection_id="mine")
    assert "'mine'" in str(caught.value)
    assert "the-secret" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("way", COMPLETE)
def test_a_complete_connection_is_taken(way: str) -> None:
    """Each way has what it needs, tells what it is, and shows no secret."""
    credentials = parse_credentials(COMPLETE[way], connection_id="mine")

    assert credentials.way == way
    assert "the-secret" not in repr(credentials) + str(credentials)
    assert credentials.secrets == (["the-secret"] if "the-secret" in COMPLETE[way].values() else [])


@pytest.mark.parametrize("way", COMPLETE)
def test_every_field_that_is_missing_is_named(way: str) -> None:
    """Taking away any field but an optional one is refused by the name of that field."""
    for name in COMPLETE[way].keys() - {"external_id"}:
        fields = {field: value for field, value in COMPLETE[way].items() if field != name}
        assert f"- {name}" in refusal(fields)


@pytest.mark.parametrize("way", COMPLETE)
def test_fields_of_another_way_are_refused_by_name(way: str) -> None:
    """Contradictions are not silently ignored: what a way does not take, it names."""
    everything = {name: value for fields in COMPLETE.values() for name, value in fields.items()}
    tags = ("auth_method", "identity_source", "entra_credential")
    known = type(parse_credentials(COMPLETE[way], connection_id="mine")).model_fields
    foreign = {name: value for name, value in everything.items() if name not in known and name not in tags}

    text = refusal({**COMPLETE[way], **foreign})

    for name in foreign:
        assert f"- {name}" in text
    assert foreign


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"region_name": None}, ["- region_name: Field required; fill it in"]),
        ({"region_name": "Frankfurt"}, ["- region_name: String should match"]),
        ({"auth_method": "saml"}, ["- auth_method: give one of access_key, assume_role"]),
        ({"role_arn": "polysync"}, ["- role_arn: String should"]),
        ({"role_arn": "arn:aws:iam::123456789012:user/polysync"}, ["- role_arn: String should match"]),
        (
            {"access_key_id": "", "secret_access_key": ""},
            ["access_key_id (login)", "secret_access_key (password)"],
        ),
        ({"profile_name": "prod"}, ["- profile_name", "remove it"]),
        ({"aws_session_token": "x"}, ["- aws_session_token"]),
        ({"externalid": "x"}, ["- externalid", "did you mean external_id"]),
        ({"sesion_name": "x"}, ["- sesion_name", "did you mean session_name"]),
        ({"duration_seconds": 60}, ["- duration_seconds", "900"]),
        ({"duration_seconds": "an hour"}, ["- duration_seconds"]),
        ({"session_name": "with space"}, ["- session_name"]),
        ({"endpoint_url": "sagemaker.local"}, ["- endpoint_url"]),
        ({"sts_endpoint_url": "file:///etc/passwd"}, ["- sts_endpoint_url"]),
    ],
)
def test_what_is_wrong_is_refused_by_name(change: dict[str, Any], says: list[str]) -> None:
    """The field, what is wrong with it, and what was probably meant."""
    fields = {name: value for name, value in COMPLETE["assume_role"].items() if name != "external_id"}

    text = refusal({**fields, **change})

    for expected in says:
        assert expected in text


@pytest.mark.parametrize("way", COMPLETE)
@pytest.mark.parametrize("stored", ["json", "uri"])
def test_json_and_uri_are_the_same_connection(way: str, stored: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Environment variables, secrets backends and commands store connections in either form."""
    fields = dict(COMPLETE[way])
    login, password = fields.pop("access_key_id", ""), fields.pop("secret_access_key", "")
    if stored == "json":
        content: dict[str, Any] = {"conn_type": "polysync_sagemaker", "extra": fields}
        text = json.dumps({**content, "login": login, "password": password})
    else:
        text = f"polysync-sagemaker://{login}:{password}@/?{urlencode({**fields, 'duration_seconds': ''})}"
    monkeypatch.setenv("AIRFLOW_CONN_POLYSYNC_DEFAULT", text)

    credentials = PolysyncSageMakerHook().credentials

    assert credentials == parse_credentials(COMPLETE[way], connection_id="polysync_default")


def test_numbers_and_choices_may_come_as_text() -> None:
    """A URI knows text only."""
    fields = {**COMPLETE["assume_role"], "duration_seconds": "1800", "verify": "False"}

    credentials: Any = parse_credentials(fields, connection_id="mine")

    assert (credentials.duration_seconds, credentials.verify) == (1800, False)


def test_a_file_of_authorities_must_lie_in_an_allowed_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """``verify`` may be a path, and then is one like any other."""
    fields = {**COMPLETE["instance_profile"], "verify": "/etc/shadow"}
    credentials = parse_credentials(fields, connection_id="mine")

    with pytest.raises(CredentialsError, match="verify = '/etc/shadow' is outside"):
        credentials.session(())


def test_the_form_has_every_field_and_no_other() -> None:
    """What the ways take is what the form offers, secrets masked."""
    (kind,) = get_provider_info()["connection-types"]

    taken = {name for way in ways() for name in way.model_fields}
    masked = {name for name, f in kind["conn-fields"].items() if f["schema"].get("format") == "password"}
    assert set(kind["conn-fields"]) == taken - {"access_key_id", "secret_access_key"}
    assert masked == {"session_token", "client_secret"}
