"""
What is wrong with the host, and not with the request: its clock, the certificates that
it trusts, its file descriptors.
"""

from __future__ import annotations

import json
import os
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from polysync_airflow.aws import sessions
from polysync_airflow.exceptions import PolysyncError
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.triggers.shared_client import PollingHook
from tests.conftest import ARN, use_connection
from tests.fakes.endpoints.certificates import Pki
from tests.fakes.endpoints.fake_server import FakeServer, Route
from tests.fakes.fake_sagemaker import dripping

# As AWS answers a request whose time is not its own.
TEXT = "Signature expired: 20261201T000000Z is now earlier than 20261201T005500Z"
JSON = json.dumps({"__type": "InvalidSignatureException", "message": TEXT})
XML = (
    "<ErrorResponse><Error><Type>Sender</Type><Code>SignatureDoesNotMatch</Code>"
    f"<Message>{TEXT}</Message></Error></ErrorResponse>"
)
ASSUME_ROLE = {
    "auth_method": "assume_role",
    "role_arn": "arn:aws:iam::123456789012:role/x",
}


def error_of(call: Callable[[], Any]) -> PolysyncError:
    """Return the error of a call."""
    with pytest.raises(PolysyncError) as caught:
        call()
    return caught.value


def describe() -> Any:
    """Describe an execution with the connection ``polysync_default``."""
    return PolysyncSageMakerHook().describe_pipeline_execution(ARN)


def refusal(body: str, ahead: float) -> bytes:
    """Return a response of an AWS whose clock the host is ahead of."""
    return (
        "HTTP/1.1 403 Forbidden\r\nConnection: close\r\n"
        f"Date: {formatdate(time.time() - ahead, usegmt=True)}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


@pytest.mark.parametrize(
    ("ahead", "text"),
    [(3600, "1 h ahead of"), (-3600, "1 h behind"), (60, "secret access key")],
)
@pytest.mark.parametrize("body", [JSON, XML])
def test_refusal_because_of_the_clock_is_transient(
    monkeypatch: pytest.MonkeyPatch, body: str, ahead: float, text: str
) -> None:
    """
    A wrong clock can be set right, a wrong key cannot. The text is the same at each
    poll, so the log has one line.
    """
    fields = ASSUME_ROLE if body is XML else {}
    with dripping(refusal(body, ahead), b"", 0) as (url, _):
        use_connection(monkeypatch, endpoint_url=url, sts_endpoint_url=url, **fields)
        error = error_of(describe)

    is_clock = abs(ahead) > 300
    assert (error.permanent, error.transient) == (not is_clock, is_clock)
    assert text in str(error)
    assert (TEXT in str(error)) is not is_clock


class _Server(FakeServer):
    def routes(self) -> Sequence[Route]:
        """Return no routes."""
        return ()


def test_certificate_that_is_not_trusted_names_the_cure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """
    It is not repeated within the call: no later moment cures it. A wait goes on, since
    somebody may.
    """
    pki = Pki(tmp_path)
    with _Server(tls=pki.server_context()) as server:
        use_connection(monkeypatch, endpoint_url=server.url)
        error = error_of(describe)

    assert (error.permanent, error.transient) == (False, False)
    assert "the field verify of the connection" in str(error)
    assert getattr(error, "error_code", None) == "SSLCertVerificationError"


@contextmanager
def no_descriptor_left() -> Iterator[None]:
    """Use up all file descriptors of this process, up to a lower limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(path.name) for path in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
    taken: list[int] = []
    try:
        with suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        yield
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_no_file_descriptor_is_transient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first client of a triggerer reads files. The wait goes on without them."""
    use_connection(monkeypatch, endpoint_url="http://127.0.0.1:9")
    sessions._reduced_loader.cache_clear()
    hook = PollingHook()
    assert hook.credentials
    with no_descriptor_left():
        error = error_of(lambda: hook.describe_pipeline_execution(ARN))

    assert (error.permanent, error.transient) == (False, True)
    assert "no file descriptor left" in str(error)
