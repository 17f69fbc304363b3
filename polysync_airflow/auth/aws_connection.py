"""
Makes the session of a connection of type ``aws``, and checks the files and hosts that the connection names by
the lists for ``polysync_sagemaker``.

The amazon provider reads the extra of such a connection without checks (``AwsConnectionWrapper`` and
``BaseSessionFactory`` in airflow/providers/amazon/aws). Only what this provider's clients use is checked, not
the endpoint of another service.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import boto3
from airflow.providers.amazon.aws.hooks.base_aws import SessionFactory
from airflow.providers.amazon.aws.utils.connection_wrapper import AwsConnectionWrapper

from polysync_airflow.airflow_compat.sdk import AirflowException
from polysync_airflow.auth.allow_list import AllowList, url_host
from polysync_airflow.aws.responses import BOTO_ERRORS
from polysync_airflow.aws.sessions import SERVICES, prepare
from polysync_airflow.exceptions import CredentialsError
from polysync_airflow.execution.texts import clean_line, clean_text

Named = Iterator[tuple[str, Any]]
_SAML: Final = "assume_role_with_saml"
_REQUEST: Final = "idp_request_kwargs"
# What botocore and the amazon provider raise for settings, which they do not check.
SETTING_ERRORS: Final = (AttributeError, LookupError, NotImplementedError, TypeError, ValueError)
# By assume_role_method: the field that needs libraries, and the packages that have them.
_LIBRARIES: Final = {
    "assume_role_with_web_identity": (
        "assume_role_with_web_identity_federation",
        "apache-airflow-providers-amazon[google]",
    ),
    _SAML: ("assume_role_method", "requests-gssapi and lxml"),
}
# For a session factory that the deployment has in place of the amazon provider's.
_OTHER_LIBRARIES: Final = ("assume_role_method", "the package that has it")


def create_aws_session(settings: AwsConnectionWrapper, region_name: str | None) -> boto3.session.Session:
    """
    Make the boto3 session that the amazon provider makes of an ``aws`` connection.

    :param settings: the connection, which was checked.
    :raises CredentialsError: a setting is not valid, or needs a library that is not installed.
    """
    try:
        return _create_session(settings, region_name)
    except BOTO_ERRORS:
        # Some of them are ValueErrors, too.
        raise
    except ImportError as error:
        raise _missing_library(settings, error) from None
    except (AirflowException, *SETTING_ERRORS) as error:
        raise invalid_setting(settings.conn_id, error) from None


def invalid_setting(connection_id: object, error: Exception) -> CredentialsError:
    """Return the error for a setting that botocore or the amazon provider has refused in its own way."""
    return CredentialsError(
        f"The connection {connection_id!r} has a setting that is not valid: "
        f"{type(error).__name__}: {clean_text(str(error))}. Correct its extra."
    )


def _missing_library(settings: AwsConnectionWrapper, error: ImportError) -> CredentialsError:
    field, packages = _LIBRARIES.get(str(settings.assume_role_method), _OTHER_LIBRARIES)
    value = clean_line(repr(settings.extra_config.get(field)))
    return CredentialsError(
        f"The connection {settings.conn_id!r} is not usable: {field} = {value} needs a library that is not "
        f"installed here: {clean_line(str(error))}. Install {packages} where tasks and triggerers run, or "
        "sign in in another way."
    )


def _create_session(settings: AwsConnectionWrapper, region_name: str | None) -> boto3.session.Session:
    factory = SessionFactory(conn=settings, region_name=region_name, config=settings.botocore_config)
    # boto3 has no public attribute for the botocore session; the amazon provider uses this one too. The basic
    # session asks STS for the role of the connection. Without a role, it is the one that is returned.
    prepare(factory.basic_session._session)
    session = factory.create_session()
    if session is not factory.basic_session:
        prepare(session._session)
    return session


def check_aws_connection(extra: Mapping[str, Any], allowed: AllowList) -> None:
    """
    Check that the deployment allows every file and host that an ``aws`` connection names.

    :param extra: the extra of the connection.
    :raises CredentialsError: if one of them is not allowed.
    """
    for field, value in _endpoints(extra):
        allowed.check_endpoint(_text(value, field), field=field)
    for field, value in _urls(extra):
        allowed.check_host(_host(value, field), value, field=field)
    for field, value in _files(extra):
        allowed.check_file(_text(value, field), field=field)


def _endpoints(extra: Mapping[str, Any]) -> Named:
    yield from _given(extra, "endpoint_url")
    for service in SERVICES:
        config = _mapping(_mapping(extra, "service_config"), service, "service_config.")
        yield from _given(config, "endpoint_url", f"service_config.{service}.")


def _urls(extra: Mapping[str, Any]) -> Named:
    """Yield the URLs of servers that are none of AWS's: proxies, and the identity provider for SAML."""
    saml = _mapping(extra, _SAML)
    yield from _given(saml, "idp_url", f"{_SAML}.")
    request = _mapping(saml, _REQUEST, f"{_SAML}.")
    for parent, prefix in (
        (_mapping(extra, "config_kwargs"), "config_kwargs."),
        (request, f"{_SAML}.{_REQUEST}."),
    ):
        for scheme, url in _mapping(parent, "proxies", prefix).items():
            yield f"{prefix}proxies.{clean_line(str(scheme), 64)}", url


def _files(extra: Mapping[str, Any]) -> Named:
    yield from _given(extra, "verify")
    yield from _given(extra, "assume_role_with_web_identity_token_file")
    config = _mapping(extra, "config_kwargs")
    yield from _given(config, "client_cert", "config_kwargs.")
    proxies = _mapping(config, "proxies_config", "config_kwargs.")
    for name in ("proxy_ca_bundle", "proxy_client_cert"):
        yield from _given(proxies, name, "config_kwargs.proxies_config.")
    request = _mapping(_mapping(extra, _SAML), _REQUEST, f"{_SAML}.")
    for name in ("verify", "cert"):
        yield from _given(request, name, f"{_SAML}.{_REQUEST}.")


def _given(parent: Mapping[str, Any], name: str, prefix: str = "") -> Named:
    """Yield a member if it names something; a certificate may have two files."""
    value = parent.get(name)
    for each in value if isinstance(value, (list, tuple)) else (value,):
        if each not in (None, "") and not isinstance(each, bool):
            yield f"{prefix}{name}", each


def _mapping(parent: Mapping[str, Any], name: str, prefix: str = "") -> Mapping[str, Any]:
    value = parent.get(name) or {}
    if not isinstance(value, Mapping):
        raise CredentialsError(f"{prefix}{name} is a {type(value).__name__}: give a JSON object.")
    return value


def _text(value: Any, field: str) -> str:
    if not isinstance(value, str):
        raise CredentialsError(f"{field} is a {type(value).__name__}: give a text.")
    return value


def _host(url: Any, field: str) -> str:
    text = _text(url, field)
    try:
        # botocore and requests take a proxy without a scheme for one with http.
        return url_host(text if "://" in text else f"http://{text.removeprefix('//')}")[0]
    except ValueError:
        raise CredentialsError(
            f"{field} = {clean_line(repr(text))} is not a URL with a host. Correct it."
        ) from None
