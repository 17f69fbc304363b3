"""
Makes the pictures of the UI in ``docs/images/`` again: ``make screenshots``.

A private Airflow, of which only the API server runs, shows what a task has stored.
"""

from __future__ import annotations

import argparse
import io
import tempfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from tests.browser import arranged
from tests.browser.airflow_site import DAG, ApiServer, Site, Task
from tests.browser.chromium import find_chromium, install_chromium
from tests.browser.tab_page import TabPage
from tests.system.demo import kept, shown

if TYPE_CHECKING:
    from playwright.sync_api import Page, ViewportSize

IMAGES: Final = Path(__file__).parents[2] / "docs" / "images"
SIZE: Final[ViewportSize] = {"width": 1400, "height": 1000}
# The metric of the runs that are compared.
METRICS: Final = (
    0.8843,
    0.8871,
    0.8911,
    0.8804,
    0.8878,
    0.9051,
    0.9012,
    0.8992,
    0.899,
    0.9132,
)
STARTED: Final = datetime(2026, 3, 11, 13, tzinfo=UTC)
# Beside the times in the log.
FAILED: Final = datetime(2026, 3, 1, 12, 24, tzinfo=UTC)
EXAMPLES: Final = Path(__file__).parents[2] / "example_dags"
STEPS_DAG: Final = "steps_as_tasks"
FAILURE_DAG: Final = shown.ALL[0].dag_id
FORM_HEIGHT: Final = 1400
FAILURE_HEIGHT: Final = 1120
TAB_HEIGHT: Final = 1600
GRID_SIZES: Final[dict[str, ViewportSize]] = {
    "light": {"width": 1440, "height": 900},
    "dark": {"width": 1920, "height": 1080},
}
MAX_BYTES: Final = 150_000
PALETTE_SIZE: Final = 256


def failed_run(start: datetime = FAILED) -> arranged.XComs:
    """
    Return the XComs of an execution whose fourth step has failed, while two steps have
    not begun: that of the demo, at the speed of AWS.
    """

    def after(seconds: float) -> datetime:
        return start + timedelta(seconds=seconds)

    steps = [
        arranged.step("Preprocess", "Processing", "Success", start, 240),
        arranged.step("CheckData", "QualityCheck", "Success", after(240), 300),
        arranged.step("Tune", "Tuning", "Success", after(540), 1800),
        arranged.step(
            "TrainBest",
            "Training",
            "Failed",
            after(2340),
            600,
            reason=arranged.REASON,
            log_lines=arranged.LOG_LINES,
            **arranged.job("training", "pipelines-k3m9x2p7q1ab-TrainBest-8xacqkm7hg"),
        ),
        arranged.step("CheckQuality", "Condition", "NotStarted"),
        arranged.step("Register", "Model", "NotStarted"),
    ]
    end = after(2948)
    record = arranged.run(
        "Failed",
        "Failed",
        start=start,
        end=end,
        pipeline_name=FAILURE_DAG.replace("_", "-"),
        parameters={},
        message="Step failure: One or multiple steps failed.",
        failed_steps=[{"name": "TrainBest", "reason": arranged.REASON}],
        billable_seconds=2700,
        billable_seconds_by_instance_type={"ml.m5.large": 2700},
        cost={"amount": 0.0863, "currency": "USD", "prices_date": "2026-11-01"},
        added_up_at=(end + timedelta(seconds=20)).isoformat(),
        next={
            "try_number": 1,
            "max_tries": 0,
            "clear": "start",
            "resumable": True,
            "repeats": 3,
            "steps": 6,
        },
    )
    old, new = arranged.PIPELINE, record["pipeline_name"]
    record["execution_arn"] = arranged.ARN.replace(old, new)
    url = arranged.CONSOLE_URL.replace(old, new)
    return arranged.XComs(record, steps, console_url=url)


def failed_task(site: Site) -> Task:
    """Return the task that the demo shows first, after its end."""
    task = Task(site.trigger(FAILURE_DAG, shown.RUN), "retrain", dag_id=FAILURE_DAG)
    site.pause(FAILURE_DAG, is_paused=False)
    site.set_state(task, "failed")
    site.publish(task, failed_run())
    site.put_record(task)
    return task


def picture_of_tab(page: TabPage, task: Task) -> bytes:
    """
    Return a picture of the tab "SageMaker", with the buttons, and with the failed step
    open.
    """
    page.page.set_viewport_size({"width": SIZE["width"], "height": FAILURE_HEIGHT})
    page.open(task)
    page.wait_for("KeyError")
    page.button("Resume failed steps").wait_for()
    # The texts that appear while the pointer is over something.
    page.page.mouse.move(0, 0)
    page.page.wait_for_timeout(1500)
    picture: bytes = page.page.screenshot(animations="disabled")
    return picture


def compared_runs(site: Site) -> Task:
    """
    Return a task whose run, and the nine before it, have metrics and billable seconds.
    """
    for days, auc in enumerate(METRICS, start=-len(METRICS)):
        xcoms = arranged.measured(
            auc,
            seconds=1823 + 61 * (days % 4),
            billable=540 + 13 * (days % 4),
            start=STARTED + timedelta(days),
        )
        task = site.new_task("success", "tune")
        site.publish(task, xcoms)
    return task


def picture_of_comparison(page: TabPage, task: Task) -> bytes:
    """Return a picture of the tab of a run that is compared with earlier ones."""
    page.page.set_viewport_size({"width": SIZE["width"], "height": TAB_HEIGHT})
    page.open(task)
    page.tab.get_by_role("img", name="Chart").wait_for()
    page.button("Train").click()
    page.page.mouse.move(0, 0)
    page.page.wait_for_timeout(1500)
    box = page.tab.bounding_box()
    assert box
    # Airflow's line below the name of the tab reaches into it.
    box |= {"y": box["y"] + 2, "height": box["height"] - 2}
    picture: bytes = page.page.screenshot(clip=box, animations="disabled")
    return picture


def picture_of_buttons(page: TabPage, task: Task) -> bytes:
    """Return a picture of the buttons that resume or repeat a failed execution."""
    page.open(task)
    page.button("Resume failed steps").wait_for()
    page.page.mouse.move(0, 0)
    page.page.wait_for_timeout(1500)
    picture: bytes = page.tab.get_by_label("Actions").screenshot(animations="disabled")
    return picture


def picture_of_form(page: TabPage, site: Site) -> bytes:
    """Return a picture of the trigger form of an imported job."""
    page.page.set_viewport_size({"width": SIZE["width"], "height": FORM_HEIGHT})
    page.page.goto(f"{site.url}dags/job-abalone")
    page.page.get_by_role("button", name="Trigger").first.click()
    form = page.page.locator("[role=dialog][data-state=open]")
    form.get_by_text("This field is required").wait_for()
    page.page.wait_for_timeout(1500)
    picture: bytes = form.screenshot(animations="disabled")
    return picture


def grid_runs(site: Site) -> str:
    """
    Create a run of the example with a group of steps that has succeeded, one that has
    failed, one that runs.
    """
    steps = (
        "ChurnPreprocess",
        "ChurnTune",
        "ChurnEvaluate",
        "AucCheck",
        "ChurnRegister",
        "ChurnReport",
    )
    names = (
        "churn.begin",
        "churn.execution",
        *(f"churn.{step}" for step in steps),
        "deploy",
    )
    succeeded = {**dict.fromkeys(names, "success"), "churn.ChurnReport": "skipped"}
    failed = {
        **dict.fromkeys(names, "upstream_failed"),
        **dict.fromkeys(("churn.begin", "churn.ChurnPreprocess"), "success"),
        **dict.fromkeys(("churn.ChurnTune", "churn.execution"), "failed"),
    }
    running = {
        **dict.fromkeys(names),
        **dict.fromkeys(names[:1] + names[2:4], "success"),
        **dict.fromkeys(("churn.execution", "churn.ChurnEvaluate"), "deferred"),
    }
    site.new_run(STEPS_DAG, "success", succeeded, 2820)
    run_id = site.new_run(STEPS_DAG, "failed", failed, 2130)
    site.new_run(STEPS_DAG, "running", running, 2340)
    return run_id


def picture_of_executions(page: TabPage, site: Site) -> bytes:
    """
    Return a picture of the page with all executions: of a mapped task, of a group of
    steps, and of other DAGs.
    """
    page.page.set_viewport_size(GRID_SIZES["light"])
    pipelines = ("abalone", "fraud-scoring", "demand-forecast", "ranking")
    for number, pipeline in enumerate(pipelines):
        cost = {
            "amount": 0.68 + 0.1 * number,
            "currency": "USD",
            "prices_date": "2026-11-01",
        }
        began, billable = arranged.ago(2400 - 60 * number), 540 + 80 * number
        xcoms = arranged.measured(0.9, start=began, billable=billable, cost=cost)
        if pipeline == "fraud-scoring":
            xcoms = failed_run(arranged.ago(3000))
        xcoms.run["pipeline_name"] = pipeline
        task = Task(
            site.trigger(f"retraining_{number:02}"), dag_id=f"retraining_{number:02}"
        )
        site.set_state(task, "failed" if pipeline == "fraud-scoring" else "success")
        site.publish(task, xcoms)
    running = arranged.stoppable()
    running.run["next"] = {"try_number": 1, "max_tries": 0}
    group = Task(
        site.new_run(STEPS_DAG, "running", {"churn.execution": "deferred"}, 900),
        "churn.execution",
    )
    site.publish(replace(group, dag_id=STEPS_DAG), running)
    mapped = site.new_task("deferred", "train_each", map_index=0)
    site.publish(mapped, running)
    for index, xcoms in enumerate(
        (arranged.measured(0.9, start=arranged.ago(1900)), running), start=1
    ):
        site.set_state(
            replace(mapped, map_index=index), "success" if index == 1 else "deferred"
        )
        site.publish(replace(mapped, map_index=index), xcoms)
    for dag_id in (DAG, STEPS_DAG):
        site.pause(dag_id, is_paused=False)
    page.open_executions("?since=1h")
    page.rows()
    page.page.mouse.move(0, 0)
    page.page.wait_for_timeout(1500)
    picture: bytes = page.page.screenshot(animations="disabled")
    return picture


def picture_of_grid(
    page: Page, url: str, run_id: str, scheme: Literal["light", "dark"]
) -> bytes:
    """
    Return a picture of the grid with a task for each step, and of the tasks of a run
    that has failed.
    """
    page.set_viewport_size(GRID_SIZES[scheme])
    page.emulate_media(color_scheme=scheme)
    page.goto(f"{url}dags/{STEPS_DAG}/runs/{run_id}")
    expand = page.get_by_role("button", name="Expand all task groups").first
    expand.wait_for()
    # The browser remembers it.
    if expand.is_enabled():
        expand.click()
    page.get_by_text("ChurnTune").first.wait_for()
    page.mouse.move(0, 0)
    page.wait_for_timeout(1500)
    picture: bytes = page.screenshot(animations="disabled")
    return picture


def main() -> None:
    """Make the pictures."""
    argparse.ArgumentParser(prog="make screenshots", description=__doc__).parse_args()
    from playwright.sync_api import sync_playwright

    program = find_chromium() or install_chromium()
    with tempfile.TemporaryDirectory() as home, sync_playwright() as playwright:
        # Airflow wants another name for each folder of DAGs.
        demo_dags = Path(home) / "demo_dags"
        demo_dags.symlink_to(kept.DAGS)
        server = ApiServer(Path(home), more_dags=[EXAMPLES, demo_dags])
        with server:
            site = Site(server)
            browser = playwright.chromium.launch(executable_path=program)
            context = browser.new_context(
                viewport=SIZE, color_scheme="light", locale="en-GB", timezone_id="UTC"
            )
            page = TabPage(context.new_page(), site.url)
            write("executions.png", picture_of_executions(page, site))
            task = compared_runs(site)
            failed = failed_task(site)
            write("tab.png", picture_of_tab(page, failed))
            write("comparison.png", picture_of_comparison(page, task))
            page.page.emulate_media(color_scheme="dark")
            write("comparison-dark.png", picture_of_comparison(page, task))
            page.page.emulate_media(color_scheme="light")
            write("tab-buttons.png", picture_of_buttons(page, failed))
            write("trigger-form.png", picture_of_form(page, site))
            run_id = grid_runs(site)
            write("steps.png", picture_of_grid(page.page, site.url, run_id, "light"))
            write(
                "steps-dark.png", picture_of_grid(page.page, site.url, run_id, "dark")
            )
            browser.close()
            site.close()


def write(name: str, screenshot: bytes) -> None:
    """Write a picture with few colours, unless it is too large for a repository."""
    from PIL import Image

    file = io.BytesIO()
    image = Image.open(io.BytesIO(screenshot)).convert("RGB")
    # By this method, small areas keep their colours: the states in the grid. By kmeans,
    # large ones do.
    image.quantize(PALETTE_SIZE, Image.Quantize.MAXCOVERAGE, kmeans=1).save(
        file, "PNG", optimize=True
    )
    picture = file.getvalue()
    if len(picture) > MAX_BYTES:
        raise SystemExit(f"{name} has {len(picture):,} bytes, more than {MAX_BYTES:,}")
    (IMAGES / name).write_bytes(picture)
    print(f"{IMAGES / name}: {len(picture):,} bytes")


if __name__ == "__main__":
    main()
