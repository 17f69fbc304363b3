"""An error answer of the AWS API."""

from __future__ import annotations


class ApiError(Exception):
    """What a client gets instead of an answer.

    :param code: AWS's error code, such as ``ValidationException``.
    :param message: the text for people.
    :param status: HTTP status.
    """

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status


def invalid(message: str) -> ApiError:
    """Return a ValidationException."""
    return ApiError("ValidationException", message)


def conflict(message: str) -> ApiError:
    """Return a ConflictException."""
    return ApiError("ConflictException", message)


def not_found(message: str) -> ApiError:
    """Return a ResourceNotFound."""
    return ApiError("ResourceNotFound", message)
