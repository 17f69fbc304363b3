"""
Checks what a connection names against what the deployment allows: files, endpoints and
Entra ID applications. Connections of type ``aws`` are checked by the same lists as
those of type ``polysync_sagemaker``.

A user who may edit connections must not be able to make a worker read any file, or send
a token or a signed request to any host. ``base_hook`` reads what the deployment allows
from the Airflow configuration.
"""

from __future__ import annotations

import fnmatch
import ipaddress
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from urllib3.util import parse_url

from polysync_airflow import get_provider_info
from polysync_airflow.aws.sessions import SERVICES, is_aws_endpoint
from polysync_airflow.exceptions import CredentialsError
from polysync_airflow.execution.texts import clean_line

# Tokens, certificates and CA bundles are smaller.
MAX_FILE_BYTES: Final = 1024 * 1024
# A host name as DNS has it, or the address of IPv6 without its brackets.
_HOST: Final = re.compile(r"[a-z0-9]([a-z0-9._-]{0,251}[a-z0-9])?|[0-9a-f:.]+")
# The forms of an application that has a trust relation with AWS. A token for another
# application, such as Azure's management, must not be sent to AWS's STS or to any other
# host.
_APPLICATION: Final = re.compile(
    r"api://[^\s/]+(/[^\s]*)?|(urn:amazon:webservices|sts\.amazonaws\.com)(/\.default)?"
)


@dataclass(frozen=True)
class AllowList:
    """
    What a deployment allows connections to name.

    :param folders: the folders of files: tokens, certificates, certificate authorities.
    :param hosts: host names of endpoints besides those of AWS; ``*.example.com`` allows
        all hosts of a domain.
    :param applications: Entra ID applications besides those that ``_APPLICATION``
        matches.
    """

    folders: tuple[Path, ...] = ()
    hosts: tuple[str, ...] = ()
    applications: tuple[str, ...] = ()

    def check_file(self, path: str, *, field: str) -> Path:
        """
        Resolve a path, including symbolic links and ``..``, and check that it is in an
        allowed folder.

        :return: the resolved path.
        :raises CredentialsError: if the path is in none of the folders.
        """
        try:
            resolved = Path(path).resolve()
        except (OSError, RuntimeError, ValueError) as error:
            # A loop of symbolic links; a NUL.
            raise CredentialsError(
                f"{field} = {path!r} is not a path: {error}. Correct it."
            ) from None
        if any(resolved.is_relative_to(folder.resolve()) for folder in self.folders):
            return resolved
        folders = ", ".join(str(folder) for folder in self.folders) or "none"
        raise CredentialsError(
            f"{field} = {path!r} is outside the folders that this deployment allows"
            f" ({folders}). Put the file into one of these folders, or ask the"
            " administrator of the deployment to add its folder to"
            f" {_option(get_provider_info.ALLOWED_IDENTITY_FOLDERS)}."
        )

    def read_file(self, path: str, *, field: str) -> bytes:
        """
        Read a file that a connection names.

        :raises CredentialsError: if the path is in none of the folders, or is not a
            file of at most 1 MiB.
        :raises OSError: if the file cannot be read.
        """
        resolved = self.check_file(path, field=field)
        # Not through a symbolic link that has replaced the file since the check. A
        # named pipe must not block.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
        descriptor = os.open(resolved, flags)
        with open(descriptor, "rb") as file:  # noqa: PTH123 # Path has no flags
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_FILE_BYTES:
                raise CredentialsError(
                    f"{field} = {path!r} is not a file of at most {MAX_FILE_BYTES:,}"
                    " bytes. Correct the path."
                )
            return file.read(MAX_FILE_BYTES)

    def check_endpoint(self, url: str, *, field: str) -> None:
        """
        Check that the host of an endpoint is one of AWS's, of this machine, or allowed
        by the deployment.

        :raises CredentialsError: if it is no URL of an endpoint, or the host is not
            allowed.
        """
        try:
            host = endpoint_host(url)
        except ValueError as error:
            raise CredentialsError(
                f"{field} = {clean_line(repr(url))} {error}."
            ) from None
        if not is_loopback(host) and not is_aws_endpoint(host):
            self.check_host(host, url, field=field)

    def check_host(self, host: str, url: str, *, field: str) -> None:
        """
        Check that a host is this machine, or allowed by the deployment.

        :param url: the value of the field, which names the host.
        :raises CredentialsError: if the host is not allowed.
        """
        if is_loopback(host):
            return
        if any(fnmatch.fnmatchcase(host, pattern.lower()) for pattern in self.hosts):
            return
        raise CredentialsError(
            f"{field} = {clean_line(repr(url))} names a host that is neither an"
            f" endpoint of AWS ({', '.join(SERVICES)}) nor allowed by this deployment."
            " Correct it, or ask the administrator of the deployment to add the host"
            f" to {_option(get_provider_info.ALLOWED_ENDPOINT_HOSTS)}."
        )

    def check_application(self, uri: str, *, field: str) -> None:
        """
        Check that the deployment allows to request tokens for an application.

        :raises CredentialsError: if the application is not allowed.
        """
        if _APPLICATION.fullmatch(uri):
            return
        if uri.removesuffix("/.default") in self.applications:
            return
        raise CredentialsError(
            f"{field} = {uri!r} is not an application for AWS: give api://<name or"
            " id>, or ask the administrator of the deployment to add it to"
            f" {_option(get_provider_info.ALLOWED_APPLICATIONS)}."
        )


def endpoint_host(url: str) -> str:
    """
    Check the form of an endpoint's URL, and return its host in lower case.

    :raises ValueError: if it is not ``https://<host>[:<port>]``, or http to this
        machine.
    """
    host, scheme = url_host(url)
    parts = parse_url(url)
    has_path = parts.path not in (None, "/")
    if parts.auth is not None or has_path or "?" in url or "#" in url:
        raise ValueError(
            "must have no user, path, query or fragment: give https://<host>[:<port>]"
        )
    if scheme == "https":
        return host
    if scheme == "http" and is_loopback(host):
        return host
    raise ValueError(
        "must begin with https:// (http:// only for 127.0.0.1 and localhost)"
    )


def url_host(url: str) -> tuple[str, str]:
    """
    Return the host of a URL, to which urllib3 would connect, and its scheme, both in
    lower case.

    :raises ValueError: if it is not a URL with a plain host.
    """
    # For urllib.parse, the host of https://a\.b.example is a\.b.example; urllib3
    # connects to a.
    parts = parse_url(url)
    host = (parts.host or "").strip("[]")
    is_plain = url.isascii() and url.isprintable() and not set(" \\") & set(url)
    if not is_plain or not _HOST.fullmatch(host):
        raise ValueError("is not a URL: give https://<host>[:<port>]")
    return host, parts.scheme or ""


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _option(option: tuple[str, str]) -> str:
    """Return a config option as users read it, such as ``[section] name``."""
    section, name = option
    return f"[{section}] {name}"


# Where the extra of an ``aws`` connection names hosts and files. The amazon provider
# reads them without checks (``AwsConnectionWrapper`` and ``BaseSessionFactory`` in
# airflow/providers/amazon/aws). Only what this provider's clients use is checked, not
# the endpoint of another service.
_ENDPOINTS: Final = (
    "endpoint_url",
    *(f"service_config.{service}.endpoint_url" for service in SERVICES),
)
# Servers that are none of AWS's: proxies, and the identity provider for SAML.
_URLS: Final = (
    "assume_role_with_saml.idp_url",
    "config_kwargs.proxies.*",
    "assume_role_with_saml.idp_request_kwargs.proxies.*",
)
_FILES: Final = (
    "verify",
    "assume_role_with_web_identity_token_file",
    "config_kwargs.client_cert",
    "config_kwargs.proxies_config.proxy_ca_bundle",
    "config_kwargs.proxies_config.proxy_client_cert",
    "assume_role_with_saml.idp_request_kwargs.verify",
    "assume_role_with_saml.idp_request_kwargs.cert",
)


def check_aws_connection(extra: Mapping[str, Any], allowed: AllowList) -> None:
    """
    Check that the deployment allows every file and host that an ``aws`` connection
    names.

    :param extra: the extra of the connection.
    :raises CredentialsError: if one of them is not allowed.
    """
    for field, value in _texts_at(extra, _ENDPOINTS):
        allowed.check_endpoint(value, field=field)
    for field, value in _texts_at(extra, _URLS):
        url = value
        if "://" not in value:
            # botocore and requests take a proxy without a scheme for one with http.
            url = f"http://{value.removeprefix('//')}"
        # An error must not show the password of a proxy.
        shown = value.rpartition("@")[2]
        try:
            host, _ = url_host(url)
        except ValueError:
            raise CredentialsError(
                f"{field} = {clean_line(repr(shown))} is not a URL with a host."
                " Correct it."
            ) from None
        allowed.check_host(host, shown, field=field)
    for field, value in _texts_at(extra, _FILES):
        allowed.check_file(value, field=field)


def _texts_at(
    extra: Mapping[str, Any], paths: Iterable[str]
) -> Iterator[tuple[str, str]]:
    """
    Yield each field that one of the paths leads to, with its text.

    :raises CredentialsError: a path leads through something else than objects, or to
        something else than a text.
    """
    for path in paths:
        parent = extra
        prefix = ""
        *parents, name = path.split(".")
        for member in parents:
            parent = parent.get(member) or {}
            if not isinstance(parent, Mapping):
                raise CredentialsError(
                    f"{prefix}{member} is a {type(parent).__name__}: give a JSON"
                    " object."
                )
            prefix += f"{member}."
        for member, value in _members_of(parent, name):
            field = prefix + member
            if not isinstance(value, str):
                raise CredentialsError(
                    f"{field} is a {type(value).__name__}: give a text."
                )
            yield field, value


def _members_of(parent: Mapping[str, Any], name: str) -> Iterator[tuple[str, Any]]:
    """Yield the values of a member that are set; those of all members for ``*``."""
    if name == "*":
        for key, value in parent.items():
            yield clean_line(str(key), 64), value
        return
    values = parent.get(name)
    # A certificate may have two files.
    if not isinstance(values, (list, tuple)):
        values = (values,)
    for value in values:
        # A Boolean says whether to verify, and names nothing.
        if value not in (None, "") and not isinstance(value, bool):
            yield name, value
