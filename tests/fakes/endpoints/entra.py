"""
A fake Microsoft Entra tenant: discovery document, published keys, and token endpoint.

Settings that make azure-identity 1.27 (MSAL 1.39) use this server, as tested with it:

- Authority: ``authority=entra.url`` or ``AZURE_AUTHORITY_HOST``. It must be an https
  URL; a port is allowed.
- ``disable_instance_discovery=True`` for the client secret and the certificate. Without
  it, MSAL asks the public cloud (``login.microsoftonline.com``, never the given host)
  whether it knows this authority. Workload identity and managed identity use no
  discovery and do not need this option.
- CA: ``connection_verify=<ca_file>``, or ``REQUESTS_CA_BUNDLE`` (which botocore uses
  too), or ``CURL_CA_BUNDLE``. ``SSL_CERT_FILE`` has no effect.
- The real issuers are at ``sts.windows.net`` (version 1) and
  ``login.microsoftonline.com`` (version 2). Here both begin with the URL of this
  server, so that a verifier of a token can fetch ``{iss}/.well-known/...``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from uuid import uuid4

from cryptography import x509

from tests.fakes.endpoints.access_tokens import (
    Api,
    Principal,
    TokenIssuer,
    TokenSettings,
)
from tests.fakes.endpoints.certificates import Pki
from tests.fakes.endpoints.client_authentication import (
    Application,
    FederatedCredential,
    authenticate,
)
from tests.fakes.endpoints.entra_errors import EntraError
from tests.fakes.endpoints.fake_server import FakeServer, Request, Response, Route
from tests.fakes.endpoints.keyring import Keyring

_TENANT = r"/(?P<tenant>[^/]+)"
_SUFFIX = "/.default"


class Entra(FakeServer):
    """
    A fake tenant over https.

    Routes: ``discovery``, ``jwks``, ``token``. Log fields: ``client_id``, ``scope``,
    ``client_auth`` (how the client authenticated) and, for an error response,
    ``error``.

    :param pki: the authority that issues the server certificate; clients need its
        ``ca_file``.
    :param tenant: id of the tenant; None for a random id.
    :param audience: identifier URI of the app registration that stands for AWS.
    :param token_settings: settings of the issued tokens; see also ``changed_tokens``.
    """

    def __init__(
        self,
        pki: Pki,
        *,
        tenant: str | None = None,
        audience: str = "sts.amazonaws.com",
        token_settings: TokenSettings | None = None,
    ) -> None:
        super().__init__(tls=pki.server_context())
        self.ca_file = pki.ca_file
        self.tenant = tenant or str(uuid4())
        self.keyring, self.token_settings = Keyring(), token_settings or TokenSettings()
        self.applications: dict[str, Application] = {}
        self.apis: dict[str, Api] = {}
        self.api = self.expose(audience)

    # Administration

    def expose(self, identifier_uri: str) -> Api:
        """
        Register an application that tokens can be requested for, by its URI or its
        client id.
        """
        api = Api(identifier_uri, str(uuid4()))
        self.apis |= {identifier_uri: api, api.client_id: api}
        return api

    def register(
        self,
        *,
        secret: str | None = None,
        certificate: x509.Certificate | None = None,
        federated_credential: FederatedCredential | None = None,
    ) -> Application:
        """
        Register an application that can authenticate with any of the given credentials.
        """
        principal = Principal(str(uuid4()), str(uuid4()))
        application = Application(principal, secret, certificate, federated_credential)
        self.applications[principal.client_id] = application
        return application

    @contextmanager
    def changed_tokens(self, **changes: Any) -> Iterator[None]:
        """
        Issue tokens with other settings inside the block; takes the parameters of
        ``TokenSettings``.
        """
        before, self.token_settings = (
            self.token_settings,
            replace(self.token_settings, **changes),
        )
        try:
            yield
        finally:
            self.token_settings = before

    # Client configuration

    @property
    def environment(self) -> dict[str, str]:
        """
        Variables that make azure-identity use this server, with
        ``disable_instance_discovery=True``.
        """
        return {
            "AZURE_AUTHORITY_HOST": self.url,
            "REQUESTS_CA_BUNDLE": str(self.ca_file),
        }

    @property
    def issuer(self) -> str:
        """The ``iss`` of the tokens with the current settings."""
        return self.token_settings.issuer or self.token_issuer().issuer(
            self.token_settings.version
        )

    @property
    def audience(self) -> str:
        """The ``aud`` of the tokens for AWS with the current settings."""
        default = (
            self.api.client_id
            if self.token_settings.version == 2
            else self.api.identifier_uri
        )
        return self.token_settings.audience or default

    def token_issuer(self) -> TokenIssuer:
        """Return an issuer of this tenant's tokens with the current settings."""
        return TokenIssuer(self.tenant, self.url, self.keyring, self.token_settings)

    def find_api(self, resource: str) -> Api:
        """Return the application with an identifier URI or client id."""
        if resource not in self.apis:
            raise EntraError(500011, resource=resource, tenant=self.tenant)
        return self.apis[resource]

    # Routes

    def routes(self) -> Sequence[Route]:
        """Return the routes of the login host."""
        discovery = r"/\.well-known/openid-configuration"
        keys = rf"{_TENANT}/discovery(/v2\.0)?/keys"
        return (
            Route(
                "discovery",
                "GET",
                rf"{_TENANT}(?P<version>/v2\.0)?{discovery}",
                self._discovery,
            ),
            Route(
                "jwks",
                "GET",
                keys,
                lambda _, tenant: Response(body=self.keyring.jwks()),
            ),
            Route("token", "POST", rf"{_TENANT}/oauth2/v2\.0/token", self._token),
        )

    def _discovery(
        self, request: Request, tenant: str, version: str | None
    ) -> Response:
        if tenant != self.tenant:
            return EntraError(
                90002, oauth_error="invalid_tenant", tenant=tenant
            ).response()
        base, suffix = f"{self.url}/{tenant}", "/v2.0" if version else ""
        document = {
            "issuer": self.token_issuer().issuer(2 if version else 1),
            "authorization_endpoint": f"{base}/oauth2{suffix}/authorize",
            "token_endpoint": f"{base}/oauth2{suffix}/token",
            "jwks_uri": f"{base}/discovery{suffix}/keys",
            "token_endpoint_auth_methods_supported": [
                "client_secret_post",
                "private_key_jwt",
            ],
            "response_types_supported": [
                "code",
                "id_token",
                "code id_token",
                "id_token token",
            ],
            "subject_types_supported": ["pairwise"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "scopes_supported": ["openid", "profile", "email", "offline_access"],
        }
        return Response(body=document)

    def _token(self, request: Request, tenant: str) -> Response:
        form = request.form
        client_id, scope = form.get("client_id", ""), form.get("scope", "")
        log_fields = {"client_id": client_id, "scope": scope}
        try:
            token, client_auth = self._issue_token(request, tenant)
        except EntraError as error:
            return error.response(**log_fields)
        lifetime = self.token_settings.lifetime
        body = {
            "token_type": "Bearer",
            "expires_in": lifetime,
            "ext_expires_in": lifetime,
            "access_token": token,
        }
        return Response(
            body=body, log_fields={**log_fields, "client_auth": client_auth}
        )

    def _issue_token(self, request: Request, tenant: str) -> tuple[str, str]:
        form = request.form
        client_id, scope = form.get("client_id", ""), form.get("scope", "")
        if tenant != self.tenant:
            raise EntraError(90002, tenant=tenant)
        if form.get("grant_type") != "client_credentials":
            raise EntraError(70003, grant=form.get("grant_type", ""))
        if client_id not in self.applications:
            raise EntraError(700016, client_id=client_id, tenant=tenant)
        # MSAL adds OpenID scopes in some flows. The scope of the resource is the one
        # with the suffix.
        resources = [
            each.removesuffix(_SUFFIX)
            for each in scope.split()
            if each.endswith(_SUFFIX)
        ]
        if len(resources) != 1:
            raise EntraError(1002012, scope=scope)
        application = self.applications[client_id]
        client_auth = authenticate(application, form, f"{self.url}{request.path}")
        api = self.find_api(resources[0])
        appidacr: Any = "1" if client_auth == "client_secret" else "2"
        return self.token_issuer().token(
            application.principal, api, appidacr
        ), client_auth
