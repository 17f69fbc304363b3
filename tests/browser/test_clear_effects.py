"""
What the tab of a step's task says of a clear, compared with what the execution task
decides.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pytest

from polysync_airflow.exceptions import ParametersError
from polysync_airflow.execution.step_clears import (
    ClearedSteps,
    after_clear,
    first_listing,
)
from polysync_airflow.execution.steps.descriptions import StepDescription
from tests.unit.ui.test_static_files import SOURCES

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.system
ARN = "arn:aws:sagemaker:us-east-1:123456789012:pipeline/churn/execution/abc"
STEP_STATES = {"Success": "Succeeded", "Failed": "Failed", "NotStarted": None}
SUMMARIES = {
    "Executing": "Running",
    "Succeeded": "Success",
    "Failed": "Failed",
    "CompletedWithFailures": "Failed",
    "Stopped": "Cancelled",
}


def clear_cases() -> list[tuple[str, list[str], list[str]]]:
    """Return statuses, the states of the steps A, B and C, and what is cleared."""
    subsets = [["A"], ["C"], ["A", "C"], ["B", "C"], ["A", "B", "C"]]
    states = itertools.product(STEP_STATES, repeat=3)
    return [
        (status, [*each], cleared)
        for status, each, cleared in itertools.product(SUMMARIES, states, subsets)
    ]


def decided(
    status: str, states: Sequence[str], cleared: Sequence[str]
) -> tuple[str, ...]:
    """
    Return what the execution task does after a clear, and, if it waits for the end of
    the execution, what it does after each end.
    """
    steps = [
        StepDescription.model_validate(
            {"StepName": name, "StepStatus": STEP_STATES[state]}
        )
        for name, state in zip("ABC", states, strict=True)
    ]
    tasks = ClearedSteps(cleared, are_all=len(cleared) == len(states))
    try:
        clear = after_clear(tasks, status, steps)
        if clear.action != "wait":
            return (clear.action,)
        first = first_listing(ARN, 1, steps, tasks, 0)
        ends = ("Failed", "Succeeded")
        later = [after_clear(tasks, end, steps, first).action for end in ends]
    except ParametersError:
        return ("refused",)
    return ("wait", *later)


def announced(text: str, cleared: Sequence[str]) -> tuple[str, ...]:
    """Return what the tab says that the execution task does."""
    select = f"AWS repeats {', '.join(cleared)}, in a new execution that takes over"
    goes_on = "The execution goes on to its end."
    if text.startswith("AWS runs all 3 steps again, in a new execution."):
        return ("new",)
    if text.startswith(f"{goes_on} Then {select}"):
        return ("wait", "select", "select")
    if text.startswith(f"{goes_on} If it fails, AWS resumes it"):
        # Otherwise, its outcome is that of the task.
        assert text.endswith("otherwise, AWS repeats nothing.")
        return ("wait", "resume", "resume")
    if text.startswith("AWS resumes the execution"):
        return ("resume",)
    if text.startswith(select):
        return ("select",)
    assert text.startswith("AWS repeats nothing, because"), text
    return ("refused",)


def test_tab_announces_what_the_execution_task_decides(browser: Browser) -> None:
    """What a clear does with an execution, for each status and state of its steps."""
    page = browser.new_page()
    page.add_script_tag(content=SOURCES["clear_effect.js"].replace("export ", ""))
    cases = clear_cases()
    given = [[status, SUMMARIES[status], *rest] for status, *rest in cases]

    texts = page.evaluate(
        """cases => cases.map(([status, state, states, cleared]) => {
            const steps = ["A", "B", "C"].map((name, index) => ({ name, state: states[index] }));
            const group = { tasks: steps, cleared: cleared.map((name) => ({ name })) };
            return clearEffects(group, { run: { state, status }, steps }).downstream;
        })""",
        given,
    )
    page.close()

    for (status, states, cleared), text in zip(cases, texts, strict=True):
        told = announced(text, cleared)
        assert told == decided(status, states, cleared), (status, states, cleared, text)
