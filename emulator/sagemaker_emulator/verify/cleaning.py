"""
Deletes the pipelines that ``polysync verify`` has made, also those of a run that was
killed.

It knows them by the tag with which a run creates a pipeline. The name alone is not
enough: anybody may give a pipeline such a name.

https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DeletePipeline.html: AWS
deletes a pipeline with its executions, and none of them may run.
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
    Raised for a pipeline with the name, but not the tag, of one that a run has made.
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
        pipeline["PipelineName"]
        for page in pages
        for pipeline in page["PipelineSummaries"]
        if _NAME.fullmatch(pipeline["PipelineName"])
    ]
    return names, "NextToken" in pages[-1]


def delete_pipelines(calls: Calls, names: Iterable[str]) -> dict[str, BaseException]:
    """
    Stop the executions of pipelines that runs have made, and delete the pipelines.

    If it is interrupted, it begins with no other pipeline, and ends soon.

    :return: why a pipeline is still there, by its name. ``NotOwnError``: no run has
        made it, so it is left to whoever has.
    """
    problems: dict[str, BaseException] = {}
    with ThreadPoolExecutor(
        _AT_THE_SAME_TIME, thread_name_prefix="polysync-clean"
    ) as pool:
        try:
            deletes = {
                name: pool.submit(_delete, calls, name) for name in dict.fromkeys(names)
            }
            for name, delete in deletes.items():
                problem = delete.exception()
                if problem:
                    problems[name] = problem
        except BaseException:
            calls.cancel()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return problems


def _delete(calls: Calls, name: str) -> None:
    until = calls.now() + DELETE_SECONDS
    is_own = False
    while True:
        try:
            if not is_own:
                _check_own(calls, name)
                is_own = True
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
            code = code_of(error)
            if code == NOT_FOUND:
                # It was never created, or deleted, perhaps by a request whose response
                # was lost.
                return
            if code == INVALID and not is_own:
                # Others than AWS refuse so to describe what is not there.
                return
            if code not in (CONFLICT, INVALID):
                raise
            # An execution that is not listed yet also keeps AWS from the delete.
            problem = error
        if calls.now() > until:
            raise problem
        calls.sleep(_PAUSE_SECONDS)


def _check_own(calls: Calls, name: str) -> None:
    """
    Check that a run has made a pipeline.

    :raises NotOwnError: the pipeline does not have the tag of the run in its name.
    """
    match = _NAME.fullmatch(name)
    arn = calls.call("DescribePipeline", PipelineName=name)["PipelineArn"]
    tags = calls.call("ListTags", ResourceArn=arn, MaxResults=_MAX_TAGS)["Tags"]
    if not match or run_tags(match[1])[0] not in tags:
        raise NotOwnError(
            f"It does not have the tag {TAG} with the id of a run, so it is not one of"
            " polysync verify. If you do not need it, delete it yourself."
        )


def _stop_executions(calls: Calls, name: str) -> int:
    """
    Request the stop of all executions that run, and return how many have not ended.

    If the executions cannot be listed, return 0: they end by themselves, and AWS
    deletes no pipeline before.
    """
    try:
        executions = calls.executions(name)
    except NotCheckedError:
        return 0
    except ClientError as error:
        if is_denied(error):
            return 0
        raise

    running = 0
    for execution in executions:
        arn = execution["PipelineExecutionArn"]
        if execution["PipelineExecutionStatus"] == "Executing":
            running += 1
            _unless_refused(calls, "StopPipelineExecution", PipelineExecutionArn=arn)
        elif execution["PipelineExecutionStatus"] == "Stopping":
            running += 1
            _end_callback_steps(calls, arn)
    return running


def _end_callback_steps(calls: Calls, arn: str) -> None:
    """
    Answer the callback steps of an execution, for which AWS waits before it stops the
    execution.
    """
    for step in calls.steps(arn):
        token = step.get("Metadata", {}).get("Callback", {}).get("CallbackToken")
        if token and step["StepStatus"] in ("Executing", "Stopping"):
            calls.session.secrets.append(token)
            _unless_refused(
                calls,
                "SendPipelineExecutionStepFailure",
                CallbackToken=token,
                FailureReason="polysync verify: the run has ended",
            )


def _unless_refused(calls: Calls, operation: str, **request: Any) -> None:
    """
    Make a request that AWS may refuse, because the execution has ended meanwhile or
    moves to the next step.
    """
    try:
        calls.answer_to(
            calls.call, operation, ClientRequestToken=str(uuid.uuid4()), **request
        )
    except ClientError as error:
        # Without the permission, the execution ends by itself, or the deletion says
        # that it still runs.
        if not is_denied(error):
            raise
