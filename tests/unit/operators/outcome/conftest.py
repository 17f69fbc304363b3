"""The loopback account of the tests of what jobs have made and used."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fakes.fake_sagemaker import answering, connected
from tests.tasks import EmulatedTime
from tests.unit.operators.outcome.ended_account import Account


@pytest.fixture
def aws(emulated_time: EmulatedTime) -> Iterator[Account]:
    """An account to which the connection leads."""
    account = Account()
    with connected(answering(account.respond)) as account.operations:
        yield account
