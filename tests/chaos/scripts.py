"""Owns what happens in each row: the script of the chaos, from the trigger of the DAG to the task's end.

A script ends when the task has; what became of the executions is judged by `verdict`.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any, Final

import psutil

from tests.chaos.deployment import FIRST, SECOND
from tests.chaos.run import DeviationError, Run, Steps

Script = Callable[[Run], Steps]
START: Final = "StartPipelineExecution"
DESCRIBE: Final = "DescribePipelineExecution"
ENDED: Final = ("success", "failed", "skipped", "upstream_failed", "removed")
# botocore's own attempts in the mode that the hook asks for.
ATTEMPTS: Final = 3
# How long fifty tasks may take to start, or to be resumed, on a busy machine.
CROWD_PATIENCE: Final = 600.0
THROTTLED_SECONDS: Final = 120.0
THAW_SECONDS: Final = 12.0
API_PAUSE: Final = 5.0
ON_KILL: Final = "invoking on_kill"
# Of the execution that a cleared task starts; the one before it would not have ended by itself.
SHORT_STEP: Final = 3.0


def killed_by_itself(run: Run) -> Steps:
    """The task's process is killed at a kill point of the DAG file; a retry follows."""
    run.begin()
    yield from _killed(run)
    yield from _ended(run)
    tokens = {call["request"].get("ClientRequestToken") for call in run.calls(START)}
    run.require(len(tokens) == 1, f"the starts had {len(tokens)} tokens: {sorted(map(str, tokens))}")


def killed_before_start(run: Run) -> Steps:
    """As `killed_by_itself`, but the request that was never sent must be the one that the retry sends."""
    yield from killed_by_itself(run)
    killed, sent = run.mark("killed") or {}, run.calls(START)
    again = [call["request"].get("ClientRequestToken") for call in sent]
    run.require(again == [killed["token"]], f"the retry sent {again}, not the stored token {killed['token']}")


def response_lost(times: int) -> Script:
    """The emulator processes the start, but its answer is lost so many times."""

    def script(run: Run) -> Steps:
        control = run.deployment.emulator.control
        control.add_fault("lost_response", START, pipeline=run.pipeline, count=times)
        run.begin()
        yield from _ended(run)
        lost = sum(call["fault"] == "lost_response" for call in run.calls(START))
        run.require(lost == times, f"{lost} answers were lost, not {times}")

    return script


def worker_killed(run: Run) -> Steps:
    """The LocalExecutor's worker, which supervises the task's process, is killed in a synchronous wait."""
    run.begin()
    orphan = yield from _worker_killed(run)
    yield from _ended(run)
    run.remarks.append(_fate_of(orphan))


def worker_killed_and_cleared(run: Run) -> Steps:
    """As `worker_killed`, but without retries: the user clears the failed task."""
    run.begin()
    orphan = yield from _worker_killed(run)
    yield from _failed(run)
    yield from _cleared(run)
    run.remarks.append(_fate_of(orphan))


def killed_and_cleared(run: Run) -> Steps:
    """The task's process is killed at its kill point, without retries: the user clears the failed task."""
    run.begin()
    yield from _killed(run)
    yield from _failed(run)
    yield from _cleared(run)


def triggerer_signalled(number: signal.Signals) -> Script:
    """The triggerer that polls gets a signal that ends it."""

    def script(run: Run) -> Steps:
        yield from _deferred(run)
        name = _triggerer(run)
        triggerer = run.deployment.airflow.components[name]
        triggerer.signal(number)
        yield from _taken_over(run, name)
        yield from run.await_hold()
        run.release()
        yield from _ended(run)
        if number is signal.SIGTERM:
            yield from run.until("the triggerer has ended", lambda: not triggerer.members())

    return script


def triggerer_frozen(run: Run) -> Steps:
    """The triggerer that polls stands still until the other has taken over, and then goes on."""
    yield from _deferred(run)
    name = _triggerer(run)
    triggerer = run.deployment.airflow.components[name]
    triggerer.signal(signal.SIGSTOP, session=True)
    yield from _taken_over(run, name)
    triggerer.signal(signal.SIGCONT, session=True)
    # Time for it to find that its trigger is gone, and for its on_kill.
    yield from _pause(THAW_SECONDS)
    yield from run.await_hold()
    run.release()
    yield from _ended(run)
    # Airflow lets the thawed triggerer believe that a user has ended the task.
    run.remarks.append("on_kill called" if run.trigger_log_has(ON_KILL) else "on_kill not called")


def scheduler_killed_while_deferred(run: Run) -> Steps:
    """The scheduler dies with all its workers while the task is deferred, and another takes its place."""
    yield from _deferred(run)
    run.deployment.replace_scheduler()
    yield from run.await_hold()
    run.release()
    yield from _ended(run)


def scheduler_killed_while_working(run: Run) -> Steps:
    """The scheduler dies with all its workers, the waiting one as well, and another takes its place."""
    run.begin()
    yield from run.until("the task waits in its worker", lambda: bool(run.calls(DESCRIBE)))
    run.deployment.replace_scheduler()
    yield from run.until(
        "the second try runs", lambda: run.task()["try_number"] == 2 and run.all_in("running")
    )
    yield from run.await_hold()
    run.release()
    yield from _ended(run)


def user_says(action: Callable[[Run], None]) -> Script:
    """A person acts on the deferred task, which ends it."""

    def script(run: Run) -> Steps:
        yield from _deferred(run)
        action(run)
        yield from _ended(run)

    return script


def user_clears(run: Run) -> Steps:
    """A person clears the deferred task: a new execution replaces the one that it waited for."""
    yield from _deferred(run)
    yield from _cleared(run)


def time_passes(run: Run) -> Steps:
    """A time limit of the DAG file ends the task."""
    run.begin()
    yield from _ended(run)
    run.require(bool(run.calls(DESCRIBE)), "the limit passed before the wait had begun")


def fails_and_resumes(run: Run) -> Steps:
    """The third step fails; the retry goes on from there."""
    run.begin(Third={"fail": {"times": 1}})
    yield from _ended(run)
    retries = run.calls("RetryPipelineExecution")
    run.require(len(retries) == 1, f"{len(retries)} requests RetryPipelineExecution, not 1")
    for execution in run.executions():
        starts = run.step_starts(execution.arn)
        if retries:
            again = sorted(name for name, start in starts.items() if start > retries[0]["time"])
            run.require(again == ["Third"], f"the steps run after the retry were {again}")


def fails_and_starts_anew(run: Run) -> Steps:
    """The third step fails; the retry starts a new execution, which does not fail."""
    run.begin(Third={"fail": {}})
    yield from run.until("an execution has started", lambda: bool(run.calls(START)))
    run.plan()
    yield from _ended(run)


def killed_with_other_values(run: Run) -> Steps:
    """As `killed_by_itself`; the templates render otherwise in the retry."""
    yield from killed_by_itself(run)
    for execution in run.executions():
        values = run.parameters(execution.arn)
        run.require(values == {"Value": "try-1"}, f"an execution has {values}, not the first values")


def everything_throttled(run: Run) -> Steps:
    """Every request to SageMaker is refused for two minutes while many tasks wait."""
    run.begin()
    yield from run.until("all tasks are deferred", lambda: run.all_in("deferred"), CROWD_PATIENCE)
    calls = run.deployment.calls
    yield from run.await_hold()
    before, begin = calls.throttled, time.monotonic()
    # Each of their calls names the pipeline or an execution; what releases these does not.
    run.deployment.emulator.control.add_fault("throttle", pipeline=run.pipeline)
    run.release()
    yield from _pause(THROTTLED_SECONDS)
    calls.refresh()
    run.require(run.all_in("deferred"), "a task ended while everything was throttled")
    run.deployment.emulator.control.remove_faults()
    refused = calls.throttled - before
    run.require(refused > 0, "nothing was throttled")
    run.remarks.append(f"{refused} requests throttled in {time.monotonic() - begin:.0f} s")
    yield from _ended(run, CROWD_PATIENCE)


def api_server_restarted(run: Run) -> Steps:
    """Airflow's API server ends, and comes back after a while, while many tasks wait."""
    run.begin()
    yield from run.until("all tasks are deferred", lambda: run.all_in("deferred"), CROWD_PATIENCE)
    deployment = run.deployment
    begin = time.monotonic()
    deployment.stop_api_server()
    yield from run.until("the API server has ended", lambda: not deployment.api_server_runs())
    yield from _pause(API_PAUSE)
    deployment.airflow.start_component("api-server")
    yield from run.until("the API server answers", lambda: bool(deployment.client.health()))
    run.remarks.append(f"API server away for {time.monotonic() - begin:.0f} s")
    run.require(run.all_in("deferred"), "not all waited while the API server was away")
    yield from run.await_hold()
    run.release()
    yield from _ended(run, CROWD_PATIENCE)


def _killed(run: Run) -> Steps:
    yield from run.until("the process of the first try was killed", lambda: run.mark("killed") is not None)
    pid = (run.mark("killed") or {})["pid"]
    yield from run.until("the killed process is gone", lambda: not psutil.pid_exists(pid))


def _failed(run: Run) -> Steps:
    yield from run.until("the task has failed", lambda: run.all_in("failed"))
    # Airflow loses a clear that comes while it still books the DAG run's own failure.
    yield from run.until("the DAG run has failed", lambda: run.dag_run_state() == "failed")


def _ended(run: Run, timeout: float | None = None) -> Steps:
    more = {} if timeout is None else {"timeout": timeout}
    yield from run.until("the task has ended", lambda: run.all_in(*ENDED), **more)


def _deferred(run: Run) -> Steps:
    run.begin()
    yield from run.until(
        "the task is deferred and its execution looked at",
        lambda: bool(run.calls(DESCRIBE)) and run.all_in("deferred") and run.triggerer() is not None,
    )


def _cleared(run: Run) -> Steps:
    """Clear the task, and see its new execution, which ends soon, replace the old one."""
    run.seconds = SHORT_STEP
    run.plan()
    begin = time.monotonic()
    run.clear()
    yield from run.until("a second execution exists", lambda: len(run.executions()) > 1)
    run.remarks.append(f"new execution {time.monotonic() - begin:.0f} s after the clear")
    yield from _ended(run)


def _worker_killed(run: Run) -> Any:
    """Kill the parent of the task's process; return that process, an orphan now."""
    yield from run.until(
        "the task waits in its worker", lambda: bool(run.mark("try-1") and run.calls(DESCRIBE))
    )
    told = run.mark("try-1") or {}
    scheduler = run.deployment.airflow.components["scheduler"]
    if told["parent"] not in scheduler.members() or told["parent"] == scheduler.pid:
        raise DeviationError(f"process {told['parent']} is no worker of the scheduler's")
    orphan = psutil.Process(told["pid"])
    os.kill(told["parent"], signal.SIGKILL)
    yield from run.until("the worker is gone", lambda: not _alive(told["parent"]))
    return orphan


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _fate_of(orphan: psutil.Process) -> str:
    return "orphan still runs" if orphan.is_running() and _alive(orphan.pid) else "orphan has ended"


def _triggerer(run: Run) -> str:
    name = run.triggerer()
    if name is None:
        raise DeviationError("no triggerer has the task's trigger")
    return name


def _taken_over(run: Run, name: str) -> Steps:
    other = SECOND if name == FIRST else FIRST
    begin = time.monotonic()
    yield from run.until(f"{other} has the trigger", lambda: run.triggerer() == other)
    run.remarks.append(f"taken over after {time.monotonic() - begin:.0f} s")


def _pause(seconds: float) -> Steps:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield
