"""
The path of a connection on the page Architecture, compared with what two sign-ins do.
"""

from __future__ import annotations

from typing import Any

import pytest

from polysync_airflow.hooks import PolysyncSageMakerHook
from sagemaker_emulator import EmulatorServer
from tests.documentation.traces import assert_documented, traced
from tests.fakes.endpoints.fixtures import _entra, cluster, entra, environ, pki
from tests.unit.auth.sign_in import auth_methods
from tests.unit.auth.sign_in.conftest import (
    SignInContext,
    _sts_emulator,
    account,
    context,
    emulator,
    no_secret_in_output,
)

__all__ = [  # fixtures
    "_entra",
    "_sts_emulator",
    "account",
    "cluster",
    "context",
    "emulator",
    "entra",
    "environ",
    "no_secret_in_output",
    "pki",
]
pytestmark = pytest.mark.documentation

# What all clients and their logs have in common; parts of it run once in a process.
PASSED = ("hooks/", "execution/", "metrics.py", "get_provider_info.py")


def test_path_of_a_connection(
    context: SignInContext,
    emulator: EmulatorServer,
) -> None:
    """
    From the connection to signed credentials: with a token from Entra ID, and with one
    in a file.
    """
    found: list[str] = []
    for auth_method in (auth_methods.client_secret, auth_methods.identity_file):
        emulator.control.reset()
        auth_method(context)
        with traced(lambda _: True, *PASSED) as trace:
            credentials: Any = PolysyncSageMakerHook().get_session().get_credentials()
            credentials.get_frozen_credentials()
        found += [file for file in trace.files if file not in found]

    assert_documented("A connection, to signed credentials", found)
