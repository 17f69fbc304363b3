"""
The wait for a resource that one operation of AWS describes: a model package, for
example.

``waiter.py`` has the rules of all waits. Everything here is pure.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self, TypeVar, cast

from pydantic import BaseModel, ConfigDict

from polysync_airflow.exceptions import PolysyncError
from polysync_airflow.execution import models, waiter
from polysync_airflow.execution.texts import NameText


class ResourceEvent(waiter.EndOfWait):
    """
    How a wait for a resource ended. All modes of a sensor end with it.

    :param outcome: that of the resource; ``timed_out``; ``refused`` (the polls fail
        with a permanent error).
    :param status: AWS's last known status of the resource; None if no poll has
        succeeded.
    :param message: AWS's reason, or why the wait ended without one.
    :param error_code: error code of the last poll, if it failed.
    """

    model_config = ConfigDict(populate_by_name=True)

    resource: str
    status: NameText | None = None
    message: str | None = None


AnyResourceEvent = TypeVar("AnyResourceEvent", bound=ResourceEvent)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceWaiter(waiter.Waiter[Any, AnyResourceEvent]):
    """
    The state of a wait for a resource.

    A subclass says which operation describes it, and what a description means. The
    model of the description has the members ``resource`` and ``status``. The event
    takes its other fields from the last description, by name.

    :param resource: its name or ARN.
    :param last: what AWS said last; None if no poll has succeeded.
    """

    # What the metrics and the log of the triggerer call these resources.
    polls: ClassVar[str]
    # What the log of the task calls one.
    kind: ClassVar[str]
    operation: ClassVar[str]
    # The member of the request that names the resource.
    request_member: ClassVar[str]
    description_model: ClassVar[type[BaseModel]]
    event_model: ClassVar[type[ResourceEvent]]

    resource: str
    last: Any = None

    @property
    def name(self) -> str:
        """The name or ARN of the resource."""
        return self.resource

    @property
    def label(self) -> str:
        """Its kind, and its name or ARN."""
        return f"{self.kind} {self.resource}"

    @staticmethod
    @abstractmethod
    def outcome_of(response: Any) -> tuple[str, str | None] | None:
        """
        Return how the wait ends with a description, and AWS's reason; None if it goes
        on.
        """

    @staticmethod
    @abstractmethod
    def state_of(response: Any) -> tuple[str, bool]:
        """
        Return what the log says of a description, and whether this version knows such a
        state.
        """

    def updated(self, response: Any) -> Self:
        """Return the state after a description."""
        return replace(self, last=response)

    def lines_about(self, response: Any, now: float) -> tuple[waiter.LogLine, ...]:
        """Return a line if the state has changed."""
        state, is_known = self.state_of(response)
        change = state
        if self.last:
            state_before, _ = self.state_of(self.last)
            if state == state_before:
                return ()
            change = f"{state_before} -> {state}"
        if is_known:
            return (waiter.LogLine(logging.INFO, f"{change}: {self.label}"),)
        note = "unknown to this version; the wait goes on, until its timeout"
        return (waiter.LogLine(logging.WARNING, f"{change} ({note}): {self.label}"),)

    def end_of(self, response: Any, now: float) -> AnyResourceEvent | None:
        """
        Return the event if the resource is in one of the states that end the wait.
        """
        end = self.outcome_of(response)
        if end is None:
            return None
        outcome, reason = end
        return self.event(outcome, reason)

    def event(
        self, outcome: Any, message: str | None, error: PolysyncError | None = None
    ) -> AnyResourceEvent:
        """Return the event, with what AWS said last."""
        values = {
            name: getattr(self.last, name)
            for name in self.event_model.model_fields
            if hasattr(self.last, name)
        }
        values |= {
            "outcome": outcome,
            "resource": self.resource,
            "message": message,
            **waiter.error_fields(error),
        }
        return cast("AnyResourceEvent", self.event_model(**values))  # pragma: no mutate


class ResourceArguments(waiter.WaitArguments):
    """
    The arguments of a trigger that waits for a resource. A subclass says which names
    are valid.
    """

    waiter_class: ClassVar[type[ResourceWaiter[Any]]]

    resource: str
    since: models.Timestamp
