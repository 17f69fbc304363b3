"""Who may act on the execution of a try that Airflow has replaced: the whole table."""

from __future__ import annotations

import pytest

from polysync_airflow.airflow_compat.task_instances import DELETED
from polysync_airflow.execution.lifecycle.ownership import Owner, owner_of_replaced
from polysync_airflow.execution.models import StartRequest, StoredExecution

RECORD = StoredExecution(
    epoch=2,
    region_name="eu-west-1",
    request=StartRequest(
        pipeline_name="Train",
        pipeline_parameters={},
        execution_display_name="nightly",
        client_request_token="a" * 32,
    ),
    try_number=2,
)
OF_A_LATER_TRY = RECORD.model_copy(update={"try_number": 3})
OF_ANOTHER_EXECUTION = RECORD.model_copy(
    update={"request": RECORD.request.model_copy(update={"client_request_token": "b" * 32})}
)


@pytest.mark.parametrize(
    ("state", "copy", "owner"),
    [
        *(
            (state, copy, Owner.LATER_TRY)
            for state in ("scheduled", "queued", "running", "deferred", "up_for_retry", "up_for_reschedule")
            for copy in (RECORD, OF_A_LATER_TRY, None)
        ),
        *((DELETED, copy, Owner.NOBODY) for copy in (RECORD, OF_A_LATER_TRY, None)),
        *(
            (state, copy, owner)
            for state in (None, "success", "failed", "skipped", "removed", "upstream_failed", "restarting")
            for copy, owner in (
                (RECORD, Owner.NOBODY),
                (OF_A_LATER_TRY, Owner.LATER_TRY),
                (OF_ANOTHER_EXECUTION, Owner.LATER_TRY),
                # A later try deletes the XComs when it begins, and may have ended since.
                (None, Owner.LATER_TRY),
            )
        ),
    ],
)
def test_owner_of_replaced_task_instance(
    state: str | None, copy: StoredExecution | None, owner: Owner
) -> None:
    """A try decides alone only if the task was deleted, or if its own record is still the last one."""
    assert owner_of_replaced(RECORD, 2, state, copy) is owner
