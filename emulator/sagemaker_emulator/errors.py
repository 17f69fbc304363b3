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


def quota_exceeded(resource: str, unit: str, quota: int, used: int) -> ApiError:
    """
    Return the error of a request that exceeds a quota of an account, in the words in
    which AWS refuses instances. There is no public text of pipelines and executions.

    :param resource: what is counted, as the name of the quota has it.
    :param unit: the same, as the numbers have it.
    :param quota: how many an account may have in a region.
    :param used: how many it has.
    """
    return ApiError(
        "ResourceLimitExceeded",
        f"The account-level service limit 'Maximum number of {resource} allowed per"
        f" account' is {quota} {unit}, with current utilization of {used} {unit} and a"
        f" request delta of 1 {unit}. Please use AWS Service Quotas to request an"
        " increase for this quota. If AWS Service Quotas is not available, contact AWS"
        " support to request an increase for this quota.",
    )
