"""STS: who may have credentials of whom, and for how long.

AssumeRole, AssumeRoleWithWebIdentity, GetSessionToken and GetCallerIdentity are answered here, the other
operations by moto, whose credentials have no end here and count as the account's root. References:
https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html,
https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html and
https://docs.aws.amazon.com/STS/latest/APIReference/API_GetSessionToken.html
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from polysync_airflow.emulator.errors import ApiError
from polysync_airflow.emulator.protocol import AwsRequest
from polysync_airflow.emulator.sign_in import callers, iam, web_identity
from polysync_airflow.emulator.sign_in.authorization import may
from polysync_airflow.emulator.sign_in.iam import Caller, Role
from polysync_airflow.emulator.sign_in.issuers import Issuers
from polysync_airflow.emulator.sign_in.policies import Policy, Verdict
from polysync_airflow.emulator.sign_in.sessions import Session, Sessions
from polysync_airflow.emulator.sign_in.settings import SignIn
from polysync_airflow.emulator.sign_in.trust import allows

#: What the call log may show of an STS request.
LOGGED = ("RoleArn", "RoleSessionName", "DurationSeconds")

_SESSION_NAME = re.compile(r"[\w+=,.@-]{2,64}", re.ASCII)
_CHAINED = 3600
_LEAST = 900


@dataclass(frozen=True)
class Answer:
    """What STS answers, and the access key id that is in it, if one was issued."""

    result: dict[str, Any]
    issued: str | None = None


class Sts:
    """The operations of STS that are answered here."""

    def __init__(self, sessions: Sessions, issuers: Issuers, settings: SignIn) -> None:
        self.sessions = sessions
        self.settings = settings
        self._issuers = issuers

    def answer(self, request: AwsRequest) -> Answer | None:
        """Answer a request, or return None if that is for moto to do.

        :raises ApiError: what AWS would answer instead.
        """
        if request.operation == "AssumeRoleWithWebIdentity":
            # It is not signed: the token is the credential.
            return self._assume_role_with_web_identity(request)
        if request.operation.startswith("AssumeRoleWith"):
            return None
        caller = callers.identify(request, self.sessions)
        if caller is None:
            raise ApiError(
                "MissingAuthenticationToken", "Request is missing Authentication Token", status=403
            )
        callers.check_credentials(request, self.sessions)
        if request.operation == "AssumeRole":
            return self._assume_role(request, caller)
        if request.operation == "GetSessionToken":
            return self._get_session_token(request, caller)
        if request.operation == "GetCallerIdentity":
            # Nobody needs a permission for this one.
            return Answer({"Arn": caller.arn, "UserId": caller.user_id, "Account": caller.account})
        return None

    def _assume_role(self, request: AwsRequest, caller: Caller) -> Answer:
        form, role_arn = request.form, request.form.get("RoleArn", "")
        name = _session_name(form)
        duration = _duration(form, default=3600, most=43200)
        context = {
            **caller.context(request.region),
            "sts:ExternalId": [form["ExternalId"]] if "ExternalId" in form else [],
            "sts:RoleSessionName": [name],
        }
        role = iam.role(role_arn)
        if role is None or not self._lets_in(role, caller, context):
            # AWS does not tell a missing role from one that does not let the caller in.
            raise ApiError(
                "AccessDenied",
                f"User: {caller.arn} is not authorized to perform: sts:AssumeRole on resource: {role_arn}",
                403,
            )
        _check_longest(duration, role, chained=caller.role_arn is not None)
        return _assumed(self.sessions.issue(role.session(name, _session_policies(form, role)), duration))

    def _lets_in(self, role: Role, caller: Caller, context: Mapping[str, list[str]]) -> bool:
        """Return whether the trust policy and, if IAM is enforced, the caller's own policies agree.

        A caller of the role's account that the trust policy names needs no permission of its own. One that
        it only means by naming the account does, and so does everybody from another account; a Deny holds
        in any case. Reference:
        https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic-cross-account.html
        """
        action = "sts:AssumeRole"
        named = allows(role.trust_policy, action, {"AWS": caller.names}, context)
        everybody = {"AWS": caller.names | caller.account_names}
        if not allows(role.trust_policy, action, everybody, context):
            return False
        if not self.settings.values.enforce_iam:
            return True
        verdict = may(caller, action, role.arn, context)
        # What a session was not given, no trust policy gives it back.
        suffices = named and caller.account == role.account and not caller.session_policies
        return verdict is Verdict.ALLOWED or (verdict is Verdict.SILENT and suffices)

    def _assume_role_with_web_identity(self, request: AwsRequest) -> Answer:
        form, role_arn = request.form, request.form.get("RoleArn", "")
        name = _session_name(form)
        duration = _duration(form, default=3600, most=43200)
        token = form.get("WebIdentityToken", "")
        identity = web_identity.read(token, role_arn, time.time())
        given = self.settings.values.issuers.get(identity.issuer)
        self._issuers.verify(token, identity.header, identity.issuer, given)
        context = {
            **identity.context(),
            "sts:RoleSessionName": [name],
            "aws:RequestedRegion": [request.region],
        }
        role = iam.role(role_arn)
        action = "sts:AssumeRoleWithWebIdentity"
        principals = {"Federated": [identity.provider]}
        if role is None or not allows(role.trust_policy, action, principals, context):
            detail = (
                "the role does not exist" if role is None else f"its trust policy is asked with {context}"
            )
            raise ApiError("AccessDenied", f"Not authorized to perform {action}", 403, detail)
        _check_longest(duration, role, chained=False)
        answer = _assumed(self.sessions.issue(role.session(name, _session_policies(form, role)), duration))
        more = {
            "SubjectFromWebIdentityToken": identity.subject,
            "Audience": identity.audience[0],
            "Provider": identity.provider,
        }
        return replace(answer, result={**answer.result, **more})

    def _get_session_token(self, request: AwsRequest, caller: Caller) -> Answer:
        if caller.temporary:
            text = "Cannot call GetSessionToken with session credentials"
            raise ApiError("AccessDenied", text, 403)
        duration = _duration(request.form, default=43200, most=129600)
        session = self.sessions.issue(replace(caller, temporary=True), duration)
        return Answer({"Credentials": session.credentials()}, session.access_key_id)


def _assumed(session: Session) -> Answer:
    who = {"Arn": session.caller.arn, "AssumedRoleId": session.caller.user_id}
    return Answer({"Credentials": session.credentials(), "AssumedRoleUser": who}, session.access_key_id)


def _session_name(form: Mapping[str, str]) -> str:
    name = form.get("RoleSessionName")
    if name is None:
        raise _wrong("null", "roleSessionName", "Member must not be null")
    if not _SESSION_NAME.fullmatch(name):
        raise _wrong(
            f"'{name}'", "roleSessionName", "Member must satisfy regular expression pattern: [\\w+=,.@-]*"
        )
    return name


def _duration(form: Mapping[str, str], default: int, most: int) -> int:
    text = form.get("DurationSeconds", str(default))
    if not text.isdecimal() or int(text) < _LEAST:
        least = f"Member must have value greater than or equal to {_LEAST}"
        raise _wrong(f"'{text}'", "durationSeconds", least)
    if int(text) > most:
        raise _wrong(f"'{text}'", "durationSeconds", f"Member must have value less than or equal to {most}")
    return int(text)


def _check_longest(duration: int, role: Role, *, chained: bool) -> None:
    if chained and duration > _CHAINED:
        limit = "the 1 hour session limit for roles assumed by role chaining"
        raise ApiError("ValidationError", f"The requested DurationSeconds exceeds {limit}")
    if duration > role.max_session:
        text = "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."
        raise ApiError("ValidationError", text)


def _session_policies(form: Mapping[str, str], role: Role) -> tuple[Policy, ...]:
    arns = [value for name, value in form.items() if re.fullmatch(r"PolicyArns\.member\.\d+\.arn", name)]
    found = iam.managed_policies(arns, role.account, role.arn.split(":")[1])
    if "Policy" in form:
        try:
            found.append(json.loads(form["Policy"]))
        except ValueError as error:
            raise ApiError("MalformedPolicyDocument", f"Syntax errors in policy: {error}") from error
    # A policy that does not exist must not leave the session without any limit.
    return tuple(found) or (({},) if arns else ())


def _wrong(value: str, member: str, rule: str) -> ApiError:
    text = f"1 validation error detected: Value {value} at '{member}' failed to satisfy constraint: {rule}"
    return ApiError("ValidationError", text)
