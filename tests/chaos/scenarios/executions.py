"""
Scenarios around the calls of SageMaker: kills at a call, lost responses, failing steps,
timeouts, throttling.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Final

from tests.chaos.run import Run, Steps
from tests.chaos.scenarios.shared import (
    DESCRIBE,
    ENDED,
    MANY_TASKS_TIMEOUT,
    START,
    Scenario,
    clear,
    sleep,
    start_and_defer,
    wait_for_end,
    wait_for_failure,
    wait_for_kill,
)

# The number of attempts of botocore in the retry mode that the hook sets.
ATTEMPTS: Final = 3
RETRY: Final = "RetryPipelineExecution"
STOP: Final = "StopPipelineExecution"
THROTTLED_SECONDS: Final = 120.0


def killed_at_kill_point(run: Run) -> Steps:
    """
    The task's process is killed at the kill point of the DAG file. The task is retried.
    """
    run.start()
    yield from wait_for_kill(run)
    yield from wait_for_end(run)
    tokens = {call["request"].get("ClientRequestToken") for call in run.calls(START)}
    run.require(
        len(tokens) == 1,
        f"starts with {len(tokens)} tokens, expected 1: {sorted(map(str, tokens))}",
    )


def killed_before_start(run: Run) -> Steps:
    """
    As `killed_at_kill_point`; the retry must send the request that the killed process
    did not send.
    """
    yield from killed_at_kill_point(run)
    marker, calls = run.marker("killed") or {}, run.calls(START)
    tokens = [call["request"].get("ClientRequestToken") for call in calls]
    run.require(
        tokens == [marker["token"]],
        f"the retry sent {tokens}, expected the stored token {marker['token']}",
    )


def killed_with_other_values(run: Run) -> Steps:
    """As `killed_at_kill_point`, with templates that have other values in the retry."""
    yield from killed_at_kill_point(run)
    for execution in run.executions():
        values = run.parameters(execution.arn)
        run.require(
            values == {"Value": "try-1"},
            f"an execution has {values}, expected the values of try 1",
        )


def killed_and_cleared(run: Run) -> Steps:
    """
    The task's process is killed at the kill point, without retries. The user clears the
    failed task.
    """
    run.start()
    yield from wait_for_kill(run)
    yield from wait_for_failure(run)
    yield from clear(run)


def response_lost(times: int) -> Scenario:
    """
    The emulator processes the start, but closes the connection without a response.

    :param times: the number of responses that are lost.
    """

    def scenario(run: Run) -> Steps:
        control = run.deployment.emulator.control
        control.add_fault("lost_response", START, pipeline=run.pipeline, count=times)
        run.start()
        yield from wait_for_end(run)
        lost = sum(call["fault"] == "lost_response" for call in run.calls(START))
        run.require(lost == times, f"{lost} responses were lost, expected {times}")

    return scenario


def failed_and_resumed(run: Run) -> Steps:
    """The third step fails once. The retry resumes the execution at this step."""
    run.start(Third={"fail": {"times": 1}})
    yield from wait_for_end(run)
    _require_resumes(run, 1)


def failed_cleared_and_resumed(run: Run) -> Steps:
    """
    The third step fails once, without retries. The user clears the task, which resumes
    the execution.
    """
    run.start(Third={"fail": {"times": 1}})
    yield from wait_for_failure(run)
    run.clear()
    yield from run.until("the task has begun again", lambda: bool(run.calls(RETRY)))
    yield from wait_for_end(run)
    _require_resumes(run, 1)


def resume_killed_and_retried(run: Run) -> Steps:
    """
    The third step fails in both tries. The cleared try is killed right after AWS has
    accepted its resume.
    """
    run.start(Third={"fail": {"times": 2}})
    yield from wait_for_failure(run)
    run.clear()
    yield from wait_for_kill(run)
    yield from wait_for_end(run)
    # That of the retry, and that of the clear.
    _require_resumes(run, 2)


def _require_resumes(run: Run, expected: int) -> None:
    retries = run.calls(RETRY)
    tokens = {call["request"]["ClientRequestToken"] for call in retries}
    run.require(
        len(tokens) == expected,
        f"resumes with {len(tokens)} tokens, expected {expected}: {sorted(tokens)}",
    )
    for execution in run.executions():
        starts = run.step_starts(execution.arn)
        if retries:
            repeated = sorted(
                name for name, start in starts.items() if start > retries[0]["time"]
            )
            run.require(
                repeated == ["Third"],
                f"steps run after the retry: {repeated}, expected: ['Third']",
            )


def failed_and_started_again(run: Run) -> Steps:
    """
    The third step fails. The retry starts a new execution, in which no step fails.
    """
    run.start(Third={"fail": {}})
    yield from run.until("an execution has started", lambda: bool(run.calls(START)))
    run.set_steps()
    yield from wait_for_end(run)


def timeout_passes(run: Run) -> Steps:
    """A timeout of the DAG file ends the task."""
    run.start()
    yield from wait_for_end(run)
    run.require(bool(run.calls(DESCRIBE)), "the timeout passed before the first poll")


def timeout_passes_while_paused(run: Run) -> Steps:
    """
    A timeout of the DAG file passes while the DAG is paused, so that nothing resumes
    the task: the trigger alone stops the execution. Later, the task ends.
    """
    client = run.deployment.client
    yield from start_and_defer(run)
    yield from run.meet("the DAG is paused", partial(client.pause, run.dag_id))
    start = time.monotonic()
    yield from run.until("the execution has ended", lambda: not run.running_statuses())
    run.remarks.append(
        f"ended {time.monotonic() - start:.0f} s after the pause, task"
        f" {', '.join(run.states())}"
    )
    run.require(not run.all_in(*ENDED), "the task has ended while its DAG was paused")
    yield from run.meet("the DAG is unpaused", partial(client.unpause, run.dag_id))
    yield from wait_for_end(run)
    stops = len(run.calls(STOP))
    run.require(stops == 1, f"{stops} requests to stop, expected 1")


def all_calls_throttled(run: Run) -> Steps:
    """
    Every call of SageMaker is throttled for two minutes while many tasks are deferred.
    """
    run.start()
    yield from run.until(
        "all tasks are deferred", lambda: run.all_in("deferred"), MANY_TASKS_TIMEOUT
    )
    calls = run.deployment.calls
    yield from run.wait_for_hold()
    before, start = calls.throttled, time.monotonic()
    # Only calls that name the pipeline or an execution are throttled. The calls of
    # release() contain neither.
    run.deployment.emulator.control.add_fault("throttle", pipeline=run.pipeline)
    run.release()
    yield from sleep(THROTTLED_SECONDS)
    calls.refresh()
    run.require(run.all_in("deferred"), "a task ended while all calls were throttled")
    run.deployment.emulator.control.remove_faults()
    throttled = calls.throttled - before
    run.require(throttled > 0, "no call was throttled")
    run.remarks.append(
        f"{throttled} calls throttled in {time.monotonic() - start:.0f} s"
    )
    yield from wait_for_end(run, MANY_TASKS_TIMEOUT)
