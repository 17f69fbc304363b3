"""
The search for an execution that others have started: what is listed, which one is
meant, and until when.

Rules:

1. An execution matches if its creation time is in the window, its display name matches
   the pattern, and its parameters have the values that are looked for.
2. ``first`` is the oldest of them. ``latest`` is the newest that existed when the
   search began; if there was none, the first one after that.
3. So the choice depends on AWS's list and on when the search began, and not on when the
   list is read. A task that reads it again, because it was rescheduled, chooses the
   same execution.
4. AWS's list may lag behind. A process that does not know what was chosen before takes
   a choice for settled only after ``SETTLE_SECONDS``: until then, an older execution
   may still appear.
5. If the window has closed, and AWS's list had time to show its last execution, the
   search ends without one.
6. What was listed once is not listed again, except for the time by which AWS's list may
   lag behind.

``waiter.py`` has the rules of all waits. Everything here is pure: the time is an
argument.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Annotated, Any, Final, Literal, NamedTuple

import pydantic
from pydantic import BeforeValidator, Field, ValidationError

from polysync_airflow.exceptions import ParametersError, PolysyncError
from polysync_airflow.execution import models, texts, trigger_arguments, waiter

MAX_PATTERN_LENGTH = 256
# How much AWS's list may lag behind, and the clock of this host differ from AWS's.
LIST_LAG_SECONDS: Final = 300.0
SETTLE_SECONDS: Final = 60.0
# The parameters of an execution cost a call. A search compares those of at most so many
# executions.
MAX_COMPARED: Final = 100
# A window with more executions is one that somebody has forgotten to limit.
MAX_LISTED: Final = 10_000
ParametersOf = Callable[[str], Mapping[str, str]]


def _as_time(value: Any) -> Any:
    if isinstance(value, str):
        value = datetime.fromisoformat(value.strip())
    if not isinstance(value, datetime):
        raise ValueError("is not a time")
    return value


Time = Annotated[models.UtcTime, BeforeValidator(_as_time)]
_TIME_CURE = (
    'Give a datetime, or a text such as "2026-01-31T06:00:00+00:00" (without an offset:'
    " UTC), or leave it out."
)


class ListedExecution(models.ExecutionDescription):
    """
    An entry of ListPipelineExecutions.

    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_PipelineExecutionSummary.html
    """

    created_at: models.UtcTime = Field(validation_alias="StartTime")


class ParameterOfExecution(models.FrozenModel):
    """
    A parameter of an execution.

    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_Parameter.html
    """

    name: texts.NameText = Field(validation_alias="Name")
    value: texts.ValueText = Field(validation_alias="Value")


class Search(models.StrictModel):
    """
    What a search looks for. Its fields have the names of the sensor's arguments.

    :param began_at: when the search began: ``latest`` is the latest execution of this
        moment.
    """

    pipeline_name: models.Pipeline = Field(
        description="Give the pipeline's name, or its ARN."
    )
    created_after: Time = Field(description=_TIME_CURE)
    created_before: Time | None = Field(None, description=_TIME_CURE)
    which: models.Which = "first"
    display_name_pattern: str | None = Field(
        None,
        min_length=1,
        max_length=MAX_PATTERN_LENGTH,
        pattern=r"^[^\x00-\x1f\x7f]*$",
        description=(
            'Give a pattern such as "nightly-*" (*, ?, [seq]), of 1 to '
            f"{MAX_PATTERN_LENGTH} characters, or leave it out."
        ),
    )
    parameters: Mapping[models.ParameterName, models.ParameterValue] | None = Field(
        None,
        max_length=models.MAX_PARAMETERS,
        description=(
            f"Give a mapping of at most {models.MAX_PARAMETERS} names to strings,"
            " numbers or booleans whose text has 1 to 1,024 characters, or leave it"
            " out."
        ),
    )
    began_at: Time

    @pydantic.field_validator("created_before")
    @classmethod
    def _check_window(
        cls, end: datetime | None, info: pydantic.ValidationInfo
    ) -> datetime | None:
        start = info.data.get("created_after")
        if start and end and end <= start:
            raise ValueError(f"is not later than created_after = {start.isoformat()}")
        return end

    def matches(self, execution: ListedExecution) -> bool:
        """
        Return whether an execution matches, as far as a list says: the list has no
        parameters.
        """
        pipeline_name = models.pipeline_name_of(execution.execution_arn)
        if pipeline_name.lower() != self.name.lower():
            return False
        if execution.created_at < self.created_after:
            return False
        if self.created_before and execution.created_at >= self.created_before:
            return False
        if self.display_name_pattern is None:
            return True
        return fnmatchcase(execution.display_name or "", self.display_name_pattern)

    @property
    def name(self) -> str:
        """The name of the pipeline."""
        return models.pipeline_name_of(self.pipeline_name)


class SearchEvent(waiter.EndOfWait):
    """
    How a search ended.

    :param outcome: ``found``; ``no_match`` (the window has closed without an execution
        that matches); ``timed_out`` (the deadline was reached); ``refused`` (AWS or the
        connection refuses to list); ``too_many`` (so many executions match by their
        names that their parameters are not compared).
    :param began_at: when the search began.
    :param execution_arn: the execution that was found.
    :param message: why the search ended without one.
    :param error_code: error code of the last list, if it failed.
    """

    outcome: Literal["found", "no_match", "timed_out", "refused", "too_many"]
    began_at: models.UtcTime
    execution_arn: models.ExecutionArn | None = None
    message: texts.ReasonText | None = None

    @pydantic.model_validator(mode="after")
    def _check_execution_arn(self) -> SearchEvent:
        if (self.outcome == "found") != (self.execution_arn is not None):
            raise ValueError(
                "execution_arn is given if the outcome is 'found', and only then"
            )
        return self


# The arguments of the sensor that become the search.
SEARCH_ARGUMENTS: Final = tuple(
    name for name in Search.model_fields if name != "began_at"
)


class TooManyMatchesError(ParametersError):
    """
    Raised when a window has too many executions to list, or to compare the parameters
    of all.
    """


def make_search(
    arguments: Mapping[str, Any],
    interval: tuple[datetime, datetime | None],
    began_at: datetime,
) -> Search:
    """
    Return the search that the arguments of a sensor describe.

    :param arguments: the rendered arguments; those without a value are None, or an
        empty text.
    :param interval: the window if the arguments have none. Its end is None if it has
        none.
    :raises ParametersError: lists each invalid argument with its value and what is
        valid.
    """
    values = {
        name: value
        for name, value in arguments.items()
        if value is not None and value != ""
    }
    if "created_after" not in values:
        values["created_after"] = interval[0]
        # A window whose begin is given has no end, unless that is given, too.
        values.setdefault("created_before", interval[1])
    try:
        return Search(**values, began_at=began_at)
    except ValidationError as error:
        # A time is shown as it was given, not as it was understood.
        problems = texts.describe_arguments(Search, error, values)
        raise ParametersError(
            "Nothing was looked for, because these arguments are not"
            f" valid:\n{problems}"
        ) from None


def pick(
    search: Search, listed: Iterable[ListedExecution], parameters_of: ParametersOf
) -> ListedExecution | None:
    """
    Return the execution that a search means; None if there is none yet.

    :param listed: the executions of the pipeline, the oldest first.
    :param parameters_of: returns the parameters of an execution.
    :raises TooManyMatchesError: more than ``MAX_LISTED`` executions are listed, or the
        parameters of more than ``MAX_COMPARED`` would be compared.
    """
    for number, execution in enumerate(_candidates(search, _limited(search, listed))):
        if not search.parameters:
            return execution
        if number == MAX_COMPARED:
            raise TooManyMatchesError(
                f"parameters = {texts.shorten(search.parameters)} are not those of the"
                f" first {MAX_COMPARED} executions of pipeline {search.name} that match"
                " otherwise, and each one costs a call: give a shorter window"
                " (created_after, created_before), or a display_name_pattern."
            )
        parameters = parameters_of(execution.execution_arn)
        # It may have others besides.
        if search.parameters.items() <= parameters.items():
            return execution
    return None


def page_of(
    search: Search,
    listed: Iterable[ListedExecution] | PolysyncError,
    parameters_of: ParametersOf,
    at: float,
) -> SearchPage | PolysyncError:
    """
    Return what AWS's list means for a search, as the waiter takes it.

    :param listed: the executions of the pipeline, the oldest first; or the error.
    :param at: when the list was requested, as Unix time.
    """
    if isinstance(listed, PolysyncError):
        return listed
    try:
        return SearchPage(pick(search, listed, parameters_of), at)
    except PolysyncError as error:
        return error


def _limited(
    search: Search, listed: Iterable[ListedExecution]
) -> Iterator[ListedExecution]:
    """Yield what is listed, up to ``MAX_LISTED``."""
    for number, execution in enumerate(listed):
        if number == MAX_LISTED:
            raise TooManyMatchesError(
                f"created_after = {search.created_after.isoformat()}: pipeline"
                f" {search.name} has more than {MAX_LISTED:,} executions in the window:"
                " give a shorter one (created_after, created_before)."
            )
        yield execution


def _candidates(
    search: Search, listed: Iterable[ListedExecution]
) -> Iterator[ListedExecution]:
    """Yield the executions that match, the one that the search prefers first."""
    matching = (execution for execution in listed if search.matches(execution))
    if search.which == "first":
        # One by one, so that no page is read in vain.
        yield from matching
        return
    executions = list(matching)
    existed = [
        execution for execution in executions if execution.created_at <= search.began_at
    ]
    yield from reversed(existed)
    yield from executions[len(existed) :]


def is_settled(search: Search, execution: ListedExecution, now: float) -> bool:
    """
    Return whether no other execution can take the place of the one that was found.
    """
    last_rival_at = execution.created_at
    if search.which == "latest":
        end = search.began_at
        if search.created_before:
            end = min(end, search.created_before)
        last_rival_at = max(last_rival_at, end)
    return now >= last_rival_at.timestamp() + SETTLE_SECONDS


def describe_search(search: Search) -> str:
    """Return what a search looks for, as one line for logs and errors."""
    parts = [
        f"the {search.which} execution of pipeline {search.name}",
        f"created from {search.created_after.isoformat()}",
    ]
    if search.created_before:
        parts.append(f"to {search.created_before.isoformat()}")
    else:
        parts.append("on")
    if search.display_name_pattern:
        parts.append(f"with a display name like {search.display_name_pattern}")
    if search.parameters:
        parts.append(f"with parameters {', '.join(search.parameters)}")
    return texts.clean_line(" ".join(parts))


class SearchPage(NamedTuple):
    """
    What AWS's list means for a search.

    :param execution: the execution that the search means; None if there is none yet.
    :param at: when the list was requested, as Unix time.
    """

    execution: ListedExecution | None
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchWaiter(waiter.Waiter[SearchPage, SearchEvent]):
    """
    The state of a search, whose ``search`` says when it began.

    :param listed_until: when the list was read last, as Unix time: it need not be read
        again from the beginning. None if it was not.
    :param is_repeated: whether another process searches after this one, and must find
        the same execution.
    """

    search: Search
    listed_until: float | None = None
    is_repeated: bool = False

    @property
    def name(self) -> str:
        """The search, by its pipeline."""
        return f"the search in pipeline {self.group}"

    @property
    def group(self) -> str:
        """The pipeline: one list serves all searches in it."""
        return self.search.pipeline_name

    @property
    def list_after(self) -> datetime:
        """From which creation time on AWS must list executions."""
        start = self.search.created_after
        if self.listed_until is not None:
            lag = LIST_LAG_SECONDS
            start = max(start, datetime.fromtimestamp(self.listed_until - lag, UTC))
        # AWS does not say whether it lists an execution of exactly this time.
        return start - timedelta(seconds=1)

    @property
    def last_poll_at(self) -> float:
        """
        When the last poll is due, as Unix time: when the window has closed, and AWS's
        list is complete.
        """
        return min(self.deadline, self._complete_at)

    @property
    def _complete_at(self) -> float:
        if self.search.created_before is None:
            return math.inf
        return self.search.created_before.timestamp() + LIST_LAG_SECONDS

    def updated(self, response: SearchPage) -> SearchWaiter:
        """Return the state after a poll."""
        return replace(self, listed_until=response.at)

    def lines_about(
        self, response: SearchPage, now: float
    ) -> tuple[waiter.LogLine, ...]:
        """Return a line if the next poll may find another execution."""
        execution = response.execution
        if execution is None or self._is_final(execution, now):
            return ()
        arn = execution.execution_arn
        text = f"Found, but AWS may still list another one: {arn}"
        return (waiter.LogLine(logging.INFO, text),)

    def end_of(self, response: SearchPage, now: float) -> SearchEvent | None:
        """Return the event if the execution is found, or cannot be any more."""
        execution = response.execution
        if execution and self._is_final(execution, now):
            return SearchEvent(
                outcome="found",
                began_at=self.search.began_at,
                execution_arn=execution.execution_arn,
            )
        if response.at >= self._complete_at:
            return self.event(
                "no_match", "The window has closed, and no execution in it matches."
            )
        return None

    def _is_final(self, execution: ListedExecution, now: float) -> bool:
        if not self.is_repeated or now >= self.deadline:
            return True
        return is_settled(self.search, execution, now)

    def timeout_text(self, note: str | None = None) -> str:
        """Return the reason of an end at the deadline."""
        text = (
            "No execution was found within"
            f" {texts.format_seconds(self.deadline - self.since)}"
        )
        if note:
            return f"{text}; {note}"
        return f"{text}."

    def event(
        self, outcome: Any, message: str | None, error: PolysyncError | None = None
    ) -> SearchEvent:
        """Return the event of a search without an execution."""
        if isinstance(error, TooManyMatchesError):
            outcome = "too_many"
            error = None
        return SearchEvent(
            outcome=outcome,
            began_at=self.search.began_at,
            message=f"{message} Looked for: {describe_search(self.search)}.",
            **waiter.error_fields(error),
        )


# A ``Search`` as JSON, which becomes one where it is validated.
StoredSearch = Annotated[
    Mapping[str, Any], pydantic.GetPydanticSchema(lambda _, of: of(Search))
]


@dataclass(kw_only=True, eq=False, repr=False)
class SearchArguments(trigger_arguments.WaitArguments):
    """
    The arguments of a trigger that searches.

    :param search: what is looked for: the fields of ``Search``, as JSON.
    :param listed_until: when the sensor has listed the executions on a worker, as Unix
        time; None if it has not.
    """

    search: StoredSearch
    listed_until: models.Timestamp | None

    @property
    def since(self) -> float:
        """When the search began, as Unix time."""
        return Search.model_validate(self.search).began_at.timestamp()
