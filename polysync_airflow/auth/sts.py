"""
Requests credentials from AWS STS (AssumeRole, AssumeRoleWithWebIdentity) and from the
host (EC2, ECS, EKS).

Web identity tokens come from Microsoft Entra ID through azure-identity, and from files.
Their claims are decoded without verifying them, for error messages only: AWS verifies
the token and its signature.

Short-lived credentials are refreshed before they expire, once per process for all
threads that use them: ``connection`` gives all hooks with the same connection content
the same object.

The errors of these requests become ``CredentialsError``, with a hint and a trust policy
that would allow the sign-in.
"""

from __future__ import annotations

import base64
import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import botocore.credentials
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from polysync_airflow.airflow_compat.supervisor import mask_secret
from polysync_airflow.auth import allow_list, iam_policies
from polysync_airflow.aws import responses, sessions
from polysync_airflow.exceptions import ENTRA_CURES, CredentialsError
from polysync_airflow.execution import clock, json_input
from polysync_airflow.execution.texts import clean_line, clean_text
from polysync_airflow.metrics import CREDENTIALS_FAILED, CREDENTIALS_REFRESHED, count

_ERROR_CODE: Final = re.compile(r"AADSTS\d+")
# Errors of Entra ID itself. They have an AADSTS code, but they are not permanent.
_TRANSIENT_ERROR_CODES: Final = ("AADSTS90033", "AADSTS50196", "AADSTS90055")
_UNAVAILABLE_CURE: Final = (
    "This host has no such identity, or the endpoint for it does not respond: assign"
    " the managed identity to the host (and set client_id if it is user-assigned), or"
    " choose another entra_credential."
)


def entra_token_loader(
    make_credential: Callable[[Any], Any],
    application_id_uri: str,
    *,
    entra_credential: str,
    tenant_id: str | None,
    client_id: str | None,
) -> Callable[[], str]:
    """
    Return a function that requests a new token.

    :param make_credential: makes a credential object of azure-identity, which it gets.
        The other parameters of the identity are for error messages.
    :param application_id_uri: the application that the token is for, such as
        ``api://polysync``.
    :return: the function; it raises ``CredentialsError`` if Entra ID issues no token.
    :raises CredentialsError: if azure-identity is not installed.
    """
    try:
        import azure.identity as identity_package
        from azure.core.exceptions import AzureError
    except ImportError:
        raise CredentialsError(
            "identity_source = 'entra' needs azure-identity: pip install"
            " 'polysync-airflow[entra]' on workers and triggerers."
        ) from None
    scope = f"{application_id_uri.removesuffix('/.default')}/.default"
    identity = (
        f"{entra_credential}, tenant {tenant_id or 'of the host'}, client"
        f" {client_id or 'of the host'}, scope {scope}"
    )

    def load_token() -> str:
        try:
            # A new credential object for each token, about one per hour:
            # azure-identity's objects cache failures for one minute, and the content of
            # a projected token file for ten minutes.
            with make_credential(identity_package) as credential:
                return str(credential.get_token(scope).token)
        except AzureError as error:
            raise _map_entra_error(error, identity) from None
        except (ValueError, OSError, RecursionError) as error:
            # A file that does not exist yet, or a response that is not JSON, or is
            # nested too deeply. Any other ValueError is permanent: a malformed id, or a
            # file that is not a certificate.
            is_temporary = isinstance(
                error, (OSError, json.JSONDecodeError, RecursionError)
            )
            raise CredentialsError(
                f"entra_credential = {entra_credential!r} cannot be used:"
                f" {clean_text(str(error))}",
                permanent=not is_temporary,
            ) from None

    return load_token


def _map_entra_error(error: Exception, identity: str) -> CredentialsError:
    from azure.core.exceptions import ClientAuthenticationError
    from azure.identity import CredentialUnavailableError

    message = clean_line(str(error).split("\n")[0])
    # For an unknown tenant, only the cause of MSAL's error contains the error code.
    all_messages = " ".join(str(cause) for cause in _with_causes(error))
    code = _ERROR_CODE.search(all_messages)
    error_code = code and code[0]
    cure = ENTRA_CURES.get(error_code or "", "")
    if isinstance(error, CredentialUnavailableError):
        cure = cure or _UNAVAILABLE_CURE
    elif error_code and error_code not in message:
        message = f"{error_code}: {message}"
    # azure-identity raises ClientAuthenticationError for an HTTP 503 too. Only an error
    # with an AADSTS code is a decision of Entra ID.
    permanent = (
        isinstance(error, ClientAuthenticationError)
        and error_code is not None
        and error_code not in _TRANSIENT_ERROR_CODES
    )
    advice = responses.what_to_do(cure)
    return CredentialsError(
        f"Microsoft Entra ID issued no token ({identity}): {message}{advice}",
        permanent=permanent,
    )


def _with_causes(error: BaseException | None) -> Iterator[BaseException]:
    while error:
        yield error
        error = error.__cause__ or error.__context__


# The characters of a JWT. A token is sent in a request, and other characters could end
# up in a log.
_TOKEN: Final = re.compile(r"[A-Za-z0-9_.=-]+")


@dataclass(frozen=True, slots=True)
class Claims:
    """
    The unverified claims of a token, for error messages.

    :param issuer: ``iss``.
    :param audience: ``aud``.
    :param authorized_party: ``azp``. If a token has it, as tokens of Entra's version 2
        do, AWS compares it with the allowed audiences instead of ``aud``
        (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_iam-condition-keys.html).
    :param subject: ``sub``. For an Entra service principal it is the object id.
    :param expires_at: ``exp``.
    """

    issuer: str | None
    audience: str | None
    authorized_party: str | None
    subject: str | None
    expires_at: datetime | None

    def __str__(self) -> str:
        claims = {"issuer": self.issuer, "audience": self.audience}
        if self.authorized_party:
            claims["authorized party"] = self.authorized_party
        claims["subject"] = self.subject
        parts = [f"{name} {value or 'none'}" for name, value in claims.items()]
        expiry = "at an unknown time"
        if self.expires_at:
            expiry = f"{self.expires_at:%Y-%m-%dT%H:%M:%SZ}"
        return ", ".join([*parts, f"expires {expiry}"])


def decode_claims(token: str) -> Claims | None:
    """
    Decode the claims of a token without verifying it.

    :param token: a JSON Web Token (JWT).
    :return: None if ``token`` is not a JWT.
    """
    try:
        payload = token.split(".")[1]
        content = base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))
        claims = json_input.read_json(content, "the token")
    except (IndexError, ValueError):
        return None
    if not isinstance(claims, dict):
        return None
    return Claims(
        issuer=_text(claims.get("iss")),
        audience=_text(claims.get("aud")),
        authorized_party=_text(claims.get("azp")),
        subject=_text(claims.get("sub")),
        expires_at=_datetime(claims.get("exp")),
    )


def read_token_file(
    path: str, allowed: allow_list.AllowList, *, field: str = "identity_file"
) -> str:
    """
    Read a projected token. Every call reads the file again, because the platform
    replaces the token.

    :param path: path of the file; must be in an allowed folder.
    :raises CredentialsError: if the file is outside the allowed folders (permanent),
        cannot be read, or does not contain a JWT (not permanent: the platform may
        project the token later).
    """
    try:
        token = allowed.read_file(path, field=field).decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CredentialsError(
            f"{field} = {path!r} cannot be read: {type(error).__name__}. Check that the"
            " token is projected into both the workers and the triggerers.",
            permanent=False,
        ) from None
    if decode_claims(token) is None or not _TOKEN.fullmatch(token):
        raise CredentialsError(
            f"{field} = {path!r} does not contain a JSON Web Token (JWT). Check that"
            " the path is that of the projected token.",
            permanent=False,
        )
    return token


def _text(value: Any) -> str | None:
    """Return a claim as a text. An audience may be a list."""
    if value is None:
        return None
    if isinstance(value, list):
        value = ", ".join(str(item) for item in value)
    return clean_line(str(value))


def _datetime(value: Any) -> datetime | None:
    """Return a claim that is a time; None if it is not valid."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return datetime.fromtimestamp(value, UTC)
    except (OverflowError, OSError, ValueError):
        return None


FetchCredentials = Callable[[], Mapping[str, Any]]

# botocore tries a refresh from the advisory limit on, and keeps using the old
# credentials if it fails. From the mandatory limit on, a failed refresh is an error.
# Both are upper limits; shorter lifetimes use a quarter and a twentieth of the
# lifetime. botocore's own fixed limits would refresh a session of 15 minutes at every
# call.
ADVISORY_REFRESH_SECONDS: Final = 900.0
MANDATORY_REFRESH_SECONDS: Final = 60.0
# Backoff after a failed refresh: one thread asks again after this time, for all threads
# that wait.
MIN_BACKOFF_SECONDS: Final = 1.0
MAX_BACKOFF_SECONDS: Final = 60.0


class RefreshingCredentials(botocore.credentials.DeferredRefreshableCredentials):
    """
    Credentials that are fetched at their first use and refreshed before they expire.

    One thread refreshes them, however many threads use them. After a failed refresh, no
    thread tries again until the backoff is over: the old credentials are used until the
    mandatory limit, and then all threads get the same error.

    :param fetch_credentials: fetches new credentials; returns botocore's metadata
        (``access_key``, ``secret_key``, ``token``, ``expiry_time`` in ISO 8601) or
        raises ``CredentialsError``.
    :param method: name of the source of the credentials, for botocore's log lines.
    """

    def __init__(self, fetch_credentials: FetchCredentials, method: str) -> None:
        super().__init__(
            refresh_using=self._fetch_with_backoff,
            method=method,
            time_fetcher=clock.now,
        )
        self._fetch_credentials = fetch_credentials
        self._backoff_seconds = 0.0
        self._backoff_ends_at = float("-inf")
        self._last_error: CredentialsError | None = None
        self._last_credentials: Any = None

    def get_frozen_credentials(self) -> Any:
        """
        Return credentials that are valid now, and refresh them first if necessary.

        :raises CredentialsError: if there are no valid credentials and the refresh
            failed.
        """
        error = self._error_during_backoff()
        if error is None:
            self._last_credentials = super().get_frozen_credentials()
            return self._last_credentials
        # Another thread's refresh has just failed. botocore would let every waiting
        # thread try again, and would log a traceback for each of them.
        credentials = self._last_credentials
        mandatory_limit = int(self._mandatory_refresh_timeout)
        if credentials is None or self.refresh_needed(mandatory_limit):
            raise error
        return credentials

    def _error_during_backoff(self) -> CredentialsError | None:
        """Return the error of the last refresh, while its backoff is not over."""
        error = self._last_error
        if error is None or clock.monotonic() >= self._backoff_ends_at:
            return None
        # A copy for each caller: an exception object that many threads raise collects
        # the tracebacks of all of them.
        return CredentialsError(
            str(error), permanent=error.permanent, transient=error.transient
        )

    def _fetch_with_backoff(self) -> Mapping[str, Any]:
        # botocore calls this method in one thread at a time. The threads that waited
        # for a failed attempt call it next.
        recent_error = self._error_during_backoff()
        if recent_error:
            raise recent_error
        try:
            metadata = self._fetch_credentials()
            lifetime = self._remaining_seconds(metadata["expiry_time"])
        except CredentialsError as error:
            self._backoff_seconds = min(
                max(2 * self._backoff_seconds, MIN_BACKOFF_SECONDS), MAX_BACKOFF_SECONDS
            )
            self._backoff_ends_at = clock.monotonic() + self._backoff_seconds
            self._last_error = error
            count(CREDENTIALS_FAILED, later=True, method=self.method)
            raise
        count(CREDENTIALS_REFRESHED, later=True, method=self.method)
        if logging.getLogger("botocore").isEnabledFor(logging.DEBUG):
            # That log has the session token of each signed request. Otherwise they are
            # not registered: the masker keeps every secret for ever, and each refresh
            # brings new ones.
            for secret in (metadata["secret_key"], metadata["token"]):
                if secret:
                    mask_secret(secret)
        self._backoff_seconds = 0.0
        self._last_error = None
        self._advisory_refresh_timeout = min(ADVISORY_REFRESH_SECONDS, lifetime / 4)
        self._mandatory_refresh_timeout = min(MANDATORY_REFRESH_SECONDS, lifetime / 20)
        return metadata

    def _remaining_seconds(self, expiry_time: str) -> float:
        now = clock.now()
        remaining = (datetime.fromisoformat(expiry_time) - now).total_seconds()
        if remaining <= 0:
            raise CredentialsError(
                f"The new AWS credentials ({self.method}) have expired at"
                f" {expiry_time}, but the clock of this machine shows"
                f" {now.isoformat(timespec='seconds')}. Check the clock of this"
                " machine.",
                permanent=False,
            )
        return remaining


# Providers in botocore's chain that use the identity of the host: EKS (IRSA), ECS and
# EKS Pod Identity, EC2.
HOST_METHODS: Final = ("assume-role-with-web-identity", "container-role", "iam-role")
# botocore moves the expiry time of EC2 credentials that expire soon to 17 to 25 minutes
# from now. An expiry time in less than this is therefore not trusted, and the host is
# asked again after the recheck interval: EC2 provides the next credentials five minutes
# before the real expiry time.
MIN_TRUSTED_EXPIRY_SECONDS: Final = 30 * 60
HOST_RECHECK_SECONDS: Final = 4 * 60
# botocore's fetchers cache a response until this many seconds before its expiry time.
# This window is longer than any lifetime, which disables the cache: only
# ``RefreshingCredentials`` decides when to refresh.
DISABLED_CACHE_WINDOW_SECONDS: Final = 10**9

# Timeouts in seconds. They are short because other threads may wait for the same
# credentials, and the callers retry with backoff in any case.
_STS_CONFIG: Final = Config(
    retries={"mode": "standard"}, connect_timeout=10, read_timeout=20
)

_FETCH_ERRORS: Final = (*responses.BOTO_ERRORS, KeyError, TypeError)
_NO_HOST_CREDENTIALS: Final = (
    "auth_method = 'instance_profile', but neither EC2 (IMDSv2), ECS nor EKS provides"
    " credentials on this host: attach an instance profile, task role or pod identity,"
    " make the metadata service reachable (hop limit 2 for containers), or choose"
    " another auth_method."
)


def assume_role(
    source: botocore.credentials.Credentials,
    role_arn: str,
    settings: Mapping[str, Any],
    **parameters: Any,
) -> RefreshingCredentials:
    """
    Return credentials of a role that an AWS identity assumes. The first use sends the
    request.

    https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html

    :param source: credentials of the identity that assumes the role.
    :param settings: arguments of botocore's ``create_client`` for STS: region,
        endpoint, ``verify``.
    """
    fetcher = botocore.credentials.AssumeRoleCredentialFetcher(
        sessions.client_creator(_STS_CONFIG, **settings),
        source,
        role_arn,
        extra_args=parameters,
        expiry_window_seconds=DISABLED_CACHE_WINDOW_SECONDS,
    )

    external_id = None
    if "ExternalId" in parameters:
        # Not the id itself: whoever knows it may be let into the account of others.
        external_id = "<external_id of the connection>"

    def fetch() -> Mapping[str, Any]:
        try:
            return dict(fetcher.fetch_credentials())
        except _FETCH_ERRORS as error:
            trust_policy = iam_policies.caller_trust(
                principal="<ARN of the identity that assumes the role>",
                external_id=external_id,
            )
            raise _map_error(error, "AssumeRole", role_arn, trust_policy) from None

    return RefreshingCredentials(fetch, "assume-role")


def assume_role_with_web_identity(
    token_loader: Callable[[], str],
    role_arn: str,
    settings: Mapping[str, Any],
    **parameters: Any,
) -> RefreshingCredentials:
    """
    Return credentials of a role that a web identity token may assume. The first use
    sends the request.

    https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html

    :param settings: arguments of botocore's ``create_client`` for STS: region,
        endpoint, ``verify``.
    """
    claims: Claims | None = None

    def load_token() -> str:
        nonlocal claims
        token = token_loader()
        claims = decode_claims(token)
        return token

    fetcher = botocore.credentials.AssumeRoleWithWebIdentityCredentialFetcher(
        sessions.client_creator(_STS_CONFIG, **settings),
        load_token,
        role_arn,
        extra_args=parameters,
        expiry_window_seconds=DISABLED_CACHE_WINDOW_SECONDS,
    )

    def fetch() -> Mapping[str, Any]:
        try:
            return dict(fetcher.fetch_credentials())
        except _FETCH_ERRORS as error:
            trust_policy = _trust_policy(claims, role_arn)
            raise _map_error(
                error, "AssumeRoleWithWebIdentity", role_arn, trust_policy, claims
            ) from None

    return RefreshingCredentials(fetch, "assume-role-with-web-identity")


def host_role() -> RefreshingCredentials:
    """
    Return credentials of the host that runs this process: EC2 (IMDSv2), ECS or EKS. The
    first use fetches them.

    Access keys in environment variables and in files such as ``~/.aws/credentials`` are
    not used.
    """

    def fetch() -> Mapping[str, Any]:
        credentials = _load_host_credentials()
        frozen = credentials.get_frozen_credentials()
        # botocore has no public attribute for the expiry time of the credentials that
        # its providers load.
        expiry = credentials._expiry_time
        now = clock.now()
        if expiry < now + timedelta(seconds=MIN_TRUSTED_EXPIRY_SECONDS):
            expiry = min(expiry, now + timedelta(seconds=HOST_RECHECK_SECONDS))
        return {
            "access_key": frozen.access_key,
            "secret_key": frozen.secret_key,
            "token": frozen.token,
            "expiry_time": expiry.isoformat(),
        }

    return RefreshingCredentials(fetch, "host")


def _load_host_credentials() -> Any:
    session = sessions.create_sts_session()
    session.set_config_variable("ec2_metadata_v1_disabled", True)
    resolver = botocore.credentials.create_credential_resolver(session)
    resolver.providers = [
        provider for provider in resolver.providers if provider.METHOD in HOST_METHODS
    ]
    try:
        credentials = resolver.load_credentials()
    except (ClientError, BotoCoreError) as error:
        raise CredentialsError(
            f"{_NO_HOST_CREDENTIALS} ({clean_text(str(error))})", permanent=False
        ) from None
    if credentials is None:
        # Not permanent: botocore also returns None if the metadata service does not
        # respond for a moment.
        raise CredentialsError(_NO_HOST_CREDENTIALS, permanent=False)
    return credentials


def _trust_policy(claims: Claims | None, role_arn: str) -> Mapping[str, Any] | None:
    """
    Return a trust policy that allows a token to assume a role; None if the token lacks
    a claim for it.
    """
    if claims is None:
        return None
    audience = claims.authorized_party or claims.audience
    if not (claims.issuer and audience and claims.subject):
        return None
    _, partition, _, _, account, *_ = role_arn.split(":")
    return iam_policies.web_identity_trust(
        account=account,
        issuer=claims.issuer,
        audience=audience,
        subject=claims.subject,
        partition=partition,
    )


def _map_error(
    error: responses.BotoError | KeyError | TypeError,
    operation: str,
    role_arn: str,
    trust_policy: Mapping[str, Any] | None,
    claims: Claims | None = None,
) -> CredentialsError:
    """Return the error of a request to STS for a role, with what may cure it."""
    if responses.is_invalid_value(error):
        return CredentialsError(str(responses.invalid_value_error(operation)))
    if isinstance(error, (KeyError, TypeError)):
        # botocore's fetchers read the response without checks.
        error = ResponseParserError(f"the response has no {error}")
    if not isinstance(error, ClientError):
        return CredentialsError(
            f"AWS STS did not respond to {operation} for {role_arn}:"
            f" {responses.text_with_cure(error)}",
            permanent=False,
            transient=responses.is_transient(error, responses.hint_of(error)),
        )
    error_code, aws_message = responses.code_and_message(error)
    hint = responses.hint_of(error, operation)
    lines = [f"AWS STS: {operation} for {role_arn} failed: {error_code}: {aws_message}"]
    if claims:
        lines.append(f"Claims of the token: {claims}.")
    cure = hint.cure.format(
        permission=f"sts:{operation}",
        resource=role_arn,
        region="",
        subject=role_arn,
        parameter="",
    )
    if cure:
        lines.append(f"What to do: {cure}")
    if trust_policy and error_code in ("AccessDenied", "InvalidIdentityToken"):
        lines.append("A trust policy that allows this sign-in:")
        lines.append(json.dumps(trust_policy, indent=2))
    return CredentialsError(
        "\n".join(lines),
        permanent=hint.permanent,
        transient=responses.is_transient(error, hint),
    )
