"""Owns short-lived AWS credentials: one exchange per renewal for all who wait, and what a refusal means."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from botocore import UNSIGNED
from botocore.config import Config
from botocore.credentials import (
    AssumeRoleCredentialFetcher,
    AssumeRoleWithWebIdentityCredentialFetcher,
    Credentials,
    DeferredRefreshableCredentials,
    create_credential_resolver,
)
from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import Session

from polysync_airflow.auth.iam_policies import caller_trust, web_identity_trust
from polysync_airflow.auth.web_identity_token import Claims, decode_claims
from polysync_airflow.aws.error_mapping import is_transient
from polysync_airflow.aws.sessions import client_creator
from polysync_airflow.exceptions import UNKNOWN_HINT, CredentialsError, hint_for

Exchange = Callable[[], Mapping[str, Any]]

# A renewal begins when a quarter of the lifetime is left, a quarter of an hour at most; old credentials serve
# on until the last minute. botocore's own fixed windows would renew a 15-minute session at every call.
ADVISORY_REFRESH_SECONDS: Final = 900.0
MANDATORY_REFRESH_SECONDS: Final = 60.0
# While AWS or Entra ID does not answer, one of all who wait asks, and no more often than this.
MIN_BACKOFF_SECONDS: Final = 1.0
MAX_BACKOFF_SECONDS: Final = 60.0

# Methods of botocore's chain that are the host's own: EKS (IRSA), ECS and EKS Pod Identity, EC2.
HOST_METHODS: Final = ("assume-role-with-web-identity", "container-role", "iam-role")

# Seconds. Others may be waiting for the credentials, and who waits longest tries again anyhow.
_PATIENT: Final = Config(retries={"mode": "standard"}, connect_timeout=10, read_timeout=20)

_NO_HOST_CREDENTIALS: Final = (
    "auth_method = 'instance_profile', but neither EC2 (IMDSv2), ECS nor EKS gives this host credentials: "
    "attach an instance profile, task role or pod identity, let the metadata service be reached (hop limit 2 "
    "from containers), or choose another auth_method."
)

# Of EC2 credentials that end soon botocore claims that they last 17 to 25 minutes more. The host has new ones
# five minutes before the end, so whoever is told of a soon end asks again within that time.
HOST_DOUBTFUL_SECONDS: Final = 30 * 60
HOST_ASKED_AGAIN_SECONDS: Final = 4 * 60

# botocore's fetchers keep an answer until so many seconds before its end; renewals are decided here alone.
NEVER_FROM_CACHE: Final = 10**9


class RefreshingCredentials(DeferredRefreshableCredentials):
    """
    Credentials that renew before they expire: in one thread, once, however many threads use them.

    :param exchange: gets new ones; returns botocore's metadata (access_key, secret_key, token, expiry_time).
    :param method: where they come from, for messages.
    :param now: the present, aware.
    """

    def __init__(
        self, exchange: Exchange, method: str, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        super().__init__(refresh_using=self._renew, method=method, time_fetcher=now)
        self._exchange = exchange
        self._now = now
        self._pause = 0.0
        self._paused_until = float("-inf")
        self._refusal: CredentialsError | None = None
        self._current: Any = None

    def get_frozen_credentials(self) -> Any:
        """Return credentials that are valid now; renew them first if it is time."""
        current = self._current
        refusal = self._recent_refusal()
        if refusal is None:
            current = self._current = super().get_frozen_credentials()
        # Somebody has just tried in vain. botocore would let each of all who wait try again, with a traceback
        # in the log each time.
        elif current is None or self.refresh_needed(int(self._mandatory_refresh_timeout)):
            raise refusal
        return current

    def _recent_refusal(self) -> CredentialsError | None:
        known = self._refusal
        if known is None or time.monotonic() >= self._paused_until:
            return None
        # A new one each time: an error that many threads raise collects all their tracebacks.
        return CredentialsError(str(known), permanent=known.permanent, transient=known.transient)

    def _renew(self) -> Mapping[str, Any]:
        # botocore calls this in one thread at a time; those who waited for a failed attempt come here next.
        refusal = self._recent_refusal()
        if refusal:
            raise refusal
        try:
            found = self._exchange()
        except CredentialsError as error:
            self._pause = min(max(2 * self._pause, MIN_BACKOFF_SECONDS), MAX_BACKOFF_SECONDS)
            self._paused_until = time.monotonic() + self._pause
            self._refusal = error
            raise
        self._pause, self._refusal = 0.0, None
        lifetime = (datetime.fromisoformat(found["expiry_time"]) - self._now()).total_seconds()
        self._advisory_refresh_timeout = min(ADVISORY_REFRESH_SECONDS, lifetime / 4)
        self._mandatory_refresh_timeout = min(MANDATORY_REFRESH_SECONDS, lifetime / 20)
        return found


class SharedCredentials:
    """
    One credentials object for everybody in this process who signs in the same way.

    A connection that was edited is another way, and gets another object.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[Any, Credentials] = {}

    def get(self, way: Any, make: Callable[[], Credentials]) -> Credentials:
        """
        Return the credentials of a way to sign in.

        :param way: hashable, equal for whoever signs in the same way.
        :param make: makes them at first; must not ask the network, as others wait meanwhile.
        """
        with self._lock:
            if way not in self._known:
                self._known[way] = make()
            return self._known[way]


def assume_role(
    source: Credentials,
    role_arn: str,
    *,
    region_name: str,
    endpoint_url: str | None,
    verify: Any,
    **arguments: Any,
) -> RefreshingCredentials:
    """
    Credentials of a role that an AWS identity assumes.

    https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html

    :param source: the identity's own credentials.
    :param role_arn: the role.
    :param region_name: region of the STS endpoint.
    :param endpoint_url: STS endpoint, None for AWS's own.
    :param verify: botocore's ``verify``.
    :param arguments: further members of the request.
    """
    creator = client_creator(_PATIENT, region_name=region_name, endpoint_url=endpoint_url, verify=verify)
    fetcher = AssumeRoleCredentialFetcher(
        creator, source, role_arn, extra_args=arguments, expiry_window_seconds=NEVER_FROM_CACHE
    )

    def exchange() -> Mapping[str, Any]:
        try:
            return dict(fetcher.fetch_credentials())
        except (ClientError, BotoCoreError) as error:
            trust = caller_trust(
                principal="<ARN of the identity that assumes the role>",
                external_id=arguments.get("ExternalId"),
            )
            raise _refusal(error, "AssumeRole", role_arn, trust) from error

    return RefreshingCredentials(exchange, "assume-role")


def assume_role_with_web_identity(
    token: Callable[[], str],
    role_arn: str,
    *,
    region_name: str,
    endpoint_url: str | None,
    verify: Any,
    **arguments: Any,
) -> RefreshingCredentials:
    """
    Credentials of a role that a web identity token lets in.

    https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html

    :param token: returns a valid token.
    :param role_arn: the role.
    :param region_name: region of the STS endpoint.
    :param endpoint_url: STS endpoint, None for AWS's own.
    :param verify: botocore's ``verify``.
    :param arguments: further members of the request.
    """
    config = _PATIENT.merge(Config(signature_version=UNSIGNED))
    shown: list[Claims | None] = [None]

    def load() -> str:
        found = token()
        shown[0] = decode_claims(found)
        return found

    fetcher = AssumeRoleWithWebIdentityCredentialFetcher(
        client_creator(config, region_name=region_name, endpoint_url=endpoint_url, verify=verify),
        load,
        role_arn,
        extra_args=arguments,
        expiry_window_seconds=NEVER_FROM_CACHE,
    )

    def exchange() -> Mapping[str, Any]:
        try:
            return dict(fetcher.fetch_credentials())
        except (ClientError, BotoCoreError) as error:
            claims = shown[0]
            raise _refusal(
                error, "AssumeRoleWithWebIdentity", role_arn, _trust_for(claims, role_arn), claims
            ) from error

    return RefreshingCredentials(exchange, "assume-role-with-web-identity")


def host_role() -> RefreshingCredentials:
    """
    Credentials of the host that this process runs on: EC2 (IMDSv2), ECS or EKS; nobody's files or variables.

    They are looked for when they are first used.
    """

    def exchange() -> Mapping[str, Any]:
        found = _host_credentials()
        frozen = found.get_frozen_credentials()
        # botocore tells the expiry of what its providers find nowhere else.
        expiry = found._expiry_time
        soon = datetime.now(UTC) + timedelta(seconds=HOST_DOUBTFUL_SECONDS)
        if expiry < soon:
            expiry = min(expiry, datetime.now(UTC) + timedelta(seconds=HOST_ASKED_AGAIN_SECONDS))
        return {
            "access_key": frozen.access_key,
            "secret_key": frozen.secret_key,
            "token": frozen.token,
            "expiry_time": expiry.isoformat(),
        }

    return RefreshingCredentials(exchange, "host")


def _host_credentials() -> Any:
    session = Session()
    session.set_config_variable("ec2_metadata_v1_disabled", True)
    resolver = create_credential_resolver(session)
    resolver.providers = [provider for provider in resolver.providers if provider.METHOD in HOST_METHODS]
    try:
        found = resolver.load_credentials()
    except (ClientError, BotoCoreError) as error:
        raise CredentialsError(f"{_NO_HOST_CREDENTIALS} ({error})", permanent=False) from error
    if found is None:
        # Not permanent: a metadata service that does not answer looks just the same.
        raise CredentialsError(_NO_HOST_CREDENTIALS, permanent=False)
    return found


def _trust_for(claims: Claims | None, role_arn: str) -> Mapping[str, Any] | None:
    if claims is None or not (claims.issuer and claims.audience_for_aws and claims.subject):
        return None
    _, partition, _, _, account, *_ = role_arn.split(":")
    return web_identity_trust(
        account=account,
        issuer=claims.issuer,
        audience=claims.audience_for_aws,
        subject=claims.subject,
        partition=partition,
    )


def _refusal(
    error: ClientError | BotoCoreError,
    operation: str,
    role_arn: str,
    trust: Mapping[str, Any] | None,
    claims: Claims | None = None,
) -> CredentialsError:
    if not isinstance(error, ClientError):
        told = f"AWS STS did not answer {operation}: {error}"
        return CredentialsError(told, permanent=False, transient=is_transient(error, UNKNOWN_HINT))
    details = error.response.get("Error", {})
    code, said = details.get("Code", "Unknown"), details.get("Message", "")
    hint = hint_for(code, operation)
    lines = [f"AWS STS refused {operation} of {role_arn}: {code}: {said}"]
    if claims:
        lines.append(f"The token says: {claims}.")
    cure = hint.cure.format(
        permission=f"sts:{operation}", resource=role_arn, region="", subject=role_arn, parameter=""
    )
    if cure:
        lines.append(f"What to do: {cure}")
    if trust and code in ("AccessDenied", "InvalidIdentityToken"):
        lines.append(f"A trust policy that lets this identity in:\n{json.dumps(trust, indent=2)}")
    return CredentialsError("\n".join(lines), permanent=hint.permanent, transient=is_transient(error, hint))
