"""
What AWS says of changes in events: of executions, their steps, and model packages.

https://docs.aws.amazon.com/sagemaker/latest/dg/automating-sagemaker-with-eventbridge.html

They come in messages of a queue. Whoever may send to the queue wrote them, so nothing
in them is believed.

The module has, in this order: the changes that a message can report; and what a watcher
wants (the arguments of the event trigger, and which changes they select).
``docs/assets/sagemaker-events.yaml`` sets up the queue, and the rules that fill it.

SQS does not tell whether others receive the messages of a queue, too. So a reader gives
new messages back before it uses them. SQS hands a message to one consumer at a time: a
message that another consumer takes and deletes does not return.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Annotated, Any, ClassVar, Final, get_args

import pydantic
from pydantic import BeforeValidator, Field, StringConstraints, ValidationError

from polysync_airflow import exceptions, states
from polysync_airflow.execution import clock, console, json_input, models, texts

SOURCE: Final = "aws.sagemaker"
EXECUTION_CHANGE: Final = "SageMaker Model Building Pipeline Execution Status Change"
STEP_CHANGE: Final = "SageMaker Model Building Pipeline Execution Step Status Change"
MODEL_PACKAGE_CHANGE: Final = "SageMaker Model Package State Change"
APPROVAL_STATUSES: Final = get_args(models.ApprovalStatus)

# Two events with the same key report the same change: the ARN of what has changed, its
# step, its status, and when.
Key = tuple[str, str, str, str]


class Kind(StrEnum):
    """What has changed."""

    EXECUTION = "execution"
    STEP = "step"
    MODEL_PACKAGE = "model_package"


# One damaged time must not make the change unreadable. In payloads, it is a text.
EventTime = Annotated[models.ResponseTime, pydantic.PlainSerializer(clock.iso_text)]


class Change(models.AwsModel, ABC):
    """
    A change that an event reports.

    The payload of the asset event has its fields, except for those that are excluded.

    :param event_time: when AWS sent the event.
    """

    kind: ClassVar[Kind]
    event_time: datetime = Field(exclude=True)
    execution_arn: str | None

    @property
    @abstractmethod
    def key(self) -> Key:
        """
        Identifies the change: all events that report it have the same key.

        A resumed execution keeps its ARN, so the time counts, too. All events about an
        end have the time of this end. Other changes have no time of their own, only
        that of the event.
        """

    @property
    def changed_at(self) -> datetime:
        """When the change was made, as far as AWS says so."""
        return self.event_time

    @property
    def payload(self) -> dict[str, Any]:
        """What the asset event says of the change, as JSON."""
        pipeline_name = console_url = None
        if self.execution_arn:
            pipeline_name = models.pipeline_name_of(self.execution_arn)
            console_url = console.execution_url(self.execution_arn, pipeline_name)
        return {
            "kind": self.kind.value,
            **self.model_dump(),
            "pipeline_name": pipeline_name,
            "changed_at": self.changed_at.isoformat(),
            "console_url": console_url,
        }


class _ChangeInExecution(Change):
    """A change of an execution, or of one of its steps."""

    execution_arn: models.ExecutionArn = Field(validation_alias="pipelineExecutionArn")
    status: models.Status
    ended_at: EventTime

    @property
    def pipeline_name(self) -> str:
        """The name of the pipeline. ARNs of older pipelines have it in lower case."""
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
        """Identifies the change."""
        time = self.event_time
        if self.ended_at and states.has_ended(self.status):
            time = self.ended_at
        return self.execution_arn, "", self.status, time.isoformat()

    @property
    def payload(self) -> dict[str, Any]:
        """What the asset event says of the change, with the state."""
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
        """Identifies the change, by the step as well."""
        arn, _, status, time = super().key
        return arn, self.step_name, status, time


class ModelPackageChange(Change):
    """The registration of a model package, or a change of its approval."""

    kind: ClassVar[Kind] = Kind.MODEL_PACKAGE
    model_package_arn: Annotated[
        str,
        StringConstraints(
            max_length=2048, pattern=f"^{models.MODEL_PACKAGE_ARN_PATTERN}$"
        ),
    ] = Field(validation_alias="ModelPackageArn")
    model_package_group: (
        Annotated[
            str, StringConstraints(pattern=f"^{models.MODEL_GROUP_NAME_PATTERN}$")
        ]
        | None
    ) = Field(None, validation_alias="ModelPackageGroupName")
    model_package_version: Annotated[int, Field(ge=1, le=models.MAX_INTEGER)] | None = (
        Field(None, validation_alias="ModelPackageVersion")
    )
    status: models.Status | None = Field(None, validation_alias="ModelPackageStatus")
    approval_status: models.Status = Field(
        "PendingManualApproval", validation_alias="ModelApprovalStatus"
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
        """When the model package was changed."""
        return self.modified_at or self.event_time

    @property
    def key(self) -> Key:
        """Identifies the change, by both statuses."""
        return (
            self.model_package_arn,
            self.status or "",
            self.approval_status,
            self.changed_at.isoformat(),
        )


AnyChange = ExecutionChange | StepChange | ModelPackageChange
CHANGES: Final[dict[str, type[AnyChange]]] = {
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


def _only_entry(value: Any) -> Any:
    if isinstance(value, list) and len(value) == 1:
        return value[0]
    return value


class _Envelope(models.FrozenModel):
    """
    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-events-structure.html
    """

    detail_type: str = Field(validation_alias="detail-type")
    # One of AWS's examples has a list.
    source: Annotated[str, BeforeValidator(_only_entry)]
    time: EventTime
    detail: dict[str, Any]


def read_message(body: object) -> AnyChange:
    """
    Return the change that a message reports.

    :param body: the body of the message.
    :raises UnreadableMessageError: it is too large, no JSON, or no event that a watcher
        can use.
    """
    try:
        content = json_input.read_json(body, "it", max_bytes=MAX_MESSAGE_BYTES)
    except json_input.UnreadableJsonError as error:
        raise UnreadableMessageError(str(error)) from None
    try:
        envelope = _Envelope.model_validate(content)
    except ValidationError as error:
        problems = texts.describe_validation_error(error)
        raise UnreadableMessageError(
            f"it is no event of EventBridge: {problems}"
        ) from None
    if envelope.source != SOURCE or envelope.detail_type not in CHANGES:
        detail_type = texts.clean_line(envelope.detail_type, _MAX_QUOTED)
        source = texts.clean_line(envelope.source, _MAX_QUOTED)
        raise UnreadableMessageError(
            f"it is an event {detail_type!r} of {source!r}, for which there are no"
            " watchers"
        )
    if envelope.time is None:
        raise UnreadableMessageError("it has no time")
    try:
        return CHANGES[envelope.detail_type].model_validate(
            {**envelope.detail, "event_time": envelope.time}
        )
    except ValidationError as error:
        problems = texts.describe_validation_error(error)
        raise UnreadableMessageError(f"it is not as AWS sends it: {problems}") from None


MAX_NAMES: Final = 200
# The states that a watcher of executions or steps wants if it names none: the ends.
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
# An empty list would select nothing.
Patterns = (
    Annotated[tuple[Pattern, ...], Field(min_length=1, max_length=MAX_NAMES)] | None
)
_NAMES: Final = (
    f"Give a list of 1 to {MAX_NAMES} names, in which * and ? stand for any characters,"
    " or leave it out"
)


class WatcherArguments(models.StrictModel):
    """
    The arguments of a watcher.

    Airflow stores them in its database, where others can edit them.
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
        selects_pipelines = self.pipelines is not None or self.steps is not None
        if self.model_package_groups is not None and selects_pipelines:
            raise ValueError(
                "model_package_groups is given together with pipelines or steps: use a"
                " watcher for each"
            )
        for state in self.states or ():
            if state not in self._possible_states:
                possible = ", ".join(self._possible_states)
                raise ValueError(
                    f"states has {texts.shorten(state)}, which is none of {possible}"
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
        """What kind of changes the arguments select."""
        if self.model_package_groups is not None:
            return Kind.MODEL_PACKAGE
        if self.steps is not None:
            return Kind.STEP
        return Kind.EXECUTION

    @property
    def region(self) -> str | None:
        """The region of the queue; None for that of the connection."""
        return self.region_name or region_of_queue(self.queue_url)

    @property
    def _possible_states(self) -> tuple[str, ...]:
        if self.kind is Kind.MODEL_PACKAGE:
            return APPROVAL_STATUSES
        return STATES

    def wants(self, change: AnyChange) -> bool:
        """Return whether the arguments select a change."""
        if change.kind is not self.kind:
            return False
        if isinstance(change, ModelPackageChange):
            group = change.model_package_group or ""
            if change.approval_status not in (self.states or APPROVAL_STATUSES):
                return False
            return _matches(group, self.model_package_groups)
        if change.state not in (self.states or END_STATES):
            return False
        if isinstance(change, StepChange) and not _matches(
            change.step_name, self.steps
        ):
            return False
        if self.pipelines is None:
            return True
        # SageMaker ignores the case of names, and ARNs of older pipelines have them in
        # lower case.
        patterns = [pattern.lower() for pattern in self.pipelines]
        return _matches(change.pipeline_name.lower(), patterns)


def check_watcher(arguments: Mapping[str, Any]) -> WatcherArguments:
    """
    Validate the arguments of a watcher.

    :raises ParametersError: lists each invalid argument with its value and what is
        valid.
    """
    try:
        return WatcherArguments.model_validate(arguments)
    except ValidationError as error:
        problems = texts.describe_arguments(WatcherArguments, error, show=str)
        raise exceptions.ParametersError(
            f"Nothing is watched, because these arguments are not valid:\n{problems}"
        ) from None


def region_of_queue(queue_url: str) -> str | None:
    """
    Return the region in the URL of a queue; None for an address that is none of AWS's.
    """
    url = _QUEUE_URL.fullmatch(queue_url)
    if url is None:
        return None
    host = _QUEUE_HOST.fullmatch(url["host"])
    if host is None:
        return None
    return host["region"]


def _matches(name: str, patterns: Iterable[str] | None) -> bool:
    return patterns is None or any(fnmatchcase(name, pattern) for pattern in patterns)


class RecentEntries:
    """
    The entries that were added or looked up last.

    :param limit: how many it keeps. It forgets those that were added or looked up
        longest ago.
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


# Airflow needs less time to store an event. A message that a killed triggerer has
# received waits for so long.
VISIBILITY_SECONDS: Final = 30
WAIT_SECONDS: Final = 20
# The most messages of a call that SQS allows.
BATCH: Final = 10
# A reader that joins later makes a check of its own.
CHECK_EVERY_SECONDS: Final = 24 * 3600.0
# A message that a killed process has received returns when its visibility timeout has
# passed.
RETURN_SECONDS: Final = 2.0 * VISIBILITY_SECONDS
# A receive that had room for more messages has asked all servers of SQS. A message that
# so many of them did not bring is missing.
MIN_RECEIVES: Final = 3


class ConsumerCheck:
    """
    Finds out, once a day, whether other consumers take messages of a queue.

    Times are seconds of ``clock.monotonic``.
    """

    def __init__(self) -> None:
        self.begin((), -math.inf)

    def is_due(self, now: float) -> bool:
        """Return whether new messages are to be given back."""
        return now - self._begun_at >= CHECK_EVERY_SECONDS

    def begin(self, message_ids: Iterable[str], now: float) -> None:
        """Note which messages were given back."""
        self._begun_at = now
        self._released = set(message_ids)
        self._receives = 0

    def missing(
        self, message_ids: Iterable[str], *, has_room: bool, now: float
    ) -> set[str]:
        """
        Return the messages that other consumers have taken; each of them only once.

        :param message_ids: the messages that a receive has brought.
        :param has_room: whether the receive could have brought more.
        """
        self._released.difference_update(message_ids)
        if has_room and now - self._begun_at >= RETURN_SECONDS:
            self._receives += 1
        if self._receives < MIN_RECEIVES:
            return set()
        missing = self._released
        self._released = set()
        return missing
