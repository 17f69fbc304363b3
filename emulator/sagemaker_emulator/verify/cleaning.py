"""
Deletes the pipelines that ``polysync verify`` has made, also those of a run that was
killed.

A pipeline is one of them if it has the tag that its run has sent with the request that
created it. Anybody may give a pipeline such a name.

https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DeletePipeline.html: AWS
deletes a pipeline with
its executions, and none of them may run.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from botocore.exceptions import ClientError

from sagemaker_emulator.verify.calls import Calls, code_of, is_denied
from sagemaker_emulator.verify.models import (
    CONFLICT,
    INVALID,
    NOT_FOUND,
    NotCheckedError,
    VerifyError,
)

# AWS's pattern for the beginning of a name has no hyphen at the end.
PREFIX: Final = "polysync-verify"
# The value is the id of the run, which is in the name, too.
TAG: Final = "polysync-verify-run"
_NAME: Final = re.compile(rf"{PREFIX}-([0-9a-f]{{8}})-[A-Za-z]+(-[A-Za-z]+)*")
# As many as a resource can have:
# https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ListTags.html
_MAX_TAGS: Final = 50
# A stop takes about twenty seconds, and a job up to some minutes.
DELETE_SECONDS: Final = 300.0
_PAUSE_SECONDS: Final = 2.0
_AT_THE_SAME_TIME: Final = 8


class NotOwnError(VerifyError):
    """
    Raised for a pipeline that has the name of one that a run has made, but not its tag.
    """


def run_tags(run_id: str) -> list[dict[str, str]]:
    """Return the tags with which a run creates a pipeline."""
    return [{"Key": TAG, "Value": run_id}]


def leftovers(calls: Calls) -> tuple[list[str], bool]:
    """
    Find the pipelines that runs may have left: those that have such a name.

    :return: their names, and whether there may be more.
    """
    pages = calls.pages("ListPipelines", PipelineNamePrefix=PREFIX)
    names = [
        each["PipelineName"] for page in pages for each in page["PipelineSummaries"]
    ]
    return [name for name in names if _NAME.fullmatch(name)], "NextToken" in pages[-1]


def delete_pipelines(calls: Calls, names: Iterable[str]) -> dict[str, BaseException]:
    """
    Stop what runs of pipelines, and delete them, if runs have made them.

    If it is interrupted, it begins no other one, and ends soon.

    :return: why a pipeline is still there, by its name. ``NotOwnError``: it is left to
        whoever has made it.
    """
    with ThreadPoolExecutor(
        _AT_THE_SAME_TIME, thread_name_prefix="polysync-clean"
    ) as pool:
        try:
            deletes = {
                name: pool.submit(_delete, calls, name) for name in dict.fromkeys(names)
            }
            problems = {name: delete.exception() for name, delete in deletes.items()}
        except BaseException:
            calls.cancel()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return {name: problem for name, problem in problems.items() if problem}


def _delete(calls: Calls, name: str) -> None:
    until, is_own = calls.now() + DELETE_SECONDS, False
    while True:
        try:
            is_own = is_own or _check_own(calls, name)
            running = _stop_executions(calls, name)
            if not running:
                calls.call(
                    "DeletePipeline",
                    PipelineName=name,
                    ClientRequestToken=str(uuid.uuid4()),
                )
                return
            problem: Exception = VerifyError(
                f"{running} execution(s) of {name} still run after {DELETE_SECONDS:.0f}"
                " s: run polysync verify --clean again in some minutes."
            )
        except ClientError as error:
            if code_of(error) == NOT_FOUND or (
                code_of(error) == INVALID and not is_own
            ):
                # Deleted, perhaps by a request whose response was lost; or it was never
                # created. Others than AWS refuse to describe what is not there.
                return
            # An execution that is not listed yet also keeps AWS from the delete.
            if code_of(error) not in (CONFLICT, INVALID):
                raise
            problem = error
        if calls.now() > until:
            raise problem
        calls.sleep(_PAUSE_SECONDS)


def _check_own(calls: Calls, name: str) -> bool:
    """
    Return True for a pipeline that a run has made.

    :raises NotOwnError: it has not the tag of the run that its name names.
    """
    match = _NAME.fullmatch(name)
    arn = calls.call("DescribePipeline", PipelineName=name)["PipelineArn"]
    tags = calls.call("ListTags", ResourceArn=arn, MaxResults=_MAX_TAGS)["Tags"]
    if not match or run_tags(match[1])[0] not in tags:
        raise NotOwnError(
            f"It does not have the tag {TAG} with the id of a run, so it is not one of"
            " polysync verify. If you do not need it, delete it yourself."
        )
    return True


def _stop_executions(calls: Calls, name: str) -> int:
    """
    Request the stop of all executions that run, and return how many have not ended.

    If they cannot be listed, none: they end by themselves, and AWS deletes no pipeline
    before.
    """
    try:
        executions = calls.executions(name)
    except (ClientError, NotCheckedError) as error:
        if isinstance(error, NotCheckedError) or is_denied(error):
            return 0
        raise
    count = 0
    for entry in executions:
        status, arn = entry["PipelineExecutionStatus"], entry["PipelineExecutionArn"]
        count += status in ("Executing", "Stopping")
        if status == "Executing":
            _unless_refused(calls, "StopPipelineExecution", PipelineExecutionArn=arn)
        elif status == "Stopping":
            _end_callback_steps(calls, arn)
    return count


def _end_callback_steps(calls: Calls, arn: str) -> None:
    """
    Answer the callback steps of an execution, for which AWS waits before it stops the
    execution.
    """
    for step in calls.steps(arn):
        token = step.get("Metadata", {}).get("Callback", {}).get("CallbackToken")
        if token and step["StepStatus"] in ("Executing", "Stopping"):
            calls.session.secrets.append(token)
            answer = {
                "CallbackToken": token,
                "FailureReason": "polysync verify: the run has ended",
            }
            _unless_refused(calls, "SendPipelineExecutionStepFailure", **answer)


def _unless_refused(calls: Calls, operation: str, **request: Any) -> None:
    # It has ended meanwhile, or moves to the next step. Without the permission, it ends
    # by itself or is told.
    try:
        calls.told(
            calls.call, operation, ClientRequestToken=str(uuid.uuid4()), **request
        )
    except ClientError as error:
        if not is_denied(error):
            raise
