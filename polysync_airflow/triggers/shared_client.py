"""Owns the connection that all waits of a process share: one client, which follows its changes."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final, TypeVar

from botocore.config import Config

from polysync_airflow.aws.rate_limiter import rate_limiter_for
from polysync_airflow.aws.sessions import RATE_LIMITED_CONFIG
from polysync_airflow.exceptions import PolysyncError, is_throttling
from polysync_airflow.execution.models import ExecutionDescription
from polysync_airflow.hooks import PolysyncSageMakerHook

log = logging.getLogger(__name__)

Result = TypeVar("Result")

# How many calls may be under way at once, and so how many connections to AWS there are.
WORKERS: Final = 8
# How often a connection is read again that gives no trouble.
CHECK_SECONDS: Final = 300.0
# And at most how often because of trouble, however many waits have it.
SHORTEST_CHECK_SECONDS: Final = 5.0
# What is sent are ARNs that AWS gave: to check them again at each call would be a twentieth of its CPU.
_CONFIG: Final = RATE_LIMITED_CONFIG.merge(Config(max_pool_connections=WORKERS, parameter_validation=False))


@dataclass(frozen=True)
class Listing:
    """
    What a listing showed.

    :param found: of the executions that were wanted, by ARN.
    :param pages: how many calls it took.
    :param error: what ended it early.
    """

    found: Mapping[str, ExecutionDescription]
    pages: int
    error: PolysyncError | None = None


class SharedClient:
    """
    The way to AWS of one connection and region. May be used by several threads.

    :param connection_id: Airflow connection.
    :param region_name: AWS region; None for the connection's.
    """

    def __init__(self, connection_id: str, region_name: str | None) -> None:
        # Who has the same key shares a poller, and a pace.
        self.key = connection_id, region_name
        self._lock = threading.Lock()
        self._hook: PolysyncSageMakerHook | None = None
        self._checked_at = 0.0
        self.pace = rate_limiter_for(self.key, time.monotonic())
        self.can_list = True

    @property
    def hook(self) -> PolysyncSageMakerHook:
        """The hook; anew if the connection has changed."""
        with self._lock:
            if self._hook is None:
                # Older pydantics let threads that are the first to use the model meet it half built.
                ExecutionDescription.model_rebuild()
                self._hook, self._checked_at = self._make(), time.time()
            elif time.time() - self._checked_at > CHECK_SECONDS:
                self._renew(self._hook)
            return self._hook

    def describe(self, execution_arn: str) -> ExecutionDescription | PolysyncError:
        """
        Look at an execution.

        :param execution_arn: the execution.
        """
        try:
            return self._ask(lambda hook: hook.describe_pipeline_execution(execution_arn))
        except PolysyncError as error:
            return error

    def list_executions(self, pipeline: str, since: datetime, wanted: Collection[str]) -> Listing:
        """
        List a pipeline's executions, the newest first, until all that are wanted have been found.

        Further pages keep to the pace; there are no more of them than looks at each would take.

        :param pipeline: the pipeline's name or ARN.
        :param since: leave out those that began before.
        :param wanted: the executions' ARNs.
        """
        found: dict[str, ExecutionDescription] = {}
        pages, token = 0, None
        try:
            while len(found) < len(wanted) and pages < len(wanted) and (token or not pages):
                if pages:
                    self._wait_for_turn()
                rows, token = self._ask(
                    partial(_list_page, pipeline=pipeline, created_after=since, page_token=token)
                )
                pages += 1
                found |= {row.execution_arn: row for row in rows if row.execution_arn in wanted}
        except PolysyncError as error:
            return Listing(found, pages, error)
        return Listing(found, pages)

    def _wait_for_turn(self) -> None:
        while seconds := self.pace.try_acquire(time.monotonic()):
            time.sleep(seconds)

    def _ask(self, call: Callable[[PolysyncSageMakerHook], Result]) -> Result:
        hook = self.hook
        try:
            return call(hook)
        except PolysyncError as error:
            if is_throttling(error):
                self.pace.throttled(time.monotonic())
            # Whoever mends or rotates a connection expects that those who wait go on with it.
            if error.transient or not self._has_changed_from(hook):
                raise
        return call(self.hook)

    def _has_changed_from(self, hook: PolysyncSageMakerHook) -> bool:
        with self._lock:
            if self._hook is hook and time.time() - self._checked_at > SHORTEST_CHECK_SECONDS:
                self._renew(hook)
            return self._hook is not hook

    def _renew(self, hook: PolysyncSageMakerHook) -> None:
        self._checked_at = time.time()
        anew = self._make()
        try:
            changed = not anew.has_same_connection(hook)
        except PolysyncError as error:
            log.warning("The connection %r cannot be read again: %s", self.key[0], error)
            return
        if changed:
            log.info("The connection %r has changed; looks go on with it as it is now.", self.key[0])
            self._hook, self.can_list = anew, True

    def _make(self) -> PolysyncSageMakerHook:
        return PolysyncSageMakerHook(*self.key, config=_CONFIG)


def _list_page(hook: PolysyncSageMakerHook, **request: Any) -> tuple[list[ExecutionDescription], str | None]:
    return hook.list_pipeline_executions(request.pop("pipeline"), **request)
