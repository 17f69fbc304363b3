"""
The error classes of the provider, and the table that says what each AWS error code
means and how to fix it.

::

    PolysyncError
     ├─ CredentialsError        the connection is missing, incomplete or cannot sign in
     ├─ ParametersError         an argument is not valid; nothing was started
     ├─ SageMakerApiError       AWS returned an error, or no response
     ├─ CatalogueError          a catalogue file cannot be read, used or written
     ├─ CatalogueDriftError     pipelines differ from the jobs of a catalogue file
     ├─ TriggerEventError       a deferred task got an event of another form
     ├─ StoredRecordError       the record of the earlier tries is damaged
     ├─ ModelApprovalError      a model package is not approved, and will not be
     │   └─ ModelRejectedError  somebody rejected it
     ├─ CallbackStepError       a callback step was failed, or cannot be answered
     └─ PipelineExecutionError  the execution ended so that the task fails
         ├─ PipelineExecutionFailedError
         ├─ PipelineExecutionCancelledError
         ├─ PipelineExecutionTimeoutError
         └─ PipelineExecutionNotFoundError

Every error has two attributes that decide about retries. A *permanent* error is one
where trying again cannot succeed. A *transient* error is one where the same call may
succeed within moments. An error that is neither may be cured by time, for example when
an expired session token is replaced. No error is both.
"""

from __future__ import annotations

import copyreg
import json
import sys
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

# The pure core and its tests do not need Airflow. Where it is installed, the errors are
# Airflow's as well: DAG authors catch them so, and Airflow 2.11 lets a task whose state
# somebody has set meanwhile keep it only after an AirflowException.
try:
    from airflow.providers.common.compat.sdk import (
        AirflowException,
        AirflowFailException,
    )
except ImportError:
    if sys.modules.get("airflow"):
        # Airflow is installed, but cannot be used.
        raise
    AirflowException = Exception  # type: ignore[assignment, misc]
    AirflowFailException = Exception  # type: ignore[assignment, misc]

# The error codes that decide what the provider does, as SageMaker spells them.
ACCESS_DENIED: Final = "AccessDeniedException"
CONFLICT: Final = "ConflictException"
# AWS reports a conflict while an execution moves between two steps. For how long the
# request is repeated, in seconds: a conflict that lasts has another cause.
CONFLICT_SECONDS: Final = 60.0
# As botocore names its error for an endpoint that cannot be reached.
NO_CONNECTION: Final = "EndpointConnectionError"
# As botocore names its error for a list that does not end.
PAGINATION: Final = "PaginationError"
RESPONSE_TOO_LARGE: Final = "ResponseTooLargeError"
# Of AWS's form, with a member that is missing or not valid.
INVALID_RESPONSE: Final = "InvalidResponse"
RESOURCE_LIMIT: Final = "ResourceLimitExceeded"
RESOURCE_NOT_FOUND: Final = "ResourceNotFound"
# Not a code of AWS: the resource is in another account than the connection.
OTHER_ACCOUNT: Final = "OtherAccount"
THROTTLING: Final = "ThrottlingException"
VALIDATION: Final = "ValidationException"

# What stands between AWS's words and the cure in the text of an error.
BEFORE_CURE: Final = " -- What to do: "


class PolysyncError(AirflowException):
    """
    Base class of all errors that this provider raises.

    :param message: what happened, to which field or resource, and what to do.
    :param permanent: True if trying again cannot succeed. A wait then ends, and the
        task uses no retries.
    :param transient: True if the same call may succeed within moments. It is then
        repeated before the task's try fails. Ignored if ``permanent`` is True.
    """

    def __init__(
        self, message: str, *, permanent: bool = True, transient: bool = False
    ) -> None:
        super().__init__(message)
        self.permanent = permanent
        self.transient = transient and not permanent

    def __reduce__(self) -> tuple[Any, ...]:
        # Pickle would call the class with the message alone, and most classes need
        # more.
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]


class CredentialsError(PolysyncError):
    """
    Raised when the connection does not exist, is incomplete, or cannot sign in to AWS.
    """

    # Not an argument: a wait sets it if the connection was deleted meanwhile.
    error_code: str | None = None


class ParametersError(PolysyncError):
    """
    Raised when arguments are not valid, before anything is started in AWS. The message
    lists them all.
    """


class CatalogueError(PolysyncError):
    """Raised when a catalogue file of imported jobs cannot be read, used or written."""


class CatalogueDriftError(PolysyncError):
    """
    Raised when pipelines differ from the jobs of a catalogue file. Permanent: people
    must review it.
    """


class TriggerEventError(PolysyncError):
    """
    Raised when Airflow resumes a deferred task with an event that is not one of this
    provider's trigger.

    Not permanent, because the next try defers with a new trigger.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message, permanent=False)


class StoredRecordError(PolysyncError):
    """
    Raised when the record of the execution that earlier tries stored cannot be
    believed. Nothing was started.

    :param problem: what is wrong with the record, as a sentence.
    :param record: what it says, if it has the form of a record, and this deployment may
        have written it; None otherwise.
    :param deployment: the deployment that it names; None if it cannot be read.
    """

    def __init__(
        self,
        message: str,
        *,
        problem: str = "",
        record: Any = None,
        deployment: str | None = None,
    ) -> None:
        super().__init__(message)
        self.problem = problem
        self.record = record
        self.deployment = deployment


class ModelApprovalError(PolysyncError):
    """
    Raised when a model package is not approved, and waiting longer does not help.

    :param model_package_arn: the model package; None if its group has none.
    :param permanent: False if a retry may find another model package.
    """

    def __init__(
        self, message: str, *, model_package_arn: str | None, permanent: bool = True
    ) -> None:
        super().__init__(message, permanent=permanent)
        self.model_package_arn = model_package_arn


class ModelRejectedError(ModelApprovalError, AirflowFailException):
    """
    Raised when somebody rejected the model package. The task fails without using its
    retries.
    """


class CallbackStepError(PolysyncError):
    """
    Raised when a callback step was failed, or cannot be answered.

    Permanent, because an answer is final, unless a retry may find the message of the
    step.
    """


class SageMakerApiError(PolysyncError):
    """
    Raised when a call to AWS fails.

    :param error_code: AWS's error code (``AccessDeniedException``), or the class name
        of botocore's exception if there was no response (``EndpointConnectionError``).
    :param operation: the API operation, as AWS names it (``StartPipelineExecution``).
    :param permanent: True if trying again cannot succeed; False for example for
        throttling, network errors and expired credentials.
    :param transient: True if the same call may succeed within moments: throttling, a
        conflict, HTTP 429 or 5xx, no response.
    """

    def __init__(
        self,
        message: str,
        *,
        error_code: str,
        operation: str,
        permanent: bool,
        transient: bool = False,
    ) -> None:
        super().__init__(message, permanent=permanent, transient=transient)
        self.error_code = error_code
        # The code to compare with: other services, and older protocols, have other
        # names for the same.
        self.canonical_code = ALIASES.get(error_code, error_code)
        self.operation = operation

    def with_message(self, message: str) -> SageMakerApiError:
        """Return the same error with another message."""
        error = copy(self)
        error.args = (message,)
        return error

    def as_transient(self) -> SageMakerApiError:
        """Return the same error, of a call that may succeed within moments."""
        error = copy(self)
        error.permanent = False
        error.transient = True
        return error


class PipelineExecutionError(PolysyncError):
    """
    Raised when the execution ended so that the task fails.

    :param execution_arn: the execution; None if none was found.
    :param status: AWS's last known status of the execution; None if no poll succeeded.
    :param permanent: False if a retry may succeed, because it can start another
        execution; True if the task is about this execution only.
    """

    def __init__(
        self,
        message: str,
        *,
        execution_arn: str | None,
        status: str | None,
        permanent: bool = False,
    ) -> None:
        super().__init__(message, permanent=permanent)
        self.execution_arn = execution_arn
        self.status = status


class PipelineExecutionFailedError(PipelineExecutionError):
    """
    Raised when the execution ended as Failed or CompletedWithFailures. The message
    names failed steps.
    """


class PipelineExecutionCancelledError(PipelineExecutionError):
    """Raised when somebody stopped the execution."""


class PipelineExecutionCancelledFailError(
    PipelineExecutionCancelledError, AirflowFailException
):
    """
    Raised when somebody stopped the execution and the task must fail without using its
    retries.
    """


class PipelineExecutionTimeoutError(PipelineExecutionError):
    """
    Raised when the execution did not end before the task's timeout. Permanent for a
    sensor.
    """


class PipelineExecutionTooExpensiveError(PipelineExecutionError, AirflowFailException):
    """
    Raised when the executions of a task have cost what ``max_cost`` allows. The task
    fails without using its retries.

    :ivar spending: what was spent, a ``Spending``.
    """

    spending: Any = None


class PipelineExecutionNotFoundError(PipelineExecutionError):
    """
    Raised by a sensor when no execution that it looks for was created in its window of
    time.
    """


@dataclass(frozen=True, slots=True)
class Hint:
    """
    What an AWS error code means. ``error_hints.json`` has them.

    :param cure: what to do. A format string with the fields ``{permission}``,
        ``{resource}``, ``{region}``, ``{subject}`` and ``{parameter}``.
    :param permanent: True if trying again cannot succeed.
    :param transient: True if the same call may succeed within moments.
    """

    cure: str
    permanent: bool
    transient: bool = False


# Codes: https://docs.aws.amazon.com/sagemaker/latest/APIReference/CommonErrors.html,
# each operation's own page, and
# https://docs.aws.amazon.com/STS/latest/APIReference/CommonErrors.html.
_TABLES: Final = json.loads(Path(__file__).with_name("error_hints.json").read_bytes())
HINTS: Final = {code: Hint(**hint) for code, hint in _TABLES["codes"].items()}
# Error codes that mean something else, or more, in one operation: by operation and
# code.
OPERATION_HINTS: Final = {
    (operation, code): Hint(**hint)
    for operation, by_code in _TABLES["operations"].items()
    for code, hint in by_code.items()
}
# Error codes with the same meaning, as other AWS services and older protocols spell
# them.
ALIASES: Final[dict[str, str]] = _TABLES["aliases"]
# What to do about the errors of Entra ID:
# https://learn.microsoft.com/entra/identity-platform/reference-error-codes
ENTRA_CURES: Final[dict[str, str]] = _TABLES["entra"]

# By which texts the reason of a failure says that AWS has no capacity (``signs``), or
# will never have it (``hopeless``).
CAPACITY_TEXTS: Final[dict[str, list[str]]] = _TABLES["capacity"]

# The hint for all other errors: the network, HTTP 5xx, or a code that AWS added later.
# Not permanent, so that a wait goes on.
UNKNOWN_HINT: Final = Hint("", permanent=False)


def has_code(error: object, *codes: str) -> bool:
    """
    Return whether an error is one of AWS with one of these codes.

    :param codes: the codes, as SageMaker spells them.
    """
    return isinstance(error, SageMakerApiError) and error.canonical_code in codes


def is_throttling(error: object) -> bool:
    """Return whether an error says that AWS throttled a call."""
    return has_code(error, THROTTLING)


def hint_for(error_code: str, operation: str = "") -> Hint:
    """
    Return the hint for an AWS error code, ``UNKNOWN_HINT`` if there is none.

    :param error_code: AWS's error code, in any spelling that is in ``ALIASES``.
    :param operation: the API operation; in some operations, a code has another meaning.
    """
    hint = HINTS.get(ALIASES.get(error_code, error_code), UNKNOWN_HINT)
    return OPERATION_HINTS.get((operation, error_code), hint)
