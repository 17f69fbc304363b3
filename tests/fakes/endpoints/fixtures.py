"""
Fixtures with the fake servers: certificate authority, Entra tenant, Kubernetes cluster.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

import pytest

from tests.fakes.endpoints.certificates import Pki
from tests.fakes.endpoints.cluster import Cluster
from tests.fakes.endpoints.entra import Entra

# Variables that would make a client use another server than the one that a test starts.
_IDENTITY_VARIABLES = (
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
    """Sets environment variables until the end of the test."""

    def __call__(self, variables: Mapping[str, str]) -> None:
        """Set the variables."""


@pytest.fixture
def environ(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Environ:
    """
    Remove the identities of the host from the environment, and return a function that
    sets variables.
    """
    for name in _IDENTITY_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "absent"))

    def set_all(variables: Mapping[str, str]) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return set_all


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    """The certificate authority of all fake https servers."""
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="session")
def _entra(pki: Pki) -> Iterator[Entra]:
    with Entra(pki) as entra:
        yield entra


@pytest.fixture
def entra(_entra: Entra) -> Entra:
    """A fake Entra tenant without faults and with an empty call log."""
    _entra.faults.clear()
    _entra.calls.clear()
    return _entra


@pytest.fixture(scope="session")
def cluster(pki: Pki) -> Iterator[Cluster]:
    """The token issuer of a fake Kubernetes cluster."""
    with Cluster(pki) as cluster:
        yield cluster
