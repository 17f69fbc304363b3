"""What must hold when an execution is started."""

from __future__ import annotations

from typing import TYPE_CHECKING

from polysync_airflow.execution.lifecycle.options import OnClear

if TYPE_CHECKING:
    from tests.unit.execution.lifecycle.world import Airflow


def check_is_not_paid_twice(airflow: Airflow, epoch: int) -> None:
    """
    Check that a start does not repeat the steps of an execution that the author, or the
    user, wants to be resumed.

    :param epoch: that of the try that has sent the start.
    """
    latest = airflow.latest
    if latest is None or not latest.has_failed or epoch != airflow.max_tries:
        return
    if latest.arn in airflow.not_resumable | airflow.to_be_replaced[epoch]:
        return
    wanted: OnClear | None = airflow.options.retry_mode
    if epoch != airflow.latest_epoch:
        if latest.arn not in airflow.failed_before:
            # It ran at the clear: whatever its end is, a new one follows.
            return
        wanted = airflow.chosen.get(epoch, airflow.options.on_clear)
    counts_as_success = (
        latest.status == "CompletedWithFailures"
        and airflow.options.on_completed_with_failures == "succeed"
    )
    assert wanted != "resume" or counts_as_success, (
        f"a start in place of {latest.arn}, which is to be resumed"
    )
