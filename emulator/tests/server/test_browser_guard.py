"""Requests of web pages: the emulator refuses them before it does anything."""

from __future__ import annotations

import json
from http.client import HTTPConnection
from typing import Any

import pytest
from botocore.exceptions import ClientError

from sagemaker_emulator import EmulatorServer
from sagemaker_emulator.builders import ROLE
from tests.builders import chain
from tests.conftest import ClientOf

RESET = ("POST", "/_emulator/reset")
LIST = ("POST", "/")
HEALTH = ("GET", "/_emulator/health")
MOTO = ("GET", "/moto-api/data.json")
MOTO_RESET = ("POST", "/moto-api/reset")
JSON = {"Content-Type": "application/json"}


def send(
    server: EmulatorServer, request: tuple[str, str], headers: dict[str, str]
) -> tuple[int, Any]:
    """Send a request; return the status of the response, and the response."""
    connection = HTTPConnection("127.0.0.1", server.port, timeout=10)
    method, path = request
    connection.putrequest(method, path, skip_host="Host" in headers)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response.status, (response, body)


@pytest.mark.parametrize(
    "request_", [RESET, LIST, HEALTH, MOTO, MOTO_RESET], ids=lambda request: request[1]
)
@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:4599"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": ""},
        {"Host": "localhost.evil.example"},
        {"Host": "sagemaker.evil.example"},
        {"Host": "evilsagemaker"},
        {"Host": "team_default"},
        {"Host": "172.18.0.4:4599"},
        {"Host": "0.0.0.0:4599"},
        {"Host": "sagemaker:4599", "Origin": "http://sagemaker:4599"},
        {"Host": "sagemaker:4599", "Sec-Fetch-Site": "cross-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:8080"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
    ids=str,
)
def test_requests_of_other_sites_are_refused(
    server: EmulatorServer, request_: tuple[str, str], headers: dict[str, str]
) -> None:
    """
    Another host name, an Origin, or a browser's mark of another site: HTTP 403, without
    any CORS header.
    """
    server.control.put_scenario({"end_as": "Failed"})

    status, (response, body) = send(server, request_, {**JSON, **headers})

    assert status == 403
    assert json.loads(body)["error"]
    assert not [
        name
        for name, _ in response.getheaders()
        if name.lower().startswith("access-control")
    ]
    assert server.control.scenarios()["default"] == {"end_as": "Failed"}


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", None]
)
def test_control_calls_need_json_content(
    server: EmulatorServer, content_type: str | None
) -> None:
    """A page can send a form or a text without asking first, but no JSON."""
    headers = {"Content-Type": content_type} if content_type else {}

    assert send(server, RESET, headers)[0] == 403
    assert send(server, RESET, JSON)[0] == 200


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:1",
        "localhost",
        "LOCALHOST:80",
        "[::1]:80",
        "bucket.localhost:80",
        "127.1.2.3",
    ],
)
def test_names_of_this_machine_are_accepted(server: EmulatorServer, host: str) -> None:
    """The emulator can be addressed by every name of the loopback interface."""
    assert send(server, HEALTH, {"Host": host})[0] == 200


@pytest.mark.parametrize(
    "host", ["sagemaker:4599", "SAGEMAKER", "emulator.team_default", "172.18.0.3:80"]
)
def test_names_that_are_allowed(server: EmulatorServer, host: str) -> None:
    """
    The emulator can be addressed by the names and addresses that it is started with.
    """
    assert send(server, HEALTH, {"Host": host})[0] == 200


@pytest.mark.parametrize(
    ("host", "path"),
    [
        ("sagemaker:4599", "/models/model.tar.gz"),
        ("models.sagemaker:4599", "/model.tar.gz"),
        ("emulator.team_default:4599", "/models/model.tar.gz"),
        ("models.emulator.team_default", "/model.tar.gz"),
        ("172.18.0.3:4599", "/models/model.tar.gz"),
        ("models.localhost", "/model.tar.gz"),
    ],
)
def test_buckets_at_an_allowed_name(
    server: EmulatorServer, client_of: ClientOf, host: str, path: str
) -> None:
    """
    S3 clients name the bucket in the path, or in front of the name; a dot in the name
    is no bucket.
    """
    s3 = client_of("s3")
    s3.create_bucket(Bucket="models")
    s3.put_object(Bucket="models", Key="model.tar.gz", Body=b"weights")
    scope = "AKIATEST/20260101/us-east-1/s3/aws4_request"
    authorization = (
        f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0"
    )

    status, (_, body) = send(
        server, ("GET", path), {"Host": host, "Authorization": authorization}
    )

    assert (status, body) == (200, b"weights")


def test_only_the_services_that_a_pipeline_needs_are_served(
    client_of: ClientOf,
) -> None:
    """
    moto's Lambda would run containers: it is not reachable, and neither is moto's own
    control API.
    """
    assert client_of("iam").list_users()["Users"] == []
    assert client_of("s3").list_buckets()["Buckets"] == []
    assert client_of("logs").describe_log_groups()["logGroups"] == []
    assert client_of("kms").list_keys()["Keys"] == []
    assert client_of("sagemaker").list_models()["Models"] == []
    for service, operation in (
        ("lambda", "list_functions"),
        ("ec2", "describe_instances"),
        ("batch", "describe_jobs"),
    ):
        arguments = {"jobs": ["x"]} if service == "batch" else {}
        call = getattr(client_of(service), operation)
        with pytest.raises(ClientError, match="UnknownOperationException"):
            call(**arguments)


def test_control_api_of_moto_is_not_reachable(server: EmulatorServer) -> None:
    """Without a signature, moto would show and change all of its state."""
    for request in (
        MOTO,
        ("POST", "/moto-api/seed?a=1"),
        ("GET", "/moto-api/reset"),
        ("GET", "/"),
    ):
        assert send(server, request, JSON)[0] in (400, 403, 404, 405)


@pytest.mark.parametrize("headers", [{}, JSON], ids=str)
def test_reset_of_moto(
    server: EmulatorServer, client_of: ClientOf, headers: dict[str, str]
) -> None:
    """
    Tests that were written for moto's server reset all state with its route, which
    needs no content.
    """
    client_of("s3").create_bucket(Bucket="models")
    client_of("sagemaker").create_pipeline(
        PipelineName="P",
        PipelineDefinition=chain("A"),
        RoleArn=ROLE,
        ClientRequestToken="t" * 32,
    )
    server.control.put_scenario({"end_as": "Failed"})

    status, (_, body) = send(server, MOTO_RESET, headers)

    assert (status, json.loads(body)) == (200, {"status": "ok"})
    assert client_of("s3").list_buckets()["Buckets"] == []
    assert server.pipelines == {}
    assert server.control.scenarios()["default"] is None
    assert client_of("iam").get_role(RoleName="SageMakerRole")["Role"]["Arn"] == ROLE


def test_presigned_urls_work(server: EmulatorServer, client_of: ClientOf) -> None:
    """
    A presigned URL names its service in the query, and is served without a header.
    """
    s3 = client_of("s3")
    s3.create_bucket(Bucket="models")
    s3.put_object(Bucket="models", Key="model.tar.gz", Body=b"weights")
    url = s3.generate_presigned_url(
        "get_object", Params={"Bucket": "models", "Key": "model.tar.gz"}
    )

    path = url.split(f":{server.port}", 1)[1]

    assert send(server, ("GET", path), {})[1][1] == b"weights"
