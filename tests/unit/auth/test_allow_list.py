"""
What a connection may name: files, endpoints and applications that the deployment
allows, and no others.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from polysync_airflow.auth.allow_list import MAX_FILE_BYTES, AllowList, endpoint_host
from polysync_airflow.exceptions import CredentialsError


@pytest.mark.parametrize(
    "url",
    [
        "https://sts.amazonaws.com",
        "https://sts.us-east-1.amazonaws.com/",
        "https://sts-fips.us-east-1.amazonaws.com",
        "https://sts.cn-north-1.amazonaws.com.cn",
        "https://api.sagemaker.eu-central-1.amazonaws.com:443",
        "https://api-fips.sagemaker.us-east-1.amazonaws.com",
        "https://api.sagemaker.us-east-1.api.aws",
        "https://vpce-0a1b2c3d-x7.api.sagemaker.us-east-1.vpce.amazonaws.com",
        "https://vpce-0a1b2c3d-x7.sts.us-east-1.vpce.amazonaws.com",
        "https://logs.us-east-1.amazonaws.com",
        "https://iam.amazonaws.com",
        "https://STS.EU-CENTRAL-1.AMAZONAWS.COM",
        "https://vpce-0a1b2c3d-x7-us-east-1a.api.sagemaker.us-east-1.vpce.amazonaws.com",
        "https://sts.eusc-de-east-1.amazonaws.eu",
        "http://127.0.0.1:4599",
        "http://localhost:4599",
        "http://[::1]:4599",
        "https://proxy.example.com",
        "https://a.b.internal.example.com",
    ],
)
def test_endpoints_of_aws_of_this_machine_and_of_the_deployment_are_allowed(
    url: str,
) -> None:
    """AWS's own endpoints, the emulator, and the hosts in allowed_endpoint_hosts."""
    allowed = AllowList(hosts=("proxy.example.com", "*.internal.example.com"))

    endpoint_host(url)
    allowed.check_endpoint(url, field="endpoint_url")


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example",
        "https://amazonaws.com.evil.example",
        "https://sts.us-east-1.amazonaws.com.evil.example",
        "https://evilsts.amazonaws.com",
        # Anybody can have these.
        "https://x7.execute-api.us-east-1.amazonaws.com",
        "https://evil-1.us-east-1.elb.amazonaws.com",
        "https://sts.s3.amazonaws.com.s3.amazonaws.com",
        "https://bucket.s3.amazonaws.com",
        "https://vpce-me.sts.s3.amazonaws.com",
        "https://sts.s3.amazonaws.com",
        "https://vpce-me.sts.us-east-1.amazonaws.com",
        "https://sts.us-east-1.vpce.amazonaws.com",
        "https://x.sts.us-east-1.amazonaws.com",
        "https://sts.us-east-1.amazonaws.com.cn",
        "https://vpce-1.vpce-svc-2.us-east-1.vpce.amazonaws.com",
        "https://169.254.169.254",
    ],
)
def test_other_hosts_are_refused(url: str) -> None:
    """The error names the field, the value and the config option."""
    with pytest.raises(CredentialsError) as caught:
        AllowList().check_endpoint(url, field="sts_endpoint_url")

    message = str(caught.value)
    assert caught.value.permanent
    assert f"sts_endpoint_url = {url!r}" in message
    assert "[polysync_sagemaker] allowed_endpoint_hosts" in message


@pytest.mark.parametrize(
    "url",
    [
        "http://sts.amazonaws.com",
        "ftp://127.0.0.1",
        "https://user@sts.amazonaws.com",
        "https://user:password@sts.amazonaws.com",
        "https://sts.amazonaws.com/path",
        "https://sts.amazonaws.com?x=1",
        "https://sts.amazonaws.com/?",
        "https://sts.amazonaws.com#x",
        "https://sts.amazonaws.com:99999",
        "https://",
        "https://[",
        "https://sts.amazonaws.com\n",
        "https://sts.amazon aws.com",
        "https://stş.amazonaws.com",
        "http://127.0.0.1.evil.example",
        "sts.amazonaws.com",
        "",
        "https://sts.us-east-1.amazonaws.com.",
        # urllib.parse and urllib3 take them for the URLs of different hosts.
        "https://evil.com\\.vpce.example.com",
        "https://evil.com\\@a.vpce.example.com",
        "https://evil.com%2f.vpce.example.com",
    ],
)
def test_urls_of_another_form_are_refused(url: str) -> None:
    """Only https://<host>[:<port>], or http to this machine."""
    with pytest.raises(ValueError):  # noqa: PT011 # urllib raises some of them, with texts of its own
        endpoint_host(url)
    with pytest.raises(CredentialsError, match="endpoint_url = "):
        AllowList(hosts=("*.vpce.example.com",)).check_endpoint(
            url, field="endpoint_url"
        )


@pytest.mark.parametrize(
    "uri",
    ["api://polysync", "api://1111-2222/.default", "sts.amazonaws.com", "https://ours"],
)
def test_applications_for_aws_and_of_the_deployment_are_allowed(uri: str) -> None:
    """
    The form api://..., the audience of AWS, and the entries of allowed_applications.
    """
    AllowList(applications=("https://ours",)).check_application(
        uri, field="application_id_uri"
    )


@pytest.mark.parametrize(
    "uri",
    [
        "https://management.azure.com",
        "https://management.azure.com/.default",
        "https://vault.azure.net",
        "https://graph.microsoft.com/.default",
        "797f4846-ba00-4fd7-ba43-dac1f8f63013",
        "api://",
        "xapi://polysync",
    ],
)
def test_other_applications_are_refused(uri: str) -> None:
    """A token for Azure's own services must not reach AWS."""
    with pytest.raises(CredentialsError, match="allowed_applications"):
        AllowList(applications=("https://ours",)).check_application(
            uri, field="application_id_uri"
        )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that the deployment allows."""
    folder = tmp_path / "allowed"
    folder.mkdir()
    return folder


def test_a_file_in_an_allowed_folder_is_read(folder: Path) -> None:
    """Also through symbolic links inside the folder, as Kubernetes projects tokens."""
    (folder / "..data").mkdir()
    (folder / "..data" / "token").write_bytes(b"abc")
    (folder / "token").symlink_to(folder / "..data" / "token")

    assert (
        AllowList((folder,)).read_file(str(folder / "token"), field="identity_file")
        == b"abc"
    )


def test_a_file_that_becomes_a_link_is_not_read(folder: Path, tmp_path: Path) -> None:
    """Not even if it is replaced after its path was checked."""
    (tmp_path / "secret").write_bytes(b"secret")
    (folder / "token").write_bytes(b"token")

    class SlowList(AllowList):
        def check_file(self, path: str, *, field: str) -> Path:
            resolved = super().check_file(path, field=field)
            resolved.unlink()
            resolved.symlink_to(tmp_path / "secret")
            return resolved

    with pytest.raises(OSError, match="symbolic links"):
        SlowList((folder,)).read_file(str(folder / "token"), field="identity_file")


def test_loops_nul_and_directories_are_errors_of_the_field(folder: Path) -> None:
    """A path that is not one ends in our error, or in one of the operating system."""
    (folder / "loop").symlink_to(folder / "loop")
    for path in (folder / "loop", folder / "a\x00b", folder):
        with pytest.raises((CredentialsError, OSError)) as caught:
            AllowList((folder,)).read_file(str(path), field="identity_file")
        assert "identity_file" in str(caught.value) or isinstance(caught.value, OSError)


def test_named_pipes_and_large_files_are_refused(folder: Path) -> None:
    """
    A pipe would block the thread for ever. A file that is missing may be projected
    later.
    """
    os.mkfifo(folder / "pipe")
    with (folder / "large").open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)

    for name in ("pipe", "large"):
        with pytest.raises(
            CredentialsError, match="is not a file of at most 1,048,576 bytes"
        ):
            AllowList((folder,)).read_file(str(folder / name), field="identity_file")
    with pytest.raises(FileNotFoundError):
        AllowList((folder,)).read_file(str(folder / "missing"), field="identity_file")
