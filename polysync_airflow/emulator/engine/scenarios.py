"""
Scenarios: configure how the executions of a pipeline behave where that differs from the default.

As JSON (all members are optional)::

    {"steps": {"Train": {"duration": 30,            seconds; null: the step runs until it is stopped
                         "fail": {"reason": "...",  default: a text that names the step
                                  "times": 2},      only the first two attempts fail; default: all
                         "outputs": {"ok": "yes"},  output parameters of a Lambda or Callback step
                         "property_files": {"Eval": {"auc": 0.9}}}},
     "end_as": "CompletedWithFailures",   instead of Succeeded or Failed; a failed step stops no other branch
     "failure_reason": "...",             the FailureReason of the execution, if its status has one
     "statuses": [{"status": "Pausing", "after": 10, "until": 60}]}   seconds since the start (or retry)

``statuses`` replaces the status in API responses with any other text, from ``after`` to ``until`` (null:
without end). It does not change what the execution does. A Callback step with a ``duration`` ends by itself
after that time, and succeeds unless ``fail`` applies. A scenario applies to executions and retries that start
after it was set, not to executions that are already running.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf, isfinite
from typing import Any

FAILURE_REASON_LENGTH = 1024
EXECUTION_FAILURE_REASON_LENGTH = 1300


class ScenarioError(ValueError):
    """Raised when a scenario is invalid; the message names the member."""


@dataclass(frozen=True)
class StepScenario:
    """
    The behaviour of one step. A ``duration`` of None is the default of the step type; infinity means no end.
    """

    duration: float | None = None
    failure: str | None = None
    failing_attempts: float = 0
    outputs: Mapping[str, str] = field(default_factory=dict)
    property_files: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class StatusWindow:
    """A status that replaces the real one, in seconds after the start of the execution or its retry."""

    status: str
    after: float
    until: float


@dataclass(frozen=True)
class Scenario:
    """The behaviour of an execution."""

    steps: Mapping[str, StepScenario] = field(default_factory=dict)
    end_as: str | None = None
    failure_reason: str | None = None
    statuses: tuple[StatusWindow, ...] = ()

    def step(self, name: str) -> StepScenario:
        """Return the behaviour of the step ``name``."""
        return self.steps.get(name, StepScenario())


def parse(document: Any) -> Scenario:
    """
    Parse a scenario in its JSON form.

    :param document: the parsed JSON.
    :raises ScenarioError: if a member is unknown or has the wrong type.
    """
    where = "scenario"
    body = _object(document, where, {"steps", "end_as", "failure_reason", "statuses"})
    steps = _object(body.get("steps", {}), f"{where}.steps", None)
    end_as = body.get("end_as")
    if end_as not in (None, "CompletedWithFailures", "Succeeded", "Failed"):
        raise ScenarioError(
            f"{where}.end_as is {end_as!r}, not one of Succeeded, Failed and CompletedWithFailures"
        )
    reason = _text(body, "failure_reason", where, EXECUTION_FAILURE_REASON_LENGTH)
    if reason and not reason.isprintable():
        raise ScenarioError(f"{where}.failure_reason must be one line of printable text")
    windows = body.get("statuses", [])
    if not isinstance(windows, list):
        raise ScenarioError(f"{where}.statuses is not a list")
    return Scenario(
        steps={name: _step(entry, f"{where}.steps.{name}") for name, entry in steps.items()},
        end_as=end_as,
        failure_reason=reason,
        statuses=tuple(_window(entry, f"{where}.statuses[{i}]") for i, entry in enumerate(windows)),
    )


def _step(document: Any, where: str) -> StepScenario:
    body = _object(document, where, {"duration", "fail", "outputs", "property_files"})
    failure, attempts = None, 0.0
    if body.get("fail") is not None:
        fail = _object(body["fail"], f"{where}.fail", {"reason", "times"})
        name = where.rpartition(".")[2]
        failure = _text(fail, "reason", f"{where}.fail", FAILURE_REASON_LENGTH)
        failure = failure if failure is not None else f"The emulated step {name} failed."
        attempts = _seconds(fail, "times", f"{where}.fail", inf)
    outputs = _object(body.get("outputs", {}), f"{where}.outputs", None)
    if not all(isinstance(value, str) and len(value) <= 1024 for value in outputs.values()):
        raise ScenarioError(f"{where}.outputs must map names to strings of at most 1024 characters")
    return StepScenario(
        duration=_seconds(body, "duration", where, inf) if "duration" in body else None,
        failure=failure,
        failing_attempts=attempts,
        outputs=outputs,
        property_files=_object(body.get("property_files", {}), f"{where}.property_files", None),
    )


def _window(document: Any, where: str) -> StatusWindow:
    body = _object(document, where, {"status", "after", "until"})
    status = _text(body, "status", where, 256)
    if not status:
        raise ScenarioError(f"{where}.status is missing")
    return StatusWindow(status, _seconds(body, "after", where, 0), _seconds(body, "until", where, inf))


def _object(document: Any, where: str, allowed: set[str] | None) -> dict[str, Any]:
    if not isinstance(document, dict):
        raise ScenarioError(f"{where} is not an object")
    if allowed is not None and (unknown := sorted(document.keys() - allowed)):
        raise ScenarioError(f"{where} has unknown members {unknown}; allowed are {sorted(allowed)}")
    return document


def _text(body: Mapping[str, Any], key: str, where: str, limit: int) -> str | None:
    value = body.get(key)
    if value is not None and (not isinstance(value, str) or len(value) > limit):
        raise ScenarioError(f"{where}.{key} is not a string of at most {limit} characters")
    return value


def _seconds(body: Mapping[str, Any], key: str, where: str, default: float) -> float:
    value = body.get(key)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value) or value < 0:
        raise ScenarioError(f"{where}.{key} is not a number of at least 0")
    return float(value)
