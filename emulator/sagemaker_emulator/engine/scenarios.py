"""
Scenarios: configure how the executions of a pipeline behave where that differs from the
default.

As JSON (all members are optional)::

    {"steps": {"Train": {
         "duration": 30,            seconds; null: the step runs until it is stopped
         "fail": {"reason": "...",  default: a text that names the step
                  "times": 2,       only the first two attempts fail; default: all
                  "exception_type": "SageMaker.CAPACITY_ERROR",  for the retry policies
                  "log_lines": ["...", "..."]},  the last lines of the log of the job
         "outputs": {"ok": "yes"},  output parameters of a Lambda or Callback step
         "property_files": {"Eval": {"auc": 0.9}},   also written to S3
         "result": [0, 1],          what the function of a @step returns; in S3
         "violations": [{           of a QualityCheck or ClarifyCheck step
             "feature_name": "age",
             "constraint_check_type": "completeness_check",
             "description": "..."}],
         "metrics": {"validation:auc": 0.9}}},   of a training, tuning or AutoML job
     "end_as": "CompletedWithFailures",   instead of Succeeded or Failed; a failed step
                                          stops no other branch
     "step_delay": 1,          seconds from a step to those after it; default: 2
     "failure_reason": "...",  the FailureReason of the execution, if its status has one
     "event_copies": 2,        how often each event is sent to EventBridge; default: 1
     "statuses": [{"status": "Pausing", "after": 10, "until": 60}]}   seconds since the
                                                                      start (or retry)

``statuses`` replaces the status in API responses with any other text, from ``after`` to
``until`` (null: without end). It does not change what the execution does. A Callback
step with a ``duration`` ends by itself after that time, and succeeds unless ``fail``
applies. A scenario applies to executions and retries that start after it was set, not
to executions that are already running.

The metrics of a tuning job are those of its best training job. Those of an AutoML job
are metrics of its best candidate, with AWS's names, such as ``AUC``. A job that does
not succeed has none.

A Lambda step fails if its function is ``polysync-no-such-function``, with any ending,
unless the scenario names the step.

A step of a ForEach step has the scenario of its own name (``Body-0``), else that of its
body step (``Body``). A step that the SageMaker Python SDK has named after its function
and a UUID has that of the function.

The violations are in the violation report in S3. The step fails because of them, unless
its ``FailOnViolation`` is false. With ``SkipCheck``, it finds none.

A failure is retried if a policy in the step's ``RetryPolicies`` lists its exception
type. Without ``exception_type``, a ``reason`` that contains InternalServerError,
CapacityError, InsufficientCapacity, ResourceLimitExceeded or ThrottlingException has
the type of that error, any other ``reason`` has none, and a failure without a
``reason`` has every type; see `engine.retry_policies`. Without ``log_lines``, the log
ends with a traceback and the reason; see `sagemaker.jobs.logs`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf, isfinite
from typing import Any

from sagemaker_emulator.engine.definition import EXCEPTION_TYPES, Step
from sagemaker_emulator.engine.durations import STEP_START
from sagemaker_emulator.engine.expressions import FUNCTION_RESULT, Scope

FAILURE_REASON_LENGTH = 1024
EXECUTION_FAILURE_REASON_LENGTH = 1300
MAX_LOG_LINES = 10_000
LOG_LINE_LENGTH = 10_000
# https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribeTrainingJob.html
# (FinalMetricDataList)
MAX_METRICS = 40
METRIC_NAME_LENGTH = 255
MAX_EVENT_COPIES = 10
MAX_VIOLATIONS = 1000
_UUID = re.compile(r"-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
_MEMBERS = {
    "steps",
    "end_as",
    "step_delay",
    "failure_reason",
    "statuses",
    "event_copies",
}
# The errors in the failure reasons of jobs, and their exception types in
# https://docs.aws.amazon.com/sagemaker/latest/dg/pipelines-retry-policy.html
_ERRORS = (
    ("InternalServerError", "SageMaker.JOB_INTERNAL_ERROR"),
    ("CapacityError", "SageMaker.CAPACITY_ERROR"),
    ("InsufficientCapacity", "SageMaker.CAPACITY_ERROR"),
    ("ResourceLimitExceeded", "SageMaker.RESOURCE_LIMIT"),
    ("ThrottlingException", "Step.THROTTLING"),
)


class ScenarioError(ValueError):
    """Raised when a scenario is invalid; the message names the member."""


@dataclass(frozen=True)
class StepScenario:
    """
    The behaviour of one step. A ``duration`` of None is the default of the step type;
    infinity means no end.

    :param exception_types: the exception types of the failure; see `retry_policies`.
    :param log_lines: the last lines of the log of a job that fails; None for the
        default lines.
    """

    duration: float | None = None
    failure: str | None = None
    failing_attempts: float = 0
    exception_types: tuple[str, ...] = ()
    log_lines: tuple[str, ...] | None = None
    outputs: Mapping[str, str] = field(default_factory=dict)
    property_files: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    violations: tuple[Mapping[str, str], ...] = ()


# Of a Lambda step whose function does not exist. AWS does not document its text.
MISSING_FUNCTION = StepScenario(
    duration=1.0, failure="The Lambda function does not exist.", failing_attempts=inf
)


@dataclass(frozen=True)
class StatusWindow:
    """
    A status that replaces the real one, in seconds after the start of the execution or
    its retry.
    """

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
    step_delay: float = STEP_START
    event_copies: int = 1

    def name_of(self, step: Step) -> str:
        """Return the name under which the scenario has a step, or its own."""
        names = (step.name, step.body.get("Name", ""), _UUID.sub("", step.name))
        return next((name for name in names if name in self.steps), step.name)

    def of_step(self, step: Step) -> StepScenario:
        """Return the behaviour of a step."""
        default = MISSING_FUNCTION if step.calls_missing_function else StepScenario()
        return self.steps.get(self.name_of(step), default)

    @property
    def any_failure_allowed(self) -> bool:
        """Whether a failed step stops no other branch."""
        return self.end_as == "CompletedWithFailures"

    def write_to(self, scope: Scope) -> None:
        """
        Let the expressions of an execution refer to the property files and metrics of
        this scenario.
        """
        scope.property_files = _by_step(self.steps, "property_files")
        scope.metrics = _by_step(self.steps, "metrics")

    def shown_status(self, elapsed: float) -> str | None:
        """
        Return the status to show some seconds after the start or retry; None for the
        real one.
        """
        return next(
            (w.status for w in self.statuses if w.after <= elapsed < w.until), None
        )


def _by_step(
    steps: Mapping[str, StepScenario], member: str
) -> dict[tuple[str, str], Any]:
    return {
        (step, name): value
        for step in steps
        for name, value in getattr(steps[step], member).items()
    }


def parse(document: Any) -> Scenario:
    """
    Parse a scenario in its JSON form.

    :param document: the parsed JSON.
    :raises ScenarioError: if a member is unknown or has the wrong type.
    """
    where = "scenario"
    body = _object(document, where, _MEMBERS)
    steps = _object(body.get("steps", {}), f"{where}.steps", None)
    end_as = body.get("end_as")
    if end_as not in (None, "CompletedWithFailures", "Succeeded", "Failed"):
        raise ScenarioError(
            f"{where}.end_as is {end_as!r}, not one of Succeeded, Failed and"
            " CompletedWithFailures"
        )
    reason = _text(body, "failure_reason", where, EXECUTION_FAILURE_REASON_LENGTH)
    if reason and not reason.isprintable():
        raise ScenarioError(
            f"{where}.failure_reason must be one line of printable text"
        )
    windows = body.get("statuses", [])
    if not isinstance(windows, list):
        raise ScenarioError(f"{where}.statuses is not a list")
    return Scenario(
        steps={
            name: _step(entry, f"{where}.steps.{name}") for name, entry in steps.items()
        },
        end_as=end_as,
        failure_reason=reason,
        statuses=tuple(
            _window(entry, f"{where}.statuses[{i}]") for i, entry in enumerate(windows)
        ),
        step_delay=_seconds(body, "step_delay", where, STEP_START),
        event_copies=_copies(body, where),
    )


def _copies(body: Mapping[str, Any], where: str) -> int:
    copies = body.get("event_copies", 1)
    if (
        isinstance(copies, bool)
        or not isinstance(copies, int)
        or not 1 <= copies <= MAX_EVENT_COPIES
    ):
        raise ScenarioError(
            f"{where}.event_copies is not a whole number from 1 to {MAX_EVENT_COPIES}"
        )
    return copies


def _step(document: Any, where: str) -> StepScenario:
    body = _object(
        document,
        where,
        {
            "duration",
            "fail",
            "outputs",
            "property_files",
            "result",
            "metrics",
            "violations",
        },
    )
    outputs = _object(body.get("outputs", {}), f"{where}.outputs", None)
    if not all(
        isinstance(value, str) and len(value) <= 1024 for value in outputs.values()
    ):
        raise ScenarioError(
            f"{where}.outputs must map names to strings of at most 1024 characters"
        )
    files = _object(body.get("property_files", {}), f"{where}.property_files", None)
    if "result" in body:
        files = {
            **files,
            FUNCTION_RESULT: {"Result": body["result"], "Exception": None},
        }
    return StepScenario(
        duration=_seconds(body, "duration", where, inf) if "duration" in body else None,
        outputs=outputs,
        property_files=files,
        metrics=_metrics(body.get("metrics", {}), f"{where}.metrics"),
        violations=_violations(body.get("violations", []), f"{where}.violations"),
        **({} if body.get("fail") is None else _failure(body["fail"], f"{where}.fail")),
    )


def _metrics(document: Any, where: str) -> dict[str, float]:
    metrics = _object(document, where, None)
    if len(metrics) > MAX_METRICS or not all(
        1 <= len(name) <= METRIC_NAME_LENGTH for name in metrics
    ):
        raise ScenarioError(
            f"{where} is not at most {MAX_METRICS} metrics with names of 1 to"
            f" {METRIC_NAME_LENGTH} characters"
        )
    for name, value in metrics.items():
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not isfinite(value)
        ):
            raise ScenarioError(f"{where}.{name} is not a number")
    return {name: float(value) for name, value in metrics.items()}


def _violations(document: Any, where: str) -> tuple[Mapping[str, str], ...]:
    if not isinstance(document, list) or len(document) > MAX_VIOLATIONS:
        raise ScenarioError(
            f"{where} is not a list of at most {MAX_VIOLATIONS} violations"
        )
    for index, violation in enumerate(document):
        members = _object(violation, f"{where}[{index}]", None)
        if not members or not all(isinstance(value, str) for value in members.values()):
            raise ScenarioError(
                f"{where}[{index}] must map names to strings, such as feature_name"
                " to age"
            )
    return tuple(document)


def _failure(document: Any, where: str) -> dict[str, Any]:
    body = _object(document, where, {"reason", "times", "exception_type", "log_lines"})
    reason = _text(body, "reason", where, FAILURE_REASON_LENGTH)
    exception_type = body.get("exception_type")
    if exception_type is not None and exception_type not in EXCEPTION_TYPES:
        raise ScenarioError(
            f"{where}.exception_type is {exception_type!r}, not one of"
            f" {list(EXCEPTION_TYPES)}"
        )
    lines = body.get("log_lines")
    if lines is not None and not (
        isinstance(lines, list)
        and len(lines) <= MAX_LOG_LINES
        and all(
            isinstance(line, str) and len(line) <= LOG_LINE_LENGTH for line in lines
        )
    ):
        raise ScenarioError(
            f"{where}.log_lines is not a list of at most {MAX_LOG_LINES} strings "
            f"of at most {LOG_LINE_LENGTH} characters"
        )
    if exception_type is not None:
        exception_types: tuple[str, ...] = (exception_type,)
    else:
        exception_types = EXCEPTION_TYPES if reason is None else types_in(reason)
    name = where.split(".")[-2]
    return {
        "failure": f"The emulated step {name} failed." if reason is None else reason,
        "failing_attempts": _seconds(body, "times", where, inf),
        "exception_types": exception_types,
        "log_lines": None if lines is None else tuple(lines),
    }


def types_in(reason: str) -> tuple[str, ...]:
    """Return the exception types of the errors that a failure reason names."""
    return tuple(kind for pattern, kind in _ERRORS if pattern in reason)


def _window(document: Any, where: str) -> StatusWindow:
    body = _object(document, where, {"status", "after", "until"})
    status = _text(body, "status", where, 256)
    if not status:
        raise ScenarioError(f"{where}.status is missing")
    return StatusWindow(
        status, _seconds(body, "after", where, 0), _seconds(body, "until", where, inf)
    )


def _object(document: Any, where: str, allowed: set[str] | None) -> dict[str, Any]:
    if not isinstance(document, dict):
        raise ScenarioError(f"{where} is not an object")
    if allowed is not None and (unknown := sorted(document.keys() - allowed)):
        raise ScenarioError(
            f"{where} has unknown members {unknown}; allowed are {sorted(allowed)}"
        )
    return document


def _text(body: Mapping[str, Any], key: str, where: str, limit: int) -> str | None:
    value = body.get(key)
    if value is not None and (not isinstance(value, str) or len(value) > limit):
        raise ScenarioError(
            f"{where}.{key} is not a string of at most {limit} characters"
        )
    return value


def _seconds(body: Mapping[str, Any], key: str, where: str, default: float) -> float:
    value = body.get(key)
    if value is None:
        return default
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not isfinite(value)
        or value < 0
    ):
        raise ScenarioError(f"{where}.{key} is not a number of at least 0")
    return float(value)
