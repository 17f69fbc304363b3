"""The tables of the documentation, compared with the code that they describe."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from botocore.session import get_session

from polysync_airflow.auth.connection import DISCRIMINATORS, choices_of
from polysync_airflow.auth.iam_policies import identity_policy
from polysync_airflow.exceptions import HINTS
from polysync_airflow.execution.events import read_message
from polysync_airflow.execution.lifecycle.decisions import next_command
from polysync_airflow.execution.lifecycle.instructions import Command
from polysync_airflow.execution.lifecycle.options import RecoveryOptions
from polysync_airflow.execution.outcome import RunSummary
from polysync_airflow.execution.pipelines import DeclaredParameter, Job
from polysync_airflow.execution.steps.descriptions import (
    STEP_KINDS,
    STEP_TYPES,
    StepRow,
    outputs_of,
)
from polysync_airflow.states import STATE_OF_STATUS
from tests.pages import DOCS, EMULATOR_DOCS, Page, page
from tests.unit.execution.events import samples
from tests.unit.execution.lifecycle.builders import stored

PROJECT = Path(__file__).parents[2]
RETRIES = page("explanation/one-execution-per-task.md").rows(
    "What a retry and a cleared task do"
)


def test_every_hint_is_in_the_table_of_error_codes() -> None:
    """The table has exactly the error codes of ``HINTS``."""
    codes = page("how-to/read-a-failure.md").rows("What does the error code mean?")

    assert set(codes) - {"Error code"} == set(HINTS)


def test_every_status_is_in_the_outcome_table() -> None:
    """The table has each status of AWS, with the state to which the code maps it."""
    documented = {
        status: rest.split("|")[0].strip()
        for statuses, rest in page("reference/errors.md").rows("Outcomes").items()
        for status in statuses.split(", ")
    }

    assert {status: documented[status] for status in STATE_OF_STATUS} == STATE_OF_STATUS


def test_clients_of_the_emulator_have_the_versions_that_are_tested() -> None:
    """The versions in the table are those of constraints.txt and of the Makefile."""
    pins = dict(
        re.findall(
            r"^(\S+)==(\S+)$", (PROJECT / "constraints.txt").read_text(), re.MULTILINE
        )
    )
    clients = re.findall(
        r"^[A-Z_0-9]+ := ([\w@/-]+)(?:==|@)([\d.]+)$",
        (PROJECT / "Makefile").read_text(),
        re.MULTILINE,
    )
    tested = {
        f"{name} {version.split('.')[0]}" if name == "sagemaker" else name: version
        for name, version in clients
    }

    rows = Page(EMULATOR_DOCS / "clients-and-services.md").rows(
        "Which clients can use it?"
    )
    documented = {
        client.split(":")[0]: rest.split("|")[0].strip()
        for client, rest in rows.items()
    }

    assert {
        name: version for name, version in documented.items() if name != "Client"
    } == {
        "boto3": pins["boto3"],
        "AWS CLI": tested["awscli"],
        "AWS SDK for JavaScript": tested["@aws-sdk/client-sagemaker"],
        "Amazon provider": pins["apache-airflow-providers-amazon"],
        "SageMaker Python SDK, version 2": tested["sagemaker 2"],
        "SageMaker Python SDK, version 3": tested["sagemaker 3"],
    }


@pytest.mark.parametrize("status", [*STATE_OF_STATUS, "Pausing"])
@pytest.mark.parametrize("cleared", [False, True], ids=["retry", "clear"])
def test_every_action_of_a_new_try_is_in_the_table(status: str, cleared: bool) -> None:
    """The table of retries and clears has the action of the code for each status."""
    documented = {
        name: rest.split("|")[cleared].strip()
        for statuses, rest in RETRIES.items()
        for name in statuses.replace(", or unknown", ", Pausing").split(", ")
    }
    text = documented[status]
    if text == "the same" and status != "CompletedWithFailures":
        text = RETRIES["Stopping"].split("|")[0].strip()
    record = stored(epoch=0)

    options = RecoveryOptions(
        retry_mode="resume",
        on_clear="resume",
        on_completed_with_failures="fail",
        stop_on_kill=True,
    )

    command = next_command(record, int(cleared), status, options)

    phrases = {
        Command.WATCH: "takes its result"
        if status == "Succeeded"
        else "waits for its end",
        Command.RESUME: "resumes it" if status == "Failed" else "the same; with",
        Command.PREPARE: "starts a new one",
        Command.STOP: "stops it, waits for its end, starts a new one",
        Command.WAIT_FOR_END: "waits for its end, then starts a new one",
    }
    assert phrases[command] in text
    assert (command is Command.PREPARE) == (text == "starts a new one")


def names_in(text: str) -> set[str]:
    """Return the names that a text marks as code."""
    return set(re.findall(r"`(\w+)`", text))


def test_fields_of_records_steps_and_jobs_are_documented() -> None:
    """
    The pages list each field of the XCom ``run``, of an entry of ``steps``, and of a
    job.
    """
    xcoms = page("reference/xcoms.md")
    record = names_in(xcoms.rows("What PolysyncStartPipelineOperator pushes")["run"])
    step = names_in(xcoms.section("What has an entry of steps"))
    job = names_in(page("reference/operators.md").section("Jobs"))

    assert set(RunSummary.model_fields) - record == set()
    assert set(StepRow.model_fields) - step == set()
    assert set(Job.model_fields) - job == set()
    assert set(DeclaredParameter.model_fields) - job == set()


def test_every_kind_of_step_is_documented() -> None:
    """
    The tables have the links and the outputs of each kind, and the reason why one has
    no page.
    """
    xcoms = page("reference/xcoms.md")
    links, outputs = (
        {
            name: rest
            for names, rest in xcoms.rows(heading).items()
            for name in names.split(", ")
        }
        for heading in ("Which links has a step?", "What has outputs")
    )
    metadata: Any = (
        get_session()
        .get_service_model("sagemaker")
        .shape_for("PipelineExecutionStepMetadata")
    )

    assert (
        links.keys() - {"Type"}
        == set(STEP_TYPES.values())
        == outputs.keys() - {"Step", "a newer type"}
    )
    for name, kind in STEP_KINDS.items():
        page_text, log = (
            cell.strip() for cell in links[STEP_TYPES[name]].split("|")[:2]
        )
        assert (
            page_text == f"none: {kind.no_page}"
            if kind.no_page
            else page_text.startswith("its ")
        ), name
        # An older botocore does not know all kinds.
        members = (
            dict.fromkeys(metadata.members[name].members, "x")
            if name in metadata.members
            else {}
        )
        where = (
            "CloudWatch"
            if kind.log_group
            else "S3"
            if "LogFilePath" in members
            else "none"
        )
        assert log.partition(":")[0] == where or not members, name
        cell = outputs[STEP_TYPES[name]].split("|")[0]
        made = set(
            outputs_of(
                name,
                {**members, "OutputParameters": []}
                if "OutputParameters" in members
                else members,
            )
        )
        assert (
            made == names_in(cell)
            or not members
            or ("..." in cell and names_in(cell) < made)
        ), name


def test_payloads_of_events_are_documented() -> None:
    """The table has each member of the payload of an asset event, and no others."""
    rows = page("reference/triggers.md").rows("What does an asset event have?")
    documented = {name for names in rows for name in names.split(", ")} - {
        "Member of payload"
    }
    bodies = (samples.execution(), samples.of_step(), samples.model_package())

    assert {
        name for body in bodies for name in read_message(body).payload
    } == documented


def test_policy_is_the_one_that_the_command_prints() -> None:
    """The least-privilege policy is the output of ``polysync iam policy``."""
    policy = (DOCS / "assets" / "iam-policy.json").read_text()

    assert json.loads(policy) == identity_policy()


def test_every_sign_in_method_is_documented() -> None:
    """
    The how-to has each value of the connection fields that select the sign-in method.
    """
    methods = {method for name in DISCRIMINATORS for method in choices_of(name)}

    assert {
        method
        for method in methods
        if f"`{method}`" not in page("how-to/connect.md").text
    } == set()


def test_words_are_few_and_name_what_exists() -> None:
    """A reader keeps twenty words in mind; the classes that they name are the code's."""
    words = page("explanation/architecture.md").rows("Words")
    code = "\n".join(
        path.read_text()
        for path in sorted((PROJECT / "polysync_airflow").rglob("*.py"))
    )
    classes = {
        name
        for meaning in words.values()
        for name in re.findall(r"`([A-Z]\w+)`", meaning)
    }

    assert 0 < len(set(words) - {"Word"}) <= 20
    assert classes
    assert [
        name for name in classes if not re.search(rf"^class {name}\b", code, re.M)
    ] == []
