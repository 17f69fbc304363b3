"""
The fields of a connection: each sign-in method has its own, and an error names every
wrong field.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import pytest

from polysync_airflow.auth.allow_list import AllowList
from polysync_airflow.auth.connection import parse_credentials
from polysync_airflow.exceptions import CredentialsError
from polysync_airflow.hooks import PolysyncSageMakerHook

REGION = {"region_name": "eu-central-1"}
ROLE = {"role_arn": "arn:aws:iam::123456789012:role/polysync"}
KEY = {"access_key_id": "AKIAIOSFODNN7EXAMPLE", "secret_access_key": "the-secret"}
API = {"application_id_uri": "api://polysync"}
APP = {**API, "tenant_id": "tenant", "client_id": "client"}
WEB_IDENTITY = {"auth_method": "web_identity", **REGION, **ROLE}
ENTRA = {**WEB_IDENTITY, "identity_source": "entra"}


def entra(credential: str, fields: dict[str, str]) -> dict[str, str]:
    """Return the fields of a connection whose identity is of Entra."""
    return {**ENTRA, "entra_credential": credential, **fields}


SECRET = {"client_secret": "the-secret", **APP}
CERTIFICATE = {"client_certificate": "/x/pem", **APP}
COMPLETE: dict[str, dict[str, Any]] = {
    "access_key": {"auth_method": "access_key", **REGION, **KEY},
    "assume_role": {
        "auth_method": "assume_role",
        "external_id": "x7",
        **REGION,
        **KEY,
        **ROLE,
    },
    "instance_profile": {"auth_method": "instance_profile", **REGION},
    "web_identity / file": {
        "identity_source": "file",
        "identity_file": "/x/token",
        **WEB_IDENTITY,
    },
    "web_identity / entra / managed_identity": entra("managed_identity", API),
    "web_identity / entra / workload_identity": entra("workload_identity", API),
    "web_identity / entra / client_secret": entra("client_secret", SECRET),
    "web_identity / entra / client_certificate": entra(
        "client_certificate", CERTIFICATE
    ),
}


def error_message(fields: dict[str, Any]) -> str:
    """Return the error message for the fields of a connection."""
    with pytest.raises(CredentialsError) as caught:
        parse_credentials(fields, connection_id="mine")
    assert "'mine'" in str(caught.value)
    assert "the-secret" not in str(caught.value)
    # That of pydantic has the values.
    assert caught.value.__cause__ is None
    return str(caught.value)


@pytest.mark.parametrize("method", COMPLETE)
def test_complete_connection_is_accepted(method: str) -> None:
    """
    A connection with all fields of its method is valid, describes its method, and shows
    no secret.
    """
    credentials = parse_credentials(COMPLETE[method], connection_id="mine")

    assert credentials.auth_description == method
    assert "the-secret" not in repr(credentials) + str(credentials)
    assert credentials.secrets == (
        ["the-secret"] if "the-secret" in COMPLETE[method].values() else []
    )


@pytest.mark.parametrize("method", COMPLETE)
def test_missing_field_is_named(method: str) -> None:
    """A connection without a required field is an error that names the field."""
    for name in COMPLETE[method].keys() - {"external_id"}:
        fields = {
            field: value for field, value in COMPLETE[method].items() if field != name
        }
        assert f"- {name}" in error_message(fields)


MATCH = "String should match"
USER = "arn:aws:iam::123456789012:user/polysync"
EXAMPLE = "https://example.com"
UNIFIED = "https://dzd-a.sagemaker.eu-west-1.on.aws"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"region_name": None}, ["- region_name: Field required; fill it in"]),
        ({"auth_method": "saml"}, ["- auth_method: give one of access_key, assume_r"]),
        ({"auth_method": "asume_role"}, ["web_identity. Did you mean assume_role?"]),
        ({"role_arn": "polysync"}, ["- role_arn: String should"]),
        ({"role_arn": USER}, ["- role_arn: String should match"]),
        ({"access_key_id": ""}, ["access_key_id (login)"]),
        ({"secret_access_key": ""}, ["secret_access_key (password)"]),
        ({"profile_name": "prod"}, ["- profile_name", "remove it"]),
        (
            {"externalid": "x"},
            [
                "- externalid: this sign-in method has no such field; remove it, or"
                " correct it. Did you mean external_id?"
            ],
        ),
        ({"duration_seconds": 60}, ["- duration_seconds", "900"]),
        ({"duration_seconds": "an hour"}, ["- duration_seconds"]),
        ({"session_name": "with space"}, ["- session_name"]),
        ({"studio_domain_id": "d-x.example.com/"}, [f"- studio_domain_id: {MATCH}"]),
        ({"studio_domain_id": "d-x\n"}, [f"- studio_domain_id: {MATCH}"]),
        ({"unified_studio_url": EXAMPLE}, [f"- unified_studio_url: {MATCH}"]),
        ({"unified_studio_url": f"{UNIFIED}\n"}, [f"- unified_studio_url: {MATCH}"]),
        ({"endpoint_url": "sagemaker.local"}, ["- endpoint_url"]),
        ({"sts_endpoint_url": "file:///etc/passwd"}, ["- sts_endpoint_url"]),
        (
            {"x\x1b[2J\n[2026] INFO::group::\u202e": "x"},
            ["- x\ufffd[2J [2026] INFO: :group::\ufffd: this sign-in"],
        ),
        ({"x" * 10**6: "x"}, [f"- {'x' * 61}...: this sign-in"]),
        ({f"x{n}": "x" for n in range(1000)}, ["- x19: ", "\n- and 980 more"]),
    ],
)
def test_wrong_field_is_named_with_a_cure(
    change: dict[str, Any], expected: list[str]
) -> None:
    """The error names the wrong field, and the reason."""
    fields = {
        name: value
        for name, value in COMPLETE["assume_role"].items()
        if name != "external_id"
    }

    message = error_message({**fields, **change})

    for text in expected:
        assert text in message


@pytest.mark.parametrize("method", COMPLETE)
@pytest.mark.parametrize("form", ["json", "uri"])
def test_json_and_uri_forms_are_equal(
    method: str, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection stored as JSON gives the same credentials as one stored as a URI."""
    fields = dict(COMPLETE[method])
    login = fields.pop("access_key_id", "")
    password = fields.pop("secret_access_key", "")
    if form == "json":
        content: dict[str, Any] = {"conn_type": "polysync_sagemaker", "extra": fields}
        text = json.dumps({**content, "login": login, "password": password})
    else:
        query = urlencode({**fields, "duration_seconds": ""})
        text = f"polysync-sagemaker://{login}:{password}@/?{query}"
    monkeypatch.setenv("AIRFLOW_CONN_POLYSYNC_DEFAULT", text)

    credentials = PolysyncSageMakerHook().credentials

    assert credentials == parse_credentials(
        COMPLETE[method], connection_id="polysync_default"
    )


def test_numbers_and_booleans_can_be_strings() -> None:
    """Numbers and booleans can be strings, because a URI contains strings only."""
    fields = {**COMPLETE["assume_role"], "duration_seconds": "1800", "verify": "False"}

    credentials: Any = parse_credentials(fields, connection_id="mine")

    assert (credentials.duration_seconds, credentials.verify) == (1800, False)


def test_ca_bundle_must_be_in_an_allowed_folder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If ``verify`` is a path, it must be in an allowed folder as every other path."""
    fields = {**COMPLETE["instance_profile"], "verify": "/etc/shadow"}
    credentials = parse_credentials(fields, connection_id="mine")

    with pytest.raises(CredentialsError, match="verify = '/etc/shadow' is outside"):
        credentials.session(AllowList())
