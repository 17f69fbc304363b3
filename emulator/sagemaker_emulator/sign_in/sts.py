"""
The emulated STS operations, which issue credentials and report the caller.

The emulator handles AssumeRole, AssumeRoleWithWebIdentity, GetSessionToken and
GetCallerIdentity. moto handles the other operations; credentials that moto issues never
expire and belong to the default role. References:
https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html,
https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html
and
https://docs.aws.amazon.com/STS/latest/APIReference/API_GetSessionToken.html
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sagemaker_emulator.errors import ApiError
from sagemaker_emulator.protocol import AwsRequest
from sagemaker_emulator.sign_in import callers, iam, web_identity
from sagemaker_emulator.sign_in.authorization import decide
from sagemaker_emulator.sign_in.iam import Caller, Role
from sagemaker_emulator.sign_in.issuers import Issuers
from sagemaker_emulator.sign_in.policies import Decision, Policy, trusts
from sagemaker_emulator.sign_in.sessions import Session, Sessions
from sagemaker_emulator.sign_in.settings import SignInSettings

#: The members of an STS request that the call log contains. None of them is a secret.
LOGGED_MEMBERS = ("RoleArn", "RoleSessionName", "DurationSeconds")

_WITH_WEB_IDENTITY = "AssumeRoleWithWebIdentity"
_SESSION_NAME = re.compile(r"[\w+=,.@-]{2,64}", re.ASCII)
_MAX_CHAINED_SECONDS = 3600
_MIN_SECONDS = 900
_DURATION_DIGITS = 18


@dataclass(frozen=True)
class StsResult:
    """
    The result of an STS operation.

    :param result: the members of the response.
    :param issued: the access key id of the issued credentials, if any.
    """

    result: dict[str, Any]
    issued: str | None = None


class Sts:
    """
    Handles the STS operations that are emulated.

    :param sessions: the sessions that STS has issued.
    :param issuers: verifies the signatures of web identity tokens.
    :param settings: the sign-in settings.
    """

    def __init__(
        self, sessions: Sessions, issuers: Issuers, settings: SignInSettings
    ) -> None:
        self.sessions = sessions
        self.settings = settings
        self._issuers = issuers

    def handle(self, request: AwsRequest) -> StsResult | None:
        """
        Handle a request.

        :param request: the request.
        :return: the result, or None if moto must handle the request.
        :raises ApiError: if AWS would respond with an error.
        """
        if request.operation == _WITH_WEB_IDENTITY:
            # This request is not signed: the token is the credential.
            return self._assume_role_with_web_identity(request)
        if request.operation.startswith("AssumeRoleWith"):
            return None
        caller = callers.authenticate(request, self.sessions)
        if request.operation == "AssumeRole":
            return self._assume_role(request, caller)
        if request.operation == "GetSessionToken":
            return self._get_session_token(request, caller)
        if request.operation == "GetCallerIdentity":
            # AWS requires no permission for GetCallerIdentity.
            return StsResult(
                {"Arn": caller.arn, "UserId": caller.user_id, "Account": caller.account}
            )
        return None

    def _assume_role(self, request: AwsRequest, caller: Caller) -> StsResult:
        form = request.form
        role_arn = form.get("RoleArn", "")
        name = _session_name(form)
        duration = _duration(form, default=3600, maximum=43200)
        context = {
            **caller.context(request.region),
            "sts:ExternalId": [],
            "sts:RoleSessionName": [name],
        }
        if "ExternalId" in form:
            context["sts:ExternalId"] = [form["ExternalId"]]
        role = iam.role(role_arn)
        if role is None or not self._may_assume(role, caller, context):
            # AWS returns the same error for a role that does not exist and for a role
            # that the caller may not assume.
            raise ApiError(
                "AccessDenied",
                f"User: {caller.arn} is not authorized to perform: sts:AssumeRole on"
                f" resource: {role_arn}",
                403,
            )
        if caller.temporary and caller.role_arn is not None:
            _check_maximum_of_chained(duration)
        _check_maximum(duration, role)
        assumed_role = role.session(name, _session_policies(form, role))
        return _assumed(self.sessions.issue(assumed_role, duration))

    def _may_assume(
        self, role: Role, caller: Caller, context: Mapping[str, list[str]]
    ) -> bool:
        """
        Return whether the trust policy and, if IAM is enforced, the policies of the
        caller allow AssumeRole.

        A caller in the role's account that the trust policy names needs no permission
        of its own. A caller needs one if the trust policy names only its account, or if
        it is in another account. A Deny always applies. Reference:
        https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic-cross-account.html
        """
        action = "sts:AssumeRole"
        principals = {"AWS": caller.own_principals | caller.account_principals}
        if not trusts(role.trust_policy, action, principals, context):
            return False
        if not self.settings.values.enforce_iam:
            return True

        decision, _ = decide(caller, action, role.arn, context)
        if decision is Decision.ALLOWED:
            return True
        if decision is Decision.EXPLICIT_DENY:
            return False
        if caller.account != role.account:
            return False
        if caller.session_policies:
            # A trust policy cannot grant what a session policy excludes.
            return False
        own_principals = {"AWS": caller.own_principals}
        return trusts(role.trust_policy, action, own_principals, context)

    def _assume_role_with_web_identity(self, request: AwsRequest) -> StsResult:
        form = request.form
        role_arn = form.get("RoleArn", "")
        name = _session_name(form)
        duration = _duration(form, default=3600, maximum=43200)
        token = form.get("WebIdentityToken", "")
        identity = web_identity.parse_token(token, role_arn, time.time())
        configured_keys = self.settings.values.issuers.get(identity.issuer)
        self._issuers.verify(token, identity.header, identity.issuer, configured_keys)
        context = {
            **identity.context(),
            "sts:RoleSessionName": [name],
            "aws:RequestedRegion": [request.region],
        }
        role = iam.role(role_arn)
        if role is None:
            raise _not_authorized_error("the role does not exist")
        principals = {"Federated": [identity.provider]}
        action = f"sts:{_WITH_WEB_IDENTITY}"
        if not trusts(role.trust_policy, action, principals, context):
            raise _not_authorized_error(
                f"the trust policy does not allow a request with {context}"
            )
        _check_maximum(duration, role)
        assumed_role = role.session(name, _session_policies(form, role))
        response = _assumed(self.sessions.issue(assumed_role, duration))
        response.result["SubjectFromWebIdentityToken"] = identity.subject
        response.result["Audience"] = identity.audience[0]
        response.result["Provider"] = identity.provider
        return response

    def _get_session_token(self, request: AwsRequest, caller: Caller) -> StsResult:
        if caller.temporary:
            text = "Cannot call GetSessionToken with session credentials"
            raise ApiError("AccessDenied", text, 403)
        duration = _duration(request.form, default=43200, maximum=129600)
        session = self.sessions.issue(replace(caller, temporary=True), duration)
        return StsResult({"Credentials": session.credentials()}, session.access_key_id)


def _assumed(session: Session) -> StsResult:
    assumed_role_user = {
        "Arn": session.caller.arn,
        "AssumedRoleId": session.caller.user_id,
    }
    return StsResult(
        {"Credentials": session.credentials(), "AssumedRoleUser": assumed_role_user},
        session.access_key_id,
    )


def _session_name(form: Mapping[str, str]) -> str:
    name = form.get("RoleSessionName")
    if name is None:
        raise _validation_error("null", "roleSessionName", "Member must not be null")
    if not _SESSION_NAME.fullmatch(name):
        raise _validation_error(
            f"'{name}'",
            "roleSessionName",
            "Member must satisfy regular expression pattern: [\\w+=,.@-]*",
        )
    return name


def _duration(form: Mapping[str, str], default: int, maximum: int) -> int:
    text = form.get("DurationSeconds", str(default))
    # A longer one would be no number of Python's.
    text = text[:_DURATION_DIGITS]
    if not text.isdecimal() or int(text) < _MIN_SECONDS:
        constraint = f"Member must have value greater than or equal to {_MIN_SECONDS}"
        raise _validation_error(f"'{text}'", "durationSeconds", constraint)
    if int(text) > maximum:
        raise _validation_error(
            f"'{text}'",
            "durationSeconds",
            f"Member must have value less than or equal to {maximum}",
        )
    return int(text)


def _check_maximum_of_chained(duration: int) -> None:
    """Check the duration of a session for which the session of another role asks."""
    if duration > _MAX_CHAINED_SECONDS:
        raise ApiError(
            "ValidationError",
            "The requested DurationSeconds exceeds the 1 hour session limit for roles"
            " assumed by role chaining",
        )


def _check_maximum(duration: int, role: Role) -> None:
    if duration > role.max_session:
        raise ApiError(
            "ValidationError",
            "The requested DurationSeconds exceeds the MaxSessionDuration set for this"
            " role.",
        )


def _session_policies(form: Mapping[str, str], role: Role) -> tuple[Policy, ...]:
    arns = [
        value
        for name, value in form.items()
        if re.fullmatch(r"PolicyArns\.member\.\d+\.arn", name)
    ]
    policies = iam.managed_policies(arns, role.account, role.arn.split(":")[1])
    if "Policy" in form:
        try:
            policies.append(json.loads(form["Policy"]))
        except ValueError as error:
            raise ApiError(
                "MalformedPolicyDocument", f"Syntax errors in policy: {error}"
            ) from error
    if arns and not policies:
        # Policies that do not exist must not leave the session unrestricted.
        return ({},)
    return tuple(policies)


def _not_authorized_error(detail: str) -> ApiError:
    text = f"Not authorized to perform sts:{_WITH_WEB_IDENTITY}"
    return ApiError("AccessDenied", text, 403, detail)


def _validation_error(value: str, member: str, rule: str) -> ApiError:
    text = (
        f"1 validation error detected: Value {value} at '{member}' failed to satisfy"
        f" constraint: {rule}"
    )
    return ApiError("ValidationError", text)
