"""The errors of the AWS API."""

from __future__ import annotations


class ApiError(Exception):
    """
    Raised when the emulator responds to a request with an AWS error.

    :param code: the AWS error code, such as ``ValidationException``.
    :param message: the error message.
    :param status: the HTTP status.
    :param detail: a reason that AWS does not include in its response. Only the call log
        shows it. It must not contain a secret.
    """

    def __init__(
        self, code: str, message: str, status: int = 400, detail: str | None = None
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status
        self.detail = detail


def invalid(message: str) -> ApiError:
    """Return a ValidationException."""
    return ApiError("ValidationException", message)


def conflict(message: str) -> ApiError:
    """Return a ConflictException."""
    return ApiError("ConflictException", message)


def not_found(message: str) -> ApiError:
    """Return a ResourceNotFound error."""
    return ApiError("ResourceNotFound", message)


def too_many_executions(quota: int, running: int) -> ApiError:
    """
    Return the error of a start that exceeds the quota of executions, in the words in
    which AWS refuses instances.

    :param quota: how many executions of an account may run at once in a region.
    :param running: how many run.
    """
    return ApiError(
        "ResourceLimitExceeded",
        "The account-level service limit 'Maximum number of concurrent pipeline"
        f" executions allowed per account' is {quota} Executions, with current"
        f" utilization of {running} Executions and a request delta of 1 Executions."
        " Please use AWS Service Quotas to request an increase for this quota. If AWS"
        " Service Quotas is not available, contact AWS support to request an increase"
        " for this quota.",
    )
