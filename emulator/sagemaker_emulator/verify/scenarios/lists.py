"""
What AWS shows of pipelines and executions: when, in which order, on which pages, and by which names.

https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ListPipelineExecutions.html
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

from sagemaker_emulator.verify import definitions
from sagemaker_emulator.verify.account import Account, missing_execution
from sagemaker_emulator.verify.cleaning import PREFIX, run_tags
from sagemaker_emulator.verify.models import Observations, Observed, one_of

# When a wait polls an execution for the first time, and how long a search waits for its entry in a list.
_DESCRIBED_SECONDS: Final = 5.0
_LISTED_SECONDS: Final = 60.0
# botocore sends times in whole seconds.
_APART_SECONDS: Final = 3.0
_MAX_TOKEN_LENGTH: Final = 8192
_STEPS: Final = ["First", "Second", "Third"]


def lags(account: Account) -> Observations:
    """Look for an execution right after the response of its start."""

    def is_listed(member: str, value: str) -> bool:
        return value in [each.get(member) for each in account.executions(name)]

    name = account.create("lag", definitions.succeeding())
    arn = account.start(name)
    described = account.seconds_until(lambda: account.is_found(arn), _DESCRIBED_SECONDS)
    listed = account.seconds_until(lambda: is_listed("PipelineExecutionArn", arn), _LISTED_SECONDS)
    end = account.end(arn).status
    ended = account.seconds_until(lambda: is_listed("PipelineExecutionStatus", end), _LISTED_SECONDS)
    return {"describe-lag": described, "list-lag": listed, "status-lag": ended}


def _three(account: Account) -> tuple[str, list[str]]:
    """Start three executions one after the other, so that their creation times differ."""
    name = account.create("three", definitions.failing())
    arns = [account.start(name)]
    for _ in range(2):
        account.sleep(_APART_SECONDS)
        arns.append(account.start(name))
    for arn in arns:
        account.end(arn)
    account.seconds_until(lambda: len(account.executions(name)) >= len(arns), _LISTED_SECONDS)
    return name, arns


def orders(account: Account) -> Observations:
    """List and describe what was started one after the other."""
    name, arns = account.once(_three)

    def listed(**members: Any) -> list[str]:
        return [each["PipelineExecutionArn"] for each in account.executions(name, **members)]

    steps = [step["StepName"] for step in account.steps(arns[0])]
    created = account.describe(arns[1])["CreationTime"]
    later = listed(CreatedAfter=created - timedelta(seconds=1))
    shown = account.call("DescribePipeline", PipelineName=name).get("PipelineDefinition")
    is_same, missing = shown == definitions.failing(), missing_execution(arns[0])
    return {
        "executions-order": _order(listed(SortBy="CreationTime", SortOrder="Descending"), arns),
        "executions-default-order": _order(listed(), arns),
        "steps-order": _order(steps, _STEPS),
        "definition": one_of(is_same, "as it was sent", "in another form", shown),
        "missing-execution": account.told(account.describe, missing),
        "created-after": one_of({*later} == {*arns[1:]}, "only the later ones", "others"),
    }


def _order(listed: Sequence[str], begun: Sequence[str]) -> str:
    if [*listed] == [*reversed(begun)]:
        return "the newest first"
    return "the oldest first" if [*listed] == [*begun] else "in another order"


def pages(account: Account) -> Observations:
    """Read lists page by page."""
    name, arns = account.once(_three)
    other, _ = account.once(_two_cases)
    executions = account.pages("ListPipelineExecutions", page_size=1, PipelineName=name)
    on_pages = [page["PipelineExecutionSummaries"] for page in executions]
    listed = sorted(each["PipelineExecutionArn"] for page in on_pages for each in page)
    is_complete = listed == sorted(arns) and {*map(len, on_pages[: len(arns)])} == {1}
    steps = account.steps(arns[0], page_size=2)
    has_steps = sorted(step["StepName"] for step in steps) == _STEPS
    token = str(executions[0].get("NextToken", ""))
    fits = 0 < len(token) <= _MAX_TOKEN_LENGTH
    other_list = {"PipelineName": other, "NextToken": token}
    counts = f"{len(listed)} entries on {len(on_pages)} pages"
    return {
        "pages": one_of(is_complete, "each execution once", counts),
        "step-pages": one_of(has_steps, "each step once", f"{len(steps)} entries"),
        "token-length": one_of(fits, "fits", "does not fit", f"{len(token)} characters"),
        "token-of-another-list": account.told(account.call, "ListPipelineExecutions", **other_list),
    }


def _two_cases(account: Account) -> tuple[str, str]:
    """Create a pipeline whose name has upper and lower case, and return its name and its ARN."""
    name = account.create("Case", definitions.succeeding())
    return name, account.call("DescribePipeline", PipelineName=name)["PipelineArn"]


def names(account: Account) -> Observations:
    """Look for a pipeline by its name."""
    name, arn = account.once(_two_cases)
    tags = account.call("ListTags", ResourceArn=arn)["Tags"]
    prefix, other_case = f"{PREFIX}-{account.run_id}", account.name_of("case")
    by_name = {"SortBy": "Name", "SortOrder": "Ascending", "PipelineNamePrefix": prefix}
    entries = account.entries("ListPipelines", "PipelineSummaries", **by_name)
    listed = [each["PipelineName"] for each in entries]
    is_own = all(each.startswith(prefix) for each in listed)
    return {
        "tags": one_of(tags == run_tags(account.run_id), "as they were sent", "others", tags),
        "case-in-arn": _case(arn.rpartition("/")[2], name),
        "case-in-execution-arn": _case(account.start(name).split("/")[-3], name),
        "other-case": account.told(account.call, "DescribePipeline", PipelineName=other_case),
        "same-name-in-another-case": account.told(account.create, "case", definitions.succeeding()),
        "prefix": one_of(is_own, "only those with the prefix", "others, too")
        if name in listed
        else "not listed",
    }


def _case(shown: str, name: str) -> Observed:
    return one_of(shown == name, "as it was written", "in lower case" if shown == name.lower() else shown)


def hyphen(account: Account) -> Observations:
    """List pipelines by a beginning of a name that ends with a hyphen."""
    listed = account.told(account.call, "ListPipelines", PipelineNamePrefix=f"{PREFIX}-", MaxResults=1)
    return {"prefix-with-hyphen": listed}
