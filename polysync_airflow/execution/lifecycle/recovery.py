"""
Decides what a try does with the execution of the earlier tries, once it knows its status.

Rules:

1. An *epoch* lasts until a user clears the task. A clear raises Airflow's ``max_tries``; a retry does not.
2. In the same epoch, a try continues with the stored execution. If the execution runs, the try waits for its
   end. If it succeeded, the try takes its result. If it failed, the try resumes or replaces it. If it was
   stopped, the try replaces it.
3. In a new epoch, ``on_clear`` decides, or what the user chose for this clear: the user wants a new
   execution, or the rest of one that has failed. If the stored execution still runs, the user wants a new one
   in its place, and the try stops it first. Who chose to resume it wants its end, in the same way as a retry.
4. While AWS has not responded to a resume, the next try sends the same request again, whatever
   ``retry_mode``, ``on_clear`` and ``on_completed_with_failures`` say: a process that was frozen may still
   send it, so nothing may be started beside it.
5. Two executions of a task never run at the same time: a try starts a new one only after the end of the
   stored one.

Everything here is pure. ``lifecycle.py`` makes the order of the requests from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from typing import Final, Literal

from polysync_airflow.execution.models import LATEST, StartRequest
from polysync_airflow.execution.parameters import Choices, Flag
from polysync_airflow.execution.record import ClearChoice, Incarnation, OnClear, StoredExecution
from polysync_airflow.states import (
    STATUS_COMPLETED_WITH_FAILURES,
    STATUS_STOPPING,
    PolysyncState,
    has_ended,
    state_of,
)

RetryMode = Literal["new", "resume"]
OnCompletedWithFailures = Literal["fail", "succeed"]


class RecoveryChoices(Choices):
    """What the DAG author chose about the executions of earlier tries; see the arguments of the operator."""

    retry_mode: RetryMode
    on_clear: OnClear
    on_completed_with_failures: OnCompletedWithFailures
    stop_on_kill: Flag


class Action(Enum):
    """The next action of a try."""

    START = auto()
    """Start a new execution."""
    REATTACH = auto()
    """Continue with the stored execution: wait for its end, or take its result."""
    RESUME = auto()
    """Resume the stored execution from its failed steps (RetryPipelineExecution)."""
    SETTLE_RESUME = auto()
    """Send a resume again that a user does not want any more, to know whether AWS begins it."""
    STOP = auto()
    """Request a stop of the stored execution, then wait for its end."""
    WAIT_FOR_END = auto()
    """Wait for the end of the stored execution, then decide again."""


# What the message of a failure says about the next try.
_RETRY: Final = {
    Action.START: "The retry starts a new execution.",
    Action.RESUME: "The retry resumes the execution:\n  it repeats only the steps that had not succeeded.",
}
_RETRY_AFTER_FAILURE: Final = {
    **_RETRY,
    Action.START: "The retry starts a new execution and\n"
    '  repeats every step; retry_mode="resume" would repeat only those that had not succeeded.',
}
# By whether Airflow retries the task, after a failure that AWS does not resume:
# https://docs.aws.amazon.com/sagemaker/latest/dg/build-and-manage-steps-types.html
_AFTER_FAIL_STEP: Final = {
    True: "The retry starts a new execution and\n"
    "  repeats every step, since AWS does not resume after a Fail step.",
    False: "Next: mend the cause, then clear the task. That starts a new execution and repeats every "
    "step,\n  since AWS does not resume after a Fail step.",
}
_CLEAR_AFTER_FAILURE: Final = {
    Action.START: "Next: mend the cause, then clear the task. That starts a new execution and repeats every "
    'step;\n  on_clear="resume" would repeat only the steps that had not succeeded.',
    Action.RESUME: "Next: mend the cause, then clear the task. That repeats only the steps that had not "
    "succeeded.",
}


def next_action(stored: StoredExecution, epoch: int, status: str, choices: RecoveryChoices) -> Action:
    """
    Return the next action of a try.

    :param stored: the record of the earlier tries.
    :param epoch: the epoch of this try, which is Airflow's ``max_tries``.
    :param status: AWS status of the stored execution.
    """
    if stored.epoch != epoch:
        is_replaced = stored.replaced_by_epoch == epoch
        choice = stored.choice_in(epoch)
        if choice and choice.on_clear == "resume" and not is_replaced:
            # Somebody may have resumed it outside of Airflow meanwhile: the user wants its end all the same.
            return _in_same_epoch(status, resumes=True)
        resumes = _resumes_after_clear(choice, status, choices) and not is_replaced
        if stored.resume_is_pending and not resumes and state_of(status) is PolysyncState.FAILED:
            return Action.SETTLE_RESUME
        return _in_new_epoch(status, resumes=resumes, may_stop=choices.stop_on_kill)
    if stored.resume_is_pending:
        return _in_same_epoch(status, resumes=True)
    failures_succeed = choices.on_completed_with_failures == "succeed"
    return _in_same_epoch(status, resumes=choices.retry_mode == "resume", failures_succeed=failures_succeed)


def next_step(
    status: str | None, choices: RecoveryChoices, retry: str | None, *, by_fail_step: bool = False
) -> str | None:
    """
    Return what comes next, as the last sentences of a failure's message; None if a person has to know.

    :param status: AWS status with which the execution has ended; None if it may still be running.
    :param retry: when Airflow starts another try, such as ``in 5 min``; None if none follows.
    :param by_fail_step: whether a Fail step has ended the execution.
    """
    failed = state_of(status) is PolysyncState.FAILED
    if retry is None:
        if status is None or not failed:
            return None
        if by_fail_step:
            return _AFTER_FAIL_STEP[False]
        return _CLEAR_AFTER_FAILURE[_after_end(status, resumes=choices.on_clear == "resume")]
    next_try = f"Next: Airflow retries the task {retry}."
    if status is None:
        return next_try
    if failed and by_fail_step:
        return f"{next_try} {_AFTER_FAIL_STEP[True]}"
    action = _in_same_epoch(status, resumes=choices.retry_mode == "resume")
    return f"{next_try} {(_RETRY_AFTER_FAILURE if failed else _RETRY)[action]}"


def is_of_other_incarnation(stored: StoredExecution, incarnation: Incarnation, try_number: int) -> bool:
    """
    Return whether another task instance with the same key wrote a record, as its first try begins.

    A DAG run that is cleared after its end starts anew as well, but then its ``clear_number`` grows, and so
    does the number of the try. If a user queues a running DAG run again, it cannot be told from a new one.

    :param incarnation: that of this try.
    :param try_number: the number of this try.
    """
    was = stored.incarnation
    if was is None:
        return False
    if was.region != incarnation.region:
        return True
    was_cleared = incarnation.clear_number > was.clear_number and try_number > stored.try_number
    return was.dag_run_started_at != incarnation.dag_run_started_at and not was_cleared


# The texts for people follow from the number of the start, unless the author gives them.
_NOT_COMPARED: Final = frozenset(
    {"pipeline_parameters", "execution_display_name", "execution_description", "client_request_token"}
)


def unused_arguments(sent: StartRequest, parameters: Mapping[str, str], current: StartRequest) -> list[str]:
    """
    Return the arguments whose current values a resume does not use, since AWS keeps those of the start.

    :param parameters: the execution's parameters, also those that have their default.
    :param current: the request that would start an execution now.
    """
    names = StartRequest.model_fields.keys() - _NOT_COMPARED
    if sent.source_execution and current.source_execution == LATEST:
        # The record has the ARN of what was the latest execution at the start.
        names = names - {"source_execution"}
    changed = sorted(name for name in names if getattr(sent, name) != getattr(current, name))
    now = current.pipeline_parameters
    differing = sorted(name for name in now if parameters and parameters.get(name) != now[name])
    return changed + [f"pipeline_parameters[{name!r}]" for name in differing]


def _resumes_after_clear(choice: ClearChoice | None, status: str, choices: RecoveryChoices) -> bool:
    is_failure = status != STATUS_COMPLETED_WITH_FAILURES or choices.on_completed_with_failures == "fail"
    return choice is None and choices.on_clear == "resume" and is_failure


def _in_same_epoch(status: str, *, resumes: bool, failures_succeed: bool = False) -> Action:
    if status == STATUS_STOPPING:
        return Action.WAIT_FOR_END
    if not has_ended(status) or state_of(status) is PolysyncState.SUCCESS:
        return Action.REATTACH
    if state_of(status) is PolysyncState.CANCELLED:
        return Action.START
    if status == STATUS_COMPLETED_WITH_FAILURES and failures_succeed:
        return Action.REATTACH
    return Action.RESUME if resumes else Action.START


def _after_end(status: str, *, resumes: bool) -> Action:
    return Action.RESUME if resumes and state_of(status) is PolysyncState.FAILED else Action.START


def _in_new_epoch(status: str, *, resumes: bool, may_stop: bool) -> Action:
    if has_ended(status):
        return _after_end(status, resumes=resumes)
    if status == STATUS_STOPPING or not may_stop:
        return Action.WAIT_FOR_END
    return Action.STOP
