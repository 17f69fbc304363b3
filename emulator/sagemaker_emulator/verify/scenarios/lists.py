"""
What AWS shows of pipelines and executions: when, in which order, on which pages, and by
which names.

https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ListPipelineExecutions.html
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any, Final

from sagemaker_emulator.verify import definitions
from sagemaker_emulator.verify.account import Account, missing_execution
from sagemaker_emulator.verify.cleaning import PREFIX, run_tags
from sagemaker_emulator.verify.models import (
    NotCheckedError,
    Observations,
    Observed,
    one_of,
)

# When a wait polls an execution for the first time.
_DESCRIBED_SECONDS: Final = 5.0
# botocore sends times in whole seconds.
_APART_SECONDS: Final = 3.0
_MAX_TOKEN_LENGTH: Final = 8192
_STEPS: Final = ["First", "Second", "Third"]


def lags(account: Account) -> Observations:
    """Look for an execution right after the response of its start."""

    name = account.create("lag", definitions.succeeding())
    arn = account.start(name)

    def is_described() -> bool:
        return account.is_found(arn)

    def is_listed() -> bool:
        return arn in [
            execution.get("PipelineExecutionArn")
            for execution in account.executions(name)
        ]

    yield {"describe-lag": account.seconds_until(is_described, _DESCRIBED_SECONDS)}
    yield {"list-lag": account.seconds_until(is_listed)}
    status = account.wait_for_end(arn).status

    def is_listed_as_ended() -> bool:
        return status in [
            execution.get("PipelineExecutionStatus")
            for execution in account.executions(name)
        ]

    yield {"status-lag": account.seconds_until(is_listed_as_ended)}


def _three(account: Account) -> tuple[str, list[str]]:
    """
    Start three executions one after the other, so that their creation times differ.
    """
    name = account.create("three", definitions.failing())
    arns = [account.start(name)]
    for _ in range(2):
        account.sleep(_APART_SECONDS)
        arns.append(account.start(name))
    for arn in arns:
        account.wait_for_end(arn)
    account.wait_for_list(name, len(arns))
    return name, arns


def orders(account: Account) -> Observations:
    """List and describe what was started one after the other."""
    name, arns = account.once(_three)

    def listed(**members: Any) -> list[str]:
        return [
            execution["PipelineExecutionArn"]
            for execution in account.executions(name, **members)
        ]

    pipeline = account.call("DescribePipeline", PipelineName=name)
    definition = pipeline.get("PipelineDefinition")
    created = account.describe(arns[1])["CreationTime"]
    later = listed(CreatedAfter=created - timedelta(seconds=1))
    newest_first = listed(SortBy="CreationTime", SortOrder="Descending")
    yield {"executions-order": _order(newest_first, arns)}
    is_kept = json.loads(definition or "null") == json.loads(definitions.failing())
    yield {
        "definition": one_of(is_kept, "as it was sent", "in another form", definition)
    }
    missing = missing_execution(arns[0])
    yield {"missing-execution": account.answer_to(account.describe, missing)}
    are_later = set(later) == set(arns[1:])
    yield {"created-after": one_of(are_later, "only the later ones", "others")}
    steps = [step["StepName"] for step in account.steps(arns[0])]
    if set(steps) != set(_STEPS):
        raise NotCheckedError(f"the steps {', '.join(steps) or 'none'} are listed")
    yield {"steps-order": _order(steps, _STEPS)}


def _order(listed: list[str], begun: list[str]) -> str:
    if listed == begun[::-1]:
        return "the newest first"
    if listed == begun:
        return "the oldest first"
    return "in another order"


def pages(account: Account) -> Observations:
    """Read lists page by page."""
    name, arns = account.once(_three)
    pages = account.pages("ListPipelineExecutions", page_size=1, PipelineName=name)
    if len(pages) == 1:
        raise NotCheckedError("the list of executions has one page only")
    arns_of_pages = [
        [entry["PipelineExecutionArn"] for entry in page["PipelineExecutionSummaries"]]
        for page in pages
    ]
    # The last page may be empty.
    sizes = {len(on_page) for on_page in arns_of_pages[: len(arns)]}
    listed = sorted(arn for on_page in arns_of_pages for arn in on_page)
    is_complete = listed == sorted(arns) and sizes == {1}
    counts = f"{len(listed)} entries on {len(pages)} pages"
    yield {"pages": one_of(is_complete, "each execution once", counts)}

    token = str(pages[0]["NextToken"])
    fits = len(token) <= _MAX_TOKEN_LENGTH
    yield {
        "token-length": one_of(fits, "fits", "does not fit", f"{len(token)} characters")
    }


def step_pages(account: Account) -> Observations:
    """Read a list of steps page by page."""
    _, arns = account.once(_three)
    pages = account.pages(
        "ListPipelineExecutionSteps", page_size=2, PipelineExecutionArn=arns[0]
    )
    if len(pages) == 1:
        raise NotCheckedError("the list of steps has one page only")
    names = sorted(
        step["StepName"] for page in pages for step in page["PipelineExecutionSteps"]
    )
    yield {
        "step-pages": one_of(names == _STEPS, "each step once", f"{len(names)} entries")
    }


def names(account: Account) -> Observations:
    """Look for pipelines by their names."""
    name = account.create("Case", definitions.succeeding())
    arn = account.call("DescribePipeline", PipelineName=name)["PipelineArn"]
    shown = {arn.rpartition("/")[2], account.start(name).split("/")[-3]}
    yield {
        "case-in-arn": one_of(
            shown == {name}, "as it was written", "in another case", ", ".join(shown)
        )
    }
    yield {
        "same-name-in-another-case": account.answer_to(
            account.create, "case", definitions.succeeding()
        )
    }
    first = account.create("name-first", definitions.succeeding())
    second = account.create("name-second", definitions.succeeding())
    entries = account.entries(
        "ListPipelines",
        "PipelineSummaries",
        SortBy="Name",
        SortOrder="Ascending",
        PipelineNamePrefix=first[:-1],
    )
    listed = [entry["PipelineName"] for entry in entries]
    prefix: Observed = NotCheckedError("a new pipeline is not listed yet")
    if first in listed:
        prefix = one_of(second in listed, "others, too", "only those with the prefix")
    yield {"prefix": prefix}
    tags = account.call("ListTags", ResourceArn=arn)["Tags"]
    is_kept = tags == run_tags(account.run_id)
    yield {"tags": one_of(is_kept, "as they were sent", "others", tags)}


def hyphen(account: Account) -> Observations:
    """List pipelines by a beginning of a name that ends with a hyphen."""
    listed = account.answer_to(
        account.call, "ListPipelines", PipelineNamePrefix=f"{PREFIX}-", MaxResults=1
    )
    yield {"prefix-with-hyphen": listed}
