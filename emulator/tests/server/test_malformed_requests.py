"""
Requests that no client of AWS sends: the emulator refuses them, without an error of its
own.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from http.client import HTTPConnection
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest
from moto.moto_api._internal.urls import url_paths

from sagemaker_emulator import EmulatorServer
from sagemaker_emulator.sagemaker.api import OPERATIONS
from sagemaker_emulator.server import bodies
from sagemaker_emulator.server.server import _Handler

AUTHORIZATION = (
    "AWS4-HMAC-SHA256 Credential=AKIATEST/20250101/{}/{}/aws4_request,"
    " SignedHeaders=host, Signature=0"
)
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
JSON = {"Content-Type": "application/json"}
RESET = "/moto-api/reset"
#: The paths of moto's server, in each spelling, and others that look like them.
MOTO_PATHS = [
    *(path.replace("{0}", "").rstrip("$") for path in url_paths),
    "/moto-api",
    "//moto-api/data.json",
    "/moto-api//data.json",
    "/moto-api/data.json/",
    "/moto-api/reset/",
    "/moto-api/./data.json",
    "/moto-api%2Fdata.json",
    "/%6doto-api/data.json",
    "/moto-api/data.json?x=1",
    "http://127.0.0.1/moto-api/data.json",
]
OTHER_PATHS = [
    "/moto-apix/data.json",
    "/Moto-API/data.json",
    "/x/../moto-api/data.json",
    "/favicon.ico",
    "/latest/meta-data/iam/security-credentials/role",
]
#: moto takes the service from the first of two scopes, also if its date is none.
FOREIGN_SCOPE = (
    "AWS4-HMAC-SHA256 Credential=AKIATEST/x/us-east-1/{}/aws4_request,"
    " Credential=AKIATEST/20250101/us-east-1/s3/aws4_request"
)
MALFORMED = {
    "deep list": b"[" * 200_000,
    "deep object": b'{"a":' * 900 + b"1" + b"}" * 900,
    "no UTF-8": b"\xff\xfe",
    "cut off": b"{",
    "nothing": b"",
    "null": b"null",
    "list": b"[]",
    "no number": b'{"a": NaN}',
    "long number": b"1" * 5000,
    "half a character": b'{"PipelineName": "\\ud800"}',
    "no text": b'{"PipelineName": {"a": [1]}}',
    "large number": b'{"MaxResults": 1' + b"0" * 400 + b"}",
    "no text in a map": b'{"CustomerMetadataProperties": {"a": 1}}',
}


def headers_of(service: str, region: str = "us-east-1") -> dict[str, str]:
    """Return the headers of a signed request."""
    return {"Authorization": AUTHORIZATION.format(region, service)}


def send(
    server: EmulatorServer,
    method: str,
    path: str,
    body: Any = b"",
    headers: dict[str, str] | None = None,
) -> tuple[int, bytes]:
    """Return the status and the body of the response to a request."""
    connection = HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request(method, path, body, headers or {})
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response.status, content


@pytest.mark.parametrize(
    "headers",
    [{}, headers_of("s3"), {"Authorization": FOREIGN_SCOPE.format("motoapi")}],
    ids=["unsigned", "signed", "foreign scope"],
)
def test_only_reset_of_motos_own_routes_is_served(
    server: EmulatorServer, headers: dict[str, str]
) -> None:
    """
    The others would record what clients send, with their keys, and give it to everyone.
    """
    for path in (*MOTO_PATHS, *OTHER_PATHS):
        for method in ("GET", "POST", "PUT"):
            if (method, path) == ("POST", RESET):
                continue
            status, body = send(server, method, path, b"{}", {**JSON, **headers})
            allowed = [403, 404, 405]
            if path in OTHER_PATHS:
                # That of no service, or of an object in S3.
                allowed.append(400)
            assert status in allowed, (method, path, body)

    assert send(server, "POST", RESET)[0] == 200


@pytest.mark.parametrize("service", ["lambda", "ec2", "motoapi"])
def test_service_is_chosen_once(server: EmulatorServer, service: str) -> None:
    """moto cannot find another service in a request than the emulator does."""
    headers = {"Authorization": FOREIGN_SCOPE.format(service)}

    assert send(server, "GET", "/2015-03-31/functions/", b"", headers)[0] == 404


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED)
def test_control_api_explains_malformed_content(
    server: EmulatorServer, body: bytes
) -> None:
    """Whatever the content is, the response is 400 and says what is wrong."""
    for method, path in (
        ("POST", "/clock/advance"),
        ("PUT", "/scenarios"),
        ("PUT", "/sign-in"),
        ("POST", "/faults"),
    ):
        status, content = send(server, method, f"/_emulator{path}", body, JSON)
        assert (status, list(json.loads(content))) == (400, ["error"]), path


@pytest.mark.parametrize(
    ("path", "document"),
    [
        ("POST /clock/advance", {"seconds": 1e300}),
        ("POST /clock/advance", {"seconds": 10**400}),
        ("POST /faults", {"kind": "throttle", "count": 10**400}),
        ("PUT /scenarios", {"step_delay": 10**400}),
        ("PUT /sign-in", {"issuers": {"https://i": {"keys": [{"kty": []}]}}}),
        ("PUT /sign-in", {"issuers": {"https://i": {"keys": 1}}}),
        ("GET /calls?after=" + "9" * 5000, {}),
    ],
    ids=str,
)
def test_control_api_explains_values_out_of_range(
    server: EmulatorServer, path: str, document: dict[str, Any]
) -> None:
    """A value that Python cannot use is one that the client must change."""
    method, _, route = path.partition(" ")

    status, content = send(
        server, method, f"/_emulator{route}", json.dumps(document), JSON
    )

    assert (status, list(json.loads(content))) == (400, ["error"])


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED)
def test_malformed_request_is_no_failure_of_a_service(
    server: EmulatorServer, body: bytes
) -> None:
    """
    Each operation of the emulator, and some of moto, refuse it as a client's error,
    which no client tries again.
    """
    targets = [("sagemaker", f"SageMaker.{name}") for name in OPERATIONS]
    targets += [
        ("sagemaker", "SageMaker.DescribeModel"),
        ("sqs", "AmazonSQS.SendMessage"),
        ("logs", "Logs_20140328.GetLogEvents"),
        ("events", "AWSEvents.PutRule"),
        ("kms", "TrentService.Encrypt"),
    ]
    for service, target in targets:
        headers = {**headers_of(service), "X-Amz-Target": target}
        status, content = send(server, "POST", "/", body, headers)
        assert status < 500, (target, content)
        if target == "SageMaker.DescribePipeline" and b"PipelineName" in body:
            assert b"SerializationException" in content


@pytest.mark.parametrize("service", ["sts", "iam"])
@pytest.mark.parametrize(
    "form", [b"Action=GetCallerIdentity&x=\xff", b"\xff", b"Action=%ff", b""]
)
def test_malformed_form(server: EmulatorServer, service: str, form: bytes) -> None:
    """A form that is not in UTF-8, or names no operation, is a client's error."""
    headers = {**FORM, **headers_of(service)}

    assert 400 <= send(server, "POST", "/", form, headers)[0] < 500


@pytest.mark.parametrize("region", ["nowhere", "us-east-99", "..", "us-east-1%00"])
def test_unknown_region(server: EmulatorServer, region: str) -> None:
    """A region that AWS does not have makes no state, in whatever service."""
    for service, target in (
        ("sagemaker", "SageMaker.ListPipelines"),
        ("sagemaker", "SageMaker.ListModels"),
        ("sqs", "AmazonSQS.ListQueues"),
    ):
        headers = {**headers_of(service, region), "X-Amz-Target": target}
        status, content = send(server, "POST", "/", b"{}", headers)
        assert status == 403
        assert b"Credential should be scoped to a valid region" in content
    assert region not in server.pipelines


def test_region_newer_than_moto(server: EmulatorServer) -> None:
    """It has pipelines; moto's part of SageMaker is refused."""
    headers = headers_of("sagemaker", "eu-central-9")
    for operation, status in (("ListPipelines", 200), ("ListModels", 403)):
        target = {"X-Amz-Target": f"SageMaker.{operation}"}
        answer = send(server, "POST", "/", b"{}", {**headers, **target})
        assert answer[0] == status


def test_body_has_a_limit(server: EmulatorServer) -> None:
    """
    A longer body is refused by its length, before a byte of it is there. S3 has a
    higher limit than the others.
    """
    sagemaker = {**headers_of("sagemaker"), "X-Amz-Target": "SageMaker.ListPipelines"}
    for path, headers, limit in (
        ("/_emulator/faults", JSON, bodies.MAX_BYTES),
        ("/", sagemaker, bodies.MAX_BYTES),
        ("/", FORM, bodies.MAX_BYTES),
        ("/bucket/key", headers_of("s3"), bodies.MAX_OBJECT_BYTES),
    ):
        length = {"Content-Length": str(limit + 2)}
        status, content = send(server, "PUT", path, None, {**headers, **length})
        assert status in (413, 405), path
        assert status == 405 or str(limit).encode() in content

    spaces = b" " * (bodies.MAX_BYTES - 2) + b"{}"
    assert send(server, "POST", "/", spaces, sagemaker)[0] == 200


def test_chunked_body_has_a_limit(
    server: EmulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A body of unknown length is read up to the limit, and processed if it ends."""
    monkeypatch.setattr(bodies, "MAX_BYTES", 1000)
    headers = {**headers_of("sagemaker"), "X-Amz-Target": "SageMaker.ListPipelines"}

    def chunks(count: int) -> Iterator[bytes]:
        yield b"{}"
        for _ in range(count):
            yield b" " * 100

    assert send(server, "POST", "/", chunks(9), headers)[0] == 200
    status, content = send(server, "POST", "/", chunks(10), headers)
    assert (status, b"at most 1000 bytes" in content) == (413, True)


def test_body_that_does_not_arrive_in_time(
    server: EmulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that sends one byte after the other does not hold its thread."""
    # Not the wait for a single byte ends it, but the time since the connection.
    monkeypatch.setattr(_Handler, "timeout", 600)
    ticks = count(0, bodies.SECONDS)
    monkeypatch.setattr(bodies, "time", SimpleNamespace(monotonic=ticks.__next__))
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as client:
        client.sendall(
            b"POST /_emulator/faults HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n"
        )
        response = b""
        while part := client.recv(1000):
            response += part

    assert b" 400 " in response.splitlines()[0]
    assert b"has not arrived within 60 seconds" in response
