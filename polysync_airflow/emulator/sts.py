"""STS's trust checks, which moto lacks: who may assume which role.

References: https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html and
https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html
"""

from __future__ import annotations

import base64
import binascii
import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from polysync_airflow.emulator.errors import ApiError
from polysync_airflow.emulator.moto_app import Moto
from polysync_airflow.emulator.store import ACCOUNT, partition
from polysync_airflow.emulator.trust import allows
from polysync_airflow.emulator.wire import AwsRequest

#: What the call log may show of an STS request.
LOGGED = ("RoleArn", "RoleSessionName", "DurationSeconds")


def check(request: AwsRequest, moto: Moto) -> None:
    """Check a request before moto answers it.

    :raises ApiError: AccessDenied or one of the errors about web identity tokens.
    """
    if request.operation == "AssumeRole":
        _check_assume_role(request, moto)
    elif request.operation == "AssumeRoleWithWebIdentity":
        # Real time: the token comes from an identity provider outside the emulator.
        _check_web_identity(request.form, request.region, moto, time.time())


def _check_assume_role(request: AwsRequest, moto: Moto) -> None:
    form, role_arn = request.form, request.form.get("RoleArn", "")
    caller = moto.caller(request.access_key_id, request.region)
    policy = moto.trust_policy(role_arn)
    context = {
        "sts:ExternalId": [form["ExternalId"]] if "ExternalId" in form else [],
        "sts:RoleSessionName": [form.get("RoleSessionName", "")],
        "aws:PrincipalArn": [caller.arn],
        "aws:PrincipalAccount": [caller.arn.split(":")[4]],
    }
    if policy is None or not allows(policy, "sts:AssumeRole", {"AWS": caller.names}, context):
        # AWS does not tell a missing role from one that does not let the caller in.
        raise ApiError(
            "AccessDenied",
            f"User: {caller.arn} is not authorized to perform: sts:AssumeRole on resource: {role_arn}",
            403,
        )


def _check_web_identity(form: Mapping[str, str], region: str, moto: Moto, now: float) -> None:
    claims = _claims(form.get("WebIdentityToken", ""))
    issuer = str(claims.get("iss", "")).removeprefix("https://")
    audiences = [claims["aud"]] if isinstance(claims.get("aud"), str) else list(claims.get("aud") or [])
    # Only the claims are checked; verifying the signature with the issuer's published keys is yet to come.
    expires = claims.get("exp")
    if not isinstance(expires, int | float) or isinstance(expires, bool):
        raise ApiError("InvalidIdentityToken", "Missing a required claim: exp")
    if expires <= now:
        when, end = (datetime.fromtimestamp(t, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") for t in (now, expires))
        text = f"Token expired: current date/time {when} must be before the expiration date/time {end}"
        raise ApiError("ExpiredTokenException", text)
    role_arn = form.get("RoleArn", "")
    account = role_arn.split(":")[4] if role_arn.count(":") >= 5 else ACCOUNT
    provider = f"arn:{partition(region)}:iam::{account}:oidc-provider/{issuer}"
    known = moto.oidc_audiences(provider)
    if known is None:
        text = f"No OpenIDConnect provider found in your account for https://{issuer}"
        raise ApiError("InvalidIdentityToken", text)
    if not set(known) & set(audiences):
        raise ApiError("InvalidIdentityToken", "Incorrect token audience")
    context = {
        f"{issuer}:aud": audiences,
        f"{issuer}:sub": [str(claims.get("sub", ""))],
        "sts:RoleSessionName": [form.get("RoleSessionName", "")],
    }
    policy = moto.trust_policy(role_arn)
    action = "sts:AssumeRoleWithWebIdentity"
    if policy is None or not allows(policy, action, {"Federated": [provider]}, context):
        raise ApiError("AccessDenied", f"Not authorized to perform {action}", 403)


def _claims(token: str) -> dict[str, Any]:
    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (IndexError, ValueError, binascii.Error) as error:
        raise _not_a_token() from error
    if not isinstance(claims, dict) or token.count(".") != 2:
        raise _not_a_token()
    return claims


def _not_a_token() -> ApiError:
    text = "The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)"
    return ApiError("InvalidIdentityToken", text)
