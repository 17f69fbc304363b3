"""
Reads lists of AWS page by page, and ends those that AWS would not send.

Not botocore's paginators: they compare a token with the one before only, and take any number of pages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

from polysync_airflow.aws.error_mapping import unusable_response_error
from polysync_airflow.aws.response_limits import is_time_over
from polysync_airflow.exceptions import PAGINATION, SageMakerApiError

Page = TypeVar("Page")

PAGE_SIZE: Final = 100
# An account has a few thousand pipelines; AWS allows 50 steps in a pipeline, and more on request.
MAX_PAGES: Final = 1000
MAX_ENTRIES: Final = PAGE_SIZE * MAX_PAGES
MAX_STEPS: Final = 10_000
# https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ListPipelines.html
MAX_TOKEN_LENGTH: Final = 8192


def paginate(operation: str, list_page: Callable[[str | None], tuple[Page, Any]]) -> Iterator[Page]:
    """
    Yield the pages of a list.

    :param operation: the operation, as AWS names it.
    :param list_page: lists one page. It gets the page's token, None for the first page, and returns the page
        and the token of the next one.
    :raises SageMakerApiError: the list would not end, or the time of ``time_limit`` has passed.
    """
    seen: set[str | None] = set()
    token: str | None = None
    while not is_time_over():
        page, following = list_page(token)
        yield page
        if not following:
            return
        seen.add(token)
        token = following
        if not isinstance(token, str) or len(token) > MAX_TOKEN_LENGTH:
            raise pagination_error(operation, f"its NextToken is not a text of at most {MAX_TOKEN_LENGTH:,}")
        if token in seen:
            raise pagination_error(operation, f"it returned the same NextToken twice, on page {len(seen)}")
        if len(seen) == MAX_PAGES:
            raise pagination_error(operation, f"it has more than {MAX_PAGES:,} pages")
    raise pagination_error(operation, f"its time was over after {len(seen):,} pages")


def check_size(operation: str, entries: int, limit: int) -> None:
    """
    Check how many entries of a list were read.

    :raises SageMakerApiError: there are more than the provider accepts.
    """
    if entries > limit:
        raise pagination_error(operation, f"it has more than {limit:,} entries")


def pagination_error(operation: str, problem: str) -> SageMakerApiError:
    """Return the error for a list that the provider does not read to its end."""
    return unusable_response_error(operation, PAGINATION, problem)
