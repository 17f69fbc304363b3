"""
The errors of Microsoft Entra ID: HTTP status, OAuth error and text of each AADSTS code.

Codes and texts are those that Microsoft publishes and users quote. For the two marked
"modelled", the error of Entra ID could not be looked up; they use the nearest published
code.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from tests.fakes.endpoints.fake_server import Fault, Response

_CHECK_FEDERATION = (
    " Check your federated identity credential Subject, Audience and Issuer against the presented assertion."
    " https://learn.microsoft.com/entra/workload-id/workload-identity-federation"
)
# By AADSTS code: (HTTP status, OAuth error, text).
_ERRORS: dict[int, tuple[int, str, str]] = {
    7000215: (
        401,
        "invalid_client",
        "Invalid client secret provided. Ensure the secret being sent in the request is the client secret"
        " value, not the client secret ID, for a secret added to app '{client_id}'.",
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
    700023: (
        401,
        "invalid_client",
        "Client assertion audience claim does not match Realm issuer.",
    ),
    700024: (
        401,
        "invalid_client",
        "Client assertion is not within its valid time range.",
    ),
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
    50013: (
        401,
        "invalid_client",
        "Assertion failed signature validation.",
    ),  # modelled
    50027: (400, "invalid_request", "JWT token is invalid or malformed."),  # modelled
    70003: (
        400,
        "unsupported_grant_type",
        "The app requested an unsupported grant type '{grant}'.",
    ),
    90055: (
        429,
        "temporarily_unavailable",
        "There are too many incoming requests. Try again later.",
    ),
    50000: (
        500,
        "server_error",
        "There was an error issuing a token or an issue with our sign-in service.",
    ),
    90033: (
        503,
        "temporarily_unavailable",
        "A transient error has occurred. Please try again.",
    ),
}


class EntraError(Exception):
    """
    An error response of Entra ID.

    :param code: the number after "AADSTS".
    :param oauth_error: the OAuth error; None for the usual one of the code.
    :param details: values of the placeholders in the text; never a secret or a token.
    """

    def __init__(
        self, code: int, *, oauth_error: str | None = None, **details: str
    ) -> None:
        self.status, usual_oauth_error, text = _ERRORS[code]
        self.code, self.oauth_error, self.text = (
            code,
            oauth_error or usual_oauth_error,
            text.format(**details),
        )
        super().__init__(f"AADSTS{code}")

    def body(self) -> dict[str, Any]:
        """Return the JSON body of the response."""
        timestamp, trace_id, correlation_id = (
            f"{datetime.now(UTC):%Y-%m-%d %H:%M:%SZ}",
            str(uuid4()),
            str(uuid4()),
        )
        suffix = f" Trace ID: {trace_id} Correlation ID: {correlation_id} Timestamp: {timestamp}"
        return {
            "error": self.oauth_error,
            "error_description": f"AADSTS{self.code}: {self.text}{suffix}",
            "error_codes": [self.code],
            "timestamp": timestamp,
            "trace_id": trace_id,
            "correlation_id": correlation_id,
            "error_uri": f"https://login.microsoftonline.com/error?code={self.code}",
        }

    def response(self, **log_fields: str) -> Response:
        """Return the HTTP response."""
        return Response(
            self.status,
            self.body(),
            log_fields={**log_fields, "error": f"AADSTS{self.code}"},
        )


def entra_error_fault(
    code: int, *, retry_after: int | None = None, delay: float = 0.0, **details: str
) -> Fault:
    """
    Return a fault that responds with an error of Entra ID.

    90055 is throttling, 50000 is an internal error, 90033 is a transient error.

    :param code: the number after "AADSTS".
    :param retry_after: value of the ``Retry-After`` header in seconds; None for no
        header.
    :param delay: seconds before the response.
    :param details: values of the placeholders in the text.
    """
    error = EntraError(code, **details)
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return Fault(error.status, error.body(), headers, delay)
