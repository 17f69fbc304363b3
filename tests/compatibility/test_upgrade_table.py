"""
Each row of the table of what a task finds after an upgrade, or a return to the release
before, has a test.
"""

from __future__ import annotations

import re
from typing import Final

from tests.chaos.cases.change_cases import CHANGE_CASES, RELEASE_CASES
from tests.documentation.pages import ROOT, page

RECORDS: Final = "tests/operators/recovery/records"
# By the beginning of the row: test functions, and cases of `make chaos`, which run on a
# real Airflow. The row about a record that was deleted right before a return has none:
# what it describes is only what the release before does.
PROOFS: Final = {
    "after an upgrade, a record of": ["46d", "46f", "tests/compatibility/test_stored.py::test_a_clear_stops_the_stored_execution"],
    "after an upgrade, a request": ["46e", "tests/compatibility/test_stored.py::test_a_stored_request_without_an_arn_is_sent_again"],
    "after an upgrade, no record": [f"{RECORDS}/test_clearing.py::test_ended_execution_is_neither_reattached_nor_resumed"],
    "after a return, a record": ["46a", "46b", "46c"],
    "after a return, no record": [],
    "after a rotation": [f"{RECORDS}/test_forged_records.py::test_key_rotation"],
    "after such a rotation": ["tests/operators/test_failure_callback.py::test_record_of_before_a_key_rotation_stops_nothing"],
    "after a deletion": [f"{RECORDS}/test_damaged_records.py::test_execution_is_found_without_its_record"],
    "after a change of its parameters": ["44a", "44b"],
}  # fmt: skip


def test_each_row_has_a_proof() -> None:
    """A row that nobody has tried is a guess."""
    rows = page("how-to/upgrade.md").rows("How do I go back to an earlier version?")
    found = [re.sub(r"\[(.*?)\]\(.*?\)", r"\1", row) for row in rows][1:]

    assert len(found) == len(PROOFS)
    for row, beginning in zip(found, PROOFS, strict=True):
        assert row.startswith(beginning)


def test_the_proofs_exist() -> None:
    """Whoever renames a test finds its row."""
    cases = {case.number for case in (*CHANGE_CASES, *RELEASE_CASES)}
    for proof in (each for proofs in PROOFS.values() for each in proofs):
        path, _, function = proof.partition("::")
        assert proof in cases or f"\ndef {function}(" in (ROOT / path).read_text(), (
            proof
        )
