"""
Which of the listed executions a search means, and what comes after each look: tables of
executions and looks.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from polysync_airflow.exceptions import (
    CredentialsError,
    ParametersError,
    PolysyncError,
    SageMakerApiError,
    TriggerEventError,
)
from polysync_airflow.execution import search as criteria
from polysync_airflow.execution.search import (
    LIST_LAG_SECONDS,
    SETTLE_SECONDS,
    ListedExecution,
    Search,
    SearchArguments,
    SearchEvent,
    SearchPage,
    SearchWaiter,
    TooManyMatchesError,
    describe_search,
    is_settled,
    make_search,
    page_of,
    pick,
)
from polysync_airflow.execution.texts import MAX_PROBLEMS
from polysync_airflow.execution.waiter import Finish, LogLine, Wait, check_event
from tests.unit.execution.lifecycle.builders import api_error

PREFIX = "arn:aws:sagemaker:us-east-1:123456789012:pipeline"
BEGAN_AT = datetime(2026, 1, 2, 12, tzinfo=UTC)
DAY = (datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC))
# Names by the hour, counted from the first of January, at which the executions were
# created.
EXECUTIONS = {
    "early": -1,
    "nightly-1": 0,
    "manual": 5,
    "nightly-2": 20,
    "midnight": 24,
    "noon": 36,
    "evening": 42,
}


def listed(name: str, hour: float, pipeline: str = "fanout") -> ListedExecution:
    """Return an entry of AWS's list."""
    return ListedExecution.model_validate(
        {
            "PipelineExecutionArn": f"{PREFIX}/{pipeline}/execution/{name.replace('-', '')}",
            "PipelineExecutionStatus": "Executing",
            "PipelineExecutionDisplayName": name,
            "StartTime": DAY[0] + timedelta(hours=hour),
        }
    )


LISTED = [listed(name, hour) for name, hour in EXECUTIONS.items()]


def search(**arguments: Any) -> Search:
    """Return a search of a task whose data interval is the first of January."""
    return make_search({"pipeline_name": "fanout", **arguments}, DAY, BEGAN_AT)


def no_parameters(_: str) -> dict[str, str]:
    """Fail, because the parameters of no execution may be read."""
    raise AssertionError


EIGHT_IN_UTC = datetime(2026, 1, 1, 21, tzinfo=timezone(timedelta(hours=1)))
NO_TEXTS = {"created_after": "", "display_name_pattern": ""}


def test_window_pattern_and_which_decide() -> None:
    """The window, the pattern and ``which`` decide; an empty text counts as none."""
    for arguments, expected in (
        ({}, "nightly-1"),
        ({"which": "latest"}, "nightly-2"),
        ({"display_name_pattern": "man*"}, "manual"),
        ({"display_name_pattern": "nightly-[2-9]"}, "nightly-2"),
        ({"display_name_pattern": "NIGHTLY-*"}, None),
        ({"created_after": "2026-01-01T01:00:00Z"}, "manual"),
        ({"created_after": "2026-01-01T06:00:00+01:00"}, "manual"),
        ({"created_after": "2026-01-02"}, "midnight"),
        ({"created_after": EIGHT_IN_UTC}, "nightly-2"),
        # A window whose begin is given has no end.
        ({"created_after": "2026-01-01", "which": "latest"}, "noon"),
        ({"created_after": "2026-01-02T13:00:00", "which": "latest"}, "evening"),
        ({"created_before": "2026-01-01T20:00:00", "which": "latest"}, "manual"),
        ({**NO_TEXTS, "parameters": {}}, "nightly-1"),
    ):
        found = pick(search(**arguments), LISTED, no_parameters)

        assert (found and found.display_name) == expected


def test_time_without_an_offset_is_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in Airflow, wherever the host is."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        times: list[Any] = ["2026-01-01T05:00:00", datetime(2026, 1, 1, 5)]  # noqa: DTZ001 # it is tested
        found = [search(created_after=each).created_after for each in times]
    finally:
        monkeypatch.undo()
        time.tzset()

    assert found == [datetime(2026, 1, 1, 5, tzinfo=UTC)] * 2


def test_execution_without_a_display_name_has_an_empty_one() -> None:
    """A pattern for any name means it, too; one for a name does not."""
    unnamed = listed("x", 5).model_copy(update={"display_name": None})

    assert pick(search(display_name_pattern="*"), [unnamed], no_parameters) is unnamed
    assert pick(search(display_name_pattern="?*"), [unnamed], no_parameters) is None


def test_latest_is_the_latest_of_the_begin_whenever_somebody_looks() -> None:
    """
    If none existed when the search began, it is the first one after that, also when
    there are more.
    """
    latest = search(created_after=BEGAN_AT + timedelta(minutes=1), which="latest")
    later = [listed("evening", 42), listed("night", 46)]

    assert pick(latest, later[:1], no_parameters) == later[0]
    assert pick(latest, later, no_parameters) == later[0]


def test_execution_of_another_pipeline_is_not_taken() -> None:
    """AWS's list is not believed."""
    assert pick(search(), [listed("manual", 5, "other")], no_parameters) is None
    by_arn = search(pipeline_name=f"{PREFIX}/FanOut")
    assert pick(by_arn, LISTED, no_parameters) is not None


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"Shards": 4}, "manual"),
        ({"Shards": "4", "DryRun": True}, "nightly-2"),
        ({"Shards": 4.0}, None),
    ],
)
def test_execution_with_these_and_other_parameters_matches(
    parameters: dict[str, Any], expected: str | None
) -> None:
    """
    Values are compared as ``str(value)``; the parameters of executions that do not
    match are not read.
    """
    values = {
        "nightly-1": {"Shards": "5"},
        "manual": {"Shards": "4", "DryRun": "False"},
        "nightly-2": {"Shards": "4", "DryRun": "True"},
    }
    names = {each.execution_arn: str(each.display_name) for each in LISTED}

    found = pick(search(parameters=parameters), LISTED, lambda arn: values[names[arn]])

    assert (found and found.display_name) == expected


def test_number_of_executions_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A window that is too large is an error that says what to do, and reads no further.
    """
    many = [listed(f"n{number}", number / 1000) for number in range(150)]
    compared: list[str] = []

    def read(arn: str) -> dict[str, str]:
        compared.append(arn)
        return {}

    with pytest.raises(criteria.TooManyMatchesError) as caught:
        pick(search(parameters={"A": "1"}), many, read)
    assert str(caught.value) == (
        "parameters = a dict of 1 are not those of the first 100 executions of"
        " pipeline fanout that match otherwise, and each one costs a call: give a"
        " shorter window (created_after, created_before), or a display_name_pattern."
    )
    assert len(compared) == criteria.MAX_COMPARED
    monkeypatch.setattr(criteria, "MAX_LISTED", 120)
    with pytest.raises(criteria.TooManyMatchesError) as caught:
        pick(search(display_name_pattern="none"), many, read)
    assert str(caught.value) == (
        "created_after = 2026-01-01T00:00:00+00:00: pipeline fanout has more than 120"
        " executions in the window: give a shorter one (created_after,"
        " created_before)."
    )


def test_choice_is_settled_a_minute_after_the_last_rival_can_exist() -> None:
    """Until then, who looks again may find another one."""
    for which, hour, settled_at in (
        ("first", 20, 20 * 3600 + 60),
        # The newest that existed at noon may still appear a minute later; after the
        # window, none can.
        ("latest", 20, 24 * 3600 + 60),
        ("latest", 42, 42 * 3600 + 60),
    ):
        base = DAY[0].timestamp()
        found = listed("x", hour)

        assert not is_settled(search(which=which), found, base + settled_at - 1)
        assert is_settled(search(which=which), found, base + settled_at)


A_MAPPING = "Give a mapping of at most 200 names to strings, numbers or booleans"
A_TIME = 'Give a datetime, or a text such as "2026-01-31T06:00:00+00:00"'
MANY = {str(number): "x" for number in range(201)}
SAME = {"created_after": "2026-01-03", "created_before": "2026-01-03"}
REVERSE = {"created_before": "2025-12-31"}


def test_invalid_argument_is_refused_with_its_value_and_the_cure() -> None:
    """The error names the argument or the member of one, its value and the cure."""
    for arguments, subject, text in (
        ({"pipeline_name": "no good"}, "pipeline_name = 'no good'", "name, or its ARN"),
        ({"created_after": "yesterday"}, "created_after = 'yesterday'", A_TIME),
        (
            {"created_after": 5},
            "created_after = 5: Value error, is not a time.",
            A_TIME,
        ),
        ({"created_after": "0001-01-01"}, "created_after = '0001-", "out of range"),
        (SAME, "created_before = '2026-01-03'", "is not later than created_after"),
        (REVERSE, "created_before = '2025-12-31'", "is not later than created_after"),
        ({"display_name_pattern": "x" * 257}, "display_name_pattern = 'xx", "1 to 256"),
        ({"which": "second"}, "which = 'second'", "should be 'first' or 'latest'."),
        ({"parameters": ["A"]}, "parameters = a list of 1", A_MAPPING),
        ({"parameters": {"A": None}}, "parameters['A'] = None", A_MAPPING),
        ({"parameters": {"A": "x" * 1025}}, "parameters['A'] = 'xxx", "1 to 1,024"),
        ({"parameters": {"a b": 1}}, "parameters['a b'] = 'a b'", "leave it out."),
        ({"parameters": MANY}, "parameters = a dict of 201", A_MAPPING),
    ):
        with pytest.raises(ParametersError) as caught:
            search(**arguments)

        first, problem = str(caught.value).split("\n")
        assert first == "Nothing was looked for, because these arguments are not valid:"
        assert problem.startswith(f"- {subject}")
        assert text in problem


def test_only_the_first_problems_are_named() -> None:
    """A mapping may have thousands of wrong members."""
    with pytest.raises(ParametersError) as caught:
        search(parameters={f"A{number}": "" for number in range(100)})

    assert len(str(caught.value).split("\n")) == 2 + MAX_PROBLEMS
    assert str(caught.value).endswith(f"- and {100 - MAX_PROBLEMS} more")


def test_search_is_described_in_one_line() -> None:
    """A search is described in one line."""
    for arguments, text in (
        ({}, "created from 2026-01-01T00:00:00+00:00 to 2026-01-02T00:00:00+00:00"),
        ({"created_after": "2026-01-01"}, "created from 2026-01-01T00:00:00+00:00 on"),
        (
            {
                "created_after": "2026-01-01",
                "display_name_pattern": "n*",
                "parameters": {"A": 1, "B": 2},
            },
            (
                "created from 2026-01-01T00:00:00+00:00 on with a display name like n*"
                " with parameters A, B"
            ),
        ),
    ):
        description = f"the first execution of pipeline fanout {text}"
        assert describe_search(search(**arguments)) == description


BEGUN = {"began_at": BEGAN_AT.isoformat()}


def test_event_of_another_form_is_refused() -> None:
    """An event comes from Airflow's database, where others can edit it."""
    for event in (
        None,
        {},
        {"outcome": "found", **BEGUN},
        {"outcome": "found", **BEGUN, "execution_arn": "{{ conn.x }}"},
        {"outcome": "no_match", **BEGUN, "execution_arn": LISTED[0].execution_arn},
        {"outcome": "timed_out", "began_at": 5},
    ):
        problem = "an event that is not this provider's event"
        with pytest.raises(TriggerEventError, match=problem):
            check_event(SearchEvent, event)


# ---- what comes after each look

BEGAN = BEGAN_AT.timestamp()
HOUR = 3600.0
TIMES: Any = {"poll_interval": 60, "since": BEGAN, "deadline": BEGAN + HOUR}
OPEN = SearchWaiter(search=search(created_after=DAY[0]), **TIMES)
CLOSED = replace(OPEN, search=search())
FOUND = listed("manual", 5)


@pytest.mark.parametrize(
    ("waiter", "result", "after", "outcome", "text"),
    [
        (OPEN, FOUND, 0, "found", None),
        (CLOSED, FOUND, 0, "found", None),
        (OPEN, FOUND, 2 * HOUR, "found", None),
        (OPEN, None, HOUR - 1, None, None),
        (OPEN, None, HOUR, "timed_out", "No execution was found within 1 h."),
        (
            CLOSED,
            None,
            0,
            "no_match",
            "The window has closed, and no execution in it matches.",
        ),
        (OPEN, api_error(transient=True), 0, None, None),
        (OPEN, api_error(), 0, None, None),
        # A window that has closed proves nothing if it cannot be listed.
        (CLOSED, api_error(), 0, None, None),
        (
            OPEN,
            api_error(),
            HOUR,
            "timed_out",
            "No execution was found within 1 h; the last poll failed: AWS said no",
        ),
        (OPEN, api_error(permanent=True), 0, "refused", "AWS said no"),
        (OPEN, CredentialsError("no key"), 0, "refused", "no key"),
        (OPEN, TooManyMatchesError("too many"), 0, "too_many", "too many"),
    ],
)
def test_search_ends_with_an_execution_or_a_reason(
    waiter: SearchWaiter,
    result: Any,
    after: float,
    outcome: str | None,
    text: str | None,
) -> None:
    """The search ends with an event of this outcome, or goes on."""
    response = result
    if not isinstance(result, PolysyncError):
        response = SearchPage(result, BEGAN + after)
    step = waiter.decide(response, BEGAN + after)

    if outcome is None:
        assert isinstance(step, Wait)
        return
    assert isinstance(step, Finish)
    event = step.event
    assert (event.outcome, event.began_at) == (outcome, BEGAN_AT)
    if text:
        assert str(event.message).startswith(text)
        sought = "the first execution of pipeline fanout created from 2026-01-01"
        assert f"Looked for: {sought}" in str(event.message)
    if isinstance(result, SageMakerApiError) and outcome != "found":
        assert (event.error_code, event.operation) == ("InternalFailure", "x")
    assert (event.error_code is None) == (
        outcome in ("found", "no_match", "too_many") or result is None
    )


def test_closed_window_is_watched_until_the_list_is_complete() -> None:
    """
    An execution of the window's last second may appear late; the last look comes
    exactly then.
    """
    end = DAY[1].timestamp()
    waiter = replace(CLOSED, deadline=end + 10 * HOUR)

    assert waiter.last_poll_at == end + LIST_LAG_SECONDS
    before = waiter.last_poll_at - 1
    step = waiter.decide(SearchPage(None, before), before)
    assert isinstance(step, Wait)
    assert step.seconds == 1
    last = SearchPage(None, waiter.last_poll_at)
    assert isinstance(waiter.decide(last, end), Finish)
    assert OPEN.last_poll_at == OPEN.deadline


def test_only_what_is_new_is_listed_again() -> None:
    """
    After a look that has succeeded, the next one begins where it was made, less the lag
    of AWS's list.
    """
    first = OPEN.decide(SearchPage(None, BEGAN), BEGAN + 1)
    assert isinstance(first, Wait)
    failed = first.waiter.decide(api_error(), BEGAN + 60)
    assert isinstance(failed, Wait)

    assert OPEN.list_after == DAY[0] - timedelta(seconds=1)
    expected = BEGAN_AT - timedelta(seconds=LIST_LAG_SECONDS + 1)
    assert first.waiter.list_after == failed.waiter.list_after == expected
    # Never before the window.
    assert replace(OPEN, listed_until=DAY[0].timestamp()).list_after == OPEN.list_after


def test_search_of_several_sessions_ends_when_the_choice_is_settled() -> None:
    """
    The next look, by another process, must find the same execution; the last one takes
    what there is.
    """
    repeated = replace(OPEN, is_repeated=True)
    found = listed("late", 36 - 1 / 60)
    at = found.created_at.timestamp() + SETTLE_SECONDS - 1
    early = repeated.decide(SearchPage(found, at), at)

    text = f"Found, but AWS may still list another one: {found.execution_arn}"
    assert isinstance(early, Wait)
    assert early.log_lines == (LogLine(logging.INFO, text),)
    last = replace(repeated, deadline=at)
    for waiter, now in ((repeated, at + 1), (last, at), (OPEN, at)):
        ended = waiter.decide(SearchPage(found, now), now)
        assert isinstance(ended, Finish)
        assert ended.event.execution_arn == found.execution_arn
        assert ended.log_lines == ()


def test_polls_of_searches_in_a_pipeline_go_together() -> None:
    """One list serves all of them, whatever else they look for."""
    other = replace(OPEN, search=search(display_name_pattern="n*"), poll_interval=5)

    assert OPEN.group == other.group == "fanout"
    assert OPEN.name == OPEN.label == "the search in pipeline fanout"


def test_refused_list_is_no_empty_page() -> None:
    """The list, or the parameters that are compared, may be refused."""
    error = api_error()

    def refuse(_: str) -> dict[str, str]:
        raise error

    compared = replace(OPEN, search=search(created_after=DAY[0], parameters={"A": "1"}))
    assert page_of(OPEN.search, error, refuse, BEGAN) is error
    assert page_of(compared.search, [FOUND], refuse, BEGAN) is error
    assert page_of(OPEN.search, [FOUND], refuse, BEGAN) == SearchPage(FOUND, BEGAN)
    assert page_of(OPEN.search, [], refuse, BEGAN) == SearchPage(None, BEGAN)


def test_stored_arguments_are_those_of_a_shared_search() -> None:
    """It began when the sensor did, and its looks are shared."""
    stored = SearchArguments(
        search=search(created_after=DAY[0]).model_dump(mode="json"),
        polysync_conn_id="team",
        region_name=None,
        poll_interval=60.0,
        listed_until=1.75e9,
        deadline=BEGAN + HOUR,
    )

    assert stored.checked().wait_of(SearchWaiter) == replace(
        OPEN, listed_until=1.75e9, rate_limited=True
    )
