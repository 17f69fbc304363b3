"""
What AWS says of changes in events: of executions, their steps, and model packages.

https://docs.aws.amazon.com/sagemaker/latest/dg/automating-sagemaker-with-eventbridge.html

They come in messages of a queue. Whoever may send to the queue wrote them, so nothing
in them is believed.

After the changes comes what a watcher wants (the arguments of the event trigger, and
which changes they mean), and what fills the queue of watchers, as a template of
CloudFormation: rules of EventBridge, the queue, its dead-letter queue and policy.

https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-event-patterns.html,
https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-use-resource-based.html and
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-dead-letter-queues.html

SQS does not tell whether others receive the messages of a queue, too. So a reader gives
messages back before it uses them. SQS hands a message to one consumer at a time, so one
that others take, and delete, does not return.
"""

from __future__ import annotations

import json
import math
import re
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, NamedTuple

import pydantic
from pydantic import BeforeValidator, Field, StringConstraints, ValidationError

from polysync_airflow import states
from polysync_airflow.exceptions import ParametersError
from polysync_airflow.execution import models, texts
from polysync_airflow.execution.console import execution_url
from polysync_airflow.execution.json_input import UnreadableJsonError, read_json

SOURCE: Final = "aws.sagemaker"
EXECUTION_CHANGE: Final = "SageMaker Model Building Pipeline Execution Status Change"
STEP_CHANGE: Final = "SageMaker Model Building Pipeline Execution Step Status Change"
MODEL_PACKAGE_CHANGE: Final = "SageMaker Model Package State Change"
# https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateModelPackage.html
PENDING_APPROVAL: Final = "PendingManualApproval"
APPROVAL_STATUSES: Final = ("Approved", "Rejected", PENDING_APPROVAL)
GROUP_PATTERN: Final = r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}"
_PACKAGE_ARN: Final = (
    r"^arn:aws[a-z\-]*:sagemaker:[a-z0-9\-]+:[0-9]{12}"
    r":model-package/[a-zA-Z0-9\-]+(/[0-9]{1,10})?$"
)

# What makes two events the same change: what, its step, its status, and when.
Key = tuple[str, str, str, str]


class Kind(StrEnum):
    """What has changed."""

    EXECUTION = "execution"
    STEP = "step"
    MODEL_PACKAGE = "model_package"


def _text(time: datetime | None) -> str | None:
    return time.isoformat() if time else None


# One damaged time must not make the change unreadable. In payloads, it is a text.
EventTime = Annotated[models.ResponseTime, pydantic.PlainSerializer(_text)]


class Change(models.FrozenModel, ABC):
    """
    A change that an event reports. Its fields are members of the payload, unless they
    are excluded.

    :param event_time: when AWS has sent the event.
    """

    kind: ClassVar[Kind]
    event_time: datetime = Field(exclude=True)
    execution_arn: str | None

    @property
    @abstractmethod
    def key(self) -> Key:
        """
        What makes this change the same as that of another event.

        An execution that is resumed keeps its ARN, so the ARN alone is not enough: the
        time counts, too. A change that is an end has the time of the end, which is the
        same in all its events. Others have no time of their own, only that of the
        event.
        """

    @property
    def changed_at(self) -> datetime:
        """When it was changed."""
        return self.event_time

    @property
    def payload(self) -> dict[str, Any]:
        """What the asset event says of the change, as JSON."""
        arn = self.execution_arn
        name = models.pipeline_name_of(arn) if arn else None
        return {
            "kind": self.kind.value,
            **self.model_dump(),
            "pipeline_name": name,
            "changed_at": self.changed_at.isoformat(),
            "console_url": execution_url(arn, name) if arn and name else None,
        }


class _ChangeInExecution(Change):
    """A change of an execution, or of one of its steps."""

    execution_arn: models.ExecutionArn = Field(validation_alias="pipelineExecutionArn")
    status: models.Status
    ended_at: EventTime

    @property
    def pipeline_name(self) -> str:
        """
        The name of the pipeline; in lower case for older pipelines, whose ARNs have it
        so.
        """
        return models.pipeline_name_of(self.execution_arn)

    state_of: ClassVar[Callable[[str], str]]

    @property
    def state(self) -> str:
        """
        The state: ``Success``, ``Failed``, ``Cancelled``, ``Running`` or ``Unknown``.
        """
        return type(self).state_of(self.status)

    @property
    def key(self) -> Key:
        """What makes this change the same as that of another event."""
        time = (
            self.ended_at
            if self.ended_at and states.has_ended(self.status)
            else self.event_time
        )
        return self.execution_arn, "", self.status, time.isoformat()

    @property
    def payload(self) -> dict[str, Any]:
        """What the asset event says of the change, as JSON."""
        return {**super().payload, "state": str(self.state)}


class ExecutionChange(_ChangeInExecution):
    """A change of the status of an execution."""

    kind: ClassVar[Kind] = Kind.EXECUTION
    state_of = states.state_of
    status: models.Status = Field(validation_alias="currentPipelineExecutionStatus")
    previous_status: models.Status | None = Field(
        None, validation_alias="previousPipelineExecutionStatus"
    )
    display_name: texts.NameText | None = Field(
        None, validation_alias="pipelineExecutionDisplayName"
    )
    started_at: EventTime = Field(None, validation_alias="executionStartTime")
    ended_at: EventTime = Field(None, validation_alias="executionEndTime")


class StepChange(_ChangeInExecution):
    """A change of the status of a step."""

    kind: ClassVar[Kind] = Kind.STEP
    state_of = states.state_of_step
    step_name: Annotated[texts.NameText, Field(min_length=1)] = Field(
        validation_alias="stepName"
    )
    step_type: texts.NameText | None = Field(None, validation_alias="stepType")
    status: models.Status = Field(validation_alias="currentStepStatus")
    previous_status: models.Status | None = Field(
        None, validation_alias="previousStepStatus"
    )
    reason: texts.ReasonText | None = Field(None, validation_alias="failureReason")
    started_at: EventTime = Field(None, validation_alias="stepStartTime")
    ended_at: EventTime = Field(None, validation_alias="stepEndTime")

    @property
    def key(self) -> Key:
        """What makes this change the same as that of another event."""
        arn, _, status, time = super().key
        return arn, self.step_name, status, time


class ModelPackageChange(Change):
    """The registration of a model package, or a change of its approval."""

    kind: ClassVar[Kind] = Kind.MODEL_PACKAGE
    model_package_arn: Annotated[
        str, StringConstraints(max_length=2048, pattern=_PACKAGE_ARN)
    ] = Field(validation_alias="ModelPackageArn")
    model_package_group: (
        Annotated[str, StringConstraints(pattern=f"^{GROUP_PATTERN}$")] | None
    ) = Field(None, validation_alias="ModelPackageGroupName")
    model_package_version: Annotated[int, Field(ge=1, le=models.MAX_INTEGER)] | None = (
        Field(None, validation_alias="ModelPackageVersion")
    )
    status: models.Status | None = Field(None, validation_alias="ModelPackageStatus")
    approval_status: models.Status = Field(
        PENDING_APPROVAL, validation_alias="ModelApprovalStatus"
    )
    # AWS's event in full stays valid without it.
    execution_arn: Annotated[models.ExecutionArn | None, texts.LENIENT] = Field(
        None, validation_alias=pydantic.AliasPath("MetadataProperties", "GeneratedBy")
    )
    created_at: EventTime = Field(None, validation_alias="CreationTime")
    modified_at: EventTime = Field(
        None, validation_alias="LastModifiedTime", exclude=True
    )

    @property
    def changed_at(self) -> datetime:
        """When it was changed."""
        return self.modified_at or self.event_time

    @property
    def key(self) -> Key:
        """What makes this change the same as that of another event."""
        return (
            self.model_package_arn,
            self.status or "",
            self.approval_status,
            self.changed_at.isoformat(),
        )


AnyChange = ExecutionChange | StepChange | ModelPackageChange
CHANGES: Final[
    dict[str, type[ExecutionChange] | type[StepChange] | type[ModelPackageChange]]
] = {
    EXECUTION_CHANGE: ExecutionChange,
    STEP_CHANGE: StepChange,
    MODEL_PACKAGE_CHANGE: ModelPackageChange,
}


# The size of an event:
# https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-quota.html. A message of a
# queue can have a MiB, and JSON of that size takes the event loop 0.1 s.
MAX_MESSAGE_BYTES: Final = 256 * 1024
_MAX_QUOTED: Final = 80


class UnreadableMessageError(ValueError):
    """
    Raised for a message that is no event for watchers. The text does not quote what may
    be secret.
    """


def _first_of_one(value: Any) -> Any:
    # An example of AWS has a list.
    return value[0] if isinstance(value, list) and len(value) == 1 else value


class _Envelope(models.FrozenModel):
    """
    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-events-structure.html
    """

    detail_type: str = Field(validation_alias="detail-type")
    source: Annotated[str, BeforeValidator(_first_of_one)]
    time: EventTime
    detail: dict[str, Any]


def read_message(body: object) -> AnyChange:
    """
    Return the change that a message reports.

    :param body: the body of the message.
    :raises UnreadableMessageError: it is too large, no JSON, or no event that a watcher
        can use.
    """
    envelope = _envelope(body)
    if envelope.source != SOURCE or envelope.detail_type not in CHANGES:
        names = (envelope.source, envelope.detail_type)
        source, kind = (texts.clean_line(name, _MAX_QUOTED) for name in names)
        raise UnreadableMessageError(
            f"it is an event {kind!r} of {source!r}, for which there are no watchers"
        )
    if envelope.time is None:
        raise UnreadableMessageError("it has no time")
    try:
        return CHANGES[envelope.detail_type].model_validate(
            {**envelope.detail, "event_time": envelope.time}
        )
    except ValidationError as error:
        raise UnreadableMessageError(
            f"it is not as AWS sends it: {texts.describe_validation_error(error)}"
        ) from None


def _envelope(body: object) -> _Envelope:
    try:
        content = read_json(body, "it", max_bytes=MAX_MESSAGE_BYTES)
        return _Envelope.model_validate(content)
    except UnreadableJsonError as error:
        raise UnreadableMessageError(str(error)) from None
    except ValidationError as error:
        problems = texts.describe_validation_error(error)
        raise UnreadableMessageError(
            f"it is no event of EventBridge: {problems}"
        ) from None


MAX_NAMES: Final = 200
# The states that a watcher of executions or steps wants unless it names some: those
# that are an end.
_STATES: Final = states.PolysyncState
END_STATES: Final = (str(_STATES.SUCCESS), str(_STATES.FAILED), str(_STATES.CANCELLED))
STATES: Final = (*END_STATES, str(_STATES.RUNNING))
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-queue-message-identifiers.html
QUEUE_NAME_PATTERN: Final = r"[A-Za-z0-9_-]{1,80}"
_QUEUE_URL: Final = re.compile(
    rf"https?://(?P<host>[A-Za-z0-9.:\[\]-]{{1,255}})/(?P<account>[0-9]{{12}})/(?P<name>{QUEUE_NAME_PATTERN})"
)
_QUEUE_HOST: Final = re.compile(r"sqs(?:-fips)?\.(?P<region>[a-z0-9-]+)\..+")

Pattern = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_*?-]{1,256}$")]
# An empty list would watch nothing.
Patterns = (
    Annotated[tuple[Pattern, ...], Field(min_length=1, max_length=MAX_NAMES)] | None
)
_NAMES: Final = (
    f"Give a list of 1 to {MAX_NAMES} names, in which * and ? stand for any characters,"
    " or leave it out"
)


class WatcherArguments(models.StrictModel):
    """
    The arguments of a watcher. Airflow stores them in its database, where others can
    edit them.
    """

    queue_url: str = Field(
        max_length=512,
        pattern=rf"^https?://[^/]+/[0-9]{{12}}/{QUEUE_NAME_PATTERN}$",
        description=(
            "Give the URL of a standard queue (not .fifo) as SQS returns it, "
            "https://sqs.<region>.amazonaws.com/<account>/<name>."
        ),
    )
    polysync_conn_id: models.ConnectionId = Field(
        description="Give the id of a polysync_sagemaker or aws connection."
    )
    region_name: models.RegionName | None = Field(
        None,
        description=(
            "Give the AWS region of the queue, or leave it out: the URL has it."
        ),
    )
    pipelines: Patterns = Field(None, description=f"{_NAMES} for all pipelines.")
    steps: Patterns = Field(None, description=f"{_NAMES} to watch executions.")
    model_package_groups: Patterns = Field(
        None, description=f"{_NAMES} to watch executions or steps."
    )
    states: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        max_length=10,
        description=(
            f"Give a list of {', '.join(STATES)} for executions and steps, of "
            f"{', '.join(APPROVAL_STATUSES)} for model packages, or leave it out."
        ),
    )

    @pydantic.model_validator(mode="after")
    def _check(self) -> WatcherArguments:
        if self.model_package_groups is not None and (self.pipelines, self.steps) != (
            None,
            None,
        ):
            raise ValueError(
                "model_package_groups is given together with pipelines or steps: use a"
                " watcher for each"
            )
        wrong = [
            state for state in self.states or () if state not in self._possible_states
        ]
        if wrong:
            possible = ", ".join(self._possible_states)
            raise ValueError(
                f"states has {texts.shorten(wrong[0])}, which is none of {possible}"
            )
        url_region = region_of_queue(self.queue_url)
        if self.region_name and url_region and self.region_name != url_region:
            raise ValueError(
                f"region_name = {self.region_name!r} is not the region of the queue,"
                f" {url_region!r}"
            )
        return self

    @property
    def kind(self) -> Kind:
        """What is watched."""
        if self.model_package_groups is not None:
            return Kind.MODEL_PACKAGE
        return Kind.EXECUTION if self.steps is None else Kind.STEP

    @property
    def region(self) -> str | None:
        """The region of the queue; None for that of the connection."""
        return self.region_name or region_of_queue(self.queue_url)

    @property
    def _possible_states(self) -> tuple[str, ...]:
        return APPROVAL_STATUSES if self.kind is Kind.MODEL_PACKAGE else STATES

    def wants(self, change: AnyChange) -> bool:
        """Return whether a change is one of those that are watched."""
        if change.kind is not self.kind:
            return False
        if isinstance(change, ModelPackageChange):
            is_wanted = change.approval_status in (self.states or APPROVAL_STATUSES)
            return is_wanted and _matches(
                change.model_package_group or "", self.model_package_groups
            )
        if change.state not in (self.states or END_STATES):
            return False
        if isinstance(change, StepChange) and not _matches(
            change.step_name, self.steps
        ):
            return False
        # As SageMaker does, and since ARNs of older pipelines have the name in lower
        # case.
        pipelines = (
            None
            if self.pipelines is None
            else [name.lower() for name in self.pipelines]
        )
        return _matches(change.pipeline_name.lower(), pipelines)


def check_watch(arguments: Mapping[str, Any]) -> WatcherArguments:
    """
    Validate the arguments of a watcher.

    :raises ParametersError: lists each invalid argument with its value and what is
        valid.
    """
    try:
        return WatcherArguments.model_validate(arguments)
    except ValidationError as error:
        problems = texts.describe_arguments(WatcherArguments, error, show=str)
        raise ParametersError(
            f"Nothing is watched, because these arguments are not valid:\n{problems}"
        ) from None


def region_of_queue(queue_url: str) -> str | None:
    """
    Return the region in the URL of a queue; None for an address that is none of AWS's.
    """
    url = _QUEUE_URL.fullmatch(queue_url)
    host = _QUEUE_HOST.fullmatch(url["host"]) if url else None
    return host["region"] if host else None


def _matches(name: str, patterns: Iterable[str] | None) -> bool:
    return patterns is None or any(fnmatchcase(name, pattern) for pattern in patterns)


class Memory:
    """
    Knows what was added last.

    :param limit: how many entries it keeps. Those that were added or found longest ago
        are forgotten.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._entries: OrderedDict[Hashable, None] = OrderedDict()

    def __contains__(self, entry: Hashable) -> bool:
        if entry not in self._entries:
            return False
        self._entries.move_to_end(entry)
        return True

    def add(self, entry: Hashable) -> bool:
        """Add an entry, and return whether it is new."""
        is_new = entry not in self
        self._entries.setdefault(entry)
        if len(self._entries) > self._limit:
            self._entries.popitem(last=False)
        return is_new


# https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-quota.html
MAX_PATTERN: Final = 2048
MAX_RECEIVES: Final = 1000
# A reader gives a new message back once, and a triggerer may be killed.
FEWEST_RECEIVES: Final = 3
# Longer than Airflow needs to store an event, and how long a message waits after its
# triggerer was killed.
VISIBILITY_SECONDS: Final = 30
WAIT_SECONDS: Final = 20
# The most messages of a call that SQS allows.
BATCH: Final = 10
# A policy that allows a reader what it needs, given the ARN of the queue.
ReaderPolicy = Callable[[str], Mapping[str, Any]]
_STACK: Final = Path(__file__).with_name("events_stack.json")
_END_STATUSES: Final = [
    status for status in states.STATE_OF_STATUS if states.has_ended(status)
]


class Setup(NamedTuple):
    """
    What to set up.

    :param queue: the name of the queue.
    :param pipelines: the names or ARNs of the pipelines; empty for all.
    :param running: also events of executions and steps that begin or are stopping.
    :param steps: also events of steps.
    :param model_packages: also events of model packages.
    :param model_package_groups: the groups of these model packages; empty for all.
    :param max_receives: how often a message is received before SQS moves it to the
        dead-letter queue.
    """

    queue: str
    pipelines: tuple[str, ...] = ()
    running: bool = False
    steps: bool = False
    model_packages: bool = False
    model_package_groups: tuple[str, ...] = ()
    max_receives: int = 5

    def check(self) -> None:
        """
        Check the limits of SQS and EventBridge.

        :raises ParametersError: one of them is not kept.
        """
        if not FEWEST_RECEIVES <= self.max_receives <= MAX_RECEIVES:
            raise ParametersError(
                f"--max-receives {self.max_receives}: give {FEWEST_RECEIVES} to"
                f" {MAX_RECEIVES}."
            )
        for name, rule in self.rules().items():
            if len(json.dumps(rule)) > MAX_PATTERN:
                raise ParametersError(
                    f"The pattern of the rule {name} has more than {MAX_PATTERN:,}"
                    " characters: name fewer pipelines or groups, or none for all, and"
                    " let the watchers select."
                )

    def rules(self) -> dict[str, dict[str, Any]]:
        """Return the event pattern of each rule, by the suffix of its name."""
        ends: dict[str, Any] = (
            {} if self.running else {"currentPipelineExecutionStatus": _END_STATUSES}
        )
        found = {
            "executions": _pattern(EXECUTION_CHANGE, {**ends, **self._of_pipelines()})
        }
        if self.steps:
            ends = {} if self.running else {"currentStepStatus": _END_STATUSES}
            found["steps"] = _pattern(STEP_CHANGE, {**ends, **self._of_pipelines()})
        if self.model_packages or self.model_package_groups:
            names = list(self.model_package_groups)
            groups = {"ModelPackageGroupName": names} if names else {}
            found["model-packages"] = _pattern(MODEL_PACKAGE_CHANGE, groups)
        return found

    def _of_pipelines(self) -> dict[str, Any]:
        # By the end of the ARN: older ones have the name in lower case, and AWS does
        # not document whether an event has the account or ``aws`` in that of a pipeline
        # that AWS manages.
        given = {pipeline.rpartition("/")[2] for pipeline in self.pipelines}
        names = sorted(given | {name.lower() for name in given})
        return (
            {"pipelineArn": [{"suffix": f":pipeline/{name}"} for name in names]}
            if names
            else {}
        )


def cloudformation(setup: Setup, reader_policy: ReaderPolicy) -> dict[str, Any]:
    """
    Return a template of CloudFormation, which needs the capability ``CAPABILITY_IAM``.
    """
    template: dict[str, Any] = json.loads(_STACK.read_text())
    resources = template["Resources"]
    dead_letters, queue, queue_policy, reader = (
        each["Properties"] for each in resources.values()
    )
    dead_letters["QueueName"] = f"{setup.queue}-dead-letters"
    queue["QueueName"] = setup.queue
    queue["VisibilityTimeout"] = VISIBILITY_SECONDS
    queue["ReceiveMessageWaitTimeSeconds"] = WAIT_SECONDS
    queue["RedrivePolicy"]["maxReceiveCount"] = setup.max_receives
    arn = {"Fn::GetAtt": ["Queue", "Arn"]}
    reader["PolicyDocument"] = json.loads(
        json.dumps(reader_policy("QUEUE")).replace('"QUEUE"', json.dumps(arn))
    )
    # Without this condition, rules of other accounts could fill the queue.
    (statement,) = queue_policy["PolicyDocument"]["Statement"]
    for suffix, pattern in setup.rules().items():
        name = f"{suffix.title().replace('-', '')}Rule"
        statement["Condition"]["ArnEquals"]["aws:SourceArn"].append(
            {"Fn::GetAtt": [name, "Arn"]}
        )
        targets = [{"Id": "queue", "Arn": arn}]
        rule = {
            "Name": f"{setup.queue}-{suffix}",
            "EventPattern": pattern,
            "Targets": targets,
        }
        resources[name] = {"Type": "AWS::Events::Rule", "Properties": rule}
    return template


def _pattern(detail_type: str, detail: Mapping[str, Any]) -> dict[str, Any]:
    pattern: dict[str, Any] = {"source": [SOURCE], "detail-type": [detail_type]}
    return {**pattern, "detail": dict(detail)} if detail else pattern


# Who joins later finds out by itself, if it is a reader.
CHECK_EVERY_SECONDS: Final = 24 * 3600.0
# A message that a killed process has received returns when its visibility timeout has
# passed.
RETURN_SECONDS: Final = 2.0 * VISIBILITY_SECONDS
# A receive that had room for more has asked all servers of SQS. How many must not bring
# the message then.
MIN_RECEIVES: Final = 3


class ConsumerCheck:
    """
    A check of a queue, which is repeated once a day. Times are seconds of
    ``clock.monotonic``.
    """

    def __init__(self) -> None:
        self.begin((), -math.inf)

    def is_due(self, now: float) -> bool:
        """Return whether new messages are to be given back."""
        return now - self._begun_at >= CHECK_EVERY_SECONDS

    def begin(self, message_ids: Iterable[str], now: float) -> None:
        """Note which messages were given back."""
        self._begun_at, self._given_back, self._receives = now, set(message_ids), 0

    def missing(
        self, message_ids: Iterable[str], *, has_room: bool, now: float
    ) -> set[str]:
        """
        Return the messages that others have taken, once.

        :param message_ids: the messages of a receive.
        :param has_room: it could have had more of them.
        """
        self._given_back.difference_update(message_ids)
        self._receives += has_room and now - self._begun_at >= RETURN_SECONDS
        if self._receives < MIN_RECEIVES:
            return set()
        missing, self._given_back = self._given_back, set()
        return missing
