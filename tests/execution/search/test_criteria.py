"""Which of the listed executions a search means: tables of executions and choices."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from polysync_airflow.exceptions import ParametersError, TriggerEventError
from polysync_airflow.execution.search import criteria
from polysync_airflow.execution.search.criteria import is_settled, make_search, parse_search_event, pick
from polysync_airflow.execution.search.models import ListedExecution, Search

PREFIX = "arn:aws:sagemaker:us-east-1:123456789012:pipeline"
BEGAN_AT = datetime(2026, 1, 2, 12, tzinfo=UTC)
DAY = (datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC))
# Names by the hour, counted from the first of January, at which the executions were created.
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


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, "nightly-1"),
        ({"which": "latest"}, "nightly-2"),
        ({"display_name_pattern": "man*"}, "manual"),
        ({"display_name_pattern": "nightly-[2-9]"}, "nightly-2"),
        ({"display_name_pattern": "NIGHTLY-*"}, None),
        ({"created_after": "2026-01-01T01:00:00Z"}, "manual"),
        ({"created_after": "2026-01-01T06:00:00+01:00"}, "manual"),
        ({"created_after": "2026-01-01 05:00:00+00:00"}, "manual"),
        ({"created_after": "2026-01-02"}, "midnight"),
        ({"created_after": datetime(2026, 1, 1, 21, tzinfo=timezone(timedelta(hours=1)))}, "nightly-2"),
        # A window whose begin is given has no end.
        ({"created_after": "2026-01-01", "which": "latest"}, "noon"),
        ({"created_after": "2026-01-02T13:00:00", "which": "latest"}, "evening"),
        ({"created_before": "2026-01-01T20:00:00", "which": "latest"}, "manual"),
        ({"created_after": "2027-01-01"}, None),
        ({"created_after": "", "display_name_pattern": "", "parameters": {}}, "nightly-1"),
    ],
)
def test_choice(arguments: dict[str, Any], expected: str | None) -> None:
    """The window, the pattern and ``which`` decide; an empty text counts as none."""
    found = pick(search(**arguments), LISTED, no_parameters)

    assert (found and found.display_name) == expected


def test_latest_is_the_latest_of_the_begin_whenever_somebody_looks() -> None:
    """If none existed when the search began, it is the first one after that, also when there are more."""
    latest = search(created_after=BEGAN_AT + timedelta(minutes=1), which="latest")
    later = [listed("evening", 42), listed("night", 46)]

    assert pick(latest, later[:1], no_parameters) == pick(latest, later, no_parameters) == later[0]


def test_execution_of_another_pipeline_is_not_taken() -> None:
    """AWS's list is not believed."""
    assert pick(search(), [listed("manual", 5, "other")], no_parameters) is None
    assert pick(search(pipeline_name=f"{PREFIX}/FanOut"), LISTED, no_parameters) is not None


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"Shards": 4}, "manual"),
        ({"Shards": "4", "DryRun": True}, "nightly-2"),
        ({"Other": "x"}, None),
        ({"Shards": 4.0}, None),
    ],
)
def test_parameters_are_a_subset(parameters: dict[str, Any], expected: str | None) -> None:
    """Values are compared as ``str(value)``; the parameters of executions that do not match are not read."""
    values = {
        "nightly-1": {"Shards": "5"},
        "manual": {"Shards": "4", "DryRun": "False"},
        "nightly-2": {"Shards": "4", "DryRun": "True"},
    }
    by_arn = {each.execution_arn: values.get(each.display_name or "") for each in LISTED}
    read: Callable[[str], Any] = by_arn.__getitem__

    found = pick(search(parameters=parameters), LISTED, read)

    assert (found and found.display_name) == expected


def test_numbers_of_executions_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """A window that is too large is an error that says what to do, and reads no further."""
    many = [listed(f"n{number}", number / 1000) for number in range(150)]
    compared: list[str] = []

    def read(arn: str) -> dict[str, str]:
        compared.append(arn)
        return {}

    with pytest.raises(criteria.TooManyMatchesError, match=r"a shorter window .*or a display_name_pattern"):
        pick(search(parameters={"A": "1"}), many, read)
    monkeypatch.setattr(criteria, "MAX_LISTED", 120)
    with pytest.raises(criteria.TooManyMatchesError, match=r"more than 120 executions in the window"):
        pick(search(display_name_pattern="none"), many, read)

    assert len(compared) == criteria.MAX_COMPARED


@pytest.mark.parametrize(
    ("which", "hour", "settled_at"),
    [
        ("first", 20, 20 * 3600 + 60),
        # The newest that existed at noon may still appear a minute later; after the window, none can.
        ("latest", 20, 24 * 3600 + 60),
        ("latest", 42, 42 * 3600 + 60),
    ],
)
def test_choice_is_settled_a_minute_after_the_last_rival_can_exist(
    which: str, hour: float, settled_at: float
) -> None:
    """Until then, who looks again may find another one."""
    base = DAY[0].timestamp()
    found = listed("x", hour)

    assert not is_settled(search(which=which), found, base + settled_at - 1)
    assert is_settled(search(which=which), found, base + settled_at)


@pytest.mark.parametrize(
    ("arguments", "texts"),
    [
        ({"pipeline_name": "no good"}, ["pipeline_name = 'no good'", "name, or its ARN"]),
        ({"created_after": "yesterday"}, ["created_after = 'yesterday'", '"2026-01-31T06:00:00+00:00"']),
        ({"created_after": 5}, ["created_after = 5", "is not a time"]),
        ({"created_after": "0001-01-01"}, ["created_after = '0001-01-01'", "out of range"]),
        (
            {"created_after": "2026-01-03", "created_before": "2026-01-03"},
            ["is not later than created_after"],
        ),
        ({"created_before": "2025-12-31"}, ["created_before = '2025-12-31'", "is not later than"]),
        ({"display_name_pattern": "x" * 257}, ["display_name_pattern = 'xxx", "1 to 256"]),
        ({"display_name_pattern": "a\nb"}, ["display_name_pattern = 'a\\nb'"]),
        ({"parameters": ["A"]}, ["parameters = a list of 1", "a mapping of at most 200"]),
        ({"parameters": {"A": None}}, ["parameters['A'] = None"]),
        ({"parameters": {"A": "x" * 1025}}, ["parameters['A'] = 'xxx"]),
        ({"parameters": {str(n): "x" for n in range(201)}}, ["parameters = a dict of 201"]),
    ],
)
def test_invalid_arguments_are_named(arguments: dict[str, Any], texts: list[str]) -> None:
    """The error names the argument, its value and what is valid."""
    with pytest.raises(ParametersError) as caught:
        search(**arguments)

    for text in texts:
        assert text in str(caught.value)
    assert str(caught.value).count("\n- ") == 1


@pytest.mark.parametrize(
    "event",
    [
        None,
        {},
        {"outcome": "found", "began_at": BEGAN_AT.isoformat()},
        {"outcome": "found", "began_at": BEGAN_AT.isoformat(), "execution_arn": "{{ conn.x }}"},
        {"outcome": "no_match", "began_at": BEGAN_AT.isoformat(), "execution_arn": LISTED[0].execution_arn},
        {"outcome": "ended", "began_at": BEGAN_AT.isoformat()},
        {"outcome": "timed_out", "began_at": 5},
    ],
)
def test_event_of_another_form_is_refused(event: Any) -> None:
    """An event comes from Airflow's database, where others can edit it."""
    with pytest.raises(TriggerEventError):
        parse_search_event(event)
