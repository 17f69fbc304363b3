"""
Connections of type aws: our operators hold them to the lists that hold for
polysync_sagemaker.
"""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from polysync_airflow.auth import aws_settings
from polysync_airflow.exceptions import CredentialsError, PolysyncError
from polysync_airflow.hooks import PolysyncSageMakerHook
from tests.fakes.fake_sagemaker import dripping
from tests.unit.aws.test_log_redaction import FakeSts, sts

__all__ = ["sts"]  # a fixture

HOSTS = "allowed_endpoint_hosts"
FOLDERS = "allowed_identity_folders"
OPTION = "AIRFLOW__POLYSYNC_SAGEMAKER__{}"
ROLE = {"role_arn": "arn:aws:iam::123456789012:role/x"}
WEB_IDENTITY = {
    **ROLE,
    "assume_role_method": "assume_role_with_web_identity",
    "assume_role_with_web_identity_federation": "file",
}
TOKEN_FILE = "assume_role_with_web_identity_token_file"
SAML = {**ROLE, "assume_role_method": "assume_role_with_saml"}
SAML_IDP = {
    "principal_arn": "x",
    "idp_auth_method": "http_spegno_auth",
    "saml_response_xpath": "x",
}
EVIL = "https://evil.example"
IDP_REQUEST = "assume_role_with_saml.idp_request_kwargs"
# A field, its value, what the error names, and the other fields.
REFUSED: list[tuple[str, Any, str, dict[str, Any]]] = [
    ("endpoint_url", EVIL, HOSTS, {}),
    ("endpoint_url", "https://evil.com\\.vpce.example.com", "is not a URL", {}),
    ("endpoint_url", "http://sts.amazonaws.com", "must begin with https", {}),
    ("endpoint_url", ["x"], "must begin with https", {}),
    ("endpoint_url", {"x": 1}, "give a text", {}),
    ("service_config.sagemaker.endpoint_url", EVIL, HOSTS, {}),
    ("service_config.sts.endpoint_url", EVIL, HOSTS, ROLE),
    ("service_config.logs.endpoint_url", EVIL, HOSTS, {}),
    ("service_config", ["x"], "give a JSON object", {}),
    ("verify", "/etc/passwd", FOLDERS, {}),
    (TOKEN_FILE, "/etc/passwd", FOLDERS, WEB_IDENTITY),
    ("config_kwargs.proxies.https", "http://evil.example:3128", HOSTS, {}),
    ("config_kwargs.proxies.https", "user:pw@evil.example", HOSTS, {}),
    ("config_kwargs.proxies.https", "http://user:pw@ex ample", "not a URL", {}),
    ("config_kwargs.client_cert", "/etc/passwd", FOLDERS, {}),
    ("config_kwargs.client_cert", ["/etc/passwd", "/etc/shadow"], FOLDERS, {}),
    ("config_kwargs.proxies_config.proxy_ca_bundle", "/etc/passwd", FOLDERS, {}),
    ("config_kwargs.proxies_config.proxy_client_cert", "/etc/passwd", FOLDERS, {}),
    ("assume_role_with_saml.idp_url", f"{EVIL}/adfs?x=1", HOSTS, SAML),
    (f"{IDP_REQUEST}.verify", "/etc/passwd", FOLDERS, SAML),
    (f"{IDP_REQUEST}.proxies.https", EVIL, HOSTS, SAML),
]


def nested(field: str, value: Any) -> dict[str, Any]:
    """Return an extra with a field, whose name has the names of those around it."""
    for name in reversed(field.split(".")):
        value = {name: value}
    extra: dict[str, Any] = value
    return extra


def kwargs(field: str, value: Any) -> dict[str, Any]:
    """Return an extra with a setting of botocore."""
    return nested(f"config_kwargs.{field}", value)


@pytest.fixture
def looked_up(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """
    The hosts that this process asks DNS for, which has none; the keys of the host are
    in the environment.
    """
    hosts: list[Any] = []

    def getaddrinfo(host: Any, *_: Any, **__: Any) -> Any:
        hosts.append(host)
        raise socket.gaierror("no such host")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAOFTHEHOSTOFTHEHO")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-the-host")
    return hosts


def hook(
    monkeypatch: pytest.MonkeyPatch, extra: dict[str, Any], **fields: Any
) -> PolysyncSageMakerHook:
    """Return a hook with an aws connection."""
    extra = {"region_name": "us-east-1", **extra}
    connection = {"conn_type": "aws", "extra": extra, **fields}
    monkeypatch.setenv("AIRFLOW_CONN_AWS", json.dumps(connection))
    return PolysyncSageMakerHook("aws")


@pytest.mark.parametrize(("field", "value", "reason", "others"), REFUSED)
def test_files_and_hosts_outside_of_the_lists_are_refused(
    field: str,
    value: Any,
    reason: str,
    others: dict[str, Any],
    looked_up: list[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    The error names the field and the option, and is permanent; nothing is sent, not
    even for the sign-in.
    """
    extra = {**others, **nested(field, value)}
    calls = ("list_pipelines", "get_caller_identity")
    for call in calls:
        with pytest.raises(CredentialsError, match=reason) as caught:
            list(getattr(hook(monkeypatch, extra), call)())
        assert str(caught.value).startswith(
            f"The connection 'aws' is not usable: {field} "
        )
        assert caught.value.permanent
        assert "pw@" not in str(caught.value)
    with pytest.raises(CredentialsError, match=reason):
        _ = hook(monkeypatch, extra).client_for("logs")
    assert looked_up == []


VPC_ENDPOINT = "https://vpce-1a-2b.api.sagemaker.us-east-1.vpce.amazonaws.com"
PROXY = "http://user:x@proxy.corp.example:3128"
EKS_TOKEN = "/var/run/secrets/eks.amazonaws.com/serviceaccount/token"
ADFS = "https://adfs.corp.example/adfs/ls?x=1"
ORDINARY: list[dict[str, Any]] = [
    {},
    ROLE,
    {"endpoint_url": "", "verify": False},
    nested("config_kwargs.retries.mode", "adaptive"),
    {"endpoint_url": VPC_ENDPOINT},
    nested("service_config.sts.endpoint_url", "https://sts.us-east-1.amazonaws.com"),
    # For other services than ours.
    nested("service_config.s3.endpoint_url", "http://minio:9000"),
    {**WEB_IDENTITY, TOKEN_FILE: EKS_TOKEN},
    nested("config_kwargs.proxies", {"https": PROXY, "http": "proxy.corp.example"}),
    {**SAML, "assume_role_with_saml": {**SAML_IDP, "idp_url": ADFS}},
]


@pytest.mark.parametrize("extra", ORDINARY)
def test_ordinary_connections_are_used_as_before(
    extra: dict[str, Any], looked_up: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Empty ones, AWS's hosts, and what the administrator of the deployment allows."""
    monkeypatch.setenv(OPTION.format(HOSTS.upper()), "*.corp.example")

    config = hook(monkeypatch, extra).conn_config

    assert config.extra_config == {"region_name": "us-east-1", **extra}
    assert config.endpoint_url == extra.get("endpoint_url")


@pytest.mark.parametrize(
    ("allowed", "sent"), [(False, set()), (True, {"content-of-the-file"})]
)
def test_no_file_outside_of_the_folders_is_sent(
    allowed: bool,
    sent: set[str],
    sts: FakeSts,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    A file of the host reaches an STS endpoint only if the deployment allows its folder.
    """
    (tmp_path / "file").write_text("content-of-the-file")
    if allowed:
        monkeypatch.setenv(OPTION.format(FOLDERS.upper()), str(tmp_path))
    # A setting of the host, since not every version of the amazon provider has one for
    # this request.
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", sts.url)
    sts.denies = True
    extra = {**WEB_IDENTITY, TOKEN_FILE: str(tmp_path / "file")}

    with pytest.raises(PolysyncError) as caught:
        list(hook(monkeypatch, extra).list_pipelines())

    assert {request["WebIdentityToken"] for request in sts.requests} == sent
    assert (FOLDERS in str(caught.value)) != allowed


GOOGLE = {**WEB_IDENTITY, "assume_role_with_web_identity_federation": "google"}
SAML_FULL = {**SAML, "assume_role_with_saml": {**SAML_IDP, "idp_url": ADFS}}
UNUSABLE = "The connection 'aws' has a setting that cannot be used here: "
CALLS: list[Callable[[PolysyncSageMakerHook], object]] = [
    lambda hook: list(hook.list_pipelines()),
    lambda hook: hook.get_caller_identity(),
    lambda hook: hook.client_for("logs"),
    lambda hook: hook.get_session(),
]
AZURE = {**WEB_IDENTITY, "assume_role_with_web_identity_federation": "azure"}
SAML_X = {**SAML, "assume_role_with_saml": {**SAML_IDP, "idp_auth_method": "x"}}


@pytest.mark.parametrize(
    ("extra", "missing", "reason"),
    [
        (GOOGLE, "google.auth", "google.auth"),
        (SAML_FULL, "requests_gssapi", "requests_gssapi"),
        (SAML_FULL, "lxml", "lxml"),
        (kwargs("s3.addressing_style", "x"), None, "S3 addressing style x is invalid"),
        (AZURE, None, "federation: azure"),
        (SAML, None, "KeyError: 'assume_role_with_saml'"),
        (SAML_X, None, "idp_auth_method=x"),
        ({**ROLE, "assume_role_method": "x"}, None, "assume_role_method='x'"),
    ],
)
def test_setting_that_the_amazon_provider_refuses_is_an_error_of_the_connection(
    extra: dict[str, Any],
    missing: str | None,
    reason: str,
    looked_up: list[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each call's error is one of the connection, whatever the provider raises."""
    monkeypatch.setenv(OPTION.format(HOSTS.upper()), "*.corp.example")
    monkeypatch.setitem(sys.modules, "requests_gssapi", ModuleType("requests_gssapi"))
    if missing:
        # Python then says that there is no such module.
        monkeypatch.setitem(sys.modules, missing, None)

    for call in CALLS:
        with pytest.raises(CredentialsError) as caught:
            call(hook(monkeypatch, extra))
        message = str(caught.value)
        assert message.startswith(UNUSABLE)
        assert reason in message
        assert caught.value.permanent
    assert looked_up == []


NO_TEXT = "Input should be a valid string"


@pytest.mark.parametrize(
    ("extra", "problem"),
    [
        ({"config_kwargs": "x"}, "config_kwargs is a str: give a JSON object"),
        (
            kwargs("signature_version", 5),
            "signature_version = 5: Input should be 'v4',",
        ),
        (
            kwargs("signature_version", "v2"),
            "signature_version = 'v2': Input should be",
        ),
        (kwargs("retries", 5), "retries = 5: Input should be a valid"),
        (kwargs("retries.max_attempts", "5"), "retries.max_attempts = '5': Input "),
        (kwargs("retries.attempts", 5), "retries.attempts = 5: Extra inputs"),
        (kwargs("read_timeout", "60"), "read_timeout = '60': Input should be a valid"),
        (kwargs("read_timeout", 0), "read_timeout = 0: Input should be greater than 0"),
        (kwargs("connect_timeout", [1]), "connect_timeout = a list of 1: Input"),
        (kwargs("max_pool_connections", 10**9), "max_pool_connections = 1000000000: "),
        (kwargs("user_agent_extra", 5), f"user_agent_extra = 5: {NO_TEXT}"),
        (kwargs("tcp_keepalive", "yes"), "tcp_keepalive = 'yes': Input should be a"),
        (kwargs("s3", "path"), "s3 = 'path': Input should be a valid dictionary"),
        # Its value may have a password.
        (kwargs("proxies.https", 5), f"proxies.https: {NO_TEXT}"),
        (kwargs("proxies", "http://u:pw@x"), "proxies: Input should be a valid dict"),
        (kwargs("read_timout", 60), "read_timout: the installed botocore has no such"),
        (
            nested("assume_role_kwargs.ExternalId", 7),
            "ExternalId is a int: give a text",
        ),
    ],
    ids=str,
)
def test_setting_of_another_type_is_named(
    extra: dict[str, Any],
    problem: str,
    looked_up: list[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each call's error names the field, its value and the cure; nothing is sent."""
    for call in CALLS:
        with pytest.raises(CredentialsError) as caught:
            call(hook(monkeypatch, {**ROLE, **extra}))
        message = str(caught.value)
        assert message.startswith("The connection 'aws' (type aws) is not usable:\n- ")
        assert problem in message
        assert message.endswith(("correct it, or leave it out.", "?", "marks.", "}."))
        assert "pw" not in message
        assert caught.value.permanent
    assert looked_up == []


@pytest.mark.parametrize(
    ("settings", "connect_timeout", "read_timeout", "retries"),
    [
        ({}, 10, 20, {"mode": "standard"}),
        (
            {
                "connect_timeout": 3600,
                "read_timeout": 3600,
                "retries": {"max_attempts": 50},
            },
            10,
            20,
            {"mode": "standard", "total_max_attempts": 3},
        ),
        # botocore takes null for no timeout at all.
        ({"connect_timeout": None, "read_timeout": None}, 10, 20, {"mode": "standard"}),
        (
            {"connect_timeout": 2, "read_timeout": 3.5, "retries": {"max_attempts": 0}},
            2,
            3.5,
            {"mode": "standard", "total_max_attempts": 1},
        ),
        # botocore's own number of attempts is five in this mode.
        (
            {"retries": {"mode": "legacy"}},
            10,
            20,
            {"mode": "legacy", "total_max_attempts": 3},
        ),
        (
            {"retries": {"mode": "adaptive", "total_max_attempts": 9}},
            10,
            20,
            {"mode": "adaptive", "total_max_attempts": 3},
        ),
    ],
    ids=str,
)
def test_time_and_attempts_are_at_most_those_of_the_provider(
    settings: dict[str, Any],
    connect_timeout: float,
    read_timeout: float,
    retries: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Less is as the connection says."""
    config = hook(monkeypatch, {"config_kwargs": settings}).conn_config.botocore_config

    found: Any = config
    assert found.connect_timeout == connect_timeout
    assert found.read_timeout == read_timeout
    assert found.retries == retries


@pytest.mark.parametrize(
    ("service", "extra"),
    [("SAGEMAKER", {}), ("STS", ROLE), ("STS", WEB_IDENTITY)],
    ids=["sagemaker", "role", "web identity"],
)
def test_server_that_drips_does_not_hold_a_worker(
    service: str,
    extra: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    Each of the attempts ends with the provider's timeout, also those of the sign-in,
    whatever the connection says.
    """
    monkeypatch.setattr(aws_settings, "READ_TIMEOUT_SECONDS", 0.2)
    # The pauses between the attempts.
    monkeypatch.setattr("botocore.endpoint.time", SimpleNamespace(sleep=lambda _: None))
    monkeypatch.setenv(OPTION.format(FOLDERS.upper()), str(tmp_path))
    (tmp_path / "token").write_text("a token")
    patient = {"read_timeout": 3600, "retries": {"max_attempts": 50}}
    extra = {**extra, TOKEN_FILE: str(tmp_path / "token"), "config_kwargs": patient}
    key = {"login": "AKIAIOSFODNN7EXAMPLE", "password": "secret"}
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"
    with dripping(head, b" " * 100_000, 0.02) as (url, requests):
        monkeypatch.setenv(f"AWS_ENDPOINT_URL_{service}", url)

        with pytest.raises(PolysyncError, match="Read timeout"):
            hook(monkeypatch, extra, **key).describe_pipeline("fanout")

    assert len(requests) == 3
