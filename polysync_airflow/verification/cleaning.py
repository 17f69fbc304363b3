"""
Deletes the pipelines that ``polysync verify`` has made, also those of a run that was killed.

A pipeline is one of them if it has the tag that its run has sent with the request that created it. Anybody
may give a pipeline such a name.

https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DeletePipeline.html: AWS deletes a pipeline with
its executions, and none of them may run.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any, Final

from polysync_airflow.auth.iam_policies import VERIFY_PREFIX
from polysync_airflow.aws.responses import PAGE_SIZE
from polysync_airflow.exceptions import (
    ACCESS_DENIED,
    CONFLICT,
    RESOURCE_NOT_FOUND,
    VALIDATION,
    PolysyncError,
    SageMakerApiError,
    has_code,
)
from polysync_airflow.execution import clock
from polysync_airflow.execution.steps.callbacks import CALLBACK, running_callback
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.states import STATUS_STOPPING, has_ended, is_stoppable

# AWS's pattern for the beginning of a name has no hyphen at the end.
PREFIX: Final = VERIFY_PREFIX
# The value is the id of the run, which is in the name, too.
TAG: Final = "polysync-verify-run"
_NAME: Final = re.compile(rf"{PREFIX}-([0-9a-f]{{8}})-[A-Za-z]+(-[A-Za-z]+)*")
# As many as a resource can have: https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ListTags.html
_MAX_TAGS: Final = 50
# What is made must be found again: one run makes fewer than twenty pipelines.
MAX_PAGES: Final = 10
# A stop takes about twenty seconds, and a job up to some minutes.
DELETE_SECONDS: Final = 300.0
_PAUSE_SECONDS: Final = 2.0
_AT_THE_SAME_TIME: Final = 8


class NotOwnError(PolysyncError):
    """Raised for a pipeline that has the name of one that a run has made, but not its tag."""


def pipeline_name(run_id: str, subject: str) -> str:
    """Return the name of a pipeline of a run."""
    return f"{PREFIX}-{run_id}-{subject}"


def run_tags(run_id: str) -> list[dict[str, str]]:
    """Return the tags with which a run creates a pipeline."""
    return [{"Key": TAG, "Value": run_id}]


def leftovers(hook: PolysyncSageMakerHook) -> tuple[list[str], bool]:
    """
    Find the pipelines that runs may have left: those that have such a name.

    :return: their names, and whether there may be more.
    :raises PolysyncError: they cannot be listed.
    """
    names: list[str] = []
    token = None
    for _ in range(MAX_PAGES):
        following: dict[str, Any] = {"NextToken": token} if token else {}
        page = hook.call("ListPipelines", PipelineNamePrefix=PREFIX, MaxResults=PAGE_SIZE, **following)
        names += [each["PipelineName"] for each in _entries(page, "PipelineSummaries", "PipelineName")]
        token = page.get("NextToken")
        if not token:
            break
    return [name for name in dict.fromkeys(names) if _NAME.fullmatch(name)], bool(token)


def delete_pipelines(hook: PolysyncSageMakerHook, names: Iterable[str]) -> dict[str, PolysyncError]:
    """
    Stop what runs of pipelines, and delete them, if runs have made them.

    If it is interrupted, it begins no other one, and ends soon.

    :return: why a pipeline is still there, by its name. ``NotOwnError``: it is left to whoever has made it.
    """
    interrupted = Event()
    with ThreadPoolExecutor(_AT_THE_SAME_TIME, thread_name_prefix="polysync-clean") as pool:
        try:
            deletes = {
                name: pool.submit(_problem_of_delete, hook, name, interrupted)
                for name in dict.fromkeys(names)
            }
            problems = {name: delete.result() for name, delete in deletes.items()}
        except BaseException:
            interrupted.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return {name: problem for name, problem in problems.items() if problem}


def _problem_of_delete(hook: PolysyncSageMakerHook, name: str, interrupted: Event) -> PolysyncError | None:
    try:
        _delete(hook, name, interrupted)
    except PolysyncError as error:
        return error
    return None


def _delete(hook: PolysyncSageMakerHook, name: str, interrupted: Event) -> None:
    until, is_own = clock.monotonic() + DELETE_SECONDS, False
    while not interrupted.is_set():
        try:
            is_own = is_own or _check_own(hook, name)
            running = _stop_executions(hook, name)
            if not running:
                hook.call("DeletePipeline", PipelineName=name, ClientRequestToken=str(uuid.uuid4()))
                return
        except SageMakerApiError as error:
            if has_code(error, RESOURCE_NOT_FOUND):
                # Deleted, perhaps by a request whose response was lost; or it was never created.
                return
            # An execution that is not listed yet also keeps AWS from the delete.
            is_temporary = error.transient or has_code(error, CONFLICT, VALIDATION)
            if not is_temporary or clock.monotonic() > until:
                raise
        else:
            if clock.monotonic() > until:
                raise PolysyncError(
                    f"{running} execution(s) of {name} still run after {DELETE_SECONDS:.0f} s: run polysync "
                    "verify --clean again in some minutes."
                )
        clock.sleep(_PAUSE_SECONDS)


def _check_own(hook: PolysyncSageMakerHook, name: str) -> bool:
    """
    Return True for a pipeline that a run has made.

    :raises NotOwnError: it has not the tag of the run that its name names.
    """
    match = _NAME.fullmatch(name)
    arn = hook.call("DescribePipeline", PipelineName=name).get("PipelineArn")
    tags = hook.call("ListTags", ResourceArn=arn, MaxResults=_MAX_TAGS).get("Tags")
    if not match or not isinstance(tags, list) or run_tags(match[1])[0] not in tags:
        raise NotOwnError(
            f"It does not have the tag {TAG} with the id of a run, so it is not one of polysync verify. If "
            "you do not need it, delete it yourself."
        )
    return True


def _stop_executions(hook: PolysyncSageMakerHook, name: str) -> int:
    """
    Request the stop of all executions that run, and return how many have not ended.

    Without the permission to list them, none: they end by themselves, and AWS deletes no pipeline before.
    """
    try:
        return _stop_listed(hook, name)
    except SageMakerApiError as error:
        if not has_code(error, ACCESS_DENIED):
            raise
        return 0


def _stop_listed(hook: PolysyncSageMakerHook, name: str) -> int:
    count, token = 0, None
    for _ in range(MAX_PAGES):
        following: dict[str, Any] = {"NextToken": token} if token else {}
        page = hook.call("ListPipelineExecutions", PipelineName=name, MaxResults=PAGE_SIZE, **following)
        for entry in _entries(page, "PipelineExecutionSummaries", "PipelineExecutionArn"):
            status, arn = str(entry.get("PipelineExecutionStatus")), entry["PipelineExecutionArn"]
            count += is_stoppable(status) or status == STATUS_STOPPING
            if is_stoppable(status):
                _stop(hook, arn)
            elif status == STATUS_STOPPING:
                _end_callback_steps(hook, arn)
        token = page.get("NextToken")
        if not token:
            break
    return count


def _stop(hook: PolysyncSageMakerHook, arn: str) -> None:
    try:
        hook.call("StopPipelineExecution", PipelineExecutionArn=arn, ClientRequestToken=str(uuid.uuid4()))
    except SageMakerApiError as error:
        # It has ended meanwhile, or moves from one step to the next; or it will end by itself.
        if not has_code(error, VALIDATION, CONFLICT, RESOURCE_NOT_FOUND, ACCESS_DENIED):
            raise


def _end_callback_steps(hook: PolysyncSageMakerHook, arn: str) -> None:
    """Answer the callback steps of an execution, for which AWS waits before it stops the execution."""
    try:
        for step in hook.list_pipeline_execution_steps(arn):
            waiting = None if step.kind != CALLBACK or has_ended(step.status) else running_callback(step)
            if waiting:
                hook.send_pipeline_execution_step_failure(waiting.token, "polysync verify: the run has ended")
    except SageMakerApiError as error:
        # Somebody else has answered, or nobody may: then the pipeline is reported as one that is still there.
        if not has_code(error, VALIDATION, CONFLICT, RESOURCE_NOT_FOUND, ACCESS_DENIED):
            raise


def _entries(page: Mapping[str, Any], member: str, name: str) -> list[Mapping[str, Any]]:
    entries = page.get(member)
    return [
        entry
        for entry in (entries if isinstance(entries, list) else [])
        if isinstance(entry, dict) and isinstance(entry.get(name), str)
    ]
