"""
Tests of AssumeRoleWithWebIdentity: which tokens are accepted, and the errors for all
others.
"""

from __future__ import annotations

import base64
import hmac
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sagemaker_emulator import ControlRefused, EmulatorServer
from tests.conftest import ClientOf
from tests.sagemaker.test_pipelines import error_of
from tests.sign_in.issuer import Issuer, certificates, key, published, running, token
from tests.sign_in.test_sts import ACCOUNT, ROLE, policy

ACTION = "sts:AssumeRoleWithWebIdentity"
ACCESS_DENIED = ("AccessDenied", f"Not authorized to perform {ACTION}")
NO_KEY = (
    "InvalidIdentityToken",
    "Couldn't retrieve verification key from your identity provider,  please reference "
    "AssumeRoleWithWebIdentity documentation for requirements",
)
NOT_VALID = (
    "InvalidIdentityToken",
    "The web identity token that was passed could not be validated by AWS. Get a new identity token from "
    "the identity provider and then retry the request.",
)
#: The example tenant id in Microsoft's documentation.
TENANT = "aaaabbbb-0000-cccc-1111-dddd2222eeee"
CreateTrustingRole = Callable[[str], Callable[[str], Any]]


@pytest.fixture
def create_trusting_role(client_of: ClientOf) -> CreateTrustingRole:
    """
    Make the role R trust a subject and an audience of an issuer, and return a function
    that assumes R with a token.
    """

    def make(url: str) -> Callable[[str], Any]:
        iam, name = client_of("iam"), url.removeprefix("https://")
        response = iam.create_open_id_connect_provider(
            Url=url, ClientIDList=["app", "other-app"], ThumbprintList=["0" * 40]
        )
        provider = response["OpenIDConnectProviderArn"]
        assert provider == f"arn:aws:iam::{ACCOUNT}:oidc-provider/{name}"
        condition = {"StringEquals": {f"{name}:aud": "app", f"{name}:sub": "airflow"}}
        trust = policy({"Federated": provider}, condition, ACTION)
        iam.create_role(RoleName="R", AssumeRolePolicyDocument=json.dumps(trust))
        sts = client_of("sts")

        def assume(web_identity: str) -> Any:
            return sts.assume_role_with_web_identity(
                RoleArn=ROLE, RoleSessionName="me", WebIdentityToken=web_identity
            )

        return assume

    return make


@pytest.fixture
def assume(
    create_trusting_role: CreateTrustingRole, issuer: Issuer
) -> Callable[[str], Any]:
    """Assume R with a token of the running issuer."""
    return create_trusting_role(issuer.url)


def test_valid_token_is_accepted(
    assume: Callable[[str], Any],
    issuer: Issuer,
    create_session: Callable[..., Any],
    server: EmulatorServer,
) -> None:
    """
    A token with the right issuer, audience and subject is exchanged for credentials
    that work.
    """
    response = assume(token(issuer.url))
    assert (
        response["AssumedRoleUser"]["Arn"]
        == f"arn:aws:sts::{ACCOUNT}:assumed-role/R/me"
    )
    assert response["SubjectFromWebIdentityToken"] == "airflow"
    assert response["Audience"] == "app"
    me = create_session("sts", response).get_caller_identity()
    assert (me["Arn"], me["UserId"]) == (
        response["AssumedRoleUser"]["Arn"],
        response["AssumedRoleUser"]["AssumedRoleId"],
    )
    exchange, use = server.control.calls()[-2:]
    assert exchange["operation"] == "AssumeRoleWithWebIdentity"
    assert (exchange["caller"], exchange["access_key_id"]) == (None, "")
    assert (
        exchange["issued"]
        == response["Credentials"]["AccessKeyId"]
        == use["access_key_id"]
    )
    assert use["caller"] == me["Arn"]


@pytest.mark.parametrize(
    ("kid", "alg"), [("RSA1", "RS384"), ("RSA1", "RS512"), ("EC1", "ES256")]
)
def test_rsa_and_ecdsa_signatures(
    assume: Callable[[str], Any], issuer: Issuer, kid: str, alg: str
) -> None:
    """
    Signatures of all algorithm families that AWS documents are verified with the key
    that the token names.
    """
    assert assume(token(issuer.url, kid=kid, alg=alg, aud=["x", "app"]))["Credentials"]


@pytest.mark.parametrize(
    ("claims", "code", "message"),
    [
        ({"sub": "somebody"}, *ACCESS_DENIED),
        ({"aud": "other-app"}, *ACCESS_DENIED),
        ({"aud": "untrusted"}, "InvalidIdentityToken", "Incorrect token audience"),
        (
            {"iss": "https://evil.example.com"},
            "InvalidIdentityToken",
            "No OpenIDConnect provider found in your account for https://evil.example.com",
        ),
        ({"exp": None}, "InvalidIdentityToken", "Missing a required claim: exp"),
        ({"sub": None}, "InvalidIdentityToken", "Missing a required claim: sub"),
        ({"aud": None}, "InvalidIdentityToken", "Missing a required claim: aud"),
        ({"iss": None}, "InvalidIdentityToken", "Missing a required claim: iss"),
    ],
)
def test_token_with_invalid_claims_is_rejected(
    assume: Callable[[str], Any],
    issuer: Issuer,
    claims: dict[str, Any],
    code: str,
    message: str,
) -> None:
    """Each invalid claim results in its own error."""
    assert error_of(assume, web_identity=token(issuer.url, **claims)) == (code, message)


def test_expired_token_is_rejected(
    assume: Callable[[str], Any], issuer: Issuer
) -> None:
    """A token is valid until its expiration in real time."""
    code, message = error_of(
        assume, web_identity=token(issuer.url, exp=time.time() - 1)
    )
    assert (code, message[:13]) == ("ExpiredTokenException", "Token expired")


@pytest.mark.parametrize("claim", ["nbf", "iat"])
def test_token_from_the_future_is_rejected(
    assume: Callable[[str], Any], issuer: Issuer, claim: str
) -> None:
    """The clock of an issuer can be a minute ahead of AWS's clock, but not an hour."""
    late: dict[str, Any] = {claim: time.time() + 3600, "exp": time.time() + 7200}
    soon: dict[str, Any] = {claim: time.time() + 60}
    assert error_of(assume, web_identity=token(issuer.url, **late)) == NOT_VALID
    assert assume(token(issuer.url, **soon))["Credentials"]


@pytest.mark.parametrize("text", ["no-token", "a.b.c", "a.bm90IGpzb24.c", "a.W10.c"])
def test_text_that_is_not_a_token_is_rejected(
    assume: Callable[[str], Any], text: str
) -> None:
    """A text that is not a JSON Web Token is an InvalidIdentityToken error."""
    assert error_of(assume, web_identity=text)[1].startswith(
        "The ID Token provided is not a valid JWT."
    )


def base64url(data: bytes) -> str:
    """Return data in the encoding of a JSON Web Token."""
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def forged_token(issuer: Issuer, how: str) -> str:
    """Return a token with valid claims that the issuer did not sign."""
    valid = token(issuer.url)
    claims = jwt.decode(valid, options={"verify_signature": False})
    header, payload, signature = valid.split(".")
    if how == "none":
        return jwt.encode(claims, "", algorithm="none", headers={"kid": "RSA1"})
    if how == "HS256":
        # The well-known attack: the public key is used as an HMAC secret. PyJWT refuses
        # to create such a token.
        public = (
            key("RSA1")
            .public_key()
            .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        )
        unsigned = f"{base64url(json.dumps({'alg': 'HS256', 'kid': 'RSA1'}).encode())}.{payload}"
        return (
            f"{unsigned}.{base64url(hmac.digest(public, unsigned.encode(), 'sha256'))}"
        )
    if how == "other key":
        return jwt.encode(
            claims, key("RSA9"), algorithm="RS256", headers={"kid": "RSA1"}
        )
    if how == "other kind of key":
        return jwt.encode(
            claims, key("RSA9"), algorithm="RS256", headers={"kid": "EC1"}
        )
    if how == "PS256":
        return token(issuer.url, alg="PS256")
    other = token(issuer.url, sub="airflow", jti="another").split(".")[1]
    return {
        "payload": f"{header}.{other}.{signature}",
        "no signature": f"{header}.{payload}.",
    }[how]


@pytest.mark.parametrize(
    "how",
    [
        "none",
        "HS256",
        "PS256",
        "other key",
        "other kind of key",
        "payload",
        "no signature",
    ],
)
def test_forged_token_is_rejected(
    assume: Callable[[str], Any], issuer: Issuer, server: EmulatorServer, how: str
) -> None:
    """
    A token is rejected without a valid signature by a key that the issuer publishes.
    """
    text = forged_token(issuer, how)
    assert error_of(assume, web_identity=text) == NOT_VALID
    entry = server.control.calls()[-1]
    assert entry["detail"]
    assert not any(part and part in json.dumps(entry) for part in text.split("."))


@pytest.mark.parametrize("kid", [None, "RSA9"])
def test_token_must_name_a_published_key(
    assume: Callable[[str], Any], issuer: Issuer, kid: str | None
) -> None:
    """A token must name a key, and the issuer must publish this key."""
    assert error_of(assume, web_identity=token(issuer.url, kid=kid)) == NO_KEY


def test_keys_are_cached_until_a_token_names_an_unknown_key(
    assume: Callable[[str], Any], issuer: Issuer
) -> None:
    """
    The keys of an issuer are requested once, and again as soon as a token names a new
    key.
    """
    for _ in range(3):
        assume(token(issuer.url))
    assert issuer.requests == [
        "/tenant/v2.0/.well-known/openid-configuration",
        "/tenant/v2.0/keys",
    ]
    issuer.keys = published("RSA2")
    assert assume(token(issuer.url, kid="RSA2"))["Credentials"]
    assert issuer.requests[2:] == ["/tenant/v2.0/keys"]
    # A key that the issuer no longer publishes is not accepted.
    assert error_of(assume, web_identity=token(issuer.url)) == NO_KEY


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"keys": None}, "HTTP Error 404"),
        ({"keys": {"keys": []}}, "did not contain any keys"),
        (
            {"published_issuer": "https://somebody.example/"},
            "does not describe this issuer",
        ),
    ],
)
def test_reason_for_missing_keys_is_in_the_call_log(
    assume: Callable[[str], Any],
    issuer: Issuer,
    server: EmulatorServer,
    change: dict[str, Any],
    detail: str,
) -> None:
    """AWS's error says only that there is no key; the call log contains the reason."""
    vars(issuer).update(change)
    assert error_of(assume, web_identity=token(issuer.url)) == NO_KEY
    assert detail in server.control.calls()[-1]["detail"]


def test_token_of_an_unreachable_issuer_is_rejected(
    create_trusting_role: CreateTrustingRole,
    issuer_files: tuple[Path, Path],
    server: EmulatorServer,
) -> None:
    """
    A token is rejected if its issuer cannot be reached, and the call log contains the
    reason.
    """
    with running("/tenant/v2.0", issuer_files[1]) as unreachable:
        assume = create_trusting_role(unreachable.url)
    assert error_of(assume, web_identity=token(unreachable.url)) == NO_KEY
    assert "refused" in server.control.calls()[-1]["detail"]


def test_issuer_with_an_untrusted_certificate_is_rejected(
    create_trusting_role: CreateTrustingRole, tmp_path: Path, server: EmulatorServer
) -> None:
    """
    Keys are requested only over TLS with a certificate of a CA that the emulator
    trusts.
    """
    with running("/tenant/v2.0", certificates(tmp_path)[1]) as untrusted:
        assume = create_trusting_role(untrusted.url)
        assert error_of(assume, web_identity=token(untrusted.url)) == NO_KEY
        assert "CERTIFICATE_VERIFY_FAILED" in server.control.calls()[-1]["detail"]
        assert untrusted.requests == []


@pytest.mark.parametrize(
    "name",
    [
        f"https://sts.windows.net/{TENANT}/",
        f"https://login.microsoftonline.com/{TENANT}/v2.0",
    ],
)
def test_configured_keys_need_no_network(
    create_trusting_role: CreateTrustingRole, server: EmulatorServer, name: str
) -> None:
    """
    With configured keys, tokens are verified without a network, for both issuer URLs of
    Microsoft Entra.
    """
    assume = create_trusting_role(name)
    assert server.control.set_sign_in(issuers={name: published("RSA1")})["issuers"] == [
        name
    ]
    assert assume(token(name))["Credentials"]
    assert error_of(assume, web_identity=token(name, sub="somebody")) == ACCESS_DENIED
    assert error_of(assume, web_identity=token(name, kid="EC1", alg="ES256")) == NO_KEY
    with pytest.raises(ControlRefused, match="is not a JSON Web Key Set"):
        server.control.set_sign_in(issuers={name: {"keys": []}})
    assert assume(token(name))["Credentials"]


def test_trailing_slash_is_part_of_the_issuer(
    create_trusting_role: CreateTrustingRole,
    issuer_files: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    An issuer whose URL ends with a slash, as Entra's v1 issuer, is found only with the
    slash.
    """
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with running("/tenant/", issuer_files[1]) as issuer:
        assume = create_trusting_role(issuer.url)
        assert assume(token(issuer.url))["Credentials"]
        assert issuer.requests[0] == "/tenant/.well-known/openid-configuration"
        shorter = issuer.url.rstrip("/")
        assert error_of(assume, web_identity=token(shorter))[1].endswith(
            f"in your account for {shorter}"
        )


@pytest.mark.parametrize(
    ("claim", "value", "is_key"),
    [
        ("sub", "wanted", True),
        ("email", "wanted", True),
        ("amr", ["pwd", "wanted"], True),
        ("oid", "wanted", False),
        ("tid", "wanted", False),
        ("groups", ["wanted"], False),
    ],
)
def test_trust_policy_can_have_conditions_on_the_claims_of_aws(
    claim: str,
    value: Any,
    is_key: bool,
    assume: Callable[[str], Any],
    issuer: Issuer,
    client_of: ClientOf,
) -> None:
    """
    Only the claims that AWS knows are condition keys; a condition on any other claim
    never matches.
    """
    name = issuer.url.removeprefix("https://")
    provider = f"arn:aws:iam::{ACCOUNT}:oidc-provider/{name}"
    condition = {"ForAnyValue:StringEquals": {f"{name}:{claim}": "wanted"}}
    trust = policy({"Federated": provider}, condition, ACTION)
    client_of("iam").update_assume_role_policy(
        RoleName="R", PolicyDocument=json.dumps(trust)
    )

    if is_key:
        assert assume(token(issuer.url, **{claim: value}))["Credentials"]
    else:
        assert (
            error_of(assume, web_identity=token(issuer.url, **{claim: value}))
            == ACCESS_DENIED
        )
    assert (
        error_of(assume, web_identity=token(issuer.url, **{claim: "other"}))
        == ACCESS_DENIED
    )
    if claim != "sub":
        assert error_of(assume, web_identity=token(issuer.url)) == ACCESS_DENIED


def test_authorized_party_is_the_audience(
    assume: Callable[[str], Any], issuer: Issuer
) -> None:
    """If a token has the claim azp, it is the audience instead of aud, as with AWS."""
    assert assume(token(issuer.url, aud="untrusted", azp="app"))["Audience"] == "app"
    assert (
        error_of(assume, web_identity=token(issuer.url, azp="other-app"))
        == ACCESS_DENIED
    )
    assert error_of(assume, web_identity=token(issuer.url, azp="untrusted")) == (
        "InvalidIdentityToken",
        "Incorrect token audience",
    )
