"""An error answer of the AWS API."""

from __future__ import annotations


class ApiError(Exception):
    """What a client gets instead of an answer.

    :param code: AWS's error code, such as ``ValidationException``.
    :param message: the text for people.
    :param status: HTTP status.
    :param detail: what AWS does not tell the client; the call log shows it. Never a secret.
    """

    def __init__(self, code: str, message: str, status: int = 400, detail: str | None = None) -> None:
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
    """Return a ResourceNotFound."""
    return ApiError("ResourceNotFound", message)
