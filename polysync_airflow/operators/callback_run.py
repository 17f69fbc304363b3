"""
One try of a task that answers a callback step.

``StepRun`` finds out how the step is, and waits for it. ``CallbackResponder`` answers
it with what a function returns, while ``StopMonitor`` looks for a stop.
``StepMessages`` receives the message of the step from its queue, which all executions
of the pipeline share, and maybe others. ``Answer`` sends the one answer.
"""

from __future__ import annotations

import itertools
import random
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import cached_property, partial
from threading import Event, Lock, Thread
from typing import Any, Final, NamedTuple, Self

from pydantic import SecretStr

from polysync_airflow import exceptions
from polysync_airflow.airflow_compat.sdk import AirflowSkipException, AirflowTaskTimeout
from polysync_airflow.airflow_compat.supervisor import mask_secret, redact
from polysync_airflow.aws.retry import call_with_retry
from polysync_airflow.exceptions import PolysyncError
from polysync_airflow.execution import clock
from polysync_airflow.execution.models import region_from_arn
from polysync_airflow.execution.outcome import outcome_message, refusal_error
from polysync_airflow.execution.steps import callbacks
from polysync_airflow.execution.steps.callbacks import (
    CallbackMessage,
    CallbackStatus,
    Handling,
    ReceivedMessage,
)
from polysync_airflow.execution.steps.descriptions import StepDescription
from polysync_airflow.execution.steps.progress import Progress, check_step_declared
from polysync_airflow.execution.texts import clean_line, clean_text
from polysync_airflow.execution.waiter import ExecutionEvent, ExecutionWaiter, Polled
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.hooks.executions import result_or_error
from polysync_airflow.operators.base import list_steps_if_due, write_lines
from polysync_airflow.states import STATUS_STOPPING

# How long an answer is repeated while AWS throttles or cannot be reached.
ANSWER_TIMEOUT_SECONDS: Final = 600.0
# Seconds between two requests of the monitor, on the clock of the host. A message is
# hidden for three times as long.
MONITOR_SECONDS: Final = 20.0
# How long the end of the function waits for a call of the monitor.
JOIN_SECONDS: Final = 30.0
STOP_REASON: Final = "The execution is being stopped."


class StepHasEndedError(Exception):
    """
    Raised when AWS refuses an answer because the step has ended: somebody else has
    answered it.
    """


@dataclass
class Answer:
    """
    The answer to a step. Only the first one is given. Thread-safe.

    :param hook: a hook with the task's connection, for the region of the execution.
    :param token: the callback token of the step.
    :param step_has_ended: says whether AWS shows the step as ended.
    :param warn: called with a message when a request is repeated.
    """

    hook: PolysyncSageMakerHook
    token: SecretStr
    step_has_ended: Callable[[], bool]
    warn: Callable[[str], object]
    _lock: Lock = field(default_factory=Lock, init=False)
    _is_given: bool = field(default=False, init=False)

    def succeed(self, outputs: Mapping[str, str]) -> bool:
        """
        Answer with success; return whether this is the answer.

        :raises StepHasEndedError: somebody else has answered.
        :raises SageMakerApiError: AWS has not taken the answer.
        """
        return self._give(
            partial(self.hook.send_pipeline_execution_step_success, self.token, outputs)
        )

    def fail(self, reason: str) -> bool:
        """
        Answer with a failure; return whether this is the answer.

        :raises StepHasEndedError: somebody else has answered.
        :raises SageMakerApiError: AWS has not taken the answer.
        """
        reason = callbacks.failure_reason(reason)
        return self._give(
            partial(self.hook.send_pipeline_execution_step_failure, self.token, reason)
        )

    def _give(self, send: Callable[[], None]) -> bool:
        with self._lock:
            if self._is_given:
                return False
            until = clock.time() + ANSWER_TIMEOUT_SECONDS
            call_with_retry(partial(self._send, send), until=until, warn=self.warn)
            self._is_given = True
            return True

    def _send(self, send: Callable[[], None]) -> None:
        try:
            send()
        except exceptions.SageMakerApiError as error:
            # AWS does not document with which of these it refuses the answer to a step
            # that has ended.
            codes = (
                exceptions.CONFLICT,
                exceptions.RESOURCE_NOT_FOUND,
                exceptions.VALIDATION,
            )
            if not exceptions.has_code(error, *codes):
                raise
            if not self.step_has_ended():
                raise
            raise StepHasEndedError(str(error)) from None


@dataclass
class StopMonitor:
    """
    A context in which a thread looks for a stop while the function of a step runs.

    The thread keeps the message of the step from other consumers. If the execution is
    to be stopped, it answers at once, because AWS stops it only then. The function
    itself is not interrupted.

    :param keep: hides the message for a while.
    :param is_stopping: says whether the execution is to be stopped.
    :param warn: called with a message once for each new error. No error ends the
        thread.
    """

    keep: Callable[[], None]
    is_stopping: Callable[[], bool]
    answer: Answer
    warn: Callable[[str], object]
    has_answered: bool = field(default=False, init=False)
    _warned: set[str] = field(default_factory=set, init=False)
    _ended: Event = field(default_factory=Event, init=False)

    def __enter__(self) -> Self:
        monitor = partial(copy_context().run, self._monitor)
        self._thread = Thread(target=monitor, name="polysync-callback", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(JOIN_SECONDS)

    def _monitor(self) -> None:
        # Not a wait of the provider: a function takes its time on the host's clock.
        while not self.has_answered and not self._ended.wait(MONITOR_SECONDS):
            self._try(self.keep)
            self._try(self._answer_stop)

    def _answer_stop(self) -> None:
        if self.is_stopping():
            self.has_answered = self.answer.fail(STOP_REASON)

    def _try(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            if isinstance(error, PolysyncError):
                text = str(error)
            if text not in self._warned:
                self._warned.add(text)
                self.warn(f"While the function of the callback step runs: {text}")


# For how long SQS hides a message from others once it is received. If this process
# dies, the next try can receive it after that time.
HIDDEN_SECONDS: Final = 60
# How long the queue is searched for the message: longer than a message stays hidden
# after its try has died.
RECEIVE_TIMEOUT_SECONDS: Final = 180.0
# How often AWS is asked meanwhile whether the step still waits. SageMaker allows fewer
# calls than SQS.
CHECK_SECONDS: Final = 10.0
# The pauses between two searches, in seconds, of which up to a half is left out at
# random; the last one repeats.
PAUSE_SECONDS: Final = (1.0, 2.0, 4.0, 8.0, 15.0)
# Without any wait, SQS asks only some of its servers.
POLL_SECONDS: Final = 1
# How many batches a search receives at most. Each has ten messages, which others miss
# meanwhile.
MAX_RECEIVES: Final = 10


@dataclass
class StepMessages:
    """
    The messages of one callback step.

    :param hook: a hook with the task's connection, for the region of the execution.
    :param queue_hook: one for the region of the queue.
    :param log: the log of the task.
    """

    hook: PolysyncSageMakerHook
    queue_hook: PolysyncSageMakerHook
    arn: str
    callback: callbacks.RunningCallback
    log: Any
    _receipts: list[str] = field(default_factory=list, init=False)
    # Why messages of others are no longer sent again.
    _problem: PolysyncError | None = field(default=None, init=False)

    @property
    def _url(self) -> str:
        return self.callback.queue.url

    def receive(
        self, is_over: Callable[[], bool], sleep: Callable[[float], None]
    ) -> CallbackMessage | None:
        """
        Receive the message of the step. Others can receive theirs afterwards, and at
        once.

        :param is_over: asked from time to time: whether the step no longer waits.
        :param sleep: waits for a number of seconds.
        :return: the message; that of the stop, if there is one; None if there is none.
        :raises SageMakerApiError: a call failed.
        """
        begin = clock.time()
        checked_at = begin
        pauses = itertools.chain(PAUSE_SECONDS, itertools.repeat(PAUSE_SECONDS[-1]))
        for number, pause in enumerate(pauses):
            messages = self._search_queue()
            for message in messages:
                if message.is_stop:
                    return message
            if messages:
                return messages[0]
            if clock.time() - checked_at >= CHECK_SECONDS:
                checked_at = clock.time()
                if is_over():
                    break
            if clock.time() + pause > begin + RECEIVE_TIMEOUT_SECONDS:
                break
            if number == 0:
                self.log.info(
                    "The message of the step has not been received yet. %s",
                    self.describe_dead_letters(),
                )
            # Tasks that have begun at the same time shall not search at the same time.
            sleep(pause * (1 - random.random() / 2))  # noqa: S311 # it spreads load
        return None

    def _search_queue(self) -> list[CallbackMessage]:
        """
        Receive messages until one of the step is among them, or the queue is empty.
        Others can receive theirs afterwards.
        """
        messages: list[CallbackMessage] = []
        other_messages: dict[Handling, list[ReceivedMessage]] = defaultdict(list)
        wait = POLL_SECONDS
        try:
            for _ in range(MAX_RECEIVES):
                batch = self.queue_hook.receive_messages(
                    self._url, hidden=HIDDEN_SECONDS, wait=wait
                )
                for received in batch:
                    content = callbacks.parse_message(received.body)
                    handling = self._handling_of(received, content)
                    if handling is Handling.KEEP and content:
                        messages.append(content)
                        self._receipts.append(received.receipt)
                    else:
                        other_messages[handling].append(received)
                if messages or not batch:
                    break
                wait = 0
        finally:
            self._release(other_messages)
        return messages

    def _handling_of(
        self, received: ReceivedMessage, content: CallbackMessage | None
    ) -> Handling:
        is_own = (
            content is not None
            and content.token == self.callback.token
            and content.execution_arn == self.arn
        )
        max_receives = None
        if not is_own and content is not None and self._problem is None:
            max_receives = self._max_receives
        decide = partial(
            callbacks.handling_of,
            received,
            content,
            is_own=is_own,
            max_receives=max_receives,
            now=clock.time(),
        )
        handling = decide()
        if handling is not Handling.LOOK_UP or content is None:
            return handling
        try:
            steps = self.hook.list_pipeline_execution_steps(content.execution_arn)
        except PolysyncError:
            # It may be an execution of somebody else.
            return decide(waits=True)
        return decide(waits=callbacks.still_waits(steps, content.token))

    def _release(self, messages: dict[Handling, list[ReceivedMessage]]) -> None:
        to_delete = [message.receipt for message in messages[Handling.DELETE]]
        to_give_back = [message.receipt for message in messages[Handling.GIVE_BACK]]
        for message in messages[Handling.SEND_AGAIN]:
            if self._send_again(message):
                to_delete.append(message.receipt)
            else:
                to_give_back.append(message.receipt)
        try:
            self.queue_hook.hide_messages(self._url, to_give_back, 0)
            self.queue_hook.delete_messages(self._url, to_delete)
        except PolysyncError as error:
            # A copy of a message that cannot be deleted would be one more message.
            self._problem = error
            self.log.warning(
                "Messages of others are hidden from them for %s s: %s",
                HIDDEN_SECONDS,
                error,
            )

    def _send_again(self, message: ReceivedMessage) -> bool:
        """Send a message again; return whether the received one can be deleted."""
        if self._problem:
            return False
        try:
            self.queue_hook.send_message_again(self._url, message)
        except PolysyncError as error:
            if error.permanent:
                self._problem = error
            self.log.warning(
                "A message of another execution cannot be sent again: %s", error
            )
            return False
        return True

    @cached_property
    def redrive(self) -> callbacks.Redrive | PolysyncError | None:
        """
        The dead-letter queue of the queue, or why it is not known; None if it has none.
        """
        return result_or_error(self.queue_hook.describe_redrive, self._url)

    @property
    def _max_receives(self) -> int | None:
        redrive = self.redrive
        if redrive is None:
            return None
        if isinstance(redrive, PolysyncError):
            # Each receive may be the last one.
            return 1
        return redrive.max_receives

    def describe_dead_letters(self) -> str:
        """Return what is known of the dead-letter queue of the queue."""
        redrive = self.redrive
        if redrive is None:
            return "The queue has no dead-letter queue."
        if isinstance(redrive, PolysyncError):
            text = f"Whether the queue has a dead-letter queue is not known: {redrive}"
        else:
            times = "once"
            if redrive.max_receives > 1:
                times = f"{redrive.max_receives} times"
            text = (
                f"A message that was received {times} goes to the dead-letter queue"
                f" {redrive.queue_arn}."
            )
        if self._problem is None:
            # Messages of others are sent again, so that a receive does not count.
            return text
        return f"{text}\nAll receives count, because: {self._problem}"

    def keep(self) -> None:
        """
        Hide the received messages of the step for some more time.

        :raises SageMakerApiError: the call failed.
        """
        self.queue_hook.hide_messages(self._url, self._receipts, HIDDEN_SECONDS)

    def delete_received(self) -> None:
        """
        Delete the received messages of the step, after its answer. A message that stays
        behind does no harm.
        """
        try:
            self.queue_hook.delete_messages(self._url, self._receipts)
        except PolysyncError as error:
            self._warn_of_leftovers(error)
        else:
            self._receipts.clear()

    def delete_all(self) -> None:
        """Delete also messages of the step that this process has not received yet."""
        try:
            self._search_queue()
        except PolysyncError as error:
            self._warn_of_leftovers(error)
        else:
            self.delete_received()

    def _warn_of_leftovers(self, error: PolysyncError) -> None:
        self.log.warning(
            "The message of the callback step stays in its queue: %s", error
        )


@dataclass
class CallbackResponder:
    """A callback step that waits for its answer."""

    step_run: StepRun
    callback: callbacks.RunningCallback

    def __post_init__(self) -> None:
        step_run = self.step_run
        self.arn = step_run.arn
        self.name = step_run.name
        self.log = step_run.log
        mask_secret(self.callback.token.get_secret_value())
        self._answer = Answer(
            step_run.hook, self.callback.token, self._has_step_ended, self.log.warning
        )
        queue_region = self.callback.queue.region or region_from_arn(self.arn)
        queue_hook = step_run.hook_for_region(queue_region)
        self._messages = StepMessages(
            step_run.hook, queue_hook, self.arn, self.callback, self.log
        )

    def _has_step_ended(self) -> bool:
        return self.step_run.ask_aws().situation not in (
            CallbackStatus.RUNNING,
            CallbackStatus.STOPPING,
        )

    def _is_step_over(self) -> bool:
        """Return whether the step no longer waits for an answer of the function."""
        return self.step_run.ask_aws().situation is not CallbackStatus.RUNNING

    def serve(
        self,
        function: Callable[..., Any],
        arguments: Mapping[str, Any],
        sleep: Callable[[float], None],
    ) -> callbacks.Outputs:
        """
        Answer the step with what a function returns for the arguments of its message.

        :param arguments: further keyword arguments of the function; they override those
            of the message.
        :param sleep: waits for a number of seconds.
        :return: the output parameters of the answer.
        :raises StepHasEndedError: somebody else has answered the step meanwhile.
        :raises CallbackStepError: the function failed, and so has the step; or its
            message cannot be found.
        :raises AirflowSkipException: the function raised it, and the step has failed.
        :raises PipelineExecutionCancelledError: the execution is being stopped.
        """
        self.log.info(
            "Step %s waits for its answer. Queue: %s",
            self.name,
            self.callback.queue.url,
        )
        message = self._messages.receive(self._is_step_over, sleep)
        if message is None:
            raise self._error_without_message()
        if message.is_stop:
            raise self.answer_stop()
        overridden = sorted(arguments.keys() & message.arguments.keys())
        if overridden:
            self.log.info(
                "op_kwargs override arguments of the step: %s",
                clean_line(", ".join(overridden)),
            )
        return self._call(partial(function, **{**message.arguments, **arguments}))

    def answer_stop(self) -> Exception:
        """
        Answer the step, whose execution is to be stopped; return the error that ends
        the task.

        :raises StepHasEndedError: somebody else has answered the step meanwhile.
        """
        self._answer.fail(STOP_REASON)
        return self._cancelled()

    def delete_messages(self) -> None:
        """Delete messages that an earlier try may have left in the queue."""
        self._messages.delete_all()

    def _call(self, function: Callable[[], Any]) -> callbacks.Outputs:
        failure: BaseException | None = None
        outputs: callbacks.Outputs = {}
        with StopMonitor(
            self._messages.keep, self._is_stopping, self._answer, self.log.warning
        ) as monitor:
            try:
                outputs = callbacks.output_parameters(function())
            except (Exception, SystemExit, AirflowTaskTimeout) as error:
                failure = error
        if monitor.has_answered:
            raise self._cancelled() from failure
        if failure:
            reason = self._reason(failure)
            is_answered = self._answer.fail(reason)
        else:
            is_answered = self._answer.succeed(outputs)
        if not is_answered:
            # The monitor was in the middle of its answer.
            raise self._cancelled() from failure
        self._messages.delete_received()
        if failure:
            raise self._error_of(failure, reason) from failure
        self.log.info(
            "Step %s was answered with success. Output parameters: %s",
            self.name,
            clean_text(", ".join(outputs)) or "none",
        )
        return outputs

    def _error_of(self, failure: BaseException, reason: str) -> Exception:
        text = (
            f"The function of callback step {self.name} failed, and so has the step:"
            f" {reason}\nThe answer is final. To run the step again, resume the"
            f" execution, then clear this task.\nExecution: {self.arn}"
        )
        if isinstance(failure, AirflowSkipException):
            return AirflowSkipException(text)
        return exceptions.CallbackStepError(text)

    def _reason(self, failure: BaseException) -> str:
        # AWS shows it to everybody who may list the steps.
        if isinstance(failure, AirflowTaskTimeout):
            return "The function did not end before the execution_timeout of its task."
        text = redact(str(failure))
        if not isinstance(failure, exceptions.ParametersError):
            text = f"{type(failure).__name__}: {text}"
        return callbacks.failure_reason(text)

    def _cancelled(self) -> Exception:
        self._messages.delete_all()
        return exceptions.PipelineExecutionCancelledFailError(
            f"The execution is being stopped. Callback step {self.name} was answered"
            " with a failure, because the stop waits for the answer.\nExecution:"
            f" {self.arn}",
            execution_arn=self.arn,
            status=STATUS_STOPPING,
            permanent=True,
        )

    def _error_without_message(self) -> Exception:
        if self._is_step_over():
            return StepHasEndedError("The step no longer waits.")
        cure = (
            "look for another consumer of the queue, such as a Lambda function, which"
            " receives the message first, and give the step a queue of its own"
        )
        if self._messages.redrive:
            cure = (
                "move the message back from the dead-letter queue, and clear this"
                f" task. Otherwise, {cure}"
            )
        return exceptions.CallbackStepError(
            f"Callback step {self.name} waits for its answer, but its message was not"
            f" in the queue for {RECEIVE_TIMEOUT_SECONDS:g} s. Only the message has the"
            " arguments of the step, so the function was not called, and the step was"
            f" not answered.\n{self._messages.describe_dead_letters()} -- What to do:"
            f" {cure}. Queue: {self.callback.queue.url}\nExecution: {self.arn}",
            permanent=False,
        )

    def _is_stopping(self) -> bool:
        return (
            self.step_run.hook.describe_pipeline_execution(self.arn).status
            == STATUS_STOPPING
        )


class StepNewsError(Exception):
    """
    Raised to end a wait on a worker: the step has begun, or cannot begin any more.
    """


class StepSituation(NamedTuple):
    """
    A callback step and its execution, as AWS describes them.

    :param step: the step, if AWS has begun it.
    :param execution_status: AWS's status of its execution.
    """

    situation: CallbackStatus
    step: StepDescription | None
    execution_status: str


@dataclass
class StepRun:
    """
    A callback step of an execution, as a task that answers it sees it.

    :param hook_for_region: returns the hook for the task's connection in a region.
    :param retry: makes a call, and repeats it after a transient error.
    :param log: the log of the task.
    :param is_first_try: whether no earlier try, or session of this one, can have
        answered.
    """

    hook_for_region: Callable[[str | None], PolysyncSageMakerHook]
    arn: str
    name: str
    retry: Callable[[Callable[[], Any]], Any]
    log: Any
    is_first_try: bool

    def __post_init__(self) -> None:
        self.hook = self.hook_for_region(region_from_arn(self.arn))

    def check_declared(self) -> None:
        """
        Check that the pipeline has the step, if the identity may read the definition.

        :raises ParametersError: it has no callback step with this name.
        """
        try:
            declared = self.hook.describe_pipeline_definition_for_execution(self.arn)
        except PolysyncError as error:
            self.log.info("Whether the pipeline has the step is not known: %s", error)
        else:
            check_step_declared(self.name, declared, callbacks.CALLBACK)

    def answer(
        self,
        function: Callable[..., Any],
        arguments: Mapping[str, Any],
        sleep: Callable[[float], None],
    ) -> callbacks.Outputs | None:
        """
        Answer the step if it has begun.

        :param function: the function whose return value is the answer.
        :param arguments: further keyword arguments of the function.
        :param sleep: waits for a number of seconds.
        :return: the output parameters; None if the step has not begun.
        :raises CallbackStepError: the step has failed, or cannot be answered.
        :raises PipelineExecutionCancelledError: the execution is being stopped, or was
            stopped.
        """
        while True:
            situation, step, status = self.ask_aws()
            if situation is CallbackStatus.SUCCEEDED and step:
                self._clean_up(step)
                self.log.info(
                    "Step %s has already succeeded: its output parameters are taken,"
                    " and the function is not called.",
                    self.name,
                )
                return callbacks.recorded_outputs(step)
            if situation not in (
                CallbackStatus.NOT_BEGUN,
                CallbackStatus.RUNNING,
                CallbackStatus.STOPPING,
            ):
                self._clean_up(step)
                raise self._error_of(situation, step, status)
            if step is None:
                return None
            callback = callbacks.running_callback(step)
            if callback is None:
                return None
            responder = CallbackResponder(self, callback)
            try:
                if situation is CallbackStatus.STOPPING:
                    raise responder.answer_stop()
                return responder.serve(function, arguments, sleep)
            except StepHasEndedError:
                # An answer of an earlier try that AWS had not shown yet, or that of
                # somebody else.
                self.log.info("Step %s no longer waits for an answer.", self.name)

    def raise_unless_ended(self, end: ExecutionEvent) -> None:
        """
        Raise the error of a wait that has ended before the step began and before the
        execution ended.

        :raises PipelineExecutionTimeoutError: the step did not begin in time.
        :raises PolysyncError: AWS refused to describe the execution.
        """
        if end.outcome == "ended":
            return
        note = f"Callback step {self.name} was not answered. It may still begin."
        if end.outcome == "refused":
            raise refusal_error(end, outcome_message(end, notes=(note,)))
        raise exceptions.PipelineExecutionTimeoutError(
            f"Callback step {self.name} did not begin before the timeout (last AWS"
            f" status of the execution: {end.status or 'none received'}).\nReason:"
            f" {end.message}\n{note}\nExecution: {self.arn}",
            execution_arn=self.arn,
            status=end.status,
        )

    def ask_aws(self) -> StepSituation:
        """Return how the step is now."""
        # In this order: a step that is listed later is never older than the status.
        execution = self.retry(partial(self.hook.describe_pipeline_execution, self.arn))
        steps = self.retry(partial(self.hook.list_pipeline_execution_steps, self.arn))
        step = callbacks.find_step(steps, self.name)
        situation = callbacks.callback_status(step, execution.status)
        return StepSituation(situation, step, execution.status)

    def raise_if_news(
        self, progress: Progress, waiter: ExecutionWaiter, polled: Polled
    ) -> None:
        """
        End a wait on a worker after a poll, if there is something for the task to do.

        :param progress: says when the steps are listed.
        :param polled: the response of the poll, or its error.
        :raises StepNewsError: the step has begun, or cannot begin any more.
        """
        status = None
        if not isinstance(polled, PolysyncError):
            status = polled.status
        if callbacks.is_news(self.name, status, None):
            raise StepNewsError
        listed = list_steps_if_due(self.hook, waiter, progress, polled)
        if listed is None:
            return
        write_lines(self.log, listed.log_lines)
        if callbacks.is_news(self.name, status, listed.steps):
            raise StepNewsError

    def _clean_up(self, step: StepDescription | None) -> None:
        """
        Delete the message of the step that a try which died after its answer has left
        in the queue.
        """
        if step is None or self.is_first_try:
            return
        callback = callbacks.running_callback(step)
        if callback:
            CallbackResponder(self, callback).delete_messages()

    def _error_of(
        self, situation: CallbackStatus, step: StepDescription | None, status: str
    ) -> PolysyncError:
        where = f"\nExecution: {self.arn}"
        if situation is CallbackStatus.FAILED and step:
            reason = clean_text(step.failure_reason or "AWS returned no reason")
            return exceptions.CallbackStepError(
                f"Callback step {self.name} has already failed: {reason}\nThe function"
                " was not called. To run the step again, resume the execution, then"
                f" clear this task.{where}"
            )
        if situation is CallbackStatus.CANCELLED:
            return exceptions.PipelineExecutionCancelledFailError(
                f"The execution was stopped before callback step {self.name} was"
                f" answered (AWS status {status}).{where}",
                execution_arn=self.arn,
                status=status,
                permanent=True,
            )
        return exceptions.CallbackStepError(
            f"The execution has ended without callback step {self.name} (AWS status"
            f" {status}): a condition had another outcome, or a step before it"
            f" failed.{where}"
        )
