"""
Fixtures: an account of the emulator, whose time passes only while a check waits, and an
AWS that differs.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from botocore.client import BaseClient
from botocore.exceptions import ClientError

from sagemaker_emulator import EmulatorServer
from sagemaker_emulator.verify import calls, runner
from sagemaker_emulator.verify.account import Account
from sagemaker_emulator.verify.scenarios import inbox
from sagemaker_emulator.verify.session import Session
from tests.conftest import ClientOf

ROLE = "arn:aws:iam::123456789012:role/service-role/Pipelines"
RUN_ID = "0123abcd"

MakeAccount = Callable[..., Account]
# Answers a call in place of AWS: gets the request, and a function that sends one to the
# emulator.
Answer = Callable[[dict[str, Any], Callable[[dict[str, Any]], Any]], Any]
LetAnswer = Callable[[str, Answer], None]


class EmulatedTime:
    """
    Replaces the module ``time`` of the checks; ``slept`` lists the seconds of each wait
    of at least 0.2 s.

    ``speed``: how many emulated seconds pass in a second of the checks.
    """

    def __init__(self, server: EmulatorServer) -> None:
        self._clock: Any = server.clock
        self.slept: list[float] = []
        self.speed = 1.0
        self._now = 1000.0

    def monotonic(self) -> float:
        """Return the time of the checks."""
        return self._now

    def sleep(self, seconds: float) -> None:
        """Let the time pass, while a check waits."""
        self.slept += [seconds] if seconds >= 0.2 else []
        self.pass_by(seconds)

    def pass_by(self, seconds: float) -> None:
        """Let the time pass."""
        self._now += max(0.0, seconds)
        self._clock.advance(max(0.0, seconds) * self.speed)


@pytest.fixture
def emulated_time(
    server: EmulatorServer, monkeypatch: pytest.MonkeyPatch
) -> EmulatedTime:
    """Let the checks wait in emulated time."""
    time = EmulatedTime(server)
    monkeypatch.setattr(calls, "time", time)
    # The clock is one for all checks: beside others, a check would see their waits as
    # its own.
    monkeypatch.setattr(
        runner, "ThreadPoolExecutor", lambda _, **names: ThreadPoolExecutor(1, **names)
    )
    # A wait of SQS takes the time of the host.
    monkeypatch.setattr(inbox, "_WAIT_SECONDS", 0)
    return time


@pytest.fixture
def make_session(
    server: EmulatorServer,
    client_of: ClientOf,
    new_client_of: ClientOf,
    emulated_time: EmulatedTime,
) -> Callable[..., Session]:
    """Return a function that signs in to the emulator."""

    def make(**members: Any) -> Session:
        identity = client_of("sts").get_caller_identity()
        # As many retries as those of a run, which registers handlers of its own.
        return Session(partial(new_client_of, retries=7), identity, [], **members)

    return make


@pytest.fixture
def make_account(make_session: Callable[..., Session]) -> MakeAccount:
    """
    Return a function that makes an account of the emulator, with options of the
    command.
    """

    def make(options: dict[str, str] | None = None, **members: Any) -> Account:
        return Account(make_session(**members), ROLE, RUN_ID, options or {})

    return make


@pytest.fixture
def let_answer(monkeypatch: pytest.MonkeyPatch) -> LetAnswer:
    """
    Return a function that lets another one answer the calls of an operation, or of all,
    as AWS might.
    """
    answers: dict[str, list[Answer]] = {}
    send = BaseClient._make_api_call  # type: ignore[attr-defined]  # the stubs leave it out

    def call(client: Any, operation: str, request: dict[str, Any]) -> Any:
        def follow(left: list[Answer]) -> Callable[[dict[str, Any]], Any]:
            if not left:
                return lambda changed: send(client, operation, changed)
            return lambda changed: left[0](changed, follow(left[1:]))

        return follow([*answers.get("", []), *answers.get(operation, [])])(request)

    monkeypatch.setattr(BaseClient, "_make_api_call", call)
    return lambda operation, answer: answers.setdefault(operation, []).append(answer)


def refuse(code: str, text: str = "") -> ClientError:
    """Return the error of a refused call."""
    return ClientError({"Error": {"Code": code, "Message": text}}, "Operation")


def names(server: EmulatorServer) -> set[str]:
    """Return the names of the pipelines that the checks have made and not deleted."""
    return {name for region in server.pipelines.values() for name in region}
