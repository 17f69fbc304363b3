"""
Checks what a connection names against what the deployment allows: files, endpoints and Entra ID applications.

A user who may edit connections must not be able to make a worker read any file, or send a token or a signed
request to any host. ``base_hook`` reads what the deployment allows from the Airflow configuration.
"""

from __future__ import annotations

import fnmatch
import ipaddress
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, urlsplit

from polysync_airflow.exceptions import CredentialsError
from polysync_airflow.get_provider_info import (
    ALLOWED_APPLICATIONS,
    ALLOWED_ENDPOINT_HOSTS,
    ALLOWED_IDENTITY_FOLDERS,
)

# Tokens, certificates and CA bundles are smaller.
MAX_FILE_BYTES: Final = 1024 * 1024
# Hosts of the two services, also FIPS and dual-stack endpoints and interface endpoints of a VPC:
# https://docs.aws.amazon.com/general/latest/gr/sagemaker.html and sts.html. Other hosts of these domains may
# belong to anybody: API gateways, load balancers, buckets.
_AWS_HOST: Final = re.compile(
    r"(vpce-[a-z0-9-]+\.)?((api(-fips)?\.)?sagemaker|sts)(-fips)?(\.[a-z0-9-]+)?(\.vpce)?"
    r"\.(amazonaws\.com|amazonaws\.com\.cn|api\.aws|api\.amazonwebservices\.com\.cn)"
)
# The forms of an application that has a trust relation with AWS. A token for another application, such as
# Azure's management, must not be sent to AWS's STS or to any other host.
_APPLICATION: Final = re.compile(
    r"api://[^\s/]+(/[^\s]*)?|(urn:amazon:webservices|sts\.amazonaws\.com)(/\.default)?"
)


@dataclass(frozen=True)
class AllowList:
    """
    What a deployment allows connections to name.

    :param folders: the folders of files: tokens, certificates, certificate authorities.
    :param hosts: host names of endpoints besides those of AWS; ``*.example.com`` allows all hosts of a
        domain.
    :param applications: Entra ID applications besides those of the form ``api://...``.
    """

    folders: tuple[Path, ...] = ()
    hosts: tuple[str, ...] = ()
    applications: tuple[str, ...] = ()

    def check_file(self, path: str, *, field: str) -> Path:
        """
        Resolve a path, including symbolic links and ``..``, and check that it is in an allowed folder.

        :return: the resolved path.
        :raises CredentialsError: if the path is in none of the folders.
        """
        try:
            resolved = Path(path).resolve()
        except (OSError, RuntimeError, ValueError) as error:
            # A loop of symbolic links; a NUL.
            raise CredentialsError(
                f"{field} = {path!r} is not a path: {type(error).__name__}. Correct it."
            ) from None
        if not any(resolved.is_relative_to(folder.resolve()) for folder in self.folders):
            folders = ", ".join(str(folder) for folder in self.folders) or "none"
            raise CredentialsError(
                f"{field} = {path!r} is outside the folders that this deployment allows ({folders}). Put the "
                "file into one of these folders, or ask the administrator of the deployment to add its "
                f"folder to {_option(ALLOWED_IDENTITY_FOLDERS)}."
            )
        return resolved

    def read_file(self, path: str, *, field: str) -> bytes:
        """
        Read a file that a connection names. The check and the content are those of the same file.

        :raises CredentialsError: if the path is in none of the folders, or is not a file of at most 1 MiB.
        :raises OSError: if the file cannot be read.
        """
        self.check_file(path, field=field)
        # O_NONBLOCK: a named pipe must not block the thread.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:  # noqa: PTH123 # the file that is open, whatever the path is now
            opened = os.fstat(descriptor)
            # A symbolic link may have been replaced since the check.
            current = self.check_file(path, field=field).lstat()
            if not stat.S_ISREG(opened.st_mode) or not os.path.samestat(opened, current):
                raise CredentialsError(
                    f"{field} = {path!r} is not a regular file, or was replaced while it was read: try "
                    "again.",
                    permanent=False,
                )
            content = file.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            raise CredentialsError(
                f"{field} = {path!r} has more than {MAX_FILE_BYTES:,} bytes. Correct the path."
            )
        return content

    def check_endpoint(self, url: str, *, field: str) -> None:
        """
        Check that the host of an endpoint is one of AWS's, of this machine, or allowed by the deployment.

        :raises CredentialsError: if the host is not allowed.
        """
        host = split_endpoint(url).hostname or ""
        if is_loopback(host) or _AWS_HOST.fullmatch(host):
            return
        if not any(fnmatch.fnmatchcase(host, pattern.lower()) for pattern in self.hosts):
            raise CredentialsError(
                f"{field} = {url!r} names a host that is neither an endpoint of AWS (sagemaker or sts) "
                "nor allowed by this deployment. Correct it, or ask the administrator of the deployment to "
                f"add the host to {_option(ALLOWED_ENDPOINT_HOSTS)}."
            )

    def check_application(self, uri: str, *, field: str) -> None:
        """
        Check that the deployment allows to request tokens for an application.

        :raises CredentialsError: if the application is not allowed.
        """
        if not _APPLICATION.fullmatch(uri) and uri.removesuffix("/.default") not in self.applications:
            raise CredentialsError(
                f"{field} = {uri!r} is not an application for AWS: give api://<name or id>, or ask the "
                f"administrator of the deployment to add it to {_option(ALLOWED_APPLICATIONS)}."
            )


def split_endpoint(url: str) -> SplitResult:
    """
    Check the form of an endpoint's URL, and return its parts.

    :raises ValueError: if it is not ``https://<host>[:<port>]``, or http to this machine.
    """
    parts = urlsplit(url)
    host, _ = parts.hostname, parts.port
    if not url.isascii() or not url.isprintable() or " " in url or not host:
        raise ValueError("is not a URL: give https://<host>[:<port>]")
    if parts.username is not None or parts.path not in ("", "/") or "?" in url or "#" in url:
        raise ValueError("must have no user, path, query or fragment: give https://<host>[:<port>]")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(host)):
        raise ValueError("must begin with https:// (http:// only for 127.0.0.1 and localhost)")
    return parts


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _option(option: tuple[str, str]) -> str:
    section, name = option
    return f"[{section}] {name}"
