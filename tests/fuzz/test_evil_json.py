"""
What others have written, at each reader of the core: no error but the reader's own.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest

from polysync_airflow.auth.connection import parse_credentials
from polysync_airflow.auth.sts import decode_claims
from polysync_airflow.exceptions import (
    CredentialsError,
    ParametersError,
    TriggerEventError,
)
from polysync_airflow.execution.events import UnreadableMessageError, read_message
from polysync_airflow.execution.json_input import UnreadableJsonError
from polysync_airflow.execution.outcome import parse_run_summary
from polysync_airflow.execution.pipelines import (
    declared_parameters,
    declared_steps,
    definition_digest,
)
from polysync_airflow.execution.prices import HourlyPrices
from polysync_airflow.execution.results import parse
from polysync_airflow.execution.search import SearchArguments
from polysync_airflow.execution.step_clears import listing_of_clear
from polysync_airflow.execution.steps.callbacks import StepChangedEvent, parse_message
from polysync_airflow.execution.steps.descriptions import order_of, parse_rows
from polysync_airflow.execution.steps.progress import (
    StepTriggerArguments,
    parse_step_ended,
)
from polysync_airflow.execution.trigger_arguments import (
    TriggerArguments,
    check_trigger_arguments,
)
from polysync_airflow.execution.waiter import ExecutionEvent, check_event
from tests.fakes.evil_json import EVIL, UNREADABLE, nested_value

ARN = "arn:aws:sagemaker:us-east-1:123456789012:pipeline/fanout/execution/abcdefghijkl"


def ignore(_: object) -> None:
    """Write no log line."""


def outcome_of(
    read: Callable[[Any], Any], given: Any, errors: tuple[type[Exception], ...]
) -> tuple[Any, str]:
    """Return what a reader returns, or the text of one of the errors that it raises."""
    try:
        return read(given), ""
    except errors as error:
        return None, str(error)


def claims_of(text: str) -> object:
    """Return the claims of a token that has a text."""
    payload = base64.urlsafe_b64encode(text.encode("utf-8", "surrogatepass"))
    return decode_claims(f"header.{payload.decode()}.signature")


# Each reader of texts, with the errors that it may raise.
TEXTS: dict[str, tuple[Callable[[str], Any], tuple[type[Exception], ...]]] = {
    "message of EventBridge": (read_message, (UnreadableMessageError,)),
    "message of a callback step": (parse_message, ()),
    "parameters of a definition": (declared_parameters, (ParametersError,)),
    "steps of a definition": (declared_steps, ()),
    "digest of a definition": (definition_digest, ()),
    "order of the steps in a trigger": (order_of, ()),
    "prices": (HourlyPrices.parse, (ValueError,)),
    "property file": (lambda text: parse(text.encode()), (UnreadableJsonError,)),
    "token": (claims_of, ()),
}


@pytest.mark.parametrize("kind", EVIL)
@pytest.mark.parametrize("reader", TEXTS)
def test_texts(reader: str, kind: str) -> None:
    """What cannot be read is no result, or the reader's own error."""
    read, errors = TEXTS[reader]

    result, text = outcome_of(read, EVIL[kind], errors)

    assert not result or kind not in UNREADABLE
    assert len(text) < 2_000


# Each reader of values that Airflow has decoded, with the error that it may raise.
NESTED_MEMBERS: dict[str, Any] = {
    "execution_arn": nested_value(),
    "parameters": nested_value(),
    "stop": nested_value(),
    "outcome": nested_value(),
    "auth_method": nested_value(),
    "surprise": nested_value(),
}
VALUES: dict[str, tuple[Callable[[Any], Any], tuple[type[Exception], ...]]] = {
    "run": (lambda value: parse_run_summary(value, ignore), ()),
    "steps": (parse_rows, ()),
    "steps, one of them": (lambda value: parse_rows([value]), ()),
    "first look": (lambda value: listing_of_clear(value, ARN, 0), ()),
    "event": (lambda value: check_event(ExecutionEvent, value), (TriggerEventError,)),
    "event of a step that has ended": (parse_step_ended, (TriggerEventError,)),
    "event of a callback step": (StepChangedEvent.or_none, ()),
    "trigger": (
        lambda value: check_trigger_arguments(TriggerArguments, value),
        (ParametersError,),
    ),
    "trigger of a step": (
        lambda value: check_trigger_arguments(StepTriggerArguments, value),
        (ParametersError,),
    ),
    "trigger of a search": (
        lambda value: check_trigger_arguments(SearchArguments, value),
        (ParametersError,),
    ),
    "connection": (
        lambda value: parse_credentials({"extra": value}, connection_id="mine"),
        (CredentialsError,),
    ),
    "fields of a connection": (
        lambda value: parse_credentials(
            {"auth_method": "access_key", "region_name": value, "verify": value},
            connection_id="mine",
        ),
        (CredentialsError,),
    ),
}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("value", [nested_value(), NESTED_MEMBERS], ids=["all", "some"])
@pytest.mark.parametrize("reader", VALUES)
def test_nested_values(reader: str, value: Any) -> None:
    """No error shows a value that Python cannot show."""
    read, errors = VALUES[reader]

    _, text = outcome_of(read, value, errors)

    assert len(text) < 2_000
