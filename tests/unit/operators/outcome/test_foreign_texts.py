"""
Texts that users of AWS write: they cannot look like lines of Airflow's log, nor hide
lines in its log pane.
"""

from __future__ import annotations

import traceback

from polysync_airflow.execution.texts import clean_value
from polysync_airflow.operators import PolysyncStartPipelineOperator
from tests.fakes.log_capture import capture_logs, texts_of
from tests.tasks import Run, run_task
from tests.world import World

FORGED = "INFO - Marking task as SUCCESS."
ATTACK = (
    "no data\n[2026-01-01, 00:00:00 UTC] {taskinstance.py:341} "
    + FORGED
    + "\r\n INFO - ::endgroup::\n"
    "::group::x\nINFO - ##[group]y\n##[endgroup]\x1b[2J\u061c\u200b\u202e\u2066\ufeff"
)
MARKERS = ("::group::", "::endgroup::", "##[group]", "##[endgroup]")


def run_churn(deferrable: bool) -> tuple[Run, list[str]]:
    """
    Run a task that starts the retraining pipeline; return its run and the texts that it
    shows.
    """
    task = PolysyncStartPipelineOperator(
        task_id="train", pipeline_name="churn-tuning", deferrable=deferrable
    )
    with capture_logs() as log:
        run = run_task(task)
    return run, [*texts_of(log), "".join(traceback.format_exception(run.error))]


def check_texts(texts: list[str]) -> None:
    """
    Check that the attack is there, but begins no line, and has no marker and no unsafe
    character.
    """
    lines = [line for text in texts for line in text.split("\n")]
    assert any(FORGED in line for line in lines)
    # A line of the log of a job has a bar, too.
    assert [
        line
        for line in lines
        if line.lstrip().startswith(("[2026-01-01", "INFO", "::", "#"))
    ] == []
    assert [line for line in lines if any(marker in line for marker in MARKERS)] == []
    assert [text for text in texts if clean_value(text, len(text)) != text] == []


def test_reasons_and_job_logs_begin_no_log_line(deferrable: bool, world: World) -> None:
    """
    Neither the reason of a step nor the log of its job; the XCom has the lines of the
    reason as they are.
    """
    failure = {"reason": ATTACK, "log_lines": ATTACK.split("\n")}
    world.control.put_scenario({"steps": {"ChurnPreprocess": {"fail": failure}}})

    run, texts = run_churn(deferrable)

    check_texts(texts)
    assert any("  | [2026-01-01" in text for text in texts)
    (reason,) = [row["reason"] for row in run.xcoms["steps"] if row["reason"]]
    assert reason.split("\n")[0] == "no data"
    assert "::group::" in reason
