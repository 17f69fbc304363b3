"""
What an operator declares: its arguments, their options, and its buttons.

An operator has no state of a run: ``task_run.py`` has the base of the objects that run
tasks. Airflow parses DAG files all the time, and a run needs boto3. So an operator
imports its run in ``_run_in``, and nowhere else.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from functools import partial, wraps
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Final,
    Generic,
    NoReturn,
    Self,
    TypeVar,
    cast,
)

from pydantic import Field

from polysync_airflow import get_provider_info, links, retrying
from polysync_airflow.airflow_compat import sdk, supervisor, teams
from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.execution import models, outcome
from polysync_airflow.execution.lifecycle.options import (
    OnCompletedWithFailures,
    RecoveryOptions,
)
from polysync_airflow.execution.parameters import Flag, Options, Seconds, seconds

if TYPE_CHECKING:
    from airflow.sdk import Context

Options_co = TypeVar("Options_co", bound=Options, covariant=True)
Method = TypeVar("Method", bound=Callable[..., Any])

DEFAULT_CONNECTION: Final = get_provider_info.DEFAULT_CONNECTION
DEFAULT_POLL_INTERVAL: Final = 30.0
DEFAULT_TIMEOUT: Final = 7 * 24 * 3600.0
MAX_TIMEOUT: Final = 10 * 365 * 24 * 3600.0
DEFAULT_PROGRESS_INTERVAL: Final = 60.0
MAX_FILES: Final = 50
FileName = Annotated[str, Field(min_length=1, max_length=256)]
DEFAULT_DEFERRABLE: Final = sdk.conf.getboolean(
    "operators", "default_deferrable", fallback=False
)
# The retry policy is not asked about these: a rescheduled sensor has not failed.
_NO_FAILURES: Final = (
    sdk.AirflowFailException,
    sdk.AirflowRescheduleException,
    sdk.AirflowSkipException,
)


class PolysyncOperator(sdk.BaseOperator):
    """
    Base of all operators: the retry policy.

    :param retry_policy: decides whether a failed try is followed by another one.
        Default: ``PolysyncRetryPolicy``.
    """

    def __init__(
        self, *, retry_policy: sdk.RetryPolicy | None = None, **kwargs: Any
    ) -> None:
        if CAPABILITIES.retry_policy:
            kwargs["retry_policy"] = retry_policy
        super().__init__(**kwargs)
        self.retry_policy = retry_policy or retrying.PolysyncRetryPolicy()

    def execute_failed(self, context: Context, event: Mapping[str, Any]) -> NoReturn:
        """
        Fail a task that has failed for good in the triggerer, without its retries.

        :raises AirflowFailException: always, with the text of the error.
        """
        raise sdk.AirflowFailException(event["error"])


# The arguments of a task that Airflow heeds on workers only. See
# ``docs/reference/sensors.md``.
ON_WORKERS_ONLY: Final = (
    "on_execute_callback",
    "on_success_callback",
    "on_skipped_callback",
    "email",
    "outlets",
    "_pre_execute_hook",
    "_post_execute_hook",
    "execution_timeout",
)


def apply_retry_policy(method: Method) -> Method:
    """
    Decorate a method that Airflow calls to run a task: the task's retry policy decides
    about retries, once for each failure.

    From Airflow 3.3 on, Airflow itself asks the policy. Before, an error that must not
    be retried becomes the cause of an ``AirflowFailException``. On Airflow 2, a process
    whose try was replaced reports nothing.

    :param method: a method of ``PolysyncOperator`` whose first argument is the context.
    """
    if CAPABILITIES.retry_policy:

        @wraps(method)
        def run_memoized(task: PolysyncOperator, *args: Any, **kwargs: Any) -> Any:
            retrying.memoize_retry_policy(task)
            return method(task, *args, **kwargs)

        return cast("Method", run_memoized)

    @wraps(method)
    def run(task: PolysyncOperator, context: Context, *args: Any, **kwargs: Any) -> Any:
        retrying.memoize_retry_policy(task)
        leave_if_replaced = partial(
            supervisor.exit_if_replaced, context["ti"], task.log.warning
        )
        leave_if_replaced()
        try:
            result = method(task, context, *args, **kwargs)
        except Exception as error:
            leave_if_replaced()
            if isinstance(error, _NO_FAILURES):
                raise
            if not retrying.forbids_retry(task.retry_policy, error, context):
                raise
            raise sdk.AirflowFailException(
                f"{type(error).__name__}: {error}"
            ) from error
        leave_if_replaced()
        return result

    return cast("Method", run)


class LimitOptions(Options):
    """The options that each wait has."""

    deferrable: Flag
    timeout: Annotated[Seconds, seconds(1, MAX_TIMEOUT)]

    @property
    @abstractmethod
    def poll_seconds(self) -> float:
        """Seconds between two polls."""


class PollOptions(LimitOptions):
    """The options of a wait that polls at an interval of its own."""

    poll_interval: Annotated[
        Seconds, seconds(models.MIN_POLL_INTERVAL, models.MAX_POLL_INTERVAL)
    ]

    @property
    def poll_seconds(self) -> float:
        """Seconds between two polls."""
        return self.poll_interval


class WaitOptions(PollOptions):
    """The options of a wait for the end of an execution."""

    wait_for_completion: Flag


class TryOptions(RecoveryOptions):
    """The options of the start and the recovery of an execution."""

    validate_parameters: Flag
    wait_for_completion: Flag
    wait_for_capacity: Flag


class ReportOptions(LimitOptions):
    """The options of the report of an execution's end."""

    on_completed_with_failures: OnCompletedWithFailures
    on_cancelled: outcome.OnCancelled
    progress_interval: Annotated[
        Seconds | None,
        seconds(models.MIN_PROGRESS_INTERVAL, models.MAX_POLL_INTERVAL),
    ]
    property_files: Annotated[
        Annotated[bool, Field(strict=True)]
        | Annotated[tuple[FileName, ...], Field(max_length=MAX_FILES)],
        Field(
            description=(
                f"give True, False, or a list of at most {MAX_FILES} names of property"
                " files"
            )
        ),
    ]


class ValidatedOptions(Generic[Options_co]):
    """The options of an operator, validated whenever they are read."""

    def __init__(self, model: type[Options_co]) -> None:
        self._model = model

    def __get__(self, operator: Any, owner: type) -> Options_co:
        if operator is None:
            return cast("Options_co", self)
        return self._model.of(operator.attributes(self._model.model_fields))


class WaitingOperator(PolysyncOperator):
    """Base of what waits for AWS: arguments, connection, and limit."""

    polysync_conn_id: str
    region_name: str | None
    options: ValidatedOptions[LimitOptions]

    def attributes(self, names: Iterable[str]) -> dict[str, Any]:
        """
        Return arguments as they are now: Airflow renders them, and a cluster policy may
        change them.
        """
        return {name: getattr(self, name) for name in names}

    def _check_options(self) -> None:
        """
        Check the options, at the end of the constructor: all are attributes by then.

        :raises ParametersError: one is not valid.
        """
        if self.options.deferrable:
            # The triggerer needs the connection.
            teams.warn_of_hidden_connection(self.polysync_conn_id)


class ExecutionOperator(WaitingOperator):
    """
    Base of what waits for the end of an execution.

    The task waits on the worker or defers to a trigger. Both modes end in the same
    method of its run.
    """

    def prepare_for_execution(self) -> Self:
        """
        Return the copy that Airflow executes. A button is added when its URL is known.
        """
        task = super().prepare_for_execution()
        task.operator_extra_links = [
            link
            for link in task.operator_extra_links
            if not isinstance(link, links.UrlLink)
        ]
        return task


class ReportingOperator(ExecutionOperator):
    """Base of the Start operator and of the sensor: what reports an execution's end."""

    operator_extra_links = (*links.EXECUTION_LINKS, links.PolysyncFailedStepLogLink())
    ui_color = "#e5f1ff"
    options: ValidatedOptions[ReportOptions]
    # The argument of a start.
    mlflow_experiment_name: str | None = None
