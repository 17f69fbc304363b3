"""
Random searches, model packages, events of a queue, and callback steps: what others
write, and what authors give.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import partial
from typing import Any

from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError
from pydantic_core import to_jsonable_python

from polysync_airflow.exceptions import (
    CallbackStepError,
    ParametersError,
    TriggerEventError,
)
from polysync_airflow.execution.approval import (
    ApprovalEvent,
    ApprovalTriggerArguments,
    ApprovalWaiter,
    ModelPackageDescription,
    approval_message,
    check_approval,
    check_model_package_arn,
    check_model_package_group,
)
from polysync_airflow.execution.events import (
    MAX_MESSAGE_BYTES,
    UnreadableMessageError,
    check_watcher,
    read_message,
)
from polysync_airflow.execution.search import (
    SEARCH_ARGUMENTS,
    ListedExecution,
    SearchArguments,
    SearchEvent,
    SearchPage,
    SearchWaiter,
    describe_search,
    is_settled,
    make_search,
    pick,
)
from polysync_airflow.execution.steps import progress as awaited
from polysync_airflow.execution.steps.callbacks import (
    answer_token,
    callback_status,
    find_step,
    output_parameters,
    parse_message,
    recorded_outputs,
    running_callback,
)
from polysync_airflow.execution.steps.descriptions import StepDescription
from polysync_airflow.execution.trigger_arguments import (
    StoredArguments,
    check_trigger_arguments,
)
from polysync_airflow.execution.waiter import Finish, check_event
from tests.fakes.airflow_encoding import delivered, pulled
from tests.fuzz.test_inputs import ARN, TRIGGER, check_message
from tests.strategies import fuzz, json_values, scalars, texts, values, variations
from tests.unit.execution.events import samples

NOW = datetime(2026, 1, 2, tzinfo=UTC)
PACKAGE = "arn:aws:sagemaker:us-east-1:123456789012:model-package/g/1"
SECRET = "s3cretT0ken"
DEEP = st.sampled_from([10, 100_000]).map(lambda depth: "[" * depth + "]" * depth)
LARGE = st.sampled_from([MAX_MESSAGE_BYTES, MAX_MESSAGE_BYTES + 1]).map(
    lambda size: json.dumps("x" * size)
)
EVENTS = [
    json.loads(body)
    for body in (samples.execution(), samples.of_step(), samples.model_package())
]


def check_text(text: str, limit: int = 20_000) -> None:
    """A text can be stored and logged, and does not have the token."""
    assert len(text) < limit
    assert "\x00" not in text
    assert SECRET not in text
    text.encode()


def check_line(text: str) -> None:
    """A text is one short line."""
    check_text(text, 2_000)
    assert "\n" not in text


def bodies(event: dict[str, Any]) -> st.SearchStrategy[str]:
    """
    Return an event in which members of the envelope, of the detail, or of both are
    missing or damaged.
    """
    details = variations(event["detail"], json_values)
    envelopes = variations(
        {name: event[name] for name in event if name != "detail"}, json_values
    )
    return st.builds(
        lambda detail, envelope: json.dumps({**envelope, "detail": detail}),
        details,
        envelopes,
    )


@fuzz(
    st.one_of(*map(bodies, EVENTS)) | json_values.map(json.dumps) | texts | DEEP | LARGE
)
def test_messages_of_a_queue(body: str) -> None:
    """
    A message is a change whose payload is clean JSON, or unreadable for a reason of one
    line.
    """
    try:
        change = read_message(body)
    except UnreadableMessageError as error:
        check_line(str(error))
        return
    check_text(json.dumps(delivered(change.payload), ensure_ascii=False))
    assert hash(change.key) == hash(change.key)
    for wants in ({}, {"steps": ["*"]}, {"model_package_groups": ["*"]}):
        watch = check_watcher(
            {"queue_url": f"https://x/{'1' * 12}/q", "polysync_conn_id": "c", **wants}
        )
        assert watch.wants(change) in (True, False)


WATCH = {
    "queue_url": "https://sqs.us-east-1.amazonaws.com/123456789012/changes",
    "polysync_conn_id": "c",
    "region_name": "us-east-1",
    "pipelines": ["a*"],
    "steps": ["b"],
    "model_package_groups": None,
    "states": ["Success"],
}


@fuzz(variations(WATCH, values))
def test_watchers(arguments: dict[str, Any]) -> None:
    """
    The arguments of a watcher are valid, and can be stored as JSON, or a
    ParametersError.
    """
    try:
        delivered(check_watcher(arguments).model_dump(mode="json"))
    except ParametersError as error:
        check_message(error)


SEARCH = {
    "pipeline_name": "x",
    "created_after": "2026-01-01",
    "created_before": "2026-01-03",
    "which": "latest",
    "display_name_pattern": "n*",
    "parameters": {"A": "1"},
}
ENTRY = {
    "PipelineExecutionArn": ARN,
    "PipelineExecutionStatus": "Executing",
    "PipelineExecutionDisplayName": "n1",
    "StartTime": NOW.timestamp(),
}
entries = st.lists(variations(ENTRY, json_values), max_size=4)


@fuzz(variations(SEARCH, values), entries, st.dictionaries(texts, texts, max_size=2))
def test_searches(
    arguments: dict[str, Any], entries: list[Any], parameters: dict[str, str]
) -> None:
    """
    A search finds an execution of the list or none, or is a ParametersError that names
    what is wrong.
    """
    known = {
        name: value for name, value in arguments.items() if name in SEARCH_ARGUMENTS
    }
    try:
        search = make_search(known, (NOW, None), NOW)
    except ParametersError as error:
        check_message(error)
        return
    listed = []
    for entry in entries:
        try:
            listed.append(ListedExecution.model_validate(entry))
        except ValidationError:
            continue
    found = pick(search, listed, lambda _: parameters)

    assert found is None or found in listed
    check_text(describe_search(search))
    assert found is None or is_settled(search, found, NOW.timestamp()) in (True, False)
    delivered(search.model_dump(mode="json"))
    now = NOW.timestamp()
    waiter = SearchWaiter(search=search, poll_interval=60, since=now, deadline=now + 60)
    waiter.list_after.isoformat()
    assert waiter.decide(SearchPage(found, now), now)


STORED_SEARCH = {
    "search": {**SEARCH, "began_at": "2026-01-01T00:00:00Z"},
    "polysync_conn_id": "c",
    "region_name": "us-east-1",
    "poll_interval": 30.0,
    "listed_until": 1.75e9,
    "deadline": 1.76e9,
}
STORED_APPROVAL = {
    "model_package_arn": PACKAGE,
    "polysync_conn_id": "c",
    "region_name": "us-east-1",
    "poll_interval": 30.0,
    "since": 1.75e9,
    "deadline": 1.76e9,
}
searches = variations(STORED_SEARCH["search"], json_values)  # type: ignore[arg-type]
ROWS: tuple[tuple[type[StoredArguments], st.SearchStrategy[Any]], ...] = (
    (
        SearchArguments,
        variations(STORED_SEARCH, values)
        | st.builds(lambda s: {**STORED_SEARCH, "search": s}, searches),
    ),
    (ApprovalTriggerArguments, variations(STORED_APPROVAL, values)),
    (
        awaited.StepTriggerArguments,
        variations({**TRIGGER, "step_name": "Train"}, values),
    ),
)


@fuzz(st.one_of(*(st.tuples(st.just(model), rows) for model, rows in ROWS)))
def test_trigger_rows(row: tuple[type[StoredArguments], dict[str, Any]]) -> None:
    """The arguments of the sensors' stored triggers are valid, or a ParametersError."""
    model, arguments = row
    try:
        delivered(to_jsonable_python(check_trigger_arguments(model, arguments)))
    except ParametersError as error:
        check_message(error)


FOUND = {
    "outcome": "found",
    "began_at": "2026-01-01T00:00:00Z",
    "execution_arn": ARN,
    "message": None,
}
STEP_ENDED = {
    "outcome": "step_ended",
    "execution_arn": ARN,
    "step_name": "Train",
    "status": "Failed",
}
APPROVED = {
    "outcome": "approved",
    "model_package_arn": PACKAGE,
    "approval_status": "Approved",
    "message": "m",
}


@fuzz(
    variations(FOUND, json_values)
    | variations(STEP_ENDED, json_values)
    | variations(APPROVED, json_values)
    | json_values
)
def test_events_of_triggers(event: Any) -> None:
    """An event is one of the trigger's, or a TriggerEventError."""
    for parse in (
        partial(check_event, SearchEvent),
        awaited.parse_step_ended,
        partial(check_event, ApprovalEvent),
    ):
        try:
            end = parse(event)
        except TriggerEventError as error:
            check_message(error)
        else:
            if isinstance(end, BaseModel):
                pulled(end.model_dump(mode="json"))
            if isinstance(end, ApprovalEvent):
                check_text(approval_message(end))


PACKAGE_RESPONSE = {
    "ModelPackageArn": PACKAGE,
    "ModelPackageStatus": "Failed",
    "ModelApprovalStatus": "Rejected",
    "CreationTime": 1.75e9,
    "ApprovalDescription": "d",
    "LastModifiedBy": {"UserProfileName": "ada", "IamIdentity": {"Arn": "arn:x"}},
    "LastModifiedTime": 1.75e9,
    "ModelPackageStatusDetails": {
        "ValidationStatuses": [{"FailureReason": "r"}],
        "ImageScanStatuses": [],
    },
}


@fuzz(variations(PACKAGE_RESPONSE, json_values))
def test_model_packages(response: dict[str, Any]) -> None:
    """
    A description that is valid has clean texts, and gives an instruction whose log
    lines are short.
    """
    try:
        description = ModelPackageDescription.model_validate(response)
    except ValidationError:
        return
    check_text(
        json.dumps(
            description.model_dump(mode="json"), allow_nan=False, ensure_ascii=False
        )
    )
    waiter = ApprovalWaiter(
        model_package_arn=PACKAGE, poll_interval=60.0, since=1e9, deadline=1e9 + 60
    )
    step = waiter.decide(description, 1e9)
    for line in step.log_lines:
        check_line(line.text)
    if isinstance(step, Finish):
        check_text(approval_message(step.event))
        pulled(delivered(step.event.model_dump(mode="json")))


@fuzz(values, values)
def test_approvals(value: Any, other: Any) -> None:
    """
    Other values in place of ARNs, groups, statuses and names of steps are
    ParametersErrors.
    """
    for check, given in (
        (check_model_package_arn, (value,)),
        (check_model_package_group, (value,)),
        (check_approval, (value, other)),
        (check_approval, ("Approved", other)),
        (awaited.check_step_name, (value,)),
    ):
        try:
            check(*given)
        except ParametersError as error:
            check_message(error)


MESSAGE = {
    "token": SECRET,
    "pipelineExecutionArn": ARN,
    "arguments": {"a": 1},
    "status": "Stopping",
    "Status": "Stopping",
}


@fuzz(
    variations(MESSAGE, json_values).map(json.dumps)
    | json_values.map(json.dumps)
    | texts
    | DEEP
    | LARGE
)
def test_callback_messages(body: str) -> None:
    """A message is one of a callback step or none; no text of it has the token."""
    message = parse_message(body)
    if message is not None:
        assert message.is_stop in (True, False)
        assert SECRET not in repr(message) + str(message) or SECRET in json.dumps(
            message.arguments
        )


METADATA = {
    "CallbackToken": SECRET,
    "SqsQueueUrl": "https://sqs.us-east-1.amazonaws.com/123456789012/q",
    "OutputParameters": [{"Name": "a", "Value": "1"}],
}
STEP = {
    "StepName": "Wait",
    "StepStatus": "Executing",
    "StartTime": 1.75e9,
    "EndTime": None,
}
metadata = variations(METADATA, json_values).map(lambda members: {"Callback": members})
steps = st.builds(
    lambda step, metadata: {**step, "Metadata": metadata},
    variations(STEP, json_values),
    metadata | variations({"Callback": METADATA}, json_values) | json_values,
)


@fuzz(
    st.lists(steps, max_size=3),
    texts | st.sampled_from(["Executing", "Stopping", "Stopped", "Failed"]),
)
def test_callback_steps(listed: list[Any], status: str) -> None:
    """
    Steps with damaged metadata have a situation, and a token or none, or are a
    CallbackStepError without it.
    """
    valid = []
    for entry in listed:
        try:
            valid.append(StepDescription.model_validate(entry))
        except ValidationError:
            continue
    step = find_step(valid, "Wait")
    assert callback_status(step, status)
    awaited.ended_step(valid, "Wait", ARN)
    if step is None:
        return
    for name, value in recorded_outputs(step).items():
        check_text(name + value)
    pulled(recorded_outputs(step))
    try:
        callback = running_callback(step)
    except CallbackStepError as error:
        check_text(str(error))
    else:
        if callback is not None:
            assert SECRET not in repr(callback)
            assert (
                32
                <= len(answer_token(callback.token, "success").get_secret_value())
                <= 128
            )


@fuzz(values | st.dictionaries(texts, scalars, max_size=60))
def test_outputs(value: Any) -> None:
    """
    What a function returns becomes parameters that AWS accepts, or is a
    ParametersError.
    """
    try:
        outputs = output_parameters(value)
    except ParametersError as error:
        check_message(error)
    else:
        assert len(outputs) <= 50
        assert all(
            1 <= len(name) <= 256 and len(text) <= 1024
            for name, text in outputs.items()
        )
        assert pulled(outputs) == outputs
