"""Owns the answer to "this try has failed: is another one worth it, and when?"."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

from airflow.sdk import RetryDecision, RetryPolicy

from polysync_airflow.exceptions import ALIASES, ParametersError, PolysyncError, SageMakerApiError, hint_for

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator, Context


@dataclass(frozen=True, kw_only=True)
class PolysyncRetryPolicy(RetryPolicy):
    """
    Spend no retries on what trying again cannot cure, and wait long enough for what it can.

    What our operators use if ``retry_policy`` is not given to them, as an argument or in ``default_args``.
    It judges by the error's ``permanent`` and the table of hints. A foreign error, and an execution that
    failed, was cancelled or took too long, are left to the task's ``retries`` and ``retry_delay``.
    Airflow's side: https://airflow.apache.org/docs/apache-airflow/3.3.2/core-concepts/tasks.html and
    ``_handle_current_task_failed`` in airflow/sdk/execution_time/task_runner.py.

    :param retry_after: how long to wait after these AWS error codes, instead of what the table says. Codes
        named here are tried again even if the table says that it cannot cure them.
    :raises ParametersError: a value is not a timedelta of zero or more.
    """

    retry_after: Mapping[str, timedelta] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for code, delay in self.retry_after.items():
            if not isinstance(delay, timedelta) or delay < timedelta(0):
                raise ParametersError(
                    f"retry_after[{code!r}] = {delay!r} is not legal: give a timedelta of zero or more."
                )

    def evaluate(
        self,
        exception: BaseException,
        try_number: int,
        max_tries: int,
        context: Context | None = None,
    ) -> RetryDecision:
        """
        Decide after a failed try, in the task's own process.

        :param exception: what ended the try.
        :param try_number: which one it was, from 1.
        :param max_tries: how many retries the task has.
        :param context: the task's context; its task knows the delays that the DAG's author asks for.
        """
        if not isinstance(exception, PolysyncError):
            return RetryDecision.default()
        name = exception.error_code if isinstance(exception, SageMakerApiError) else type(exception).__name__
        asked = self._delay_after(exception)
        if asked is None and exception.permanent:
            return RetryDecision.fail(f"{name}: trying again cannot cure it")
        # After the last try, a word of the next one would be false.
        if asked is None or try_number > max_tries:
            return RetryDecision.default()
        task = cast("BaseOperator | None", context.get("task")) if context else None
        delay = _stretched(asked, task, try_number) if task else asked
        if delay is None:
            return RetryDecision.default()
        return RetryDecision.retry(delay, f"{name}: next try after {delay.total_seconds():.0f} s")

    def _delay_after(self, error: PolysyncError) -> timedelta | None:
        if not isinstance(error, SageMakerApiError):
            return None
        for code in (error.error_code, ALIASES.get(error.error_code, "")):
            if code in self.retry_after:
                return self.retry_after[code]
        return hint_for(error.error_code, error.operation).retry_delay

    def serialize(self) -> dict[str, Any]:
        """Return this policy as a JSON-able dict."""
        seconds = {code: delay.total_seconds() for code, delay in self.retry_after.items()}
        return {"__type": type(self).__name__, "retry_after": seconds}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> PolysyncRetryPolicy:
        """
        Make a policy of what ``serialize`` returned.

        :param data: the dict.
        """
        given = data["retry_after"].items()
        return cls(retry_after={code: timedelta(seconds=seconds) for code, seconds in given})


def _stretched(delay: timedelta, task: BaseOperator, try_number: int) -> timedelta | None:
    """Stretch a delay to the task's own; None if Airflow waits that long by itself."""
    # As ``next_retry_datetime`` in airflow/models/taskinstance.py, which spreads a backoff over once to
    # twice its length. True is Airflow 2's word for a factor of 2.
    factor = 2.0 if task.retry_exponential_backoff is True else task.retry_exponential_backoff or 1.0
    longest = cast("timedelta | None", task.max_retry_delay) or timedelta.max
    delay = min(delay, longest)
    if factor == 1:
        return delay if delay > task.retry_delay else None
    try:
        own = task.retry_delay * factor ** (try_number - 1)
    except OverflowError:
        return None
    return min(max(delay, 2 * own), longest) if own < delay else None
