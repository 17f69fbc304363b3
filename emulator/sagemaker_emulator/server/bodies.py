"""
Reads the bodies of requests, within limits of size and time, before anything else does.

AWS documents a limit for what a request has, and not for the whole: the longest text is
the definition of a pipeline
(https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreatePipeline.html,
1,048,576 characters, each of which takes up to six bytes in JSON). An object of S3 has
5 GB at most; clients send a large one in parts.
"""

from __future__ import annotations

import io
import time
from typing import TYPE_CHECKING, Final

from werkzeug.exceptions import HTTPException, RequestEntityTooLarge
from werkzeug.wrappers import Request

from sagemaker_emulator.errors import ApiError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

#: The longest body of a request, in bytes, and that of a request to S3.
MAX_BYTES: Final = 8 * 1024 * 1024
MAX_OBJECT_BYTES: Final = 64 * 1024 * 1024
#: In how many real seconds a whole request must arrive, and how long the server waits
#: for its next byte, or until the client takes the next part of the response.
SECONDS: Final = 60.0
WAIT_SECONDS: Final = 30.0
_FORM: Final = "application/x-www-form-urlencoded"


def read(request: Request, limit: int) -> ApiError | None:
    """
    Read the body of a request into memory, so that each reader gets it from there.

    :param request: the request. Afterwards, its WSGI environment has the body that was
        read, or an empty one if it is refused.
    :param limit: the greatest length, in bytes. Of a longer body, no more is kept.
    :return: why the body is refused; None if it is not.
    """
    # werkzeug cuts off what is longer, if the request does not tell its length.
    request.max_content_length = limit + 1
    body = b""
    error: ApiError | None = None
    try:
        body = request.get_data(cache=False)
        if len(body) > limit:
            raise RequestEntityTooLarge
    except RequestEntityTooLarge:
        body = b""
        error = ApiError(
            "RequestEntityTooLarge",
            f"The body of a request has at most {limit} bytes.",
            413,
        )
    except HTTPException:
        error = ApiError(
            "IncompleteBody",
            f"The body is malformed, or has not arrived within {SECONDS:g} seconds.",
        )
    if request.mimetype == _FORM and request.path == "/" and not _is_utf8(body):
        body = b""
        error = ApiError("MalformedQueryString", "The form is not in UTF-8.")
    environ = request.environ
    environ["wsgi.input"] = io.BytesIO(body)
    # It is no stream of chunks any more.
    for name in ("HTTP_TRANSFER_ENCODING", "wsgi.input_terminated"):
        environ.pop(name, None)
    if body or "CONTENT_LENGTH" in environ:
        environ["CONTENT_LENGTH"] = str(len(body))
    return error


def _is_utf8(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


class TimedInput(io.RawIOBase):
    """
    The bytes that a client sends, up to a time. A client that sends one byte after the
    other would hold its thread for days.

    :param connection: reads the connection.
    :param seconds: in how many seconds the whole request must arrive.
    """

    def __init__(self, connection: io.RawIOBase, seconds: float = SECONDS) -> None:
        self.connection = connection
        self._end = time.monotonic() + seconds

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: WriteableBuffer) -> int | None:
        """
        Read what has arrived.

        :raises TimeoutError: if it is too late.
        """
        if time.monotonic() > self._end:
            raise TimeoutError("the request has not arrived in time")
        return self.connection.readinto(buffer)

    def close(self) -> None:
        """Close the reader of the connection."""
        self.connection.close()
        super().close()
