"""
What the tab shows of a task that watches one step: the step, the others, and what a
clear of the task does.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.browser import arranged
from tests.browser.airflow_site import Site, Task
from tests.browser.tab_page import TabPage
from tests.conftest import NEEDS_TABS

pytestmark = [pytest.mark.system, NEEDS_TABS]

DAG = "churn_steps"
STEPS = ("Preprocess", "Train", "Register")
IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:1.7-1"
INPUTS = ["s3://ml-bucket/churn/train", "s3://ml-bucket/churn/validation"]
NOTHING = "AWS repeats nothing"
ALONE = f"{NOTHING}. The task looks at the step again: clear with Downstream."


def arrange(
    site: Site, xcoms: arranged.XComs | None, execution: str | None = "failed"
) -> dict[str, Task]:
    """Return the tasks of a group's run, by step; that of the execution is in a state."""
    states = {
        "churn.Preprocess": "success",
        "churn.Train": "failed",
        "churn.Register": "upstream_failed",
        "churn.execution": execution,
    }
    run_id = site.new_run(DAG, "failed", states, seconds=770)
    tasks = {
        name: Task(run_id, f"churn.{name}", dag_id=DAG)
        for name in (*STEPS, "execution")
    }
    if xcoms:
        xcoms.steps = [step for step in xcoms.steps if step["name"] in STEPS]
        site.publish(tasks["execution"], xcoms)
    return tasks


def effects(page: TabPage) -> list[str]:
    """Return what a clear does, alone and with Downstream."""
    texts: list[str] = page.tab.locator(".psm-effects dd").all_inner_texts()
    return texts


def detail(page: TabPage, name: str) -> str:
    """Return what the tab says of the step under a name."""
    term = page.page.get_by_role("term").get_by_text(name, exact=True)
    details = page.tab.locator(".psm-step-details .psm-detail")
    text: str = details.filter(has=term).get_by_role("definition").inner_text()
    return text


def test_failed_step(site: Site, page: TabPage) -> None:
    """
    Its state, times, reason, log, job, metrics, cost, image, inputs, outputs, and what
    the steps before it have made; the other steps in one row; the way to the execution.
    """
    xcoms = arranged.failure()
    made = {"output_uris": {"train": "s3://ml-bucket/churn/train"}}
    xcoms.outputs = {"Preprocess": made}
    tasks = arrange(site, xcoms)
    train = tasks["Train"]
    (row,) = [step for step in xcoms.steps if step["name"] == "Train"]
    cost = {"amount": 1.23, "currency": "USD", "prices_date": "2026-11-01"}
    outputs = {
        "metrics": {"validation:auc": 0.83},
        "billable_seconds": 460,
        "instance_type": "ml.m5.xlarge",
        "instance_count": 2,
        "training_job_arn": "arn:aws:sagemaker:us-east-1:1:training-job/train",
    }
    job = {"cost": cost, "image": IMAGE, "inputs": INPUTS, "outputs": outputs}
    site.write_xcom(train, "step", {**row, **job})

    page.open(train)
    page.wait_for(arranged.REASON)

    badge = page.tab.get_by_role("status").first.inner_text()
    assert badge.split() == ["✕", "Failed"]
    assert page.tab.get_by_role("heading").inner_text() == "Train"
    assert page.stat("Duration") == "7 min 40 s"
    assert page.stat("Type") == "Training"
    assert arranged.LOG_LINES[-1] in page.text()
    assert page.table("Metrics of Train")[1] == ["validation:auc", "0.83"]
    assert page.stat("Estimated cost") == "1.23 USD · prices of 2026-11-01"
    assert detail(page, "Image") == IMAGE
    assert detail(page, "Inputs").splitlines() == INPUTS
    assert "ml.m5.xlarge, 7 min 40 s each" in detail(page, "Billable time")
    assert page.table("Outputs of Train") == [
        ["training_job_arn", outputs["training_job_arn"]]
    ]
    assert arranged.LOG_URL in page.links()
    page.button("Made by the steps before it").click()
    assert page.table("What the steps before it have made") == [
        ["Preprocess: output_uris.train", "s3://ml-bucket/churn/train"]
    ]
    chips = page.tab.get_by_role("list", name="Steps of the execution")
    assert chips.get_by_role("listitem").all_inner_texts() == [
        f"{icon}\n{name}" for icon, name in zip("✓✕○", STEPS, strict=True)
    ]
    chips.get_by_role("link", name="Preprocess").click()
    page.page.wait_for_url("**/tasks/churn.Preprocess/**")
    page.tab.get_by_role("heading", name="Preprocess").wait_for()
    page.tab.get_by_role("link", name=arranged.PIPELINE).click()
    page.wait_for("The execution failed: step Train")


def test_step_that_is_repeated_is_not_shown_as_before(
    site: Site, page: TabPage
) -> None:
    """A task that begins again in a triggerer keeps the XComs of its earlier try."""
    tasks = arrange(site, case("Running", "Executing", Preprocess="Success"))
    train = tasks["Train"]
    row = arranged.step("Train", "Training", "Success", start=arranged.START)
    site.write_xcom(train, "step", row)
    site.set_state(train, "deferred")
    site.set_state(tasks["execution"], "deferred")

    page.open(train)
    page.wait_for("Clear with Downstream")

    badge = page.tab.get_by_role("status").first.inner_text()
    assert badge.split(maxsplit=1) == ["○", "Not started"]


def case(state: str, status: str, **steps: str) -> arranged.XComs:
    """Return an execution whose steps are in states."""
    rows = [
        arranged.step(name, "Training", steps.get(name, "NotStarted")) for name in STEPS
    ]
    return arranged.XComs(arranged.run(state, status, start=arranged.START), rows)


ALL_SUCCEEDED = dict.fromkeys(STEPS, "Success")
CASES: dict[str, tuple[str, arranged.XComs, str]] = {
    "running": (
        "Train",
        case("Running", "Executing", Preprocess="Success", Train="Running"),
        "The execution goes on to its end. If it fails, AWS resumes it, and repeats what"
        " has not succeeded; otherwise, AWS repeats nothing.",
    ),
    "running, succeeded": (
        "Train",
        case("Running", "Executing", Preprocess="Success", Train="Success"),
        "The execution goes on to its end. Then AWS repeats Train, Register, in a new"
        " execution that takes over the results of the others.",
    ),
    "failed": (
        "Train",
        case("Failed", "Failed", Preprocess="Success", Train="Failed"),
        "AWS resumes the execution, and repeats what has not succeeded: Train, Register.",
    ),
    "failed later": (
        "Train",
        case("Failed", "Failed", **{**ALL_SUCCEEDED, "Register": "Failed"}),
        "AWS repeats Train, Register, in a new execution that takes over the results",
    ),
    "succeeded": (
        "Train",
        case("Success", "Succeeded", **ALL_SUCCEEDED),
        "AWS repeats Train, Register, in a new execution that takes over the results",
    ),
    "all": (
        "Preprocess",
        case("Success", "Succeeded", **ALL_SUCCEEDED),
        "AWS runs all 3 steps again, in a new execution.",
    ),
    "stopped": (
        "Train",
        case("Cancelled", "Stopped", Preprocess="Success", Train="Cancelled"),
        f"{NOTHING}, because the execution ended with the status Stopped",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_a_clear_does(name: str, site: Site, page: TabPage) -> None:
    """The same as the operator decides after it."""
    step, xcoms, expected = CASES[name]
    execution = "deferred" if name.startswith("running") else "failed"
    tasks = arrange(site, xcoms, execution)

    page.open(tasks[step])
    page.wait_for("Clear with Downstream")

    alone, downstream = effects(page)
    assert alone == ALONE
    assert downstream.startswith(expected)


@pytest.mark.parametrize(
    ("xcoms", "expected"),
    [
        (None, "There is no execution yet"),
        (
            arranged.XComs(arranged.run("Running", "Executing", start=arranged.START)),
            "Step Train is not known",
        ),
    ],
    ids=["no execution", "no such step"],
)
def test_step_that_is_not_there(
    site: Site, page: TabPage, xcoms: Any, expected: str
) -> None:
    """The tab says why, and leads to the execution."""
    tasks = arrange(site, xcoms, "deferred")

    page.open(tasks["Train"])

    page.wait_for(expected)
    page.tab.get_by_role("link", name="the execution").click()
    page.page.wait_for_url("**/tasks/churn.execution/**")


def test_execution_that_goes_on_after_a_clear_of_some_steps(
    site: Site, page: TabPage
) -> None:
    """Its task waits for it, and has no execution of its own meanwhile."""
    task = arrange(site, None)["execution"]
    site.set_state(task, "deferred", 2)

    page.open(task)

    page.wait_for("the task waits for its end, and stops it if all steps were cleared.")
