"""The tables of the README, compared with the code that they describe."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import Any

import pytest

from polysync_airflow.auth.connection import choices_of
from polysync_airflow.auth.credentials import DISCRIMINATORS
from polysync_airflow.auth.iam_policies import identity_policy
from polysync_airflow.exceptions import HINTS
from polysync_airflow.execution.models import ExecutionRecord, StartRequest, StoredExecution
from polysync_airflow.execution.pipelines.models import Job
from polysync_airflow.execution.recovery import Action, next_action
from polysync_airflow.get_provider_info import get_provider_info
from polysync_airflow.operators import (
    PolysyncListImportOperator,
    PolysyncStartPipelineOperator,
    PolysyncStopPipelineOperator,
)
from polysync_airflow.states import STATE_OF_STATUS

ARN = "arn:aws:sagemaker:us-east-1:123456789012:pipeline/fanout"
REQUEST = StartRequest(
    pipeline_name="fanout",
    pipeline_parameters={},
    execution_display_name="x",
    client_request_token=f"polysync-{'0' * 36}",
)
README = (Path(__file__).parents[1] / "README.md").read_text()


def rows(heading: str) -> dict[str, str]:
    """Return the table rows under a heading, by the text of their first cell."""
    section = re.split(r"^#+ ", README.split(f"# {heading}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]
    lines = re.findall(r"^\| ([^|]+?) \| (.*)\|$", section, re.MULTILINE)
    return {first.replace("`", ""): rest for first, rest in lines}


@pytest.mark.parametrize(
    "operator", [PolysyncStartPipelineOperator, PolysyncStopPipelineOperator, PolysyncListImportOperator]
)
def test_every_argument_is_documented(operator: Any) -> None:
    """Each argument of an operator is in the README and in the operator's docstring."""
    documented = ", ".join(rows(operator.__name__))
    common = {"self", "kwargs", "polysync_conn_id", "region_name"}
    arguments = set(inspect.signature(operator.__init__).parameters) - common

    assert [name for name in arguments if not re.search(rf"\b{name}\b", documented)] == []
    assert [name for name in arguments if f":param {name}:" not in operator.__doc__] == []


def test_every_hint_is_in_the_troubleshooting_table() -> None:
    """The troubleshooting table has exactly the error codes of ``HINTS``."""
    codes = {code for code in rows("Troubleshooting") if re.fullmatch(r"[A-Z]\w+", code)}

    assert codes == set(HINTS)


def test_every_status_is_in_the_outcome_table() -> None:
    """The table has each status of AWS, with the state to which the code maps it."""
    documented = {
        status: rest.split("|")[0].strip()
        for statuses, rest in rows("Outcomes").items()
        for status in statuses.split(", ")
    }

    assert {status: documented[status] for status in STATE_OF_STATUS} == STATE_OF_STATUS


@pytest.mark.parametrize("status", [*STATE_OF_STATUS, "Pausing"])
@pytest.mark.parametrize("cleared", [False, True], ids=["retry", "clear"])
def test_every_action_of_a_new_try_is_in_the_table(status: str, cleared: bool) -> None:
    """The table of retries and clears has the action of the code for each status."""
    documented = {
        name: rest.split("|")[cleared].strip()
        for statuses, rest in rows("One execution per task").items()
        for name in statuses.replace(", or unknown", ", Pausing").split(", ")
    }
    text = documented[status]
    if text == "the same" and status != "CompletedWithFailures":
        text = rows("One execution per task")["Stopping"].split("|")[0].strip()
    stored = StoredExecution(
        epoch=0, region_name="us-east-1", request=REQUEST, execution_arn=f"{ARN}/execution/abcdefghijkl"
    )

    action = next_action(stored, int(cleared), status, retry_mode="resume", on_clear="resume")

    phrases = {
        Action.REATTACH: "takes its result" if status == "Succeeded" else "waits for its end",
        Action.RESUME: "resumes it" if status == "Failed" else "the same; with",
        Action.START: "starts a new one",
        Action.STOP: "stops it, waits for its end, starts a new one",
        Action.WAIT_FOR_END: "waits for its end, then starts a new one",
    }
    assert phrases[action] in text
    assert (action is Action.START) == (text == "starts a new one")


def test_fields_of_records_and_jobs_are_documented() -> None:
    """The README lists each field of the XCom ``run`` and of a job."""
    listed = re.findall(r"`(\w+)`", rows("PolysyncStartPipelineOperator")["run"])
    job = re.findall(r"`(\w+)`", README.split("A job: ", 1)[1].split("\n", 1)[0])

    assert set(ExecutionRecord.model_fields) <= set(listed)
    assert set(Job.model_fields) <= set(job)


def test_every_connection_field_is_documented() -> None:
    """The README has each field of the connection form, with the same label and JSON name."""
    (connection_type,) = get_provider_info()["connection-types"]
    documented = rows("Connection")

    for name, field in connection_type["conn-fields"].items():
        assert f"`extra.{name}`" in documented[field["label"]]
    for name, label in connection_type["ui-field-behaviour"]["relabeling"].items():
        assert f"`{name}`" in documented[label]


def test_policy_is_the_one_that_the_command_prints() -> None:
    """The least-privilege policy in the README is the output of ``python -m polysync_airflow.iam policy``."""
    policy = json.loads(README.split("```json\n", 1)[1].split("```", 1)[0])

    assert policy == identity_policy()


def test_every_sign_in_method_is_documented() -> None:
    """The README has each value of the connection fields that select the sign-in method."""
    methods = {method for name in DISCRIMINATORS for method in choices_of(name)}

    assert {method for method in methods if f"`{method}`" not in README} == set()
