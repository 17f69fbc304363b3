"""
Owns the error tree and the table of hints: what each refusal means and how to cure it.

::

    PolysyncError
     ├─ CredentialsError                    the connection is missing, incomplete or cannot sign in
     ├─ ParametersError                     an argument is not legal; nothing was started
     ├─ SageMakerApiError                   AWS answered with an error, or did not answer
     ├─ TriggerEventError                   what came back from the triggerer is not an event of ours
     ├─ StoredRecordError                   what earlier tries stored about their execution is damaged
     └─ PipelineExecutionError              the execution did not do what the task was for
         ├─ PipelineExecutionFailedError
         ├─ PipelineExecutionCancelledError
         └─ PipelineExecutionTimeoutError
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from airflow.sdk.exceptions import AirflowException, AirflowFailException


class PolysyncError(AirflowException):
    """
    Base of every error this provider raises.

    :param message: what happened, to which field or resource, and what to do about it.
    :param permanent: True if trying the same again cannot succeed: a wait ends rather than goes on, and the
        task's retries are not spent on it.
    :param transient: True if the very same call may well succeed in a moment, so that it is worth repeating
        before the task's try is given up. What lasts does not pass.
    """

    def __init__(self, message: str, *, permanent: bool = True, transient: bool = False) -> None:
        super().__init__(message)
        self.permanent = permanent
        self.transient = transient and not permanent


class CredentialsError(PolysyncError):
    """The connection does not exist, is incomplete, or does not yield AWS credentials."""


class ParametersError(PolysyncError):
    """One or more arguments are not legal. Raised before anything is started in AWS; names them all."""


class TriggerEventError(PolysyncError):
    """
    The event that resumed a deferred task does not have the shape that our trigger sends.

    Not permanent, since the next try sends a new trigger.

    :param message: what is wrong with it.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message, permanent=False)


class StoredRecordError(PolysyncError):
    """What earlier tries stored about their execution is damaged. Nothing was started; says how to go on."""


class SageMakerApiError(PolysyncError):
    """
    An AWS call failed.

    :param message: AWS's own words and the cure.
    :param error_code: AWS's error code (``AccessDeniedException``), or the botocore exception's class name
        where no answer came (``EndpointConnectionError``).
    :param operation: the API operation as AWS names it (``StartPipelineExecution``).
    :param permanent: False where time may cure it (throttling, network, expired credentials).
    :param transient: True where moments may cure it (throttling, a conflict, HTTP 429 or 5xx, no answer).
    """

    def __init__(
        self, message: str, *, error_code: str, operation: str, permanent: bool, transient: bool = False
    ) -> None:
        super().__init__(message, permanent=permanent, transient=transient)
        self.error_code = error_code
        self.operation = operation


class PipelineExecutionError(PolysyncError):
    """
    The execution ended, or was given up on, in a way that fails the task.

    :param message: the outcome with its reasons.
    :param execution_arn: the execution.
    :param status: AWS's last known status, None if it was never seen.
    :param permanent: False, since another execution may do better; True where the task is bound to this one.
    """

    def __init__(
        self, message: str, *, execution_arn: str, status: str | None, permanent: bool = False
    ) -> None:
        super().__init__(message, permanent=permanent)
        self.execution_arn = execution_arn
        self.status = status


class PipelineExecutionFailedError(PipelineExecutionError):
    """The execution ended as Failed or CompletedWithFailures; the message has the failed steps' reasons."""


class PipelineExecutionCancelledError(PipelineExecutionError):
    """The execution was stopped by somebody."""


class PipelineExecutionCancelledFailError(PipelineExecutionCancelledError, AirflowFailException):
    """The execution was stopped by somebody, and the task must fail without using its retries."""


class PipelineExecutionTimeoutError(PipelineExecutionError):
    """The execution had not ended when the task's time was up."""


@dataclass(frozen=True, slots=True)
class Hint:
    """
    What an AWS error code means here.

    :param cure: what to do; may use ``{permission}``, ``{resource}``, ``{region}`` and ``{subject}``.
    :param permanent: True if waiting cannot cure it.
    :param transient: True if moments may cure it.
    :param retry_delay: how long the task's next try should wait at least; None: as its author says.
    """

    cure: str
    permanent: bool
    transient: bool = False
    retry_delay: timedelta | None = None


# Codes: https://docs.aws.amazon.com/sagemaker/latest/APIReference/CommonErrors.html, each operation's own
# page, and https://docs.aws.amazon.com/STS/latest/APIReference/CommonErrors.html.
HINTS: Final[dict[str, Hint]] = {
    "AccessDeniedException": Hint(
        "Allow {permission} on {resource} in the identity's IAM policy, and look for an explicit Deny or a "
        "service control policy.",
        permanent=True,
    ),
    "ResourceNotFound": Hint(
        "There is no {subject} in region {region} for this account: check the name's spelling, the region, "
        "and that the connection signs in to the account that owns it.",
        permanent=True,
    ),
    "ValidationException": Hint(
        "AWS refused the request's content{parameter}: check the task's arguments, and a start's parameters "
        "against the pipeline's definition.",
        permanent=True,
    ),
    "ResourceLimitExceeded": Hint(
        "An account quota is used up: wait for other executions to end, or ask for more under Service Quotas "
        "(Amazon SageMaker) in region {region}.",
        permanent=False,
        # Executions take minutes to hours, and a quota is free again when one ends.
        retry_delay=timedelta(minutes=10),
    ),
    "ThrottlingException": Hint(
        "The account's API rate in region {region} is used up: raise poll_interval, or spread the tasks.",
        permanent=False,
        transient=True,
        # The rate is per second; botocore's own repeats have been refused for seconds before.
        retry_delay=timedelta(minutes=1),
    ),
    "ConflictException": Hint(
        "Another change of {subject} is under way: try again in a moment.",
        permanent=False,
        transient=True,
    ),
    "ExpiredTokenException": Hint(
        "The session token has expired: put fresh temporary keys into the connection, or use keys that do "
        "not expire.",
        permanent=False,
    ),
    "UnrecognizedClientException": Hint(
        "AWS does not know the access key: it was deleted, deactivated, or lacks its session token. Check "
        "the connection's access key ID and session token.",
        permanent=True,
    ),
    "InvalidSignatureException": Hint(
        "The secret access key does not belong to the access key ID, or this host's clock is wrong.",
        permanent=True,
    ),
    "InvalidIdentityToken": Hint(
        "AWS could not accept the web identity token: the role's account needs an IAM OIDC provider for the "
        "token's issuer, and the token's audience must be among that provider's.",
        permanent=True,
    ),
    "ParamValidationError": Hint(
        "The request does not fit the API: check the types of the arguments.",
        permanent=True,
    ),
}

_ILLEGAL_SESSION: Final = Hint(
    "Compare duration_seconds with the role's maximum session duration, and role_arn with the role.",
    permanent=True,
)
# What a code means when STS is asked for a role's credentials, by operation.
SIGN_IN_HINTS: Final[dict[tuple[str, str], Hint]] = {
    ("AssumeRoleWithWebIdentity", "InvalidIdentityToken"): Hint(
        "The role's account needs an IAM OIDC provider for the token's issuer, with the token's audience "
        "among its own; AWS must reach the issuer's published keys; and a token from the future means that a "
        "clock is wrong.",
        permanent=True,
    ),
    ("AssumeRoleWithWebIdentity", "AccessDenied"): Hint(
        "The role does not exist, or its trust policy does not let this token in: compare the policy's "
        "Federated principal with the token's issuer, and its conditions with audience and subject.",
        permanent=True,
    ),
    ("AssumeRoleWithWebIdentity", "ExpiredTokenException"): Hint(
        "AWS finds the identity provider's token expired: if it was just issued, this host's clock or the "
        "provider's is wrong; if it lies in a file, the platform has stopped to renew it.",
        permanent=False,
    ),
    ("AssumeRoleWithWebIdentity", "IDPCommunicationError"): Hint(
        "AWS could not reach the identity provider for its keys: try again.",
        permanent=False,
        transient=True,
    ),
    ("AssumeRole", "AccessDenied"): Hint(
        "The role does not exist, its trust policy does not let this identity in (with this external id), or "
        "the identity lacks {permission} on {resource}.",
        permanent=True,
    ),
    ("AssumeRole", "ValidationError"): _ILLEGAL_SESSION,
    ("AssumeRoleWithWebIdentity", "ValidationError"): _ILLEGAL_SESSION,
}

# The same refusal under the names that other AWS services and older protocols give it.
ALIASES: Final[dict[str, str]] = {
    "AccessDenied": "AccessDeniedException",
    "ExpiredToken": "ExpiredTokenException",
    "InvalidClientTokenId": "UnrecognizedClientException",
    "RequestLimitExceeded": "ThrottlingException",
    "ResourceNotFoundException": "ResourceNotFound",
    "SignatureDoesNotMatch": "InvalidSignatureException",
    "Throttling": "ThrottlingException",
    "TooManyRequestsException": "ThrottlingException",
    "ValidationError": "ValidationException",
}

CURE_WITH_ROLE: Final = " The start names a role, so iam:PassRole on {role} is needed as well."

# No hint of ours: the network, a 5xx, or a code AWS added later. Time may cure it; a wait goes on.
UNKNOWN_HINT: Final = Hint("", permanent=False)


def is_throttling(error: BaseException) -> bool:
    """
    Tell whether AWS refused a call for coming too soon after others.

    :param error: what was raised.
    """
    throttling = HINTS["ThrottlingException"]
    return isinstance(error, SageMakerApiError) and hint_for(error.error_code) is throttling


def hint_for(error_code: str, operation: str = "") -> Hint:
    """
    Look up what an AWS error code means.

    :param error_code: AWS's error code, in any of the spellings its services use.
    :param operation: the operation, where the code means something else there.
    """
    special = SIGN_IN_HINTS.get((operation, error_code))
    if special:
        return special
    return HINTS.get(ALIASES.get(error_code, error_code), UNKNOWN_HINT)
