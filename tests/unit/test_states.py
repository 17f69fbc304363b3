"""
The states: the table that maps AWS's statuses, which of them are final, and which can
be stopped.
"""

from __future__ import annotations

from typing import Any

import botocore.session
import pytest

from polysync_airflow.states import (
    STATE_OF_STATUS,
    PolysyncState,
    has_ended,
    is_stoppable,
    state_of,
)


def test_table_has_every_status_of_botocore() -> None:
    """
    The table has each status in botocore's enum, so that a status that AWS adds fails
    this test.
    """
    model: Any = botocore.session.get_session().get_service_model("sagemaker")
    enum = set(model.shape_for("PipelineExecutionStatus").enum)

    assert enum <= STATE_OF_STATUS.keys()
    # botocore before 1.43 does not list CompletedWithFailures. The table must not have
    # more statuses.
    assert STATE_OF_STATUS.keys() - enum <= {"CompletedWithFailures"}


@pytest.mark.parametrize(
    ("status", "state", "ended", "stoppable"),
    [
        ("Executing", "Running", False, True),
        ("Stopping", "Running", False, False),
        ("Succeeded", "Success", True, False),
        ("Failed", "Failed", True, False),
        ("Stopped", "Cancelled", True, False),
        ("CompletedWithFailures", "Failed", True, False),
        ("Pausing", "Unknown", False, True),
        ("succeeded", "Unknown", False, True),
    ],
)
def test_every_status_has_one_state(
    status: str, state: str, ended: bool, stoppable: bool
) -> None:
    """
    Each status has a state, and it is known whether the execution has ended and can be
    stopped.
    """
    assert state_of(status) == state
    assert has_ended(status) == ended
    assert is_stoppable(status) == stoppable
    assert state_of(None) is PolysyncState.UNKNOWN
