"""
Starts: client request tokens, names, versions and refusals.

https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_StartPipelineExecution.html
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

from sagemaker_emulator.verify import definitions
from sagemaker_emulator.verify.account import Account
from sagemaker_emulator.verify.models import (
    NotCheckedError,
    Observation,
    Observations,
    one_of,
)

_LONGEST_NAME: Final = "a" * 82


def tokens(account: Account) -> Observations:
    """Send a start several times."""

    text = definitions.parameter("Text", "String", "a")
    name = account.create("tokens", definitions.succeeding(text))

    def start(value: str, token: str) -> str:
        parameters = [{"Name": "Text", "Value": value}]
        return account.start(
            name, ClientRequestToken=token, PipelineParameters=parameters
        )

    token = account.token()
    first = start("b", token)

    def start_again(value: str) -> Observation:
        is_first = start(value, token) == first
        return one_of(is_first, "the same execution", "another execution")

    yield {"same-token": account.observe(start_again, "b")}
    yield {"same-token-other-parameters": account.observe(start_again, "c")}
    other = start("b", account.token())
    is_another = other != first
    yield {"other-token": one_of(is_another, "another execution", "the same execution")}
    account.wait_for_end(first)
    yield {"same-token-after-end": account.observe(start_again, "b")}
    executions = account.wait_for_list(name, len({first, other}))
    yield {"count": f"{len(executions)} executions"}


def members(account: Account) -> Observations:
    """Start executions that differ in one member from one that is accepted."""
    name = account.create("plain", definitions.succeeding())
    arn = account.call("DescribePipeline", PipelineName=name)["PipelineArn"]

    def shown(member: str, value: object) -> Observation:
        """Start an execution with a member, and return how it is shown at the end."""
        end = account.wait_for_end(account.start(name, **{member: value}))
        shown_value = end.answer.get(member)
        return one_of(
            shown_value == value,
            "accepted, and shown as it was sent",
            f"shown as {shown_value}",
        )

    start = partial(account.answer_to, account.start)
    longer_name = f"{_LONGEST_NAME}a"
    run_id = "manual__2026-01-01T00:00:00"
    yield {
        "display-name": account.observe(
            shown, "PipelineExecutionDisplayName", _LONGEST_NAME
        )
    }
    yield {"longer-display-name": start(name, PipelineExecutionDisplayName=longer_name)}
    yield {"display-name-characters": start(name, PipelineExecutionDisplayName=run_id)}
    yield {"missing-alias": start(name, PipelineVersionAlias="polysync-verify-none")}
    yield {"role": start(name, RoleArn=account.role_arn)}
    yield {"by-arn": start(arn)}
    yield {"missing-pipeline": start(account.name_of("missing"))}
    limit = {"MaxParallelExecutionSteps": 1}
    yield {"parallelism": account.observe(shown, "ParallelismConfiguration", limit)}


def others(account: Account) -> Observations:
    """Use the token of a refused start again."""
    number = definitions.parameter("Number", "Integer", 1)
    name = account.create("refusal", definitions.succeeding(number))
    start = partial(
        account.answer_to, account.start, name, ClientRequestToken=account.token()
    )
    refused = start(PipelineParameters=[{"Name": "Number", "Value": "many"}])
    if refused == "accepted":
        raise NotCheckedError("a start with a wrong value is accepted")
    yield {"token-of-a-refusal": start()}


def versions(account: Account) -> Observations:
    """Start the first version of a pipeline after an update that lets it fail."""
    name = account.create("version", definitions.succeeding())
    account.update(name, definitions.failing())
    account.wait_for_end(account.start(name), "Failed")

    def run_first_version() -> str:
        arn = account.start(name, PipelineVersionId=1)
        return account.wait_for_end(arn).status

    yield {"version": account.observe(run_first_version)}


def updates(account: Account) -> Observations:
    """Update a pipeline that was just created: with the same definition, and others."""
    text = definitions.succeeding()
    name = account.create("update", text)
    yield {"after-creation": account.answer_to(account.start, name)}
    update = partial(account.observe, account.update, name)
    yield {"unchanged-definition": update(text)}
    yield {"changed-definition": update(definitions.failing())}
    with ThreadPoolExecutor() as pool:
        versions = set(pool.map(update, [definitions.chain(2), definitions.chain(3)]))
    yield {"parallel-updates": one_of(len(versions) == 2, "a version each", "other")}
