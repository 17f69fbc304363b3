"""
The scenarios of the test cases, from the trigger of the DAG to the end of the task.

A scenario ends when the task has ended. The module `checks` then checks the executions.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any, Final

import psutil

from tests.chaos.deployment.airflow_deployment import FIRST, SECOND
from tests.chaos.run import Run, Steps, UnexpectedStateError

Scenario = Callable[[Run], Steps]
START: Final = "StartPipelineExecution"
DESCRIBE: Final = "DescribePipelineExecution"
ENDED: Final = ("success", "failed", "skipped", "upstream_failed", "removed")
# The number of attempts of botocore in the retry mode that the hook sets.
ATTEMPTS: Final = 3
# Seconds in which fifty tasks must start, or resume, on a busy machine.
MANY_TASKS_TIMEOUT: Final = 600.0
THROTTLED_SECONDS: Final = 120.0
SECONDS_AFTER_SUSPENSION: Final = 12.0
API_SERVER_DOWN_SECONDS: Final = 5.0
ON_KILL: Final = "invoking on_kill"
# Step duration of the execution that a cleared task starts. The steps of the previous execution are long.
SHORT_STEP: Final = 3.0


def killed_at_kill_point(run: Run) -> Steps:
    """The task's process is killed at the kill point of the DAG file. The task is retried."""
    run.start()
    yield from _wait_for_kill(run)
    yield from _wait_for_end(run)
    tokens = {call["request"].get("ClientRequestToken") for call in run.calls(START)}
    run.require(len(tokens) == 1, f"starts with {len(tokens)} tokens, expected 1: {sorted(map(str, tokens))}")


def killed_before_start(run: Run) -> Steps:
    """As `killed_at_kill_point`; the retry must send the request that the killed process did not send."""
    yield from killed_at_kill_point(run)
    marker, calls = run.marker("killed") or {}, run.calls(START)
    tokens = [call["request"].get("ClientRequestToken") for call in calls]
    run.require(
        tokens == [marker["token"]], f"the retry sent {tokens}, expected the stored token {marker['token']}"
    )


def response_lost(times: int) -> Scenario:
    """
    The emulator processes the start, but closes the connection without a response.

    :param times: the number of responses that are lost.
    """

    def scenario(run: Run) -> Steps:
        control = run.deployment.emulator.control
        control.add_fault("lost_response", START, pipeline=run.pipeline, count=times)
        run.start()
        yield from _wait_for_end(run)
        lost = sum(call["fault"] == "lost_response" for call in run.calls(START))
        run.require(lost == times, f"{lost} responses were lost, expected {times}")

    return scenario


def worker_killed(run: Run) -> Steps:
    """The LocalExecutor's worker, the parent of the task's process, is killed in the synchronous mode."""
    run.start()
    orphan = yield from _kill_worker(run)
    yield from _wait_for_end(run)
    run.remarks.append(_state_of(orphan))


def worker_killed_and_cleared(run: Run) -> Steps:
    """As `worker_killed`, but without retries. The user clears the failed task."""
    run.start()
    orphan = yield from _kill_worker(run)
    yield from _wait_for_failure(run)
    yield from _clear(run)
    run.remarks.append(_state_of(orphan))


def killed_and_cleared(run: Run) -> Steps:
    """The task's process is killed at the kill point, without retries. The user clears the failed task."""
    run.start()
    yield from _wait_for_kill(run)
    yield from _wait_for_failure(run)
    yield from _clear(run)


def triggerer_signalled(number: signal.Signals) -> Scenario:
    """
    The triggerer that polls receives a signal that ends it.

    :param number: the signal.
    """

    def scenario(run: Run) -> Steps:
        yield from _start_and_defer(run)
        name = _triggerer(run)
        triggerer = run.deployment.airflow.components[name]
        triggerer.signal(number)
        yield from _wait_for_takeover(run, name)
        yield from run.wait_for_hold()
        run.release()
        yield from _wait_for_end(run)
        if number is signal.SIGTERM:
            yield from run.until("the triggerer has ended", lambda: not triggerer.members())

    return scenario


def triggerer_suspended(run: Run) -> Steps:
    """The triggerer that polls is suspended until the other triggerer has taken over, and then continues."""
    yield from _start_and_defer(run)
    name = _triggerer(run)
    triggerer = run.deployment.airflow.components[name]
    triggerer.signal(signal.SIGSTOP, session=True)
    yield from _wait_for_takeover(run, name)
    triggerer.signal(signal.SIGCONT, session=True)
    # The continued triggerer needs time to notice that it no longer owns the trigger, and to call on_kill.
    yield from _sleep(SECONDS_AFTER_SUSPENSION)
    yield from run.wait_for_hold()
    run.release()
    yield from _wait_for_end(run)
    # Airflow tells the continued triggerer the same as when a user ends the task, so on_kill may be called.
    run.remarks.append("on_kill called" if run.trigger_log_has(ON_KILL) else "on_kill not called")


def scheduler_killed_while_deferred(run: Run) -> Steps:
    """The scheduler and all its workers are killed while the task is deferred. A new scheduler starts."""
    yield from _start_and_defer(run)
    run.deployment.replace_scheduler()
    yield from run.wait_for_hold()
    run.release()
    yield from _wait_for_end(run)


def scheduler_killed_while_running(run: Run) -> Steps:
    """The scheduler and all its workers are killed, including the one that waits. A new scheduler starts."""
    run.start()
    yield from run.until("the task polls in its worker", lambda: bool(run.calls(DESCRIBE)))
    run.deployment.replace_scheduler()
    yield from run.until(
        "the second try runs", lambda: run.task()["try_number"] == 2 and run.all_in("running")
    )
    yield from run.wait_for_hold()
    run.release()
    yield from _wait_for_end(run)


def user_ends_task(action: Callable[[Run], None]) -> Scenario:
    """
    A user ends the deferred task.

    :param action: the action of the user.
    """

    def scenario(run: Run) -> Steps:
        yield from _start_and_defer(run)
        action(run)
        yield from _wait_for_end(run)

    return scenario


def user_clears(run: Run) -> Steps:
    """A user clears the deferred task: a new execution replaces the one that the task waited for."""
    yield from _start_and_defer(run)
    yield from _clear(run)


def timeout_passes(run: Run) -> Steps:
    """A timeout of the DAG file ends the task."""
    run.start()
    yield from _wait_for_end(run)
    run.require(bool(run.calls(DESCRIBE)), "the timeout passed before the first poll")


def failed_and_resumed(run: Run) -> Steps:
    """The third step fails once. The retry resumes the execution at this step."""
    run.start(Third={"fail": {"times": 1}})
    yield from _wait_for_end(run)
    retries = run.calls("RetryPipelineExecution")
    run.require(len(retries) == 1, f"{len(retries)} calls of RetryPipelineExecution, expected 1")
    for execution in run.executions():
        starts = run.step_starts(execution.arn)
        if retries:
            repeated = sorted(name for name, start in starts.items() if start > retries[0]["time"])
            run.require(repeated == ["Third"], f"steps run after the retry: {repeated}, expected: ['Third']")


def failed_and_started_again(run: Run) -> Steps:
    """The third step fails. The retry starts a new execution, in which no step fails."""
    run.start(Third={"fail": {}})
    yield from run.until("an execution has started", lambda: bool(run.calls(START)))
    run.set_steps()
    yield from _wait_for_end(run)


def killed_with_other_values(run: Run) -> Steps:
    """As `killed_at_kill_point`, with templates that have other values in the retry."""
    yield from killed_at_kill_point(run)
    for execution in run.executions():
        values = run.parameters(execution.arn)
        run.require(values == {"Value": "try-1"}, f"an execution has {values}, expected the values of try 1")


def all_calls_throttled(run: Run) -> Steps:
    """Every call of SageMaker is throttled for two minutes while many tasks are deferred."""
    run.start()
    yield from run.until("all tasks are deferred", lambda: run.all_in("deferred"), MANY_TASKS_TIMEOUT)
    calls = run.deployment.calls
    yield from run.wait_for_hold()
    before, start = calls.throttled, time.monotonic()
    # Only calls that name the pipeline or an execution are throttled. The calls of release() contain neither.
    run.deployment.emulator.control.add_fault("throttle", pipeline=run.pipeline)
    run.release()
    yield from _sleep(THROTTLED_SECONDS)
    calls.refresh()
    run.require(run.all_in("deferred"), "a task ended while all calls were throttled")
    run.deployment.emulator.control.remove_faults()
    throttled = calls.throttled - before
    run.require(throttled > 0, "no call was throttled")
    run.remarks.append(f"{throttled} calls throttled in {time.monotonic() - start:.0f} s")
    yield from _wait_for_end(run, MANY_TASKS_TIMEOUT)


def api_server_restarted(run: Run) -> Steps:
    """Airflow's API server ends and starts again after some seconds, while many tasks are deferred."""
    run.start()
    yield from run.until("all tasks are deferred", lambda: run.all_in("deferred"), MANY_TASKS_TIMEOUT)
    deployment = run.deployment
    start = time.monotonic()
    deployment.stop_api_server()
    yield from run.until("the API server has ended", lambda: not deployment.api_server_runs())
    yield from _sleep(API_SERVER_DOWN_SECONDS)
    deployment.airflow.start_component("api-server")
    yield from run.until("the API server responds", lambda: bool(deployment.client.health()))
    run.remarks.append(f"API server down for {time.monotonic() - start:.0f} s")
    run.require(run.all_in("deferred"), "a task was not deferred after the restart of the API server")
    yield from run.wait_for_hold()
    run.release()
    yield from _wait_for_end(run, MANY_TASKS_TIMEOUT)


def _wait_for_kill(run: Run) -> Steps:
    yield from run.until("the process of the first try was killed", lambda: run.marker("killed") is not None)
    pid = (run.marker("killed") or {})["pid"]
    yield from run.until("the killed process is gone", lambda: not psutil.pid_exists(pid))


def _wait_for_failure(run: Run) -> Steps:
    yield from run.until("the task has failed", lambda: run.all_in("failed"))
    # Airflow ignores a clear that arrives while it is still setting the DAG run to failed.
    yield from run.until("the DAG run has failed", lambda: run.dag_run_state() == "failed")


def _wait_for_end(run: Run, timeout: float | None = None) -> Steps:
    arguments = {} if timeout is None else {"timeout": timeout}
    yield from run.until("the task has ended", lambda: run.all_in(*ENDED), **arguments)


def _start_and_defer(run: Run) -> Steps:
    run.start()
    yield from run.until(
        "the task is deferred and its execution was polled",
        lambda: bool(run.calls(DESCRIBE)) and run.all_in("deferred") and run.triggerer() is not None,
    )


def _clear(run: Run) -> Steps:
    """Clear the task, and wait until it ends with a new, short execution."""
    run.seconds = SHORT_STEP
    run.set_steps()
    start = time.monotonic()
    run.clear()
    yield from run.until("a second execution exists", lambda: len(run.executions()) > 1)
    run.remarks.append(f"new execution {time.monotonic() - start:.0f} s after the clear")
    yield from _wait_for_end(run)


def _kill_worker(run: Run) -> Any:
    """Kill the parent of the task's process; return the task's process, which is an orphan then."""
    yield from run.until(
        "the task polls in its worker", lambda: bool(run.marker("try-1") and run.calls(DESCRIBE))
    )
    marker = run.marker("try-1") or {}
    scheduler = run.deployment.airflow.components["scheduler"]
    if marker["parent"] not in scheduler.members() or marker["parent"] == scheduler.pid:
        raise UnexpectedStateError(f"process {marker['parent']} is not a worker of the scheduler")
    orphan = psutil.Process(marker["pid"])
    os.kill(marker["parent"], signal.SIGKILL)
    yield from run.until("the worker is gone", lambda: not _alive(marker["parent"]))
    return orphan


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _state_of(orphan: psutil.Process) -> str:
    return "orphan still runs" if orphan.is_running() and _alive(orphan.pid) else "orphan has ended"


def _triggerer(run: Run) -> str:
    name = run.triggerer()
    if name is None:
        raise UnexpectedStateError("no triggerer runs the task's trigger")
    return name


def _wait_for_takeover(run: Run, name: str) -> Steps:
    other = SECOND if name == FIRST else FIRST
    start = time.monotonic()
    yield from run.until(f"{other} runs the trigger", lambda: run.triggerer() == other)
    run.remarks.append(f"taken over after {time.monotonic() - start:.0f} s")


def _sleep(seconds: float) -> Steps:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield
