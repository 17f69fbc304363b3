"""
What a person sees in the tab while an execution runs and after its end, in a browser,
in a real Airflow.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import timedelta

import pytest

from tests.browser import arranged
from tests.browser.airflow_site import Site
from tests.browser.chromium import HEIGHT
from tests.browser.tab_page import TabPage
from tests.conftest import NEEDS_TABS

pytestmark = [pytest.mark.system, NEEDS_TABS]

# The elements whose texts have colours of their own.
TEXTS = ".psm-badge, .psm-name, .psm-type, .psm-reason, .psm-mark, .psm-muted, dt, dd, a, pre"


def test_running(site: Site, page: TabPage) -> None:
    """
    The header names the execution, and each step is shown in its order, with its state
    as a text.
    """
    task, xcoms = site.new_task("deferred"), arranged.running()
    xcoms.run["pipeline_name"] = (
        f"arn:aws:sagemaker:us-east-1:aws:pipeline/{arranged.PIPELINE}"
    )
    site.publish(task, xcoms)

    page.open(task)
    page.wait_for("TrainBest")

    assert page.tab.get_by_role("heading").inner_text() == arranged.PIPELINE
    assert page.tab.get_by_role("status").first.inner_text().split() == ["▶", "Running"]
    assert page.stat("AWS status") == "Executing"
    assert page.stat("Duration").startswith("16 min")
    assert page.stat("Steps") == "2 of 5 succeeded, 1 running"
    assert arranged.ARN in page.text()
    assert page.links() == [arranged.CONSOLE_URL]
    rows = page.step_texts()
    assert [row.split(" | ")[1:-1] for row in rows[:2]] == [
        ["Preprocess", "Processing", "cache hit", "✓", "Success"],
        ["Tune", "Tuning", "attempt 2", "✓", "Success"],
    ]
    assert [row.split(" | ")[-1] for row in rows[:2]] == ["4 min", "6 min 40 s"]
    assert " | TrainBest | Training | ▶ | Running | 5 min" in rows[2]
    assert rows[3:] == [
        "CheckQuality | Condition | ○ | Not started",
        "Register | RegisterModel | ○ | Not started",
    ]


def test_the_first_seconds(site: Site, timed_page: TabPage) -> None:
    """
    Before the first list of steps, the start is shown and the duration counts; no step
    is said not to run.
    """
    page, task = timed_page, site.new_task("deferred")
    site.publish(task, arranged.just_started())
    page.open(task)
    page.wait_for("CheckQuality")

    assert page.stat("Started").endswith(" UTC")
    assert page.stat("Duration").endswith(" s")
    # A response of the server would set the tab to the server's clock again.
    page.page.context.set_offline(True)
    page.page.clock.run_for(90_000)
    page.wait_for(re.compile("^1 min"))
    assert page.stat("Steps") == "3, none listed yet"
    assert page.step_texts()[0] == "Preprocess | Processing | … | Not listed yet"
    assert "Not started" not in page.text()


def test_a_clock_that_is_ahead(site: Site, timed_page: TabPage) -> None:
    """
    If AWS's clock is ahead, a running step counts from what AWS has said last, and not
    from 0 s for minutes.
    """
    page, task = timed_page, site.new_task("deferred")
    start = arranged.ago(-3600)
    steps = [
        arranged.step("Preprocess", "Processing", "Success", start, 240),
        arranged.step("Train", "Training", "Running", start + timedelta(seconds=300)),
    ]
    site.publish(
        task, arranged.XComs(arranged.run("Running", "Executing", start=start), steps)
    )
    page.open(task)
    page.wait_for("Train")

    # The tab reads the task every 10 s, and the clock of the server with it.
    page.page.clock.run_for(8_000)

    assert re.fullmatch("5 min ([6-9]|1[0-9]) s", page.stat("Duration"))
    assert re.search(r" \| Running \| ([6-9]|1[0-9]) s$", page.step_texts()[1])


def test_branch_that_was_not_taken(site: Site, page: TabPage) -> None:
    """Its steps are neither missing nor waiting: the header counts the branch."""
    task = site.new_task("success")
    site.publish(task, arranged.branch_not_taken())

    page.open(task)
    page.wait_for("Retrain")

    assert page.stat("Steps") == "5 succeeded, 1 branch not taken"
    assert page.step_texts()[5:] == [
        f"{name} | Lambda | \N{EN DASH} | Not taken" for name in ("Retrain", "Report")
    ]
    assert "Not started" not in page.text()


def test_selective_execution(site: Site, page: TabPage) -> None:
    """
    A reused step names its execution and leads to it, off the time axis; what was not
    selected is no gap.
    """
    task = site.new_task("success")
    xcoms = arranged.selective()
    site.publish(task, xcoms)

    page.open(task)
    page.wait_for("Preprocess")

    assert page.stat("Steps") == "4 succeeded (1 reused), 1 not selected"
    assert page.stat("MLflow experiment") == "churn <b>nightly</b>"
    assert xcoms.run["mlflow_resource_arn"] in page.text()
    first, *_, last = page.step_texts()
    assert "reused from a1b2c3d4e5f6" in first
    assert last.endswith("Not selected")
    assert page.tab.locator(".psm-step").first.locator(".psm-bar").count() == 0
    page.button("Preprocess").click()
    source = xcoms.run["source_execution"]
    assert arranged.CONSOLE_URL.replace(arranged.ARN, source) in page.links()
    assert page.tab.get_by_text(source).count() == 1
    assert page.script_errors == []


def test_resumed(site: Site, page: TabPage) -> None:
    """
    Tab and page show the duration from the start, and that since the resume; what
    earlier attempts have done is marked.
    """
    task = site.new_task("deferred", try_number=2)
    site.publish(task, arranged.resumed())

    page.open(task)
    page.wait_for("Register")

    total, resumed = page.stat("Duration").splitlines()
    assert total.startswith("1 h 6 min")
    assert resumed.startswith("since resume 1: 1 min")
    assert page.stat("Resumed").startswith("once, at 20")
    assert page.stat("Steps") == "1 of 3 succeeded, 1 running"
    first, second, _ = page.step_texts()
    assert "before the resume" in first
    assert "before the resume" not in second
    assert "attempt 2" in second

    page.open_executions(f"?dag={task.dag_id}&since=1h")
    (duration,) = [row[5] for row in page.rows() if row[1].endswith(task.run_id)]
    total, resumed = duration.split(" | ")
    assert total.startswith("1 h 6 min")
    assert resumed.startswith("since resume 1: 1 min")


def test_pause_before_a_resume(site: Site, page: TabPage) -> None:
    """
    The time axis leaves it out, and says so; the billable time is that of the last
    attempts, and says so.
    """
    task = site.new_task("success", try_number=2)
    site.publish(task, arranged.resumed_success())

    page.open(task)
    page.wait_for("Notify")

    assert (
        page.stat("Billable time")
        .split("\n")[0]
        .endswith(" · without earlier attempts")
    )
    first, second = (
        bar.bounding_box() for bar in page.tab.locator(".psm-bar").all()[:2]
    )
    track = page.tab.locator(".psm-step .psm-track").first.bounding_box()
    assert first
    assert second
    assert track
    # 5 min before the resume, and 25 min 23 s after it. The first attempt of Train is
    # not known.
    assert first["width"] / track["width"] == pytest.approx(300 / 1823, abs=0.01)
    assert second["x"] == pytest.approx(first["x"] + first["width"], abs=3)
    assert second["width"] / track["width"] == pytest.approx(1500 / 1823, abs=0.01)
    pause = page.tab.locator(".psm-pause")
    assert pause.get_attribute("title") == "1 h before the resume are left out"
    # Another execution was never resumed.
    other = site.new_task("success", try_number=2)
    site.publish(other, arranged.measured(0.9))
    page.open(other)
    page.wait_for("Notify")
    assert pause.count() == 0
    assert "without earlier attempts" not in page.text()


def test_billable_time_of_a_repeated_step(site: Site, page: TabPage) -> None:
    """
    AWS lists the last attempt of a step only, so the time of the others is missing, in
    the total and at the step.
    """
    task, xcoms = site.new_task("success"), arranged.measured(0.9)
    xcoms.steps[1]["attempt"] = 2
    site.publish(task, xcoms)

    page.open(task)
    page.wait_for("Notify")
    page.button("Train").click()

    assert (
        page.stat("Billable time")
        .split("\n")[0]
        .endswith(" · without earlier attempts")
    )
    page.wait_for(re.compile("ml.g5.xlarge, 9 min each .* · without earlier attempts"))
    page.button("Preprocess").click()
    page.wait_for("output_uris.train")
    assert page.text().count("without earlier attempts") == 2


@pytest.mark.parametrize(
    "parameters",
    [{"approved": "true", "by": "<b>pat</b>"}, {}],
    ids=["parameters", "none"],
)
def test_callback_task(site: Site, page: TabPage, parameters: dict[str, str]) -> None:
    """
    The tab of a task that has answered a callback step shows the execution, the step
    and the answer.
    """
    task = site.new_task("success", "approve")
    for key, value in arranged.answered(**parameters).items():
        site.write_xcom(task, key, value)

    page.open(task)
    page.wait_for("Callback step Approve")

    assert arranged.ARN in page.text()
    assert page.links() == [arranged.CONSOLE_URL]
    none = "" if parameters else " It has no output parameters."
    assert page.stat("Answer") == f"The step was answered.{none}"
    assert page.table("Output parameters") == [
        [name, text] for name, text in parameters.items()
    ]


@pytest.mark.parametrize(
    ("state", "text"),
    [
        ("deferred", "The step was not answered yet."),
        ("failed", "Its log says whether and how the step was answered."),
    ],
)
def test_callback_task_without_an_answer(
    site: Site, page: TabPage, state: str, text: str
) -> None:
    """Before the answer, and after a failure, the tab says so."""
    task = site.new_task(state, "approve")
    for key, value in arranged.answered().items():
        if key != "return_value":
            site.write_xcom(task, key, value)

    page.open(task)

    page.wait_for(text)
    assert arranged.ARN in page.text()


def test_stop_task(site: Site, page: TabPage) -> None:
    """
    The tab of a Stop task shows the execution that it stops, and where the steps are.
    """
    task = site.new_task("success", "stop")
    site.publish(task, arranged.stopped())

    page.open(task)
    page.wait_for("churn-tuning")

    assert page.tab.get_by_role("status").first.inner_text().split() == [
        "■",
        "Cancelled",
    ]
    assert page.stat("Duration") == "38 min 6 s"
    assert arranged.ARN in page.text()
    page.wait_for("Its steps are in the tab of the task that started it.")
    assert "No parameters" not in page.text()


def test_labels_of_outputs_are_in_one_line(site: Site, page: TabPage) -> None:
    """Also in a narrow column, where the values are broken."""
    task = site.new_task("success")
    site.publish(task, arranged.success())
    page.open(task)
    page.wait_for("Register")
    page.tab.evaluate("element => { element.style.width = '22rem'; }")
    page.button("Register").click()

    label, value = (page.lines_of(f".psm-table {cell}") for cell in ("th", "td"))
    assert label == 1
    assert value > 1


def test_bars_have_one_time_axis(site: Site, page: TabPage) -> None:
    """
    The bars begin where the steps began: the second step's begins where the first
    step's ends.
    """
    task = site.new_task("success")
    site.publish(task, arranged.success())

    page.open(task)
    page.wait_for("Notify")

    boxes = [bar.bounding_box() for bar in page.tab.locator(".psm-bar").all()]
    (first, second, *_), last = [box for box in boxes if box], boxes[-1]
    track = page.tab.locator(".psm-step .psm-track").first.bounding_box()
    assert track
    assert last
    assert first["x"] == pytest.approx(track["x"], abs=1)
    assert first["width"] / track["width"] == pytest.approx(300 / 1823, abs=0.01)
    assert second["x"] == pytest.approx(first["x"] + first["width"], abs=3)
    assert last["x"] + last["width"] <= track["x"] + track["width"] + 3


def test_success_with_the_keyboard(site: Site, page: TabPage) -> None:
    """
    Steps and parameters are opened with the keyboard, and show outputs and values.
    """
    task = site.new_task("success")
    site.publish(task, arranged.success())
    page.open(task)
    page.wait_for("Register")
    assert page.stat("Resumed") == "once"
    assert "outcome: True" in page.step_texts()[2]
    assert "model_package_arn" not in page.text()

    page.button("Parameters (3)").focus()
    page.page.keyboard.press("Enter")
    page.button("Register").focus()
    page.page.keyboard.press("Space")
    page.page.keyboard.press("Tab")

    page.wait_for("model_package_arn")
    assert page.is_open("Register")
    assert page.is_open("Parameters (3)")
    assert (
        "arn:aws:sagemaker:eu-central-1:123456789012:model-package/churn/42"
        in page.text()
    )
    assert "s3://ml-bucket/churn/2026-03.csv" in page.text()
    assert "psm-row-button" in page.page.evaluate("document.activeElement.className")
    assert (
        page.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        == "solid"
    )
    assert not page.is_open("Notify")
    page.page.keyboard.press("Enter")
    page.wait_for("output_parameters.sent")


def test_failure(site: Site, page: TabPage) -> None:
    """
    The failed step is open, with its reason, the end of its log, and links to its log
    and its job.
    """
    task = site.new_task("failed")
    site.publish(task, arranged.failure())

    page.open(task)
    page.wait_for("The execution failed")

    assert page.is_open("Train")
    assert not page.is_open("Preprocess")
    notice = page.tab.get_by_role("alert")
    assert notice.inner_text().split("\n") == [
        "The execution failed: step Train",
        arranged.REASON,
        "Step failure: One or multiple steps failed.",
    ]
    box = notice.bounding_box()
    assert box
    assert box["y"] + box["height"] < HEIGHT
    log = page.tab.locator("pre")
    assert log.inner_text() == "\n".join(arranged.LOG_LINES)
    assert "monospace" in log.evaluate(
        "element => getComputedStyle(element).fontFamily"
    )
    job = arranged.job("training", "churn-train-x3")
    assert page.links() == [arranged.CONSOLE_URL, job["log_url"], job["console_url"]]
    page.button("Train").click()
    page.tab.locator("pre").wait_for(state="detached")


def test_several_failures(site: Site, page: TabPage) -> None:
    """
    The box names the first step that has a reason, cut, and how many others have
    failed.
    """
    task, xcoms = site.new_task("failed"), arranged.failure()
    train = xcoms.steps[1] | {"reason": f"first \u202e{'r' * 900}"}
    xcoms.steps[1:2] = [
        {**train, "name": name, "log_lines": []} for name in ("Train", "Tune", "Test")
    ]
    xcoms.steps[1]["reason"] = None
    site.publish(task, xcoms)

    page.open(task)
    page.wait_for("The execution failed: step Tune and 2 more steps")

    _, reason, _ = page.tab.get_by_role("alert").inner_text().split("\n")
    assert reason == f"first \ufffd{'r' * 292}…"


def test_failure_without_steps(site: Site, page: TabPage) -> None:
    """
    If the steps are not in their XCom, the record of the execution names those that
    have failed.
    """
    task, xcoms = site.new_task("failed"), arranged.failure()
    site.publish(task, arranged.XComs(xcoms.run))

    page.open(task)

    page.wait_for("The execution failed: step Train")
    assert arranged.REASON in page.tab.get_by_role("alert").inner_text()


def test_arns_are_copied(site: Site, new_page: Callable[..., TabPage]) -> None:
    """The button puts the ARN on the clipboard, and says so."""
    task = site.new_task("success")
    site.publish(task, arranged.success())
    page = new_page(site, permissions=["clipboard-read", "clipboard-write"])
    page.open(task)

    page.tab.get_by_role("button", name="Copy the ARN of the execution").click()

    page.wait_for("Copied")
    assert page.page.evaluate("navigator.clipboard.readText()") == arranged.ARN


@pytest.mark.parametrize("number", [60, 200])
def test_many_steps(site: Site, page: TabPage, number: int) -> None:
    """All steps are there, in their order, and a step opens at once."""
    xcoms = arranged.many_steps(number)
    task = site.new_task("deferred")
    site.publish(task, xcoms)
    page.open(task)
    page.wait_for(xcoms.steps[-1]["name"])

    assert page.tab.locator(".psm-step .psm-name").all_inner_texts() == [
        step["name"] for step in xcoms.steps
    ]
    began = time.monotonic()
    page.button("Training-segment-03").click()
    page.wait_for("AWS status")
    assert page.is_open("Training-segment-03")
    assert time.monotonic() - began < 10


def test_mapped(site: Site, page: TabPage) -> None:
    """
    Each map index shows its own execution, also after a change of the page without a
    reload.
    """
    first = site.new_task("deferred", "train_each", map_index=0)
    second = type(first)(first.run_id, first.task_id, 1)
    site.set_state(second, "success")
    site.publish(first, arranged.running())
    site.publish(second, arranged.success())

    page.open(first)
    page.wait_for("TrainBest")
    page.page.evaluate(
        """path => { history.pushState(null, "", path); dispatchEvent(new PopStateEvent("popstate")); }""",
        f"/{second.page}/plugin/sagemaker",
    )

    page.wait_for("Notify")
    assert "TrainBest" not in page.text()
    assert page.stat("AWS status") == "Succeeded"


@pytest.mark.nightly
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_are_readable(
    site: Site, new_page: Callable[..., TabPage], scheme: str
) -> None:
    """
    The colours follow Airflow's mode, and each text has the contrast that WCAG 2 asks
    of small texts (AA).
    """
    page = new_page(site, color_scheme=scheme)

    for arrange in (arranged.running, arranged.failure, arranged.success):
        task = site.new_task("failed")
        site.publish(task, arrange())
        page.open(task)
        page.wait_for("Preprocess")

        assert page.page.evaluate(
            "document.documentElement.classList.contains('dark')"
        ) is (scheme == "dark")
        contrasts = page.contrasts(TEXTS)
        assert len(contrasts) > 10
        assert {text: ratio for text, ratio in contrasts.items() if ratio < 4.5} == {}


def test_narrow(site: Site, page: TabPage) -> None:
    """
    In a narrow column, nothing of the tab is outside of it, and the bars are below the
    names.
    """
    task = site.new_task("failed")
    site.publish(task, arranged.failure())
    page.open(task)
    page.wait_for("Preprocess")

    # The header of Airflow's page would not become as narrow as this.
    page.tab.evaluate("element => { element.style.width = '22rem'; }")

    assert page.tab.evaluate("element => element.scrollWidth <= element.clientWidth")
    name, bar = (
        page.tab.locator(".psm-step .psm-name").first,
        page.tab.locator(".psm-bar").first,
    )
    upper, lower = name.bounding_box(), bar.bounding_box()
    assert upper
    assert lower
    assert lower["y"] >= upper["y"] + upper["height"]
