"""The loopback account of the tests of what jobs have made and used."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conftest import connection
from tests.fakes.fake_sagemaker import answering
from tests.tasks import EmulatedTime
from tests.unit.operators.outcome.ended_account import Account


@pytest.fixture
def aws(
    emulated_time: EmulatedTime, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Account]:
    """An account to which the connection leads."""
    account = Account()
    with answering(account.respond) as (url, _):
        monkeypatch.setenv(
            "AIRFLOW_CONN_POLYSYNC_DEFAULT", connection(endpoint_url=url)
        )
        yield account
