"""
Lists that would not end: each ends with an error that names the operation, and with few
calls.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest

from polysync_airflow.aws.responses import (
    MAX_PAGES,
    MAX_STEPS,
    MAX_TOKEN_LENGTH,
    paginate,
    time_limit,
)
from polysync_airflow.exceptions import SageMakerApiError
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.triggers.shared_client import SharedClient
from tests.conftest import ARN
from tests.fakes.fake_sagemaker import Body, answering, connected
from tests.tasks import EmulatedTime

LISTS: dict[str, Any] = {
    "ListPipelineExecutionSteps": lambda hook: hook.list_pipeline_execution_steps(ARN),
    "ListPipelines": lambda hook: list(hook.list_pipelines()),
}
MEMBERS = {
    "ListPipelineExecutionSteps": "PipelineExecutionSteps",
    "ListPipelines": "PipelineSummaries",
}


def pages_of(tokens: Iterator[Any], count: int = 0) -> Any:
    """
    Return a function for ``answering`` whose pages have these tokens and some entries.
    """
    entry = {"StepName": "x", "PipelineName": "x"}

    def respond(operation: str, _: Any) -> Body:
        page = {MEMBERS[operation]: count * [entry], "NextToken": next(tokens)}
        return Body(json.dumps(page).encode())

    return respond


@pytest.mark.parametrize("operation", LISTS)
@pytest.mark.parametrize(
    ("tokens", "calls", "problem"),
    [
        ("a", 2, "the same NextToken twice, on page 2"),
        ("abc", 4, "the same NextToken twice, on page 4"),
        ([{"a": 1}], 1, "not a text"),
        (["x" * (MAX_TOKEN_LENGTH + 1)], 1, "not a text"),
    ],
)
def test_list_of_a_broken_server_ends(
    operation: str, tokens: Any, calls: int, problem: str
) -> None:
    """A token may come back after other tokens, too."""
    with (
        connected(answering(pages_of(itertools.cycle(tokens)))) as operations,
        pytest.raises(
            SageMakerApiError, match=f"^{operation} failed: .*{problem}"
        ) as caught,
    ):
        LISTS[operation](PolysyncSageMakerHook())

    assert len(operations) == calls
    error = caught.value
    assert (error.error_code, error.operation) == ("PaginationError", operation)
    assert (error.permanent, error.transient) == (False, False)


def test_list_of_steps_ends_after_ten_thousand_entries() -> None:
    """
    A hundred pages of a hundred steps are read; with one more step, the list ends.
    """
    with (
        connected(answering(pages_of(map(str, itertools.count()), 101))) as operations,
        pytest.raises(SageMakerApiError, match="more than 10,000 entries"),
    ):
        PolysyncSageMakerHook().list_pipeline_execution_steps(ARN)

    assert len(operations) == MAX_STEPS // 101 + 1


def test_list_of_pipelines_ends_after_its_greatest_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The import of an account ends, too."""
    monkeypatch.setattr("polysync_airflow.hooks.executions.MAX_ENTRIES", 20)
    with (
        connected(answering(pages_of(map(str, itertools.count()), 10))) as operations,
        pytest.raises(SageMakerApiError, match="more than 20 entries"),
    ):
        list(PolysyncSageMakerHook().list_pipelines())

    assert len(operations) == 3


def test_time_limit_is_checked_between_pages() -> None:
    """No page is listed after the time is over."""
    calls: list[Any] = []

    def list_page(token: str | None) -> tuple[None, str]:
        calls.append(token)
        return None, str(len(calls))

    with (
        time_limit(0),
        pytest.raises(SageMakerApiError, match="its time was over after 0 pages"),
    ):
        list(paginate("ListPipelines", list_page))

    assert calls == []
    with pytest.raises(SageMakerApiError, match="more than 1,000 pages"):
        list(paginate("ListPipelines", list_page))
    assert len(calls) == MAX_PAGES


@pytest.mark.parametrize("operation", LISTS)
def test_pages_go_through_the_rate_limiter(
    emulated_time: EmulatedTime, operation: str
) -> None:
    """After the burst of 20 calls, each page waits for its token."""
    tokens: list[Any] = [*map(str, range(60)), None]
    with connected(answering(pages_of(iter(tokens)))) as operations:
        LISTS[operation](PolysyncSageMakerHook())

    assert len(operations) == 61
    assert len(emulated_time.slept) >= 40


def test_page_of_the_poller_is_listed_only_while_its_wait_goes_on(
    emulated_time: EmulatedTime,
) -> None:
    """
    The first page has its token already; each later one waits for the limiter, and asks
    before and after.
    """
    with connected(answering(pages_of(map(str, itertools.count()), 1))) as operations:
        client = SharedClient("polysync_default", None)
        error: Any = client.list_steps(ARN, is_wanted=lambda: len(operations) < 30)

    assert "its wait has ended" in str(error)
    assert len(operations) == 30
    assert 29 - 20 <= len(emulated_time.slept) <= 29
