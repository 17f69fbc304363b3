"""
The buttons of the tab: for whom they are there, what they say, and what reaches
Airflow.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from polysync_airflow.execution.lifecycle.instructions import ClearChoice
from tests.browser import arranged
from tests.browser.airflow_site import Site, Task
from tests.browser.tab_page import TabPage
from tests.conftest import NEEDS_TABS

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Route

pytestmark = [pytest.mark.system, NEEDS_TABS]

RESUME, NEW, STOP = "Resume failed steps", "Start a new execution", "Stop execution"
CLEAR = "/clearTaskInstances"
RESUMES = (
    "Runs what has not succeeded (Train, CheckQuality, Register). The step that has succeeded is kept, and not paid "
    "again. The parameters stay those of the start."
)
STARTS = (
    "Runs all 4 steps, and each is paid again, unless the cache of the pipeline has its result. The parameters are "
    "rendered anew."
)


@pytest.fixture
def new_task(site: Site, page: TabPage) -> Callable[..., Task]:
    """Returns a function that creates a task with a record, and opens its tab."""

    def create(
        state: str | None = "failed",
        xcoms: arranged.XComs | None = None,
        *,
        recorded: bool = True,
        **task: Any,
    ) -> Task:
        created = site.new_task(state, **task)
        site.publish(created, xcoms or arranged.failure())
        if recorded:
            site.put_record(created)
        page.open(created)
        page.wait_for("churn-tuning")
        return created

    return create


NewTask = Callable[..., Task]


def assert_offered(page: TabPage, *names: str) -> None:
    """
    Check that the tab offers these actions and no others, when it knows whether the
    person may act.
    """
    from playwright.sync_api import expect

    page.page.wait_for_load_state("networkidle")
    for name in (RESUME, NEW, STOP):
        expect(page.button(name)).to_have_count(int(name in names))


ANSWER_MILLISECONDS = 10_000


def ask(page: TabPage, name: str) -> Locator:
    """Press a button, and return the one that confirms it."""
    from playwright.sync_api import TimeoutError as PageTimeout

    page.button(name).click()
    answer = page.button(f"Yes, {name[0].lower()}{name[1:]}")
    try:
        answer.wait_for(timeout=ANSWER_MILLISECONDS)
    except PageTimeout:
        # The tab takes a question away if Airflow's API fails meanwhile, as it does if
        # SQLite is locked for long.
        page.load_again()
        page.button(name).click()
    return answer


def press(page: TabPage, name: str) -> None:
    """Press a button, and confirm it."""
    ask(page, name).click()


@pytest.mark.parametrize(
    ("name", "choice", "task_id"),
    [(RESUME, "resume", "train"), (NEW, "new", "train_each")],
)
def test_choice_reaches_the_clear(
    name: str, choice: Any, task_id: str, site: Site, page: TabPage, new_task: NewTask
) -> None:
    """
    The task is cleared, and the record has the choice. Only the mapped task instance of
    the page is cleared.
    """
    task = new_task(
        task_id=task_id, **({"map_index": 1} if task_id == "train_each" else {})
    )
    page.wait_for(RESUMES)
    page.wait_for(STARTS)
    answer = ask(page, name)
    page.wait_for(
        "This clears the task and the tasks after it, so that the DAG run goes on."
    )
    assert site.state_of(task) == "failed"
    assert_offered(page)

    answer.click()

    page.wait_for("The task is cleared.")
    assert site.state_of(task) is None
    assert site.record_of(task).clear_choice == ClearChoice(on_clear=choice)


@pytest.mark.parametrize(
    ("name", "cleared"),
    [(RESUME, ["Register", "Train"]), (NEW, ["Preprocess", "Register", "Train"])],
)
def test_clear_of_a_group(
    name: str, cleared: list[str], site: Site, page: TabPage
) -> None:
    """
    The tasks of the steps are cleared, too, and those after them: to resume, those that
    have not succeeded.
    """
    states = {
        "prepare": "success",
        "churn.begin": "success",
        "churn.Preprocess": "success",
        "churn.Train": "failed",
        "churn.Register": "upstream_failed",
        "churn.execution": "failed",
        "compare": "upstream_failed",
    }
    run_id = site.new_run("churn_steps", "failed", states, seconds=770)
    task = Task(run_id, "churn.execution", dag_id="churn_steps")
    site.publish(task, arranged.failure())
    site.put_record(task)
    page.open(task)
    page.wait_for("churn-tuning")

    press(page, name)

    page.wait_for("The task is cleared.")
    tasks = {each: Task(run_id, each, dag_id="churn_steps") for each in states}
    is_cleared = {each for each, task in tasks.items() if site.state_of(task) is None}
    assert is_cleared == {f"churn.{step}" for step in cleared} | {
        "churn.execution",
        "compare",
    }


def test_stop_marks_the_task_as_failed(
    site: Site, page: TabPage, new_task: NewTask
) -> None:
    """Afterwards, a new execution can be started."""
    task = new_task("deferred", arranged.stoppable())
    page.wait_for("Marks the task as failed, which stops the execution. A stopped")

    press(page, STOP)

    page.wait_for("The task was ended or cleared, so its execution is stopped.")
    assert page.tab.locator(".psm-notice").count() == 1
    assert site.state_of(task) == "failed"
    page.button(NEW).wait_for()
    assert site.record_of(task).clear_choice is None


def test_execution_that_outlives_its_task_is_not_said_to_stop(
    site: Site, page: TabPage, new_task: NewTask
) -> None:
    """Because of ``stop_on_kill=False``."""
    task = new_task("deferred", arranged.running())
    page.wait_for("The execution goes on, because the DAG sets stop_on_kill=False")
    assert page.button(STOP).count() == 0

    press(page, "End the task")

    page.wait_for("The execution was running when the task ended.")
    assert page.tab.locator(".psm-notice").count() == 1
    assert site.state_of(task) == "failed"
    page.wait_for("The execution, if it still runs, is awaited first")


def test_only_a_task_at_work_is_stopped(
    site: Site, page: TabPage, new_task: NewTask
) -> None:
    """
    Airflow itself would mark a task as failed that has succeeded, or that waits for its
    retry.
    """
    for state in ("success", "up_for_retry"):
        task = new_task("deferred", arranged.stoppable())
        page.button(STOP).click()
        # A hidden page does not see by itself that the task has ended.
        page.hide(True)
        site.set_state(task, state)

        page.button("Yes").click()

        page.wait_for(f"The task has ended meanwhile. Its state is {state}.")
        assert site.state_of(task) == state


def test_what_is_offered(site: Site, page: TabPage, new_task: NewTask) -> None:
    """Buttons are there where they make sense, for tasks with a record."""
    stopped, succeeded = arranged.stopped(), arranged.success()

    for state, xcoms, expected in (
        ("failed", arranged.failure(), [RESUME, NEW]),
        # ``on_completed_with_failures="succeed"``
        ("success", arranged.failure(), [RESUME, NEW]),
        # AWS does not resume it.
        ("failed", arranged.failure("Fail"), [NEW]),
        ("skipped", stopped, [NEW]),
        ("failed", stopped, [NEW]),
        ("failed", arranged.stoppable(), [NEW]),
        ("up_for_retry", arranged.failure(), []),
        ("success", succeeded, []),
        ("running", arranged.stoppable(), [STOP]),
        ("deferred", arranged.stoppable(), [STOP]),
        ("queued", arranged.stoppable(), []),
    ):
        new_task(state, xcoms)
        assert_offered(page, *expected)
    new_task(recorded=False)
    page.wait_for("The record of this execution is gone: somebody has deleted it.")
    assert_offered(page)
    # The task has deleted its record, and failed afterwards.
    new_task("failed", succeeded, recorded=False)
    page.wait_for("The execution succeeded, but the task failed")
    page.wait_for(re.compile("^Airflow's button Clear starts a new execution"))
    assert page.tab.get_by_role("link", name="Log of the task").count() == 1


def test_without_permission_there_are_no_buttons(
    page: TabPage, new_task: NewTask
) -> None:
    """Nothing else is different. Another error is shown."""
    for status, body in ((403, {"detail": "Forbidden"}), (200, {"is_allowed": False})):
        page.answer("/clear-choice", status, body)
        new_task()
        assert_offered(page)
        assert not re.search("Forbidden|record|may not", page.text())
    page.answer("/clear-choice", 409, {"detail": "The record is damaged"})

    new_task()

    page.wait_for("The buttons are not available")
    page.wait_for("HTTP status 409: The record is damaged")
    assert_offered(page)


def test_permission_is_read_again(site: Site, page: TabPage, new_task: NewTask) -> None:
    """
    An error of the endpoint hides no result, and is shown only where there would be
    buttons.
    """
    locked = ("/clear-choice", 503, {"detail": "database is locked"})
    new_task()
    yes = ask(page, RESUME)
    page.answer(*locked)
    yes.click()
    page.wait_for("“Resume failed steps” failed")
    page.wait_for("The buttons are not available")
    page.answer_no_more()
    page.button("Try again").click()
    page.button(RESUME).wait_for()

    page.answer(*locked)
    task = new_task("deferred", arranged.stoppable())
    page.wait_for("The buttons are not available")
    site.publish(task, arranged.success())
    site.set_state(task, "success")
    page.button("Refresh").click()
    page.wait_for("The task has ended.")
    assert "not available" not in page.text()


def test_old_data_have_no_buttons(page: TabPage, new_task: NewTask) -> None:
    """What can be done is not known. A question that was open is not asked again."""
    new_task()
    page.button(RESUME).click()
    page.answer("/taskInstances/train", 500, {"detail": "database is locked"})
    page.button("Refresh").click()
    page.wait_for("Airflow's API cannot be read")
    assert_offered(page)
    assert page.button("Yes").count() == 0
    page.answer_no_more()

    page.button("Retry now").click()

    page.button(RESUME).wait_for()
    assert_offered(page, RESUME, NEW)


def test_clear_without_a_response_keeps_the_choice(
    site: Site, page: TabPage, new_task: NewTask
) -> None:
    """Airflow may still clear the task, which must then do what was chosen."""
    from playwright.sync_api import expect

    task = new_task()
    for status, text in (
        (None, "The server cannot be reached."),
        (504, "HTTP status 504: late"),
    ):
        if status is None:
            page.page.route(re.compile(CLEAR), lambda route: route.abort())
        else:
            page.answer(CLEAR, status, {"detail": "late"})

        press(page, RESUME)

        page.wait_for(f"{text} The task may still be cleared, so the choice is kept.")
        expect(page.tab.locator(".psm-result")).to_be_focused()
        page.wait_for("The next clear of this task resumes the failed steps")
        assert site.record_of(task).clear_choice == ClearChoice(on_clear="resume")
        page.answer_no_more()
        page.button("Withdraw").click()
        page.button("Withdraw").wait_for(state="detached")


def test_refused_clear_is_shown_and_withdraws_the_choice(
    site: Site, page: TabPage, new_task: NewTask
) -> None:
    """The person can try again."""
    task = new_task()
    page.answer(CLEAR, 409, {"detail": "AirflowClearRunningTaskException: wait"})

    press(page, RESUME)

    page.wait_for("HTTP status 409: AirflowClearRunningTaskException: wait")
    assert site.record_of(task).clear_choice is None
    assert_offered(page, RESUME, NEW)
    assert site.state_of(task) == "failed"
    page.answer_no_more()
    press(page, NEW)
    page.wait_for("The task is cleared.")
    assert site.record_of(task).clear_choice == ClearChoice(on_clear="new")


def test_choice_that_cannot_be_withdrawn_is_shown(
    site: Site, page: TabPage, new_task: NewTask
) -> None:
    """
    It would count for the next clear of any person, so the tab says so, and offers to
    withdraw it.
    """
    task = new_task()
    page.answer(CLEAR, 422, {"detail": [{"msg": "Field required"}]})

    def refuse_null(route: Route) -> None:
        if (route.request.post_data_json or {}).get("on_clear", "") is None:
            route.fulfill(status=503, json={"detail": "database is locked"})
        else:
            route.fallback()

    page.page.route(re.compile("/clear-choice"), refuse_null)
    press(page, RESUME)

    page.wait_for(
        'HTTP status 422: [{"msg":"Field required"}] The choice is still stored, because it could not be withdrawn: '
        "HTTP status 503: database is locked"
    )
    page.wait_for("The next clear of this task resumes the failed steps")
    assert site.record_of(task).clear_choice == ClearChoice(on_clear="resume")
    page.answer_no_more()
    page.button("Withdraw").click()
    page.button("Withdraw").wait_for(state="detached")
    assert site.record_of(task).clear_choice is None


def test_nothing_happens_by_accident(
    site: Site, page: TabPage, new_task: NewTask
) -> None:
    """
    A double click does not confirm; Cancel and Escape lead back to the button, which
    says what it does.
    """
    from playwright.sync_api import expect

    task = new_task()
    page.button(RESUME).wait_for()
    requests: list[str] = []
    page.page.on("request", lambda request: requests.append(request.method))

    page.button(RESUME).click()
    page.button("Yes").dispatch_event("click", {"detail": 2})
    page.button("Cancel").click()
    expect(page.button(RESUME)).to_be_focused()
    expect(page.button(RESUME)).to_have_accessible_description(RESUMES)
    page.button(NEW).click()
    page.page.keyboard.press("Escape")
    expect(page.button(NEW)).to_be_focused()

    assert_offered(page, RESUME, NEW)
    assert set(requests) <= {"GET"}
    assert (site.state_of(task), site.record_of(task).clear_choice) == ("failed", None)
