"""Owns Entra's refusals: which HTTP status, OAuth error and AADSTS text each has.

Codes and wording as Microsoft publishes them and as users quote them; the two marked "modelled" are the
nearest published code, since what Entra says there could not be looked up.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from tests.auth.endpoints.loopback import Answer, Fault

_CHECK_FEDERATION = (
    " Check your federated identity credential Subject, Audience and Issuer against the presented assertion."
    " https://learn.microsoft.com/entra/workload-id/workload-identity-federation"
)
#: code: (HTTP status, OAuth error, text)
_TABLE: dict[int, tuple[int, str, str]] = {
    7000215: (
        401,
        "invalid_client",
        "Invalid client secret provided. Ensure the secret being sent in the request is the client secret"
        " value, not the client secret ID, for a secret added to app '{client_id}'.",
    ),
    7000222: (
        401,
        "invalid_client",
        "The provided client secret keys for app '{client_id}' are expired. Visit the Azure portal to create"
        " new keys for your app, or consider using certificate credentials for added security.",
    ),
    7000216: (
        401,
        "invalid_client",
        "'client_assertion', 'client_secret' or 'request' is required for the 'client_credentials' grant type.",
    ),
    700016: (
        400,
        "unauthorized_client",
        "Application with identifier '{client_id}' was not found in the directory '{tenant}'. This can happen"
        " if the application has not been installed by the administrator of the tenant or consented to by any"
        " user in the tenant. You may have sent your authentication request to the wrong tenant.",
    ),
    90002: (
        400,
        "invalid_request",
        "Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID and are signing into"
        " the correct cloud. Check with your subscription administrator, this may happen if there are no"
        " active subscriptions for the tenant.",
    ),
    500011: (
        400,
        "invalid_resource",
        "The resource principal named {resource} was not found in the tenant named {tenant}. This can happen"
        " if the application has not been installed by the administrator of the tenant or consented to by any"
        " user in the tenant. You might have sent your authentication request to the wrong tenant.",
    ),
    1002012: (
        400,
        "invalid_scope",
        "The provided value for scope {scope} is not valid. Client credential flows must have a scope value"
        " with /.default suffixed to the resource identifier (application ID URI).",
    ),
    700027: (
        401,
        "invalid_client",
        "The certificate with identifier used to sign the client assertion is not registered on application."
        " [Reason - {reason}]",
    ),
    700023: (401, "invalid_client", "Client assertion audience claim does not match Realm issuer."),
    700024: (401, "invalid_client", "Client assertion is not within its valid time range."),
    700211: (
        401,
        "invalid_client",
        "No matching federated identity record found for presented assertion issuer '{issuer}'."
        + _CHECK_FEDERATION,
    ),
    700212: (
        401,
        "invalid_client",
        "No matching federated identity record found for presented assertion audience '{audience}'."
        + _CHECK_FEDERATION,
    ),
    700213: (
        401,
        "invalid_client",
        "No matching federated identity record found for presented assertion subject '{subject}'."
        + _CHECK_FEDERATION,
    ),
    50013: (401, "invalid_client", "Assertion failed signature validation."),  # modelled
    50027: (400, "invalid_request", "JWT token is invalid or malformed."),  # modelled
    70003: (400, "unsupported_grant_type", "The app requested an unsupported grant type '{grant}'."),
    90055: (429, "temporarily_unavailable", "There are too many incoming requests. Try again later."),
    50000: (500, "server_error", "There was an error issuing a token or an issue with our sign-in service."),
    90033: (503, "temporarily_unavailable", "A transient error has occurred. Please try again."),
}


class Refusal(Exception):
    """Entra says no.

    :param code: the number after "AADSTS".
    :param error: the OAuth error, where it is another than the code's usual one.
    :param details: what the text names; never a secret or a token.
    """

    def __init__(self, code: int, *, error: str | None = None, **details: str) -> None:
        self.status, usual, text = _TABLE[code]
        self.code, self.error, self.text = code, error or usual, text.format(**details)
        super().__init__(f"AADSTS{code}")

    def body(self) -> dict[str, Any]:
        """Return the JSON document that Entra sends."""
        stamp, trace, correlation = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%SZ}", str(uuid4()), str(uuid4())
        marks = f" Trace ID: {trace} Correlation ID: {correlation} Timestamp: {stamp}"
        return {
            "error": self.error,
            "error_description": f"AADSTS{self.code}: {self.text}{marks}",
            "error_codes": [self.code],
            "timestamp": stamp,
            "trace_id": trace,
            "correlation_id": correlation,
            "error_uri": f"https://login.microsoftonline.com/error?code={self.code}",
        }

    def answer(self, **note: str) -> Answer:
        """Return the HTTP answer."""
        return Answer(self.status, self.body(), note={**note, "error": f"AADSTS{self.code}"})


def refusing(code: int, *, retry_after: int | None = None, delay: float = 0.0, **details: str) -> Fault:
    """Return the fault with which Entra refuses, whatever was asked: 90055 throttles, 50000 and 90033 ail."""
    refusal = Refusal(code, **details)
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return Fault(refusal.status, refusal.body(), headers, delay)
