"""The context manager that lets all clients of boto3 call the emulator."""

from __future__ import annotations

import os

import boto3
import pytest

from sagemaker_emulator import EmulatorServer
from sagemaker_emulator.clients import RedirectedBoto3


def test_all_clients_call_the_emulator(
    server: EmulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Clients of the default session with an address of AWS, and those of other sessions;
    then all is restored.
    """
    monkeypatch.setenv("AWS_PROFILE", "does-not-exist")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    before: object = (None, dict(os.environ))

    with RedirectedBoto3(
        f"{server.endpoint_url}/", region_name="eu-central-1"
    ) as session:
        assert boto3.DEFAULT_SESSION is session
        sts = session.client(
            "sts", endpoint_url="https://sts.eu-central-1.amazonaws.com"
        )
        assert sts.get_caller_identity()["Account"] == "123456789012"
        boto3.client("s3").put_object(
            Bucket=_bucket("models"), Key="a/b c.json", Body=b"{}"
        )
        s3 = session.client("s3", endpoint_url="https://s3.eu-central-1.amazonaws.com")
        assert [
            entry["Key"] for entry in s3.list_objects_v2(Bucket="models")["Contents"]
        ] == ["a/b c.json"]
        assert (
            boto3.Session().client("sagemaker").list_pipelines()["PipelineSummaries"]
            == []
        )

    assert (boto3.DEFAULT_SESSION, dict(os.environ)) == before
    assert {call["region"] for call in server.control.calls()} == {"eu-central-1"}


def _bucket(name: str) -> str:
    location = {"LocationConstraint": "eu-central-1"}
    boto3.client("s3").create_bucket(Bucket=name, CreateBucketConfiguration=location)
    return name


def test_it_restores_all_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Nothing of it stays in the process, also if it is started twice or stopped without a
    start.
    """
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    before, redirected = dict(os.environ), RedirectedBoto3("http://127.0.0.1:4599")
    redirected.stop()

    def start_twice() -> None:
        with redirected:
            redirected.start()

    with pytest.raises(RuntimeError, match="call stop"):
        start_twice()
    assert (boto3.DEFAULT_SESSION, dict(os.environ)) == (None, before)


def test_an_address_without_http_is_refused() -> None:
    """Before anything is changed."""
    with pytest.raises(ValueError, match="give the http:// URL"):
        RedirectedBoto3("127.0.0.1:4599")
