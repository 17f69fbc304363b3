"""
Scenarios in which a task that answers a callback step dies. The step must be answered
exactly once.
"""

from __future__ import annotations

import os
import signal
from typing import Final

from tests.chaos.run import Run, Steps
from tests.chaos.scenarios.shared import wait_for_end, wait_for_kill

# A message that a dead task has received is hidden for a minute.
TIMEOUT: Final = 300.0
# What the function of the DAG file writes when it is called, with the number of the
# try.
SERVING: Final = "serving-{}"


def killed_at_answer(run: Run) -> Steps:
    """
    The task's process is killed at the kill point of the DAG file: before or after the
    answer.
    """
    run.start_for_execution()
    yield from wait_for_kill(run)
    yield from wait_for_end(run, TIMEOUT)
    _require_one_answer(run)


def killed_while_serving(run: Run) -> Steps:
    """
    The task's process is killed while its function runs. The next try calls the
    function again.
    """
    run.start_for_execution()
    yield from run.until(
        "the function runs", lambda: run.marker(SERVING.format(1)) is not None
    )
    os.kill((run.marker(SERVING.format(1)) or {})["pid"], signal.SIGKILL)
    yield from wait_for_end(run, TIMEOUT)
    _require_one_answer(run)
    run.require(
        run.marker(SERVING.format(2)) is not None,
        "the second try has not called the function",
    )


def _require_one_answer(run: Run) -> None:
    run.deployment.calls.refresh()
    answers = run.answers()
    processed = [call for call in answers if call["status"] == 200]
    tokens = {call["request"]["ClientRequestToken"] for call in answers}
    run.require(
        (len(processed), len(tokens)) == (1, 1),
        f"{len(processed)} answers with {len(tokens)} client tokens, expected one: "
        f"{[(call['operation'], call['status'], call['error_code']) for call in answers]}",
    )
