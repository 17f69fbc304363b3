"""
What a try does with the execution of the earlier tries.

Rules of a try that knows the status of that execution:

1. An *epoch* lasts until a user clears the task. A clear raises Airflow's
   ``max_tries``; a retry does not.
2. In the same epoch, a try continues with the stored execution. If the execution runs,
   the try waits for its end. If it succeeded, the try takes its result. If it failed,
   the try resumes or replaces it. If it was stopped, the try replaces it.
3. In a new epoch, ``on_clear`` decides, or what the user chose for this clear: the user
   wants a new execution, or the rest of one that has failed. If the stored execution
   still runs, the user wants a new one in its place, and the try stops it first. A user
   who chose to resume it wants its end, as a retry does. A group of steps
   chooses by the status (``stop_on_clear=False``): it waits for the end, to choose
   again, or it resumes. An execution that another task instance with the same key has
   started is replaced, unless the user chose to resume it.
4. While AWS has not responded to a resume, the next try sends the same request again,
   whatever ``retry_mode``, ``on_clear`` and ``on_completed_with_failures`` say: a
   process that was frozen may still send it, so nothing may be started beside it.
5. Two executions of a task never run at the same time: a try starts a new one only
   after the end of the stored one.
6. An execution that has failed for want of capacity is resumed after a pause, whatever
   ``retry_mode`` says. A clear ends that wait.

Everything here is pure. The driver is ``operators/try_runner.py``; ``ending.py`` has
the rules of a process that no longer waits.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import Enum, auto
from typing import Any, Final, Literal, NamedTuple

from polysync_airflow import exceptions, states
from polysync_airflow.execution.lifecycle import capacity, instructions
from polysync_airflow.execution.lifecycle.instruction_kinds import Begun, Identified
from polysync_airflow.execution.lifecycle.instructions import (
    NO_EPOCH,
    ClearChoice,
    Command,
    ExecutionRecord,
    Refused,
)
from polysync_airflow.execution.lifecycle.options import RecoveryOptions
from polysync_airflow.execution.lifecycle.plans import Does, NextSession
from polysync_airflow.execution.models import LATEST, StartRequest
from polysync_airflow.states import PolysyncState, has_ended, state_of

# What a try may do next with the execution of the earlier tries.
Decision = Literal[
    # Start a new one.
    Command.PREPARE,
    # Continue with it: wait for its end, or take its result.
    Command.WATCH,
    # Resume it from its failed steps (RetryPipelineExecution).
    Command.RESUME,
    # Send a resume of it again that the user does not want any more.
    Command.RESEND_RESUME,
    # Request its stop, then wait for its end.
    Command.STOP,
    # Wait for its end, then decide again.
    Command.WAIT_FOR_END,
]


def next_command(
    record: ExecutionRecord, epoch: int, status: str, options: RecoveryOptions
) -> Decision:
    """
    Return what a try does next with the execution of the earlier tries.

    :param record: the record of the earlier tries.
    :param epoch: the epoch of this try, which is Airflow's ``max_tries``.
    :param status: AWS status of the stored execution.
    """
    if record.epoch == epoch:
        return _for_retry(record, status, options)
    return _after_clear(record, epoch, status, options)


def _for_retry(
    record: ExecutionRecord, status: str, options: RecoveryOptions
) -> Decision:
    """Return what a retry does, which continues with the stored execution (rule 2)."""
    if record.resume_is_pending or record.waits_for_capacity:
        # Rules 4 and 6: the same request again, whatever the options say.
        return _continue(status, after_failure=Command.RESUME)
    if _counts_as_success(status, options):
        return Command.WATCH
    if options.retry_mode == "resume":
        return _continue(status, after_failure=Command.RESUME)
    return _continue(status, after_failure=Command.PREPARE)


def _after_clear(
    record: ExecutionRecord, epoch: int, status: str, options: RecoveryOptions
) -> Decision:
    """
    Return what a try does after a clear (rule 3): the user wants a new execution, or
    the rest of this one.
    """
    if record.replaced_by_epoch == epoch:
        # An earlier try of this epoch has decided so. The status may have changed
        # since.
        return _replace(record, status, options)

    choice = record.choice_in(epoch)
    if choice and choice.on_clear == "resume":
        # If somebody has resumed it outside of Airflow meanwhile, the user wants its
        # end.
        return _continue(status, after_failure=Command.RESUME)
    if choice:
        return _replace(record, status, options)

    if record.epoch == NO_EPOCH and record.replaced_by_epoch is not None:
        # Another task instance with the same key has started it. The first try of this
        # one was to replace it, and has ended before.
        return _replace(record, status, options)

    if not options.stop_on_clear:
        return _for_group(status, options)
    if options.on_clear == "resume" and not _counts_as_success(status, options):
        return _repeat_what_failed(status, options)
    return _replace(record, status, options)


def is_being_stopped(instruction: Identified) -> bool:
    """
    Return whether the execution for whose end a try waits is being stopped, so that its
    limit has nothing more to stop.
    """
    if instruction.task_try.options.stops_cleared:
        return True
    description = instruction.description
    return description is not None and description.status == states.STATUS_STOPPING


def _continue(status: str, *, after_failure: Decision) -> Decision:
    """Return what a try does that wants the result of the execution."""
    if status == states.STATUS_STOPPING:
        return Command.WAIT_FOR_END
    if not has_ended(status):
        return Command.WATCH
    if state_of(status) is PolysyncState.SUCCESS:
        return Command.WATCH
    if state_of(status) is PolysyncState.CANCELLED:
        return Command.PREPARE
    return after_failure


def _replace(
    record: ExecutionRecord, status: str, options: RecoveryOptions
) -> Decision:
    """Return what a try does that wants a new execution in place of the stored one."""
    if not has_ended(status):
        return _bring_to_its_end(status, options)
    if record.resume_is_pending and _has_failed(status):
        # Rule 4: a process that was frozen may still resume it.
        return Command.RESEND_RESUME
    return Command.PREPARE


def _repeat_what_failed(status: str, options: RecoveryOptions) -> Decision:
    """
    Return what a try does that repeats what has failed, and replaces any other
    execution.
    """
    if not has_ended(status):
        return _bring_to_its_end(status, options)
    if _has_failed(status):
        return Command.RESUME
    return Command.PREPARE


def _for_group(status: str, options: RecoveryOptions) -> Decision:
    """Return what the execution task of a group of steps does, as it has chosen."""
    if options.on_clear == "resume":
        # The status may have changed since the choice.
        return _continue(status, after_failure=Command.RESUME)
    return Command.WAIT_FOR_END


def _bring_to_its_end(status: str, options: RecoveryOptions) -> Decision:
    """
    Return what a try does that must not begin before the end of an execution that runs.
    """
    if status == states.STATUS_STOPPING:
        return Command.WAIT_FOR_END
    if not options.stops_cleared:
        return Command.WAIT_FOR_END
    return Command.STOP


def _has_failed(status: str | None) -> bool:
    return state_of(status) is PolysyncState.FAILED


def _counts_as_success(status: str, options: RecoveryOptions) -> bool:
    """Return whether the author takes an execution with failed steps for a success."""
    if options.on_completed_with_failures != "succeed":
        return False
    return status == states.STATUS_COMPLETED_WITH_FAILURES


class Nothing(Enum):
    """
    In place of a record: the next try finds none, nor an execution of its own, and
    starts a new one.
    """

    FOUND = auto()


# What the message of a failure says about the retry, if one follows: the retry ...
_RETRY_STARTS: Final = "starts a new execution."
_RETRY_REPEATS_ALL: Final = (
    "starts a new execution and\n  repeats every step{alternative}."
)
_ALTERNATIVE: Final = (
    '; retry_mode="resume" would repeat only those that had not succeeded'
)
_RETRY_RESUMES: Final = (
    "resumes the execution:\n  it repeats only the steps that had not succeeded."
)
# https://docs.aws.amazon.com/sagemaker/latest/dg/build-and-manage-steps-types.html
_RETRY_AFTER_FAIL_STEP: Final = (
    "starts a new execution and\n"
    "  repeats every step, since AWS does not resume after a Fail step."
)
# What it says about a clear, if no retry follows.
_CLEAR: Final = "Next: mend the cause, then clear the task."
_CLEAR_AFTER_FAIL_STEP: Final = (
    f"{_CLEAR} That starts a new execution and repeats every step,\n"
    "  since AWS does not resume after a Fail step."
)
_CLEAR_STARTS: Final = f"{_CLEAR} That starts a new execution and repeats every step"
_CLEAR_RESUMES: Final = (
    f"{_CLEAR}\n  That {{button}}repeats only the steps that had not succeeded."
)


_DOES: Final[dict[Decision, Does]] = {
    Command.PREPARE: "start",
    Command.WATCH: "continue",
    Command.RESUME: "resume",
}


class Outlook(NamedTuple):
    """
    What follows after the end of a try: what ``next_command`` returns to the next one.

    :param record: what the next try finds; None if that is not known.
    :param status: as AWS has said it last; None if the execution may still be running.
    :param by_fail_step: whether a Fail step has ended the execution, so that AWS
        refuses its resume, and the try starts a new one.
    """

    record: ExecutionRecord | Nothing | None
    status: str | None
    options: RecoveryOptions
    by_fail_step: bool = False

    @property
    def retry_does(self) -> Does | None:
        """What a retry does about the execution; None if that is not known."""
        if self.record:
            return self._does(clears=0)
        if self.status and states.is_stoppable(self.status):
            # Whatever the record says, a try goes on with what runs.
            return "continue"
        return None

    @property
    def clear_does(self) -> Does | None:
        """
        What the first try after a clear does about an execution that has ended, or is
        being stopped; None if that is not known.
        """
        if self.status is None or states.is_stoppable(self.status):
            return None
        return self._does(clears=1)

    @property
    def is_resumable(self) -> bool:
        """
        Whether the first try after a clear resumes an execution that has failed, if a
        person chooses that.
        """
        record = self.record
        if record is None or record is Nothing.FOUND or self.by_fail_step:
            return False
        if not _has_failed(self.status):
            return False
        choice = ClearChoice(on_clear="resume")
        chosen = record.model_copy(update={"clear_choice": choice})
        return after_clear_of(chosen, str(self.status), self.options) is Command.RESUME

    def _does(self, *, clears: int) -> Does | None:
        """
        Return what is done after the end of the execution.

        One that is being stopped may fail instead, such as by the time limit of a
        Lambda step:
        https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_StopPipelineExecution.html
        """
        if self.record is None or self.status is None:
            return None
        ends = [self.status]
        if self.status == states.STATUS_STOPPING:
            ends = [states.STATUS_STOPPED, states.STATUS_FAILED]
        found = {_DOES.get(self._after(end, clears)) for end in ends}
        if self.by_fail_step and "resume" in found:
            # AWS refuses that.
            found = found - {"resume"} | {"start"}
        if found == {"start", "resume"}:
            return "start_or_resume"
        return found.pop() if len(found) == 1 else None

    def _after(self, end: str, clears: int, **options: str) -> Decision:
        """
        Return what a try does after an end with a status.

        :param clears: how many clears come before it: 0 for a retry.
        :param options: those that the author could change.
        """
        record = self.record
        if record is None or record is Nothing.FOUND:
            return Command.PREPARE
        changed = self.options.model_copy(update=options)
        return next_command(record, record.epoch + clears, end, changed)

    def text_of_retry(self) -> str:
        """Return what the message of a failure says of the retry; empty if nothing."""
        if self.status is None or self.record is None:
            return ""
        command = self._after(self.status, 0)
        if command not in (Command.PREPARE, Command.RESUME):
            return ""
        if self.by_fail_step and _has_failed(self.status):
            return _RETRY_AFTER_FAIL_STEP
        if command is Command.RESUME:
            return _RETRY_RESUMES
        if not _has_failed(self.status):
            return _RETRY_STARTS
        alternative = ""
        if self._after(self.status, 0, retry_mode="resume") is Command.RESUME:
            alternative = _ALTERNATIVE
        return _RETRY_REPEATS_ALL.format(alternative=alternative)

    def text_of_clear(self, button: str) -> str | None:
        """Return what the message says about a clear; None if only the user knows."""
        if self.status is None or not _has_failed(self.status):
            return None
        if self.record is None:
            return _CLEAR
        if self.record is Nothing.FOUND:
            return f"{_CLEAR_STARTS}."
        command = self._after(self.status, 1)
        if command not in (Command.PREPARE, Command.RESUME):
            return _CLEAR
        if self.by_fail_step:
            return _CLEAR_AFTER_FAIL_STEP
        if not self.is_resumable:
            button = ""
        if command is Command.RESUME:
            return _CLEAR_RESUMES.format(button=button)
        if self._after(self.status, 1, on_clear="resume") is not Command.RESUME:
            return f"{_CLEAR_STARTS}."
        resumes = f'on_clear="resume" {button}repeats only what had not succeeded.'
        return f"{_CLEAR_STARTS};\n  {resumes}"


def next_step(
    record: ExecutionRecord | Nothing | None,
    status: str | None,
    options: RecoveryOptions,
    retry: NextSession | None,
    *,
    by_fail_step: bool = False,
    button: str = "",
) -> str | None:
    """
    Return what comes next, as the last sentences of a failure's message; None if only
    the user knows. The arguments are the members of ``Outlook``, and

    :param status: with which the execution has ended; None if it may still be running.
    :param retry: how Airflow goes on; None if it does not.
    :param button: what else resumes it, such as ``or this button ``; empty for nothing.
    """
    outlook = Outlook(record, status, options, by_fail_step)
    if retry is None:
        return outlook.text_of_clear(button)
    effect = outlook.text_of_retry()
    if not effect:
        return f"Next: {retry.text}"
    return f"Next: {retry.text} {retry.subject} {effect}"


def planned_after_failure(
    record: ExecutionRecord | Nothing | None,
    status: str | None,
    options: RecoveryOptions,
    retry: NextSession | None,
    now: datetime,
    *,
    by_fail_step: bool = False,
) -> dict[str, Any]:
    """
    Return the members of ``Plan`` that follow from the end of a try. The arguments are
    those of ``next_step``, except for

    :param status: as AWS has said it last, also if the execution has not ended.
    """
    outlook = Outlook(record, status, options, by_fail_step)
    planned = None
    if retry:
        planned = retry.planned(outlook.retry_does, now)
    return {
        "retry": planned,
        "clear": outlook.clear_does,
        "resumable": outlook.is_resumable,
    }


def after_clear_of(
    record: ExecutionRecord, status: str, options: RecoveryOptions
) -> Decision:
    """Return what the first try after the next clear does."""
    return next_command(record, record.epoch + 1, status, options)


def is_of_other_incarnation(
    record: ExecutionRecord, incarnation: instructions.Incarnation, try_number: int
) -> bool:
    """
    Return whether another task instance with the same key wrote a record, as its first
    try begins.

    A DAG run that is cleared after its end starts anew as well, but then its
    ``clear_number`` grows, and so does the number of the try. If a user queues a
    running DAG run again, it cannot be told from a new one.

    :param incarnation: the incarnation of this try's task instance.
    :param try_number: the number of this try.
    """
    recorded = record.incarnation
    if recorded.region != incarnation.region:
        return True
    if recorded.dag_run_started_at == incarnation.dag_run_started_at:
        return False
    run_was_cleared = incarnation.clear_number > recorded.clear_number
    return not (run_was_cleared and try_number > record.try_number)


# The texts for people follow from the number of the start, unless the author gives
# them.
_NOT_COMPARED: Final = frozenset(
    {
        "pipeline_parameters",
        "execution_display_name",
        "execution_description",
        "client_request_token",
    }
)


def unused_arguments(
    sent: StartRequest, parameters: Mapping[str, str], current: StartRequest
) -> list[str]:
    """
    Return the arguments whose current values a resume does not use, since AWS keeps
    those of the start.

    :param parameters: the execution's parameters, also those that have their default.
    :param current: the request that would start an execution now.
    """
    compared = StartRequest.model_fields.keys() - _NOT_COMPARED
    if sent.source_execution and current.source_execution == LATEST:
        # The record has the ARN of what was the latest execution at the start.
        compared = compared - {"source_execution"}
    arguments = [
        name
        for name in sorted(compared)
        if getattr(sent, name) != getattr(current, name)
    ]
    if parameters:
        arguments += [
            f"pipeline_parameters[{name!r}]"
            for name, value in sorted(current.pipeline_parameters.items())
            if parameters.get(name) != value
        ]
    return arguments


def after_quota_refusal(
    instruction: Begun | Identified, event: Refused, *, nothing_runs: bool
) -> Begun | Identified | None:
    """
    Return the instruction after AWS has refused a request for a quota; None if it was
    for another reason, or if the try does not wait.

    :param nothing_runs: whether no earlier attempt of the request can have succeeded.
    """
    if not exceptions.has_code(event.error, exceptions.RESOURCE_LIMIT):
        return None
    return wait_for_capacity(
        instruction, str(event.error), event.at, nothing_runs=nothing_runs
    )


def wait_for_capacity(
    instruction: Begun | Identified, reason: str, now: datetime, *, nothing_runs: bool
) -> Begun | Identified | None:
    """
    Return the instruction after a request, or an execution, has failed for want of
    capacity; None if the try does not wait, or not any longer.

    :param instruction: what the try has done, with the record.
    """
    task_try = instruction.task_try
    record = instruction.record
    if task_try.capacity is None:
        return None
    wait = capacity.next_wait(
        record.capacity,
        reason,
        task_try.capacity,
        try_number=task_try.number,
        now=now,
        token=record.request.client_request_token,
        nothing_runs=nothing_runs,
    )
    if wait is None:
        return None
    return instruction.write(Command.WAIT_FOR_CAPACITY, changes={"capacity": wait})
