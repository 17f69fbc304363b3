"""
A server for random accounts, in a process of its own.

Where the stalls of an event loop are measured, the work of the server must not count.
"""

from __future__ import annotations

import json
import multiprocessing
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, Self

from tests.fakes.fake_sagemaker import Body, answering
from tests.fuzz.account import ARN, Account

# An execution that has succeeded in each account.
QUICK = ARN.replace("/slow/", "/quick/")
_QUICK_BODY = json.dumps(
    {"PipelineExecutionArn": QUICK, "PipelineExecutionStatus": "Succeeded"}
).encode()


class AccountServer:
    """
    A server that stands for one account at a time; a context manager that ends it.
    """

    def __init__(self) -> None:
        # A fork of a process with threads may hang.
        processes = multiprocessing.get_context("spawn")
        self._channel, other_end = processes.Pipe()
        self._process = processes.Process(target=_run, args=(other_end,), daemon=True)
        self._process.start()
        other_end.close()
        self.url: str = self._channel.recv()

    def serve(self, account: Account) -> None:
        """Stand for another account from now on."""
        self._channel.send(account)
        self._channel.recv()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()
        self._process.join()


def _run(channel: Connection) -> None:
    """Serve the accounts that come through a channel, until it is closed."""
    account: Account | None = None

    def respond(operation: str, request: Any) -> Body:
        if request.get("PipelineExecutionArn") == QUICK or account is None:
            return Body(_QUICK_BODY)
        return account.respond(operation, request)

    with answering(respond) as (url, _), suppress(EOFError):
        channel.send(url)
        while True:
            account = channel.recv()
            channel.send(None)
