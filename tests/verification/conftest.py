"""Fixtures: an account of the emulator, whose time passes only while a check waits."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from polysync_airflow.verification.account import Account
from polysync_airflow.verification.arguments import Options
from polysync_airflow.verification.beliefs.messages import inbox
from polysync_airflow.verification.hook import VerifyHook
from sagemaker_emulator import EmulatorServer
from tests.conftest import connection
from tests.tasks import EmulatedTime
from tests.verification.other_aws import OtherAws

ROLE = "arn:aws:iam::123456789012:role/service-role/Pipelines"
RUN_ID = "0123abcd"

MakeAccount = Callable[..., Account]


@pytest.fixture
def make_account(
    emulator: EmulatorServer, emulated_time: EmulatedTime, monkeypatch: pytest.MonkeyPatch
) -> MakeAccount:
    """Return a function that makes an account at an address, by default that of the emulator."""

    def make(options: Options | None = None, url: str | None = None) -> Account:
        url = url or emulator.endpoint_url
        value = connection(endpoint_url=url, sts_endpoint_url=url)
        monkeypatch.setenv("AIRFLOW_CONN_POLYSYNC_DEFAULT", value)
        # A wait of SQS takes the time of the host.
        monkeypatch.setattr(inbox, "_WAIT_SECONDS", 0)
        return Account(VerifyHook(), ROLE, RUN_ID, options)

    return make


@pytest.fixture
def other_aws(emulator: EmulatorServer) -> Iterator[OtherAws]:
    """A server in front of the emulator, which may answer in another way."""
    with OtherAws(emulator.port) as server:
        yield server


def names(emulator: EmulatorServer) -> set[str]:
    """Return the names of the pipelines that the checks have made and not deleted."""
    return {name for region in emulator.pipelines.values() for name in region if name.startswith("polysync-")}
