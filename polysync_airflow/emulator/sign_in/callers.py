"""The caller of a request: found by the access key, and refused if its credentials do not hold.

====================================================  ===========================  =====================
credentials                                           pipeline operations          STS
                                                      (HTTP 400)                   (HTTP 403)
====================================================  ===========================  =====================
of a session that has expired                         ExpiredTokenException        ExpiredToken
a session's key with another session token or none    UnrecognizedClientException  InvalidClientTokenId
a temporary key (``ASIA...``) without session token   UnrecognizedClientException  InvalidClientTokenId
a user's key that is inactive                         UnrecognizedClientException  InvalidClientTokenId
a user's key with a session token                     UnrecognizedClientException  InvalidClientTokenId
====================================================  ===========================  =====================

Any other key that neither STS nor IAM knows is the account's root, so that made-up credentials work; that
includes temporary keys of another origin and, after a reset, those of sessions that are forgotten. Signatures
are not checked, and neither is anything in requests that moto answers. References:
https://docs.aws.amazon.com/STS/latest/APIReference/CommonErrors.html and
https://docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials_temp_use-resources.html
"""

from __future__ import annotations

from polysync_airflow.emulator.errors import ApiError
from polysync_airflow.emulator.protocol import AwsRequest
from polysync_airflow.emulator.sign_in import iam
from polysync_airflow.emulator.sign_in.iam import Caller
from polysync_airflow.emulator.sign_in.sessions import Sessions

_EXPIRED = "The security token included in the request is expired"
_INVALID = "The security token included in the request is invalid"


def identify(request: AwsRequest, sessions: Sessions) -> Caller | None:
    """Return whose access key a request has, or None if it is not signed; nothing is checked."""
    if not request.access_key_id:
        return None
    session = sessions.find(request.access_key_id)
    if session is not None:
        return session.caller
    known = iam.user(request.access_key_id, request.region)
    return iam.root(request.region) if known is None else known[0]


def check_credentials(request: AwsRequest, sessions: Sessions) -> None:
    """Check the session token of a signed request.

    :raises ApiError: one of the errors in the table above.
    """
    session = sessions.find(request.access_key_id)
    if session is not None:
        if request.session_token != session.token:
            raise _refusal(request, "the session token is not the one that came with this access key")
        if sessions.ended(session):
            raise _expired(request)
        return
    known = iam.user(request.access_key_id, request.region)
    if known is not None and not known[1]:
        raise _refusal(request, "the access key is inactive")
    if known is not None and request.session_token:
        raise _refusal(request, "a user's own access key has no session token")
    if request.access_key_id.startswith("ASIA") and not request.session_token:
        raise _refusal(request, "a temporary access key needs its session token")


def _refusal(request: AwsRequest, detail: str) -> ApiError:
    if request.protocol == "json":
        return ApiError("UnrecognizedClientException", f"{_INVALID}.", detail=detail)
    return ApiError("InvalidClientTokenId", _INVALID, 403, detail)


def _expired(request: AwsRequest) -> ApiError:
    if request.protocol == "json":
        return ApiError("ExpiredTokenException", _EXPIRED)
    return ApiError("ExpiredToken", _EXPIRED, 403)
