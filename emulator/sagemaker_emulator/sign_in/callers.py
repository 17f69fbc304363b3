"""
Identifies the caller of a request by the access key, and rejects credentials that are
not valid.

===================================  ===========================  ====================
credentials                          error of SageMaker           error of STS and IAM
                                     (HTTP 400)                   (HTTP 403)
===================================  ===========================  ====================
of a session that has expired        ExpiredTokenException        ExpiredToken
of a session, with a wrong session   UnrecognizedClientException  InvalidClientTokenId
token or none
a temporary key (``ASIA...``)        UnrecognizedClientException  InvalidClientTokenId
without session token
a user's key that is inactive        UnrecognizedClientException  InvalidClientTokenId
a user's key with a session token    UnrecognizedClientException  InvalidClientTokenId
===================================  ===========================  ====================

Every other key that neither STS nor IAM knows belongs to a session of the role
SageMakerRole, which may do everything, so that invented credentials work. This includes
temporary keys that the emulator did not issue and, after a reset, the keys of earlier
sessions. The emulator does not verify signatures, and does not check the credentials of
requests that moto handles. References:
https://docs.aws.amazon.com/STS/latest/APIReference/CommonErrors.html and
https://docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials_temp_use-resources.html
"""

from __future__ import annotations

from sagemaker_emulator.errors import ApiError
from sagemaker_emulator.protocol import AwsRequest
from sagemaker_emulator.sign_in import iam
from sagemaker_emulator.sign_in.iam import Caller
from sagemaker_emulator.sign_in.sessions import Sessions

_EXPIRED = "The security token included in the request is expired"
_INVALID = "The security token included in the request is invalid"


def identify(request: AwsRequest, sessions: Sessions) -> Caller | None:
    """
    Return the owner of the access key of a request, whose credentials may be invalid;
    None if the request is not signed.
    """
    if not request.access_key_id:
        return None
    session = sessions.find(request.access_key_id)
    if session is not None:
        return session.caller
    user = iam.user(request.access_key_id, request.region)
    if user is None:
        return iam.default_caller(request.region)
    caller, _ = user
    return caller


def authenticate(request: AwsRequest, sessions: Sessions) -> Caller:
    """
    Return the owner of the access key of a request to STS or IAM, and check the
    credentials.

    :param request: the request.
    :param sessions: the sessions that STS has issued.
    :raises ApiError: the request is not signed, or one of the errors in the table of
        this module.
    """
    caller = identify(request, sessions)
    if caller is None:
        raise ApiError(
            "MissingAuthenticationToken",
            "Request is missing Authentication Token",
            status=403,
        )
    check_credentials(request, sessions)
    return caller


def check_credentials(request: AwsRequest, sessions: Sessions) -> None:
    """
    Check the credentials of a signed request.

    :param request: the request.
    :param sessions: the sessions that STS has issued.
    :raises ApiError: one of the errors in the table of this module.
    """
    session = sessions.find(request.access_key_id)
    if session is not None:
        if request.session_token != session.token:
            raise _invalid_token_error(
                request, "the session token does not belong to the access key"
            )
        if sessions.has_expired(session):
            raise _expired_token_error(request)
        return
    user = iam.user(request.access_key_id, request.region)
    if user is not None:
        _, is_active = user
        if not is_active:
            raise _invalid_token_error(request, "the access key is inactive")
        if request.session_token:
            raise _invalid_token_error(
                request,
                "the access key of a user must be used without a session token",
            )
    if request.access_key_id.startswith("ASIA") and not request.session_token:
        raise _invalid_token_error(
            request, "a temporary access key must be used with its session token"
        )


def _invalid_token_error(request: AwsRequest, detail: str) -> ApiError:
    if request.protocol == "json":
        return ApiError("UnrecognizedClientException", f"{_INVALID}.", detail=detail)
    return ApiError("InvalidClientTokenId", _INVALID, 403, detail)


def _expired_token_error(request: AwsRequest) -> ApiError:
    if request.protocol == "json":
        return ApiError("ExpiredTokenException", _EXPIRED)
    return ApiError("ExpiredToken", _EXPIRED, 403)
