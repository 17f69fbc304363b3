"""Which web identity tokens are exchanged for credentials, and what is said of the others."""

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

from polysync_airflow.emulator import ControlRefused, EmulatorServer
from tests.emulator.conftest import ClientOf
from tests.emulator.sagemaker.test_pipelines import refusal
from tests.emulator.sign_in.issuer import Issuer, certificates, key, published, running, token
from tests.emulator.sign_in.test_sts import ACCOUNT, ROLE, policy

ACTION = "sts:AssumeRoleWithWebIdentity"
NOT_LET_IN = ("AccessDenied", f"Not authorized to perform {ACTION}")
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
#: The tenant in Microsoft's documentation.
TENANT = "aaaabbbb-0000-cccc-1111-dddd2222eeee"
Trusting = Callable[[str], Callable[[str], Any]]


@pytest.fixture
def trusting(client_of: ClientOf) -> Trusting:
    """Make the role R trust subject and audience of an issuer, and return how it is assumed with a token."""

    def make(url: str) -> Callable[[str], Any]:
        iam, name = client_of("iam"), url.removeprefix("https://")
        answer = iam.create_open_id_connect_provider(
            Url=url, ClientIDList=["app", "other-app"], ThumbprintList=["0" * 40]
        )
        provider = answer["OpenIDConnectProviderArn"]
        assert provider == f"arn:aws:iam::{ACCOUNT}:oidc-provider/{name}"
        wanted = {"StringEquals": {f"{name}:aud": "app", f"{name}:sub": "airflow"}}
        trust = policy({"Federated": provider}, wanted, ACTION)
        iam.create_role(RoleName="R", AssumeRolePolicyDocument=json.dumps(trust))
        sts = client_of("sts")

        def assume(web_identity: str) -> Any:
            return sts.assume_role_with_web_identity(
                RoleArn=ROLE, RoleSessionName="me", WebIdentityToken=web_identity
            )

        return assume

    return make


@pytest.fixture
def assume(trusting: Trusting, issuer: Issuer) -> Callable[[str], Any]:
    """Assume R with a token of the running issuer."""
    return trusting(issuer.url)


def test_a_web_identity_is_let_in(
    assume: Callable[[str], Any], issuer: Issuer, create_session: Callable[..., Any], server: EmulatorServer
) -> None:
    """A token of the right issuer, audience and subject is exchanged for credentials that work."""
    answer = assume(token(issuer.url))
    assert answer["AssumedRoleUser"]["Arn"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/R/me"
    assert answer["SubjectFromWebIdentityToken"] == "airflow"
    assert answer["Audience"] == "app"
    me = create_session("sts", answer).get_caller_identity()
    assert (me["Arn"], me["UserId"]) == (
        answer["AssumedRoleUser"]["Arn"],
        answer["AssumedRoleUser"]["AssumedRoleId"],
    )
    exchange, use = server.control.calls()[-2:]
    assert exchange["operation"] == "AssumeRoleWithWebIdentity"
    assert (exchange["caller"], exchange["access_key_id"]) == (None, "")
    assert exchange["issued"] == answer["Credentials"]["AccessKeyId"] == use["access_key_id"]
    assert use["caller"] == me["Arn"]


@pytest.mark.parametrize(("kid", "alg"), [("RSA1", "RS384"), ("RSA1", "RS512"), ("EC1", "ES256")])
def test_an_issuer_may_sign_by_rsa_or_ecdsa(
    assume: Callable[[str], Any], issuer: Issuer, kid: str, alg: str
) -> None:
    """All families of signatures that AWS documents are verified with the key that the token names."""
    assert assume(token(issuer.url, kid=kid, alg=alg, aud=["x", "app"]))["Credentials"]


@pytest.mark.parametrize(
    ("claims", "code", "message"),
    [
        ({"sub": "somebody"}, *NOT_LET_IN),
        ({"aud": "other-app"}, *NOT_LET_IN),
        ({"aud": "stranger"}, "InvalidIdentityToken", "Incorrect token audience"),
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
def test_another_web_identity_is_refused(
    assume: Callable[[str], Any], issuer: Issuer, claims: dict[str, Any], code: str, message: str
) -> None:
    """Each claim that does not fit is refused in its own way."""
    assert refusal(assume, web_identity=token(issuer.url, **claims)) == (code, message)


def test_an_expired_web_identity_is_refused(assume: Callable[[str], Any], issuer: Issuer) -> None:
    """A token is good until its expiry, in real time."""
    code, message = refusal(assume, web_identity=token(issuer.url, exp=time.time() - 1))
    assert (code, message[:13]) == ("ExpiredTokenException", "Token expired")


@pytest.mark.parametrize("claim", ["nbf", "iat"])
def test_a_token_of_the_future_is_refused(assume: Callable[[str], Any], issuer: Issuer, claim: str) -> None:
    """An issuer's clock may be a little ahead of AWS's, but not an hour."""
    late: dict[str, Any] = {claim: time.time() + 3600, "exp": time.time() + 7200}
    soon: dict[str, Any] = {claim: time.time() + 60}
    assert refusal(assume, web_identity=token(issuer.url, **late)) == NOT_VALID
    assert assume(token(issuer.url, **soon))["Credentials"]


@pytest.mark.parametrize("text", ["no-token", "a.b.c", "a.bm90IGpzb24.c", "a.W10.c"])
def test_what_is_no_token_is_refused(assume: Callable[[str], Any], text: str) -> None:
    """A text that is no JSON web token is an InvalidIdentityToken."""
    assert refusal(assume, web_identity=text)[1].startswith("The ID Token provided is not a valid JWT.")


def encoded(data: bytes) -> str:
    """Return data as tokens have it."""
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def forged(issuer: Issuer, how: str) -> str:
    """Return a token that the issuer did not sign, although its claims are right."""
    good = token(issuer.url)
    claims = jwt.decode(good, options={"verify_signature": False})
    header, payload, signature = good.split(".")
    if how == "none":
        return jwt.encode(claims, "", algorithm="none", headers={"kid": "RSA1"})
    if how == "HS256":
        # The classic: the public key, which everybody has, taken for a secret. PyJWT refuses to make one.
        public = key("RSA1").public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        unsigned = f"{encoded(json.dumps({'alg': 'HS256', 'kid': 'RSA1'}).encode())}.{payload}"
        return f"{unsigned}.{encoded(hmac.digest(public, unsigned.encode(), 'sha256'))}"
    if how == "other key":
        return jwt.encode(claims, key("RSA9"), algorithm="RS256", headers={"kid": "RSA1"})
    if how == "other kind of key":
        return jwt.encode(claims, key("RSA9"), algorithm="RS256", headers={"kid": "EC1"})
    if how == "PS256":
        return token(issuer.url, alg="PS256")
    other = token(issuer.url, sub="airflow", jti="another").split(".")[1]
    return {"payload": f"{header}.{other}.{signature}", "no signature": f"{header}.{payload}."}[how]


@pytest.mark.parametrize(
    "how", ["none", "HS256", "PS256", "other key", "other kind of key", "payload", "no signature"]
)
def test_a_forged_token_is_refused(
    assume: Callable[[str], Any], issuer: Issuer, server: EmulatorServer, how: str
) -> None:
    """No claims, however right, are believed without a signature by a key that the issuer publishes."""
    text = forged(issuer, how)
    assert refusal(assume, web_identity=text) == NOT_VALID
    entry = server.control.calls()[-1]
    assert entry["detail"]
    assert not any(part and part in json.dumps(entry) for part in text.split("."))


@pytest.mark.parametrize("kid", [None, "RSA9"])
def test_a_key_that_is_not_published_is_missing(
    assume: Callable[[str], Any], issuer: Issuer, kid: str | None
) -> None:
    """A token must name a key, and the issuer must publish it."""
    assert refusal(assume, web_identity=token(issuer.url, kid=kid)) == NO_KEY


def test_keys_are_kept_until_an_unknown_one_is_named(assume: Callable[[str], Any], issuer: Issuer) -> None:
    """An issuer is asked once for its keys, and again at once when it signs with a new one."""
    for _ in range(3):
        assume(token(issuer.url))
    assert issuer.requests == ["/tenant/v2.0/.well-known/openid-configuration", "/tenant/v2.0/keys"]
    issuer.keys = published("RSA2")
    assert assume(token(issuer.url, kid="RSA2"))["Credentials"]
    assert issuer.requests[2:] == ["/tenant/v2.0/keys"]
    # A key that was withdrawn is believed no longer.
    assert refusal(assume, web_identity=token(issuer.url)) == NO_KEY


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"keys": None}, "HTTP Error 404"),
        ({"keys": {"keys": []}}, "did not contain any keys"),
        ({"named": "https://somebody.example/"}, "does not describe this issuer"),
    ],
)
def test_an_issuer_without_keys_is_told(
    assume: Callable[[str], Any],
    issuer: Issuer,
    server: EmulatorServer,
    change: dict[str, Any],
    detail: str,
) -> None:
    """AWS only says that it has no key; the call log says why."""
    vars(issuer).update(change)
    assert refusal(assume, web_identity=token(issuer.url)) == NO_KEY
    assert detail in server.control.calls()[-1]["detail"]


def test_an_issuer_that_cannot_be_reached_is_told(
    trusting: Trusting, issuer_files: tuple[Path, Path], server: EmulatorServer
) -> None:
    """Without its issuer a token is refused; as soon as the issuer is back it is good."""
    with running("/tenant/v2.0", issuer_files[1]) as gone:
        assume = trusting(gone.url)
    assert refusal(assume, web_identity=token(gone.url)) == NO_KEY
    assert "refused" in server.control.calls()[-1]["detail"]


def test_an_issuer_of_another_authority_is_not_believed(
    trusting: Trusting, tmp_path: Path, server: EmulatorServer
) -> None:
    """The keys must come over TLS with a certificate of an authority that the emulator trusts."""
    with running("/tenant/v2.0", certificates(tmp_path)[1]) as stranger:
        assume = trusting(stranger.url)
        assert refusal(assume, web_identity=token(stranger.url)) == NO_KEY
        assert "CERTIFICATE_VERIFY_FAILED" in server.control.calls()[-1]["detail"]
        assert stranger.requests == []


@pytest.mark.parametrize(
    "name", [f"https://sts.windows.net/{TENANT}/", f"https://login.microsoftonline.com/{TENANT}/v2.0"]
)
def test_given_keys_need_no_network(trusting: Trusting, server: EmulatorServer, name: str) -> None:
    """With an issuer's keys at hand its tokens are verified offline, for both names Microsoft Entra goes by."""
    assume = trusting(name)
    assert server.control.set_sign_in(issuers={name: published("RSA1")})["issuers"] == [name]
    assert assume(token(name))["Credentials"]
    assert refusal(assume, web_identity=token(name, sub="somebody")) == NOT_LET_IN
    assert refusal(assume, web_identity=token(name, kid="EC1", alg="ES256")) == NO_KEY
    with pytest.raises(ControlRefused, match="is no JSON Web Key Set"):
        server.control.set_sign_in(issuers={name: {"keys": []}})
    assert assume(token(name))["Credentials"]


def test_a_trailing_slash_is_part_of_the_issuer(
    trusting: Trusting, issuer_files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An issuer whose name ends in a slash, as Entra's v1 does, is found under it, and only with it."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with running("/tenant/", issuer_files[1]) as issuer:
        assume = trusting(issuer.url)
        assert assume(token(issuer.url))["Credentials"]
        assert issuer.requests[0] == "/tenant/.well-known/openid-configuration"
        shorter = issuer.url.rstrip("/")
        assert refusal(assume, web_identity=token(shorter))[1].endswith(f"in your account for {shorter}")


def test_an_authorized_party_is_the_audience(assume: Callable[[str], Any], issuer: Issuer) -> None:
    """A token with azp is for whom azp says, as with AWS; its aud counts no longer."""
    assert assume(token(issuer.url, aud="stranger", azp="app"))["Audience"] == "app"
    assert refusal(assume, web_identity=token(issuer.url, azp="other-app")) == NOT_LET_IN
    assert refusal(assume, web_identity=token(issuer.url, azp="stranger")) == (
        "InvalidIdentityToken",
        "Incorrect token audience",
    )
