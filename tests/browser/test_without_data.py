"""
What the tab says if it has nothing to show, or something that no task of Polysync has
written.
"""

from __future__ import annotations

from typing import Any

import pytest

from polysync_airflow.execution.lifecycle.instructions import ClearChoice
from tests.browser import arranged
from tests.browser.airflow_site import Site
from tests.browser.tab_page import TabPage
from tests.conftest import NEEDS_TABS
from tests.system.airflow.versions import INSTALLED

pytestmark = [pytest.mark.system, pytest.mark.nightly, NEEDS_TABS]


@pytest.mark.parametrize(
    ("task_id", "state", "expected"),
    [
        ("import_jobs", "success", "This task starts no execution"),
        ("import_jobs", "failed", "This task starts no execution"),
        ("approve", "queued", "The task has not started yet"),
        (
            "approve",
            "running",
            "The task has not found the execution of its callback step yet",
        ),
        ("approve", "failed", "The task ended before it had found the execution."),
        ("train", None, "The task has not started yet"),
        ("train", "running", "The task has not started its execution yet"),
        ("train", "failed", "The task ended before SageMaker started an execution."),
        ("stop", None, "The task has not started yet"),
        ("stop", "running", "The task has not found the execution that it stops yet"),
        ("stop", "failed", "The task ended before it had found the execution."),
        ("find", None, "The task has not started yet"),
        ("find", "queued", "The task has not started yet"),
        ("find", "deferred", "The task has not found an execution yet"),
        # A sensor that is rescheduled has looked before.
        ("find", "up_for_reschedule", "The task has not found an execution yet"),
        ("find", "failed", "The task ended before it had found the execution."),
    ],
)
def test_no_execution(
    site: Site, page: TabPage, task_id: str, state: str | None, expected: str
) -> None:
    """Each reason has a text of its own."""
    page.open(site.new_task(state, task_id))

    page.wait_for(expected)
    if state == "failed":
        page.tab.get_by_role("link", name="Log of the task").wait_for()


def test_last_error_of_the_log_is_shown(site: Site, page: TabPage) -> None:
    """Where there is no execution, with a link to the log of the try; never as markup."""
    raised: dict[str, Any] = {
        "exc_type": "ParametersError",
        "exc_value": "<b>MaxDepth</b> is unknown",
    }
    # Airflow's own page of the log reads more of it.
    raised |= {"exc_notes": [], "frames": [], "is_cause": False, "syntax_error": None}
    entries = [
        {"event": "first", "level": "error"},
        {"event": "Task failed", "level": "error", "error_detail": [raised]},
        {"event": "The end", "level": "info"},
    ]
    page.answer(r"/taskInstances/train/logs/2\?", 200, {"content": entries})
    task = site.new_task("failed", try_number=2)

    page.open(task)

    page.wait_for("ParametersError: <b>MaxDepth</b> is unknown")
    link = page.tab.get_by_role("link", name="Log of the task")
    assert (link.get_attribute("href") or "").endswith("/tasks/train?try_number=2")


def test_task_of_another_operator(site: Site, page: TabPage) -> None:
    """
    It has no tab where Airflow lets a plugin choose; elsewhere, the tab says that there
    is no execution.
    """
    from playwright.sync_api import expect

    task = site.new_task("success", "notify")
    if INSTALLED.scoped_tabs:
        page.page.goto(f"{site.url}{task.page}")
        page.page.get_by_role("link", name="Details", exact=True).wait_for()
        expect(
            page.page.get_by_role("link", name="SageMaker", exact=True)
        ).to_have_count(0)
    else:
        page.open(task)
        page.wait_for("The operator of this task is EmptyOperator.")


def test_choice_is_left_without_an_execution(site: Site, page: TabPage) -> None:
    """The try after the clear may fail before it reads its record."""
    task = site.new_task("failed")
    site.put_record(task, clear_choice=ClearChoice(on_clear="resume"))
    page.open(task)
    page.wait_for("The next clear of this task resumes the failed steps")

    page.button("Withdraw").click()

    page.button("Withdraw").wait_for(state="detached")
    assert site.record_of(task).clear_choice is None


def test_no_permission(site: Site, page: TabPage) -> None:
    """A person who may not read XComs learns just that."""
    task = site.new_task("deferred")
    site.publish(task, arranged.running())
    page.answer(r"/xcoms\?", 200, {"is_allowed": False})

    page.open(task)

    page.wait_for("No permission to read XComs")
    assert "churn-tuning" not in page.text()


def test_no_permission_for_the_task(site: Site, page: TabPage) -> None:
    """A person who may not see it learns just that, and who can change it."""
    page.answer("/taskInstances/train", 403, {"detail": "Forbidden"})

    page.open(site.new_task("failed"))

    page.wait_for("You may not see this task: an administrator of Airflow can")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"stops_with_task": True}, "ran, and is stopped: the AWS console shows"),
        ({}, "ran, and goes on, because the DAG sets stop_on_kill=False"),
        ({"state": "Failed", "status": "Failed"}, "had the state Failed."),
    ],
)
def test_task_that_was_deleted_while_somebody_looks(
    site: Site, page: TabPage, changes: dict[str, Any], expected: str
) -> None:
    """The tab says of its execution what it had read."""
    task = site.new_task("deferred")
    xcoms = arranged.running()
    xcoms.run |= changes
    site.publish(task, xcoms)
    page.open(task)
    page.wait_for("AWS status")
    page.answer("/taskInstances/train", 404, {"detail": "Not found"})

    page.button("Refresh").click()

    page.wait_for(expected)
    assert "address is wrong" not in page.text()
    page.tab.get_by_role("link", name="SageMaker Console").wait_for()


def test_task_that_was_never_there(site: Site, page: TabPage) -> None:
    """Nothing is known of its execution, and nothing said of it."""
    page.answer("/taskInstances/train", 404, {"detail": "Not found"})

    page.open(site.new_task("deferred"))

    page.wait_for("or the address is wrong. If it had an execution, polysync")


@pytest.mark.parametrize(
    ("state", "status", "steps", "expected"),
    [
        ("running", "Executing", None, "The task has not stored the steps yet."),
        (
            "success",
            "Executing",
            None,
            "The task has stored no steps: it ended without waiting for the execution.",
        ),
        ("deferred", "Executing", [], "The steps appear as soon as they begin"),
        ("success", "Succeeded", [], "AWS has listed no steps."),
    ],
)
def test_no_steps(
    site: Site,
    page: TabPage,
    state: str,
    status: str,
    steps: list[Any] | None,
    expected: str,
) -> None:
    """Where the steps would be, the tab says why there are none."""
    task = site.new_task(state)
    run_state = "Running" if status == "Executing" else "Success"
    site.write_xcom(
        task, "run", arranged.run(run_state, status, start=arranged.ago(60))
    )
    if steps is not None:
        site.write_xcom(task, "steps", steps)

    page.open(task)

    page.wait_for(expected)


def test_missing_permission_of_the_task(site: Site, page: TabPage) -> None:
    """
    If AWS does not let the task list steps, the reason takes their place, and the rest
    is shown.
    """
    task = site.new_task("deferred")
    note = "sagemaker:ListPipelineExecutionSteps is not allowed."
    xcoms = arranged.running()
    site.publish(task, arranged.XComs({**xcoms.run, "steps_note": note}))

    page.open(task)

    page.wait_for(note)
    assert page.stat("AWS status") == "Executing"


def test_earlier_tries(site: Site, page: TabPage) -> None:
    """
    The tab says of which try its data are, and that there are none of earlier tries.
    """
    task = site.new_task("success", try_number=3)
    site.publish(task, arranged.success())

    page.open(task)
    page.wait_for("Notify")

    assert page.stat("Try of the task") == "3; the data of earlier tries are not kept"


def test_last_known_state(site: Site, timed_page: TabPage) -> None:
    """
    If the task ended before its execution, the tab says so, and the durations do not go
    on.
    """
    page, task = timed_page, site.new_task("success")
    site.publish(task, arranged.running())
    page.open(task)
    page.wait_for("This is the last known state")
    before = page.step_texts(), page.stat("Duration")

    page.page.clock.run_for(90_000)

    assert (page.step_texts(), page.stat("Duration")) == before


def test_missing_map_index(site: Site, page: TabPage) -> None:
    """The page of a mapped task without a map index leads to its instances."""
    task = site.new_task("deferred", "train_each", map_index=0)
    mapped = [type(task)(task.run_id, task.task_id, index) for index in range(3)]
    site.set_state(mapped[2], "failed")
    site.publish(mapped[2], arranged.failure())

    page.open(type(task)(task.run_id, task.task_id))
    page.wait_for("This task is mapped: 3 task instances")

    assert page.table("Mapped task instances")[1:] == [
        ["0", "deferred"],
        ["1", "no status"],
        ["2", "failed"],
    ]
    page.tab.get_by_role("link", name="2", exact=True).click()
    page.wait_for("The execution failed: step Train")


def test_many_mapped_instances(site: Site, page: TabPage) -> None:
    """
    The list is as long as Airflow's API allows; the rest is counted. Names and states
    are texts.
    """
    task = site.new_task("success", "train_each", map_index=0)
    instance = {"map_index": 7, "rendered_map_index": MARKUP, "state": "success"}
    listed = {
        "task_instances": [instance, {"map_index": -1}, {}, None] * 40,
        "total_entries": 250,
    }
    page.answer("/listMapped", 200, listed)

    page.open(type(task)(task.run_id, task.task_id))
    page.wait_for("This task is mapped: 250 task instances")

    assert page.table("Mapped task instances")[1:] == [[MARKUP, "success"]] * 25
    page.wait_for("225 more are in Airflow's list of the task instances.")
    assert page.page.evaluate("window.hacked") is None


@pytest.mark.parametrize(
    ("note", "title"),
    [
        (
            "Property file Evaluation of step Evaluate (s3://b/e.json) could not be read: 404",
            "A property file is missing",
        ),
        (
            "The definition declares no property file Evaluation.",
            "A property file is missing",
        ),
        (
            "The steps of the execution could not be listed: AccessDenied",
            "Steps are missing",
        ),
        (
            "The XCom outputs lacks what is too long: Train.metrics.",
            "Outputs are missing",
        ),
    ],
)
def test_what_is_missing(site: Site, page: TabPage, note: str, title: str) -> None:
    """The heading of the note says what is missing."""
    task, xcoms = site.new_task("success"), arranged.success()
    xcoms.run["steps_note"] = note
    site.publish(task, xcoms)

    page.open(task)
    page.wait_for(note)

    assert page.tab.locator(".psm-notice-warning").inner_text().split("\n") == [
        title,
        note,
    ]


def test_nothing_is_asked_for_in_vain(site: Site, page: TabPage) -> None:
    """Browsers show each request for what does not exist as an error."""
    tasks = [site.new_task(state) for state in (None, "running", "failed", "deferred")]
    site.write_xcom(tasks[-1], "run", arranged.running().run)

    for task in tasks:
        page.open(task)
        page.button("Refresh").wait_for()
        page.page.wait_for_load_state("networkidle")

    # The fixture checks that nothing was not found.
    assert sum("/xcoms?" in url for url in page.api_requests) == len(tasks)


@pytest.mark.parametrize(
    ("key", "size", "expected"),
    [
        ("outputs", 2**16, "Some XComs are too large, and not shown: outputs."),
        ("run", 2**18, "The XCom “run” of the task is too large"),
    ],
)
def test_large_xcoms_are_named(
    site: Site, page: TabPage, key: str, size: int, expected: str
) -> None:
    """The API server does not load them. Without "run", nothing is known."""
    task = site.new_task("success")
    site.publish(task, arranged.success())
    site.write_xcom(task, key, {"padding": "x" * size})

    page.open(task)

    page.wait_for(expected)


MARKUP = '<img src=x onerror="window.hacked = 1"><script>window.hacked = 1</script>'
FOREIGN_URLS = [
    "javascript:window.hacked=1",
    "http://eu-central-1.console.aws.amazon.com/sagemaker",
    "https://console.aws.amazon.com.example.org/",
    "https://console.aws.amazon.com@example.org/",
    "https://example.org/?console.aws.amazon.com",
    "data:text/html,<script>window.hacked=1</script>",
]


def test_markup_stays_text(site: Site, page: TabPage) -> None:
    """
    Names, reasons, logs, outputs and parameters with markup are shown as they are, and
    run nothing.
    """
    start = arranged.ago(100)
    url = "https://console.aws.amazon.com@example.org/"
    steps = [
        arranged.step(
            f"{MARKUP}{number}",
            MARKUP,
            "Failed",
            start,
            10,
            reason=MARKUP,
            log_lines=[MARKUP],
            job_arn=MARKUP,
            job_name=MARKUP,
            console_url=foreign,
            log_url=foreign,
        )
        for number, foreign in enumerate(FOREIGN_URLS)
    ]
    outputs = {
        step["name"]: {MARKUP: MARKUP, "constructor": "c", "__proto__": {"a": "b"}}
        for step in steps
    }
    fields = {
        "pipeline_name": MARKUP,
        "message": MARKUP,
        "parameters": {MARKUP: MARKUP},
        "steps_note": MARKUP,
    }
    run = {
        **arranged.run("Failed", MARKUP, start=start),
        **fields,
        "execution_arn": MARKUP,
    }
    task = site.new_task("failed")
    site.publish(task, arranged.XComs(run, steps, outputs, console_url=url))

    page.open(task)
    page.wait_for("The execution failed")
    page.button("Parameters (1)").click()

    assert page.text().count(MARKUP) > 6 * len(FOREIGN_URLS)
    assert page.links() == []
    assert all(foreign in page.text() for foreign in [*FOREIGN_URLS, url])
    assert page.tab.locator("img, script, iframe").count() == 0
    assert page.page.evaluate("window.hacked") is None
    assert page.page.evaluate("({}).a") is None


@pytest.mark.parametrize(
    "value",
    [
        7,
        "text",
        [1, 2],
        {"name": 1},
        [None, 5, "x", {"name": ""}, {"name": "Good", "type": [], "log_lines": {}}],
    ],
    ids=lambda value: type(value).__name__,
)
def test_unknown_shapes_are_ignored(site: Site, page: TabPage, value: Any) -> None:
    """
    XComs that have another shape, because somebody has edited them, break nothing.
    """
    run = arranged.running().run
    wrong = {
        "parameters": value,
        "seconds": "x",
        "started_at": "yesterday",
        "failed_steps": value,
        "resumes": -1,
    }
    task = site.new_task("deferred")
    site.write_xcom(task, "run", {**run, **wrong, "state": "Exploded"})
    site.write_xcom(task, "steps", value)
    site.write_xcom(task, "outputs", value)
    site.write_xcom(task, "console_url", value)

    page.open(task)

    page.wait_for("churn-tuning")
    assert page.tab.get_by_role("status").first.inner_text().split() == ["?", "Unknown"]
    good = isinstance(value, list) and len(value) > 2
    assert page.step_texts() == (["Good | ? | Unknown"] if good else [])


def test_long_and_invisible_texts(site: Site, page: TabPage) -> None:
    """Long texts are cut, and characters that hide or turn a text are replaced."""
    start = arranged.ago(100)
    step = arranged.step(
        "Train",
        "Training",
        "Failed",
        start,
        10,
        reason="r" * 5000,
        log_lines=["l" * 9000] * 900,
    )
    turned = "safe\u202egnp.exe\u0007"
    task = site.new_task("failed")
    site.publish(
        task, arranged.XComs(arranged.run("Failed", turned, start=start), [step])
    )

    page.open(task)
    page.wait_for("Train")

    assert page.stat("AWS status") == "safe\ufffdgnp.exe\ufffd"
    assert "r" * 1299 + "…" in page.text()
    log = page.tab.locator("pre").inner_text().split("\n")
    assert [len(line) for line in log] == [2000] * 200
