"""
Stops: statuses, repeated tokens and refusals.

https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_StopPipelineExecution.html
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from polysync_airflow.states import STATUS_STOPPING
from polysync_airflow.verification import definitions
from polysync_airflow.verification.account import Account, missing_execution, status_of
from polysync_airflow.verification.beliefs.outcomes import succeeded
from polysync_airflow.verification.calls import Refusal, Response
from polysync_airflow.verification.models import ACCEPTED, INVALID, Belief, NotCheckedError, Seen, told

# Enough to be stopped in between, and few enough to wait for all of them.
_STEPS: Final = 7
# Words of the text of AWS.
_ONLY_EXECUTING: Final = "Only pipelines with 'Executing' status can be stopped"

Answer = Response | Refusal


@dataclass(frozen=True)
class Stops:
    """
    A stop of an execution that runs, and what is tried meanwhile and afterwards.

    :param at_once: the status right after the response of the stop.
    :param old_token_after_resume: the status after the first stop was sent again to the resumed execution.
    """

    arn: str
    first: Answer
    at_once: str
    again: Answer
    other_token: Answer
    resume: Answer
    end: str
    statuses_of_steps: tuple[str, ...]
    again_after_end: Answer
    other_token_after_end: Answer
    resume_after_end: Answer
    old_token_after_resume: str
    as_source: str | Refusal
    end_after_resume: str | None


def stops(account: Account) -> Stops:
    """Stop an execution, several times."""
    name = account.create("stop", definitions.chain(length=_STEPS))
    arn = account.start(name)
    # The second step: the first one has succeeded then.
    account.wait_for(
        arn, lambda answer: _has_second_step(account, arn), "The second step of an execution", pause=0.3
    )
    token = account.token()
    first = account.try_to_stop(arn, token)
    at_once = status_of(account.describe(arn))
    again = account.try_to_stop(arn, token)
    other_token = account.try_to_stop(arn)
    resume = account.try_to_resume(arn)
    end = status_of(account.wait_for_end(arn))
    statuses = sorted({str(step.status) for step in account.steps(arn)})
    again_after_end = account.try_to_stop(arn, token)
    other_token_after_end = account.try_to_stop(arn)
    source = {"SelectedSteps": [{"StepName": "Step2"}], "SourcePipelineExecutionArn": arn}
    as_source = account.try_to_start(name, SelectiveExecutionConfig=source)
    # Last, because the execution runs then.
    resume_after_end = account.try_to_resume(arn)
    account.try_to_stop(arn, token)
    old_token_after_resume = status_of(account.describe(arn))
    end_after_resume = None
    if not isinstance(resume_after_end, Refusal):
        end_after_resume = status_of(account.wait_for_end(arn))
    return Stops(
        arn=arn,
        first=first,
        at_once=at_once,
        again=again,
        other_token=other_token,
        resume=resume,
        end=end,
        statuses_of_steps=tuple(statuses),
        again_after_end=again_after_end,
        other_token_after_end=other_token_after_end,
        resume_after_end=resume_after_end,
        old_token_after_resume=old_token_after_resume,
        as_source=as_source,
        end_after_resume=end_after_resume,
    )


def _has_second_step(account: Account, arn: str) -> bool:
    return any(step.name == "Step2" for step in account.steps(arn))


def _text(account: Account) -> Seen:
    answer = account.once(stops).other_token_after_end
    if not isinstance(answer, Refusal):
        return Seen(ACCEPTED)
    has_words = _ONLY_EXECUTING in answer.text
    return Seen("has the words" if has_words else "has other words", answer.text)


def _missing(account: Account) -> Seen:
    missing = missing_execution(account.once(stops).arn)
    return told(account.try_to_stop(missing))


def _ended_with_success(account: Account) -> Seen:
    return told(account.try_to_stop(account.once(succeeded).arn))


def _end_after_resume(account: Account) -> Seen:
    end = account.once(stops).end_after_resume
    if end is None:
        raise NotCheckedError("the stopped execution is not resumed")
    return Seen(end)


def _delete(account: Account) -> Seen:
    # A pipeline of its own, because nothing can be seen of one that AWS deletes.
    name = account.create("delete", definitions.chain())
    arn = account.start(name)
    answer = account.attempt("DeletePipeline", PipelineName=name, ClientRequestToken=account.token())
    # Nobody waits for its end.
    account.try_to_stop(arn)
    return told(answer)


def _steps(account: Account) -> Seen:
    statuses = account.once(stops).statuses_of_steps
    running = {*statuses} & {"Executing", "Starting", STATUS_STOPPING}
    return Seen("some" if running else "none", ", ".join(statuses))


def _old_token(account: Account) -> Seen:
    found = account.once(stops)
    if isinstance(found.resume_after_end, Refusal):
        raise NotCheckedError("the stopped execution is not resumed")
    status = found.old_token_after_resume
    return Seen("goes on" if status == "Executing" else "is stopped", f"status {status}")


def _field(name: str) -> Any:
    return lambda account: told(getattr(account.once(stops), name))


_STOP: Final = "polysync_airflow/aws/stop.py"
_HOOK: Final = "polysync_airflow/hooks/executions.py"
_ENGINE: Final = "emulator/sagemaker_emulator/engine/execution.py"
_STORE: Final = "emulator/sagemaker_emulator/sagemaker/store.py"

BELIEFS: Final = (
    # First, so that the execution has ended when everything is deleted.
    Belief(
        id="stop.delete",
        sentence="A pipeline cannot be deleted while one of its executions runs.",
        expected="refused with ConflictException",
        relied_on_by=(
            "emulator/sagemaker_emulator/sagemaker/pipelines.py",
            "polysync_airflow/verification/cleaning.py",
        ),
        check=_delete,
    ),
    Belief(
        id="stop.running",
        sentence="An execution that runs can be stopped.",
        expected=ACCEPTED,
        relied_on_by=(_STOP, "docs/how-to/start-and-wait.md"),
        check=_field("first"),
    ),
    Belief(
        id="stop.stopping",
        sentence="Right after the response, its status is Stopping.",
        expected=STATUS_STOPPING,
        relied_on_by=(_STOP, "polysync_airflow/states.py"),
        check=lambda account: Seen(account.once(stops).at_once),
    ),
    Belief(
        id="stop.stopped",
        sentence="It ends as Stopped.",
        expected="Stopped",
        relied_on_by=("docs/explanation/outcomes.md", "polysync_airflow/states.py"),
        check=lambda account: Seen(account.once(stops).end),
    ),
    Belief(
        id="stop.same-token",
        sentence="A stop that is sent again with the same token is accepted while the execution is stopping.",
        expected=ACCEPTED,
        relied_on_by=(_HOOK,),
        check=_field("again"),
    ),
    Belief(
        id="stop.same-token-after-end",
        sentence="The same is true after the end of the execution.",
        expected=ACCEPTED,
        relied_on_by=(_STORE,),
        check=_field("again_after_end"),
    ),
    Belief(
        id="stop.other-token",
        sentence="A second stop with another token is refused while the execution is stopping.",
        expected=INVALID,
        relied_on_by=(_STOP, _ENGINE),
        check=_field("other_token"),
    ),
    Belief(
        id="stop.ended",
        sentence="The stop of an execution that has succeeded is refused.",
        expected=INVALID,
        relied_on_by=(_STOP, _ENGINE),
        check=_ended_with_success,
    ),
    Belief(
        id="stop.text",
        sentence=f"The text of this refusal is: {_ONLY_EXECUTING}.",
        expected="has the words",
        relied_on_by=(_ENGINE,),
        check=_text,
    ),
    Belief(
        id="stop.missing",
        sentence="The stop of an execution that does not exist is refused.",
        expected="refused with ResourceNotFound",
        relied_on_by=("polysync_airflow/exceptions.py", "polysync_airflow/auth/connection_test.py"),
        check=_missing,
    ),
    Belief(
        id="stop.steps",
        sentence="No step of a stopped execution is still running.",
        expected="none",
        relied_on_by=("polysync_airflow/execution/steps/rows.py",),
        check=_steps,
    ),
    Belief(
        id="stop.resume-while-stopping",
        sentence="An execution that is stopping cannot be resumed.",
        expected=INVALID,
        relied_on_by=(_ENGINE,),
        check=_field("resume"),
    ),
    Belief(
        id="stop.resume-of-stopped",
        sentence="A stopped execution can be resumed.",
        expected=ACCEPTED,
        relied_on_by=(_ENGINE,),
        check=_field("resume_after_end"),
    ),
    Belief(
        id="stop.resumed-end",
        sentence="A stopped execution that was resumed runs to its end.",
        expected="Succeeded",
        relied_on_by=(_ENGINE,),
        check=_end_after_resume,
    ),
    Belief(
        id="stop.token-before-resume",
        sentence="The token of a stop before a resume does not stop the execution that was resumed.",
        expected="goes on",
        relied_on_by=(_HOOK,),
        check=_old_token,
    ),
)
