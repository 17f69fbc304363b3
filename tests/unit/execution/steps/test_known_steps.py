"""The statuses of steps in the event of an end, in a short form."""

from __future__ import annotations

import json

from polysync_airflow.execution.pipelines import DeclaredStep
from polysync_airflow.execution.steps.descriptions import order_text
from polysync_airflow.execution.steps.progress import lengthened, shortened

NAMES = ("Prepare", "Split", "Train", "Check", "Register")
DECLARED = order_text([DeclaredStep(name, "Training") for name in NAMES])
STATUSES = {"Prepare": "Succeeded", "Split": "Succeeded", "Check": "Failed"}


def test_statuses_are_the_same_after_the_short_form() -> None:
    """Steps in a row share an item, and those without a status are counted."""
    known_steps = shortened(json.dumps(STATUSES), DECLARED)

    assert known_steps == (("Succeeded", 2), ("", 1), ("Failed", 1), ("", 1))
    assert json.loads(lengthened(known_steps, DECLARED)) == STATUSES


def test_step_that_is_not_declared_has_no_short_form() -> None:
    """The task reads the XCom then."""
    assert shortened(json.dumps({**STATUSES, "Added": "Failed"}), DECLARED) is None
