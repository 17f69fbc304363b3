"""The decision table of recovery, every combination of what is stored, seen and asked for."""

from __future__ import annotations

from itertools import product

import pytest

from polysync_airflow.execution.models import StartRequest, StoredExecution
from polysync_airflow.execution.recovery import Action, RetryMode, next_action
from polysync_airflow.states import STATE_OF_STATUS

# "*" is any; status "-" is one that was not looked at; "Pausing" is one that AWS may invent.
TABLE = """
record  epoch  status                 retry_mode  failures  may_stop  move

none    *      *                      *           *         *         START
no-arn  *      *                      *           *         *         RESEND_START
arn     *      -                      *           *         *         DESCRIBE

arn     same   Executing              *           *         *         REATTACH
arn     same   Pausing                *           *         *         REATTACH
arn     same   Succeeded              *           *         *         REATTACH
arn     same   Stopping               *           *         *         WAIT_FOR_END
arn     same   Stopped                *           *         *         START
arn     same   Failed                 new         *         *         START
arn     same   Failed                 resume      *         *         RESUME
arn     same   CompletedWithFailures  *           succeed   *         REATTACH
arn     same   CompletedWithFailures  new         fail      *         START
arn     same   CompletedWithFailures  resume      fail      *         RESUME

arn     new    Executing              *           *         yes       STOP
arn     new    Executing              *           *         no        WAIT_FOR_END
arn     new    Pausing                *           *         yes       STOP
arn     new    Pausing                *           *         no        WAIT_FOR_END
arn     new    Stopping               *           *         *         WAIT_FOR_END
arn     new    Succeeded              *           *         *         START
arn     new    Failed                 *           *         *         START
arn     new    CompletedWithFailures  *           *         *         START
arn     new    Stopped                *           *         *         START
"""
COLUMNS, *ROWS = [tuple(line.split()) for line in TABLE.splitlines() if line]

RECORDS = ("none", "no-arn", "arn")
EPOCHS = ("same", "new")
STATUSES = ("-", "Pausing", *STATE_OF_STATUS)
RETRY_MODES: tuple[RetryMode, ...] = ("new", "resume")
FAILURES = ("succeed", "fail")
MAY_STOP = ("yes", "no")

REQUEST = StartRequest(
    pipeline_name="fanout",
    pipeline_parameters={},
    execution_display_name="nightly",
    client_request_token="polysync-".ljust(40, "0"),
)
ARN = "arn:aws:sagemaker:us-east-1:123456789012:pipeline/fanout/execution/abcdefghijkl"


def row_of(*case: str) -> tuple[str, ...]:
    """Return the one row of the table that speaks of a case."""
    (row,) = [row for row in ROWS if all(said in ("*", is_) for said, is_ in zip(row, case, strict=False))]
    return row


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("epoch", EPOCHS)
@pytest.mark.parametrize("record", RECORDS)
def test_every_case_is_decided_as_the_table_says(record: str, epoch: str, status: str) -> None:
    """Each combination is in the table exactly once, and decided so."""
    stored = StoredExecution(
        epoch=2, region_name="us-east-1", request=REQUEST, execution_arn=ARN if record == "arn" else None
    )
    for retry_mode, failures, may_stop in product(RETRY_MODES, FAILURES, MAY_STOP):
        move = next_action(
            None if record == "none" else stored,
            2 if epoch == "same" else 3,
            None if status == "-" else status,
            retry_mode=retry_mode,
            failures_succeed=failures == "succeed",
            may_stop=may_stop == "yes",
        )

        case = (record, epoch, status, retry_mode, failures, may_stop)
        assert move.name == row_of(*case)[-1], case


def test_the_table_has_no_row_that_speaks_of_nothing() -> None:
    """Every row is some case's: a status that AWS renames leaves none behind."""
    cases = product(RECORDS, EPOCHS, STATUSES, RETRY_MODES, FAILURES, MAY_STOP)

    assert {row_of(*case) for case in cases} == set(ROWS)
    assert {row[-1] for row in ROWS} == {move.name for move in Action}


def test_an_epoch_is_another_also_if_it_is_smaller() -> None:
    """Whoever lowers ``retries`` and clears gets a new execution, too."""
    stored = StoredExecution(epoch=2, region_name="us-east-1", request=REQUEST, execution_arn=ARN)

    assert next_action(stored, 1, "Succeeded") is Action.START
    assert next_action(stored, 1, "Executing") is Action.STOP
