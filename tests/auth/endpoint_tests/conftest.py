"""Owns the fixtures of the stand-ins' own tests: one authority, tenant and cluster, well-behaved at each start."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

import pytest

from tests.auth.endpoints.certificates import Pki
from tests.auth.endpoints.cluster import Cluster
from tests.auth.endpoints.entra import Entra

#: What would send a client elsewhere than to the endpoint that a test sets up.
_ELSEWHERE = (
    "AZURE_AUTHORITY_HOST",
    "AZURE_POD_IDENTITY_AUTHORITY_HOST",
    "IDENTITY_ENDPOINT",
    "IDENTITY_HEADER",
    "MSI_ENDPOINT",
    "AZURE_FEDERATED_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
)


class Environ(Protocol):
    """Sets variables for the length of a test."""

    def __call__(self, variables: Mapping[str, str]) -> None:
        """Set them."""


@pytest.fixture
def environ(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Environ:
    """An environment without a trace of the host's identities, and a way to add to it."""
    for name in _ELSEWHERE:
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "absent"))

    def set_all(variables: Mapping[str, str]) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return set_all


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    """The authority that all https stand-ins hang from."""
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="session")
def _entra(pki: Pki) -> Iterator[Entra]:
    with Entra(pki) as entra:
        yield entra


@pytest.fixture
def entra(_entra: Entra) -> Entra:
    """A tenant without faults and with an empty call log."""
    _entra.faults.clear()
    _entra.calls.clear()
    return _entra


@pytest.fixture(scope="session")
def cluster(pki: Pki) -> Iterator[Cluster]:
    """A Kubernetes cluster's token issuer."""
    with Cluster(pki) as cluster:
        yield cluster
