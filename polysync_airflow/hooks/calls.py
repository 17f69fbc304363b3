"""The calls that all operations of the hook have in common, and how their responses are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from polysync_airflow.auth.base_hook import PolysyncBaseHook, Response
from polysync_airflow.aws.rate_limiter import rate_limiter_for
from polysync_airflow.aws.responses import PAGE_SIZE, check_size, invalid_response_error, paginate
from polysync_airflow.exceptions import PolysyncError
from polysync_airflow.execution import clock
from polysync_airflow.execution.texts import describe_validation_error
from polysync_airflow.execution.waiter import ResourceWaiter

Model = TypeVar("Model", bound=BaseModel)
# Makes a call and returns its response, for example under a rate limiter and with retries.
Caller = Callable[[Callable[[], Response]], Response]


class HookCalls(PolysyncBaseHook):
    """Base of the classes that have the methods of the hook."""

    def _entries_of_list(
        self, operation: str, member: str, limit: int, through: Caller | None, request: Mapping[str, Any]
    ) -> Iterator[Any]:
        # Kept here, because a limiter lives as long as it is used.
        limiter = rate_limiter_for((self.polysync_conn_id, self.region_name), clock.monotonic())

        def call_limited(call: Callable[[], Response]) -> Response:
            limiter.acquire()
            return call()

        def list_page(token: str | None) -> tuple[Response, Any]:
            call = partial(self.call, operation, MaxResults=PAGE_SIZE, NextToken=token, **request)
            page = (through or call_limited)(call)
            return page, page.get("NextToken")

        count = 0
        for page in paginate(operation, list_page):
            entries = entries_of(page, operation, member)
            count += len(entries)
            check_size(operation, count, limit)
            yield from entries


def describe(hook: PolysyncBaseHook, waiter: type[ResourceWaiter[Any]], resource: str) -> Any:
    """
    Describe a resource for which a task may wait.

    :param waiter: the class of the wait, which says how the resource is described.
    :param resource: its name or ARN.
    :raises SageMakerApiError: the call failed, or the response is not valid, or about another resource.
    """
    operation = waiter.operation
    response = hook.call(operation, **{waiter.request_member: resource})
    description: Any = parse(waiter.description_model, operation, response)
    # AWS has ARNs in lower case, also if a name in one is not.
    if description.resource.lower() != resource.lower():
        raise invalid_response_error(operation, f"it is about {description.resource}, not {resource}")
    return description


def poll(hook: PolysyncBaseHook, waiter: ResourceWaiter[Any]) -> Any:
    """Describe the resource of a wait; return an error instead of raising it: ``decide`` takes both."""
    try:
        return describe(hook, type(waiter), waiter.resource)
    except PolysyncError as error:
        return error


def parse(model: type[Model], operation: str, response: Any) -> Model:
    """
    Return a response as a model.

    :raises SageMakerApiError: the response is not valid.
    """
    try:
        return model.model_validate(response)
    except ValidationError as error:
        raise invalid_response_error(operation, describe_validation_error(error)) from None


def entries_of(page: Response, operation: str, member: str) -> list[Any]:
    """
    Return the entries of a page of a list.

    :raises SageMakerApiError: the response has no such list.
    """
    entries = page.get(member)
    if not isinstance(entries, list):
        raise invalid_response_error(operation, f"it has no list {member}")
    return entries
