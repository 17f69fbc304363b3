"""What a watcher wants: the arguments of the event trigger, and which changes they mean."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from polysync_airflow.exceptions import ParametersError
from polysync_airflow.execution.events import changes
from polysync_airflow.execution.models import REGION_PATTERN
from polysync_airflow.execution.texts import clean_line, first_problems, shorten
from polysync_airflow.states import PolysyncState

MAX_NAMES: Final = 200
# The states that a watcher of executions or steps wants unless it names some: those that are an end.
END_STATES: Final = (str(PolysyncState.SUCCESS), str(PolysyncState.FAILED), str(PolysyncState.CANCELLED))
STATES: Final = (*END_STATES, str(PolysyncState.RUNNING))
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-queue-message-identifiers.html
QUEUE_NAME_PATTERN: Final = r"[A-Za-z0-9_-]{1,80}"
_QUEUE_URL: Final = re.compile(
    rf"https?://(?P<host>[A-Za-z0-9.:\[\]-]{{1,255}})/(?P<account>[0-9]{{12}})/(?P<name>{QUEUE_NAME_PATTERN})"
)
_QUEUE_HOST: Final = re.compile(r"sqs(?:-fips)?\.(?P<region>[a-z0-9-]+)\..+")
_NOT_WATCHED: Final = "Nothing is watched, because these arguments are not valid:"

Pattern = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_*?-]{1,256}$")]
# An empty list would watch nothing.
Patterns = Annotated[tuple[Pattern, ...], Field(min_length=1, max_length=MAX_NAMES)] | None
_NAMES: Final = (
    f"Give a list of 1 to {MAX_NAMES} names, in which * and ? stand for any characters, or leave it out"
)


class WatcherArguments(BaseModel):
    """The arguments of a watcher. Airflow stores them in its database, where others can edit them."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    queue_url: Annotated[
        str,
        StringConstraints(max_length=512, pattern=rf"^https?://[^/]+/[0-9]{{12}}/{QUEUE_NAME_PATTERN}$"),
        Field(
            description="Give the URL of a standard queue (not .fifo) as SQS returns it, "
            "https://sqs.<region>.amazonaws.com/<account>/<name>."
        ),
    ]
    polysync_conn_id: Annotated[
        str,
        StringConstraints(min_length=1, max_length=250),
        Field(description="Give the id of a polysync_sagemaker or aws connection."),
    ]
    region_name: Annotated[
        Annotated[str, StringConstraints(max_length=64, pattern=REGION_PATTERN)] | None,
        Field(description="Give the AWS region of the queue, or leave it out: the URL has it."),
    ] = None
    pipelines: Annotated[Patterns, Field(description=f"{_NAMES} for all pipelines.")] = None
    steps: Annotated[Patterns, Field(description=f"{_NAMES} to watch executions.")] = None
    model_package_groups: Annotated[
        Patterns, Field(description=f"{_NAMES} to watch executions or steps.")
    ] = None
    states: Annotated[
        Annotated[tuple[str, ...], Field(min_length=1, max_length=10)] | None,
        Field(
            description=f"Give a list of {', '.join(STATES)} for executions and steps, of "
            f"{', '.join(changes.APPROVAL_STATUSES)} for model packages, or leave it out."
        ),
    ] = None

    @model_validator(mode="after")
    def _check(self) -> WatcherArguments:
        if self.model_package_groups is not None and (self.pipelines, self.steps) != (None, None):
            raise ValueError(
                "model_package_groups is given together with pipelines or steps: use a watcher for each"
            )
        wrong = [state for state in self.states or () if state not in self._possible_states]
        if wrong:
            possible = ", ".join(self._possible_states)
            raise ValueError(f"states has {shorten(wrong[0])}, which is none of {possible}")
        url_region = region_of_queue(self.queue_url)
        if self.region_name and url_region and self.region_name != url_region:
            raise ValueError(
                f"region_name = {self.region_name!r} is not the region of the queue, {url_region!r}"
            )
        return self

    @property
    def kind(self) -> changes.Kind:
        """What is watched."""
        if self.model_package_groups is not None:
            return changes.Kind.MODEL_PACKAGE
        return changes.Kind.EXECUTION if self.steps is None else changes.Kind.STEP

    @property
    def region(self) -> str | None:
        """The region of the queue; None for that of the connection."""
        return self.region_name or region_of_queue(self.queue_url)

    @property
    def _possible_states(self) -> tuple[str, ...]:
        return changes.APPROVAL_STATUSES if self.kind is changes.Kind.MODEL_PACKAGE else STATES

    def wants(self, change: changes.AnyChange) -> bool:
        """Return whether a change is one of those that are watched."""
        if change.kind is not self.kind:
            return False
        if isinstance(change, changes.ModelPackageChange):
            is_wanted = change.approval_status in (self.states or changes.APPROVAL_STATUSES)
            return is_wanted and _matches(change.group or "", self.model_package_groups)
        if change.state not in (self.states or END_STATES):
            return False
        if isinstance(change, changes.StepChange) and not _matches(change.step_name, self.steps):
            return False
        # As SageMaker does, and since ARNs of older pipelines have the name in lower case.
        pipelines = None if self.pipelines is None else [name.lower() for name in self.pipelines]
        return _matches(change.pipeline_name.lower(), pipelines)


def check_watch(arguments: Mapping[str, Any]) -> WatcherArguments:
    """
    Validate the arguments of a watcher.

    :raises ParametersError: lists each invalid argument with its value and what is valid.
    """
    try:
        return WatcherArguments.model_validate(arguments)
    except ValidationError as error:
        problems = first_problems(list(_problems(error)))
        raise ParametersError("\n".join((_NOT_WATCHED, *(f"- {text}" for text in problems)))) from None


def region_of_queue(queue_url: str) -> str | None:
    """Return the region in the URL of a queue; None for an address that is none of AWS's."""
    url = _QUEUE_URL.fullmatch(queue_url)
    host = _QUEUE_HOST.fullmatch(url["host"]) if url else None
    return host["region"] if host else None


def _problems(error: ValidationError) -> Iterable[str]:
    for problem in error.errors():
        if problem["loc"]:
            field, *path = (str(part) for part in problem["loc"])
            name = "".join((clean_line(field), *(f"[{part}]" for part in path)))
            known = WatcherArguments.model_fields.get(field)
            cure = f" {known.description}" if known and known.description else ""
            yield f"{name} = {shorten(problem['input'])}: {problem['msg']}.{cure}"
        else:
            yield problem["msg"].removeprefix("Value error, ") + "."


def _matches(name: str, patterns: Iterable[str] | None) -> bool:
    return patterns is None or any(fnmatchcase(name, pattern) for pattern in patterns)


class Memory:
    """
    Knows what was added last.

    :param limit: how many entries it keeps. Those that were added or found longest ago are forgotten.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._entries: OrderedDict[Hashable, None] = OrderedDict()

    def __contains__(self, entry: Hashable) -> bool:
        if entry not in self._entries:
            return False
        self._entries.move_to_end(entry)
        return True

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, entry: Hashable) -> bool:
        """Add an entry, and return whether it is new."""
        is_new = entry not in self
        self._entries.setdefault(entry)
        if len(self._entries) > self._limit:
            self._entries.popitem(last=False)
        return is_new
