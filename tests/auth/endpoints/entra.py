"""Owns a Microsoft Entra tenant on the loopback interface: discovery, keys, and the token endpoint.

How azure-identity 1.27 (MSAL 1.39) is brought here, as tried against this stand-in:

- Authority: ``authority=entra.url`` or ``AZURE_AUTHORITY_HOST``; it must be https, a port is fine.
- ``disable_instance_discovery=True`` for the client secret and the certificate: without it MSAL asks the
  public cloud (``login.microsoftonline.com``, never the given host) whether this authority is known. Workload
  identity and managed identity ask for no discovery and need no such option.
- CA: ``connection_verify=<ca_file>`` or ``REQUESTS_CA_BUNDLE`` (which botocore obeys too) or
  ``CURL_CA_BUNDLE``. ``SSL_CERT_FILE`` has no effect.
- Real issuers are at ``sts.windows.net`` (version 1) and ``login.microsoftonline.com`` (version 2); here both
  begin with this endpoint's URL, so that whoever verifies a token can fetch ``{iss}/.well-known/...``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from uuid import uuid4

from cryptography import x509

from tests.auth.endpoints.aadsts import Refusal
from tests.auth.endpoints.certificates import Pki
from tests.auth.endpoints.issuing import Api, Mint, Principal, Shape
from tests.auth.endpoints.keyring import Keyring
from tests.auth.endpoints.loopback import Answer, Endpoint, Request, Route
from tests.auth.endpoints.proofs import Application, Federation, prove

_TENANT = r"/(?P<tenant>[^/]+)"
_SUFFIX = "/.default"


class Entra(Endpoint):
    """A tenant over https.

    Routes: ``discovery``, ``jwks``, ``token``. The call log notes ``client_id``, ``scope``, ``proof`` and, of a
    refusal, ``error``.

    :param pki: who vouches for the server; clients need its ``ca_file``.
    :param tenant: the tenant's id, made up if None.
    :param audience: identifier URI of the app registration that stands for AWS; scope is `default_scope`.
    :param shape: what tokens look like; see also `shaped`.
    """

    def __init__(
        self,
        pki: Pki,
        *,
        tenant: str | None = None,
        audience: str = "sts.amazonaws.com",
        shape: Shape | None = None,
    ) -> None:
        super().__init__(tls=pki.server_context())
        self.ca_file = pki.ca_file
        self.tenant = tenant or str(uuid4())
        self.keyring, self.shape = Keyring(), shape or Shape()
        self.applications: dict[str, Application] = {}
        self.apis: dict[str, Api] = {}
        self.api = self.expose(audience)

    # What an administrator does

    def expose(self, identifier_uri: str) -> Api:
        """Register an application that tokens can be asked for, by its URI or its client id."""
        api = Api(identifier_uri, str(uuid4()))
        self.apis |= {identifier_uri: api, api.client_id: api}
        return api

    def register(
        self,
        *,
        secret: str | None = None,
        expired_secret: str | None = None,
        certificate: x509.Certificate | None = None,
        federation: Federation | None = None,
    ) -> Application:
        """Register an application that signs in by any of the proofs given."""
        principal = Principal(str(uuid4()), str(uuid4()))
        application = Application(principal, secret, expired_secret, certificate, federation)
        self.applications[principal.client_id] = application
        return application

    @contextmanager
    def shaped(self, **changes: Any) -> Iterator[None]:
        """Hand out other tokens inside the block; takes the parameters of `Shape`."""
        before, self.shape = self.shape, replace(self.shape, **changes)
        try:
            yield
        finally:
            self.shape = before

    # What a client needs

    @property
    def default_scope(self) -> str:
        """The scope that yields a token for AWS."""
        return self.api.identifier_uri + _SUFFIX

    @property
    def environment(self) -> dict[str, str]:
        """The variables that send azure-identity here (beside ``disable_instance_discovery=True``)."""
        return {"AZURE_AUTHORITY_HOST": self.url, "REQUESTS_CA_BUNDLE": str(self.ca_file)}

    @property
    def issuer(self) -> str:
        """The ``iss`` of the tokens that `shape` asks for."""
        return self.shape.issuer or self.mint().issuer(self.shape.version)

    @property
    def audience(self) -> str:
        """The ``aud`` of the tokens for AWS that `shape` asks for."""
        usual = self.api.client_id if self.shape.version == 2 else self.api.identifier_uri
        return self.shape.audience or usual

    def mint(self) -> Mint:
        """Return the maker of this tenant's tokens, as they are to look now."""
        return Mint(self.tenant, self.url, self.keyring, self.shape)

    def find_api(self, resource: str) -> Api:
        """Return the application behind a resource's URI or client id."""
        if resource not in self.apis:
            raise Refusal(500011, resource=resource, tenant=self.tenant)
        return self.apis[resource]

    # What it answers

    def routes(self) -> Sequence[Route]:
        """Return what the login host answers."""
        discovery = r"/\.well-known/openid-configuration"
        keys = rf"{_TENANT}/discovery(/v2\.0)?/keys"
        return (
            Route("discovery", "GET", rf"{_TENANT}(?P<version>/v2\.0)?{discovery}", self._discovery),
            Route("jwks", "GET", keys, lambda _, tenant: Answer(body=self.keyring.jwks())),
            Route("token", "POST", rf"{_TENANT}/oauth2/v2\.0/token", self._token),
        )

    def _discovery(self, request: Request, tenant: str, version: str | None) -> Answer:
        if tenant != self.tenant:
            return Refusal(90002, error="invalid_tenant", tenant=tenant).answer()
        base, two = f"{self.url}/{tenant}", "/v2.0" if version else ""
        document = {
            "issuer": self.mint().issuer(2 if version else 1),
            "authorization_endpoint": f"{base}/oauth2{two}/authorize",
            "token_endpoint": f"{base}/oauth2{two}/token",
            "jwks_uri": f"{base}/discovery{two}/keys",
            "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt"],
            "response_types_supported": ["code", "id_token", "code id_token", "id_token token"],
            "subject_types_supported": ["pairwise"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "scopes_supported": ["openid", "profile", "email", "offline_access"],
        }
        return Answer(body=document)

    def _token(self, request: Request, tenant: str) -> Answer:
        form = request.form
        client_id, scope = form.get("client_id", ""), form.get("scope", "")
        note = {"client_id": client_id, "scope": scope}
        try:
            token, proof = self._grant(request, tenant)
        except Refusal as refusal:
            return refusal.answer(**note)
        lifetime = self.shape.lifetime
        body = {
            "token_type": "Bearer",
            "expires_in": lifetime,
            "ext_expires_in": lifetime,
            "access_token": token,
        }
        return Answer(body=body, note={**note, "proof": proof})

    def _grant(self, request: Request, tenant: str) -> tuple[str, str]:
        form = request.form
        client_id, scope = form.get("client_id", ""), form.get("scope", "")
        if tenant != self.tenant:
            raise Refusal(90002, tenant=tenant)
        if form.get("grant_type") != "client_credentials":
            raise Refusal(70003, grant=form.get("grant_type", ""))
        if client_id not in self.applications:
            raise Refusal(700016, client_id=client_id, tenant=tenant)
        # MSAL adds the OpenID scopes for some flows; the resource is the one with the suffix.
        resources = [word.removesuffix(_SUFFIX) for word in scope.split() if word.endswith(_SUFFIX)]
        if len(resources) != 1:
            raise Refusal(1002012, scope=scope)
        application = self.applications[client_id]
        proof = prove(application, form, f"{self.url}{request.path}")
        api = self.find_api(resources[0])
        acr: Any = "1" if proof == "client_secret" else "2"
        return self.mint().token(application.principal, api, acr), proof
