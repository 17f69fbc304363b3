"""
Which of the listed executions a search means.

Rules:

1. An execution matches if its creation time is in the window, its display name matches the pattern, and its
   parameters have the values that are looked for.
2. ``first`` is the oldest of them. ``latest`` is the newest that existed when the search began; if there was
   none, the first one after that.
3. So the choice depends on AWS's list and on when the search began, and not on when somebody looks. A task
   that looks again, because it was rescheduled, finds the same execution.
4. AWS's list may lag behind. Who looks again without memory of what was found before takes a choice for
   settled only after ``SETTLE_SECONDS``: until then, an older execution may still appear.

Everything here is pure: the time is an argument.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from itertools import islice
from typing import Any, Final

from pydantic import ValidationError

from polysync_airflow.exceptions import ParametersError, TriggerEventError
from polysync_airflow.execution.search.models import ListedExecution, Search, SearchEvent
from polysync_airflow.execution.texts import MAX_PROBLEMS, clean_line, describe_validation_error, shorten

# How much AWS's list may lag behind, and the clock of this host differ from AWS's.
LIST_LAG_SECONDS: Final = 300.0
SETTLE_SECONDS: Final = 60.0
# The parameters of an execution cost a call. A search looks at those of so many at a time.
MAX_COMPARED: Final = 100
# A window with more executions is one that somebody has forgotten to limit.
MAX_LISTED: Final = 10_000
# The arguments of the sensor that become the search.
SEARCH_ARGUMENTS: Final = tuple(name for name in Search.model_fields if name != "began_at")

ParametersOf = Callable[[str], Mapping[str, str]]


class TooManyMatchesError(ParametersError):
    """Raised when a window has more executions than are listed, or than parameters are compared of."""


def make_search(
    arguments: Mapping[str, Any], interval: tuple[datetime, datetime | None], began_at: datetime
) -> Search:
    """
    Return the search that the arguments of a sensor describe.

    :param arguments: the rendered arguments; those without a value are None, or an empty text.
    :param interval: the window if the arguments have none. Its end is None if it has none.
    :raises ParametersError: lists each invalid argument with its value and what is valid.
    """
    given = {name: value for name, value in arguments.items() if value is not None and value != ""}
    if "created_after" not in given:
        given["created_after"] = interval[0]
        # A window whose begin is given has no end, unless that is given, too.
        given.setdefault("created_before", interval[1])
    try:
        return Search(**given, began_at=began_at)
    except ValidationError as error:
        problems = [_problem(each, given) for each in islice(error.errors(), MAX_PROBLEMS)]
        raise ParametersError(
            "\n".join(("Nothing was looked for, because these arguments are not valid:", *problems))
        ) from None


def _problem(problem: Any, given: Mapping[str, Any]) -> str:
    field, *path = (str(part) for part in problem["loc"])
    name = "".join((field, *(f"[{shorten(part)}]" for part in path if part != "[key]")))
    # The literal ``which`` has no description: its message names the values.
    cure = Search.model_fields[field].description or ""
    # A time is shown as it was given, not as it was understood.
    value = problem["input"] if path else given.get(field)
    return f"- {name} = {shorten(value)}: {problem['msg']}. {cure}".rstrip()


def parse_search_event(event: Mapping[str, Any] | None) -> SearchEvent:
    """
    Validate the payload of the event with which Airflow resumes a deferred search.

    :raises TriggerEventError: the payload is not an event of the search trigger.
    """
    try:
        return SearchEvent.model_validate(event)
    except ValidationError as error:
        raise TriggerEventError(
            "Airflow resumed the task with an event that is not one of the search trigger "
            f"({describe_validation_error(error)}). If another version of the provider was installed "
            "meanwhile, clear the task."
        ) from None


def pick(
    search: Search, listed: Iterable[ListedExecution], parameters_of: ParametersOf
) -> ListedExecution | None:
    """
    Return the execution that a search means; None if there is none yet.

    :param listed: the executions of the pipeline, the oldest first.
    :param parameters_of: returns the parameters of an execution.
    :raises TooManyMatchesError: more than ``MAX_LISTED`` executions are listed, or the parameters of more
        than ``MAX_COMPARED`` would be compared.
    """
    for number, execution in enumerate(_in_order(search, _limited(search, listed))):
        if not search.parameters:
            return execution
        if number == MAX_COMPARED:
            raise TooManyMatchesError(
                f"parameters = {shorten(search.parameters)} are not those of the first {MAX_COMPARED} "
                f"executions of pipeline {search.name} that match otherwise, and each one costs a call: give "
                "a shorter window (created_after, created_before), or a display_name_pattern."
            )
        if search.has_parameters(parameters_of(execution.execution_arn)):
            return execution
    return None


def _limited(search: Search, listed: Iterable[ListedExecution]) -> Iterator[ListedExecution]:
    for number, execution in enumerate(listed):
        if number == MAX_LISTED:
            raise TooManyMatchesError(
                f"created_after = {search.created_after.isoformat()}: pipeline {search.name} has more than "
                f"{MAX_LISTED:,} executions in the window: give a shorter one (created_after, "
                "created_before)."
            )
        yield execution


def _in_order(search: Search, listed: Iterable[ListedExecution]) -> Iterator[ListedExecution]:
    matching = (execution for execution in listed if search.matches(execution))
    if search.which == "first":
        # One by one, so that no page is read in vain.
        yield from matching
        return
    executions = list(matching)
    existed = [execution for execution in executions if execution.created_at <= search.began_at]
    yield from reversed(existed)
    yield from executions[len(existed) :]


def is_settled(search: Search, found: ListedExecution, now: float) -> bool:
    """Return whether no other execution can take the place of the one that was found."""
    since = found.created_at
    if search.which == "latest":
        since = max(since, min(search.began_at, search.created_before or search.began_at))
    return now >= since.timestamp() + SETTLE_SECONDS


def describe_search(search: Search) -> str:
    """Return what a search looks for, as one line for logs and errors."""
    end = search.created_before
    parts = [
        f"the {search.which} execution of pipeline {search.name}",
        f"created from {search.created_after.isoformat()}",
        f"to {end.isoformat()}" if end else "on",
        f"with a display name like {search.display_name_pattern}" if search.display_name_pattern else "",
        f"with parameters {', '.join(search.parameters)}" if search.parameters else "",
    ]
    return clean_line(" ".join(part for part in parts if part))
