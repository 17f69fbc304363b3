"""
Scenarios: how the executions of a pipeline behave, where that is not the default.

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
     "speed": 120,             how many times as fast as by default an execution starts
                               and stops, and its steps start, and run if they have no
                               duration; all times remain those of the clock
     "failure_reason": "...",  the FailureReason of the execution, if its status has one
     "event_copies": 2,        how often each event is sent to EventBridge; default: 1
     "statuses": [{"status": "Pausing", "after": 10, "until": 60}]}   seconds since the
                                                                      start (or retry)

``statuses`` replaces the status in API responses with any other text, from ``after`` to
``until`` (null: without end). It does not change what the execution does. A Callback
step with a ``duration`` ends by itself after that time, and succeeds unless ``fail``
applies. A scenario applies to executions and retries that start after it was set, not
to executions that are already running.

The metrics of a tuning job are those of its best training job. The metrics of an AutoML
job are those of its best candidate, with AWS's names, such as ``AUC``. A job that does
not succeed has none.

A Lambda step fails if its function is ``polysync-no-such-function``, with any ending,
unless the scenario names the step.

An iteration of a ForEach step has the scenario of its own name (``Body-0``), or else
the one of the step in the body (``Body``). A step that the SageMaker Python SDK has
named after a function and a UUID has the scenario of the function's name.

The violations are in the violation report in S3. The step fails because of them, unless
its ``FailOnViolation`` is false. With ``SkipCheck``, it finds none.

A failure is retried if a policy in the step's ``RetryPolicies`` lists its exception
type. Without ``exception_type``, a ``reason`` that contains InternalServerError,
CapacityError, InsufficientCapacity, "account-level service limit",
ResourceLimitExceeded or ThrottlingException has the type of that error, any other
``reason`` has none, and a failure without a ``reason`` has every type; see
`engine.retry_policies`. Without ``log_lines``, the log ends with a traceback and the
reason; see `sagemaker.jobs.logs`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import inf, isfinite
from typing import Any

from sagemaker_emulator.engine.definition import Step
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
    "speed",
}
_STEP_MEMBERS = {
    "duration",
    "fail",
    "outputs",
    "property_files",
    "result",
    "metrics",
    "violations",
}
# The exception types of retry policies, and which of them the errors in the failure
# reasons of jobs have:
# https://docs.aws.amazon.com/sagemaker/latest/dg/pipelines-retry-policy.html
_EXCEPTION_TYPES = (
    "Step.SERVICE_FAULT",
    "Step.THROTTLING",
    "SageMaker.JOB_INTERNAL_ERROR",
    "SageMaker.CAPACITY_ERROR",
    "SageMaker.RESOURCE_LIMIT",
)
_ERRORS = (
    ("InternalServerError", "SageMaker.JOB_INTERNAL_ERROR"),
    ("CapacityError", "SageMaker.CAPACITY_ERROR"),
    ("InsufficientCapacity", "SageMaker.CAPACITY_ERROR"),
    # "ClientError: Failed to invoke sagemaker:CreateTrainingJob. Error Details: The
    # account-level service limit 'ml.p2.xlarge for training job usage' is ..."
    ("account-level service limit", "SageMaker.RESOURCE_LIMIT"),
    ("ResourceLimitExceeded", "SageMaker.RESOURCE_LIMIT"),
    ("ThrottlingException", "Step.THROTTLING"),
)


class ScenarioError(ValueError):
    """Raised when a scenario is invalid; the message names the member."""


@dataclass(frozen=True)
class StepScenario:
    """
    The behaviour of one step.

    :param duration: the seconds from its start to its end; infinity for a step that
        does not end by itself, None for the default of the type.
    :param failure: the reason of its failure; None if it does not fail.
    :param failing_attempts: how many attempts fail, from the first one on.
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


_USUAL = StepScenario()
# The behaviour of a Lambda step whose function does not exist. AWS does not document
# the text.
MISSING_FUNCTION = StepScenario(
    duration=1.0, failure="The Lambda function does not exist.", failing_attempts=inf
)


@dataclass(frozen=True)
class StatusWindow:
    """
    A status that replaces the real one for some time.

    :param after: when it begins, in seconds after the start of the execution or its
        latest retry.
    :param until: when it ends, in the same seconds.
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
    speed: float = 1.0

    def name_of(self, step: Step) -> str:
        """
        Return the name that the scenario has for a step; the step's own if it has none.
        """
        body_name = step.body.get("Name", "")
        function_name = _UUID.sub("", step.name)
        for name in (step.name, body_name, function_name):
            if name in self.steps:
                return name
        return step.name

    def of_step(self, step: Step) -> StepScenario:
        """Return the behaviour of a step."""
        name = self.name_of(step)
        if name in self.steps:
            return self.steps[name]
        if step.calls_missing_function:
            return MISSING_FUNCTION
        return _USUAL

    @property
    def any_failure_allowed(self) -> bool:
        """Whether a failed step stops no other branch."""
        return self.end_as == "CompletedWithFailures"

    def with_files_of(self, other: Scenario) -> Scenario:
        """
        Return this scenario with the property files of another one, for the steps for
        which it has none.
        """
        steps = dict(self.steps)
        for name, behaviour in other.steps.items():
            own = steps.get(name, StepScenario())
            if not own.property_files:
                steps[name] = replace(own, property_files=behaviour.property_files)
        return replace(self, steps=steps)

    def write_to(self, scope: Scope) -> None:
        """
        Let the expressions of an execution refer to the property files and metrics of
        this scenario.
        """
        scope.property_files = {
            (step, file): content
            for step, behaviour in self.steps.items()
            for file, content in behaviour.property_files.items()
        }
        scope.metrics = {
            (step, metric): value
            for step, behaviour in self.steps.items()
            for metric, value in behaviour.metrics.items()
        }

    def shown_status(self, elapsed: float) -> str | None:
        """
        Return the status that replaces the real one; None if none does.

        :param elapsed: the seconds since the start of the execution or its latest
            retry.
        """
        for window in self.statuses:
            if window.after <= elapsed < window.until:
                return window.status
        return None


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
    speed = _seconds(body, "speed", where, 1)
    if not speed:
        raise ScenarioError(f"{where}.speed is not above 0")
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
            _window(entry, f"{where}.statuses[{index}]")
            for index, entry in enumerate(windows)
        ),
        step_delay=_seconds(body, "step_delay", where, STEP_START / speed),
        event_copies=_copies(body, where),
        speed=speed,
    )


def _copies(body: Mapping[str, Any], where: str) -> int:
    copies = body.get("event_copies", 1)
    is_integer = isinstance(copies, int) and not isinstance(copies, bool)
    if not is_integer or not 1 <= copies <= MAX_EVENT_COPIES:
        raise ScenarioError(
            f"{where}.event_copies is not a whole number from 1 to {MAX_EVENT_COPIES}"
        )
    return int(copies)


def _step(document: Any, where: str) -> StepScenario:
    body = _object(document, where, _STEP_MEMBERS)
    outputs = _object(body.get("outputs", {}), f"{where}.outputs", None)
    if not all(
        isinstance(value, str) and len(value) <= 1024 for value in outputs.values()
    ):
        raise ScenarioError(
            f"{where}.outputs must map names to strings of at most 1024 characters"
        )
    files = _object(body.get("property_files", {}), f"{where}.property_files", None)
    if "result" in body:
        result = {"Result": body["result"], "Exception": None}
        files = {**files, FUNCTION_RESULT: result}
    duration = None
    if "duration" in body:
        duration = _seconds(body, "duration", where, inf)
    behaviour = StepScenario(
        duration=duration,
        outputs=outputs,
        property_files=files,
        metrics=_metrics(body.get("metrics", {}), f"{where}.metrics"),
        violations=_violations(body.get("violations", []), f"{where}.violations"),
    )
    if body.get("fail") is None:
        return behaviour
    return _failing(behaviour, body["fail"], f"{where}.fail")


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
        if not _is_number(value):
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


def _failing(behaviour: StepScenario, document: Any, where: str) -> StepScenario:
    """Return the behaviour of a step that fails as its member ``fail`` says."""
    body = _object(document, where, {"reason", "times", "exception_type", "log_lines"})
    reason = _text(body, "reason", where, FAILURE_REASON_LENGTH)
    exception_type = body.get("exception_type")
    if exception_type is not None and exception_type not in _EXCEPTION_TYPES:
        raise ScenarioError(
            f"{where}.exception_type is {exception_type!r}, not one of"
            f" {list(_EXCEPTION_TYPES)}"
        )
    log_lines = _log_lines(body, where)
    exception_types: tuple[str, ...]
    if exception_type is not None:
        exception_types = (exception_type,)
    elif reason is not None:
        exception_types = tuple(kind for error, kind in _ERRORS if error in reason)
    else:
        exception_types = _EXCEPTION_TYPES
    if reason is None:
        step = where.split(".")[-2]
        reason = f"The emulated step {step} failed."
    return replace(
        behaviour,
        failure=reason,
        failing_attempts=_seconds(body, "times", where, inf),
        exception_types=exception_types,
        log_lines=log_lines,
    )


def _log_lines(body: Mapping[str, Any], where: str) -> tuple[str, ...] | None:
    lines = body.get("log_lines")
    if lines is None:
        return None
    is_list = isinstance(lines, list) and len(lines) <= MAX_LOG_LINES
    if not is_list or not all(
        isinstance(line, str) and len(line) <= LOG_LINE_LENGTH for line in lines
    ):
        raise ScenarioError(
            f"{where}.log_lines is not a list of at most {MAX_LOG_LINES} strings "
            f"of at most {LOG_LINE_LENGTH} characters"
        )
    return tuple(lines)


def _window(document: Any, where: str) -> StatusWindow:
    body = _object(document, where, {"status", "after", "until"})
    status = _text(body, "status", where, 256)
    if not status:
        raise ScenarioError(f"{where}.status is missing")
    return StatusWindow(
        status=status,
        after=_seconds(body, "after", where, 0),
        until=_seconds(body, "until", where, inf),
    )


def _object(document: Any, where: str, allowed: set[str] | None) -> dict[str, Any]:
    if not isinstance(document, dict):
        raise ScenarioError(f"{where} is not an object")
    if allowed is not None and document.keys() - allowed:
        raise ScenarioError(
            f"{where} has unknown members {sorted(document.keys() - allowed)};"
            f" allowed are {sorted(allowed)}"
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
    if not _is_number(value) or value < 0:
        raise ScenarioError(f"{where}.{key} is not a number of at least 0")
    return float(value)


def _is_number(value: Any) -> bool:
    # In Python, bool is a subclass of int.
    return type(value) in (int, float) and isfinite(value)
