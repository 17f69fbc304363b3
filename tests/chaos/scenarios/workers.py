"""
Scenarios in which the worker of a task is killed, shut down or frozen, or gets the
task's message again.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final

import psutil

from tests.chaos.deployment.airflow_deployment import CELERY
from tests.chaos.run import Run, Steps, UnexpectedStateError
from tests.chaos.scenarios.shared import (
    DESCRIBE,
    START,
    alive,
    clear,
    end_in_second_try,
    release,
    sleep,
    wait_for_end,
    wait_for_failure,
    wait_for_second_try,
)
from tests.system.process.sessions import ProcessSession

# Seconds for which the emulator holds the request to start, so that the worker can be
# killed or frozen meanwhile.
REQUEST_SECONDS: Final = 30.0
# Seconds in which a worker that continues notices that it no longer owns the task, and
# calls on_kill.
SECONDS_AFTER_THAW: Final = 15.0
# Seconds for which a worker that shuts down must go on with its task.
WARM_SECONDS: Final = 10.0
CALLBACK: Final = "the process of its task has died"
SUPERSEDED: Final = "A later try continues with the execution"


def worker_killed(run: Run) -> Steps:
    """
    The worker process that runs the task, the parent of the task's process, is killed
    in the synchronous mode.
    """
    run.start()
    orphan = yield from kill_worker(run)
    yield from wait_for_end(run)
    run.remarks.append(_state_of(orphan))


def worker_killed_and_cleared(run: Run) -> Steps:
    """As `worker_killed`, but without retries. The user clears the failed task."""
    run.start()
    orphan = yield from kill_worker(run)
    yield from wait_for_failure(run)
    yield from clear(run)
    run.remarks.append(_state_of(orphan))


def worker_killed_during_start(run: Run) -> Steps:
    """
    The whole Celery worker is killed while the request to start is in flight. AWS
    processes it all the same.
    """
    marker = yield from _start_slowly(run)
    yield from _end_worker(run, marker, ProcessSession.kill)
    yield from end_in_second_try(run)


def worker_killed_after_start(run: Run) -> Steps:
    """The whole Celery worker is killed when AWS has processed the start."""
    marker = yield from _start_on_one_worker(run, "answered")
    yield from _end_worker(run, marker, ProcessSession.kill)
    yield from end_in_second_try(run)


def whole_worker_killed(run: Run) -> Steps:
    """
    All processes of the Celery worker are killed in the synchronous mode. The task is
    retried.
    """
    marker = yield from _start_and_poll(run)
    yield from _end_worker(run, marker, ProcessSession.kill)
    yield from end_in_second_try(run)


def whole_worker_killed_without_retries(run: Run) -> Steps:
    """
    As `whole_worker_killed`, but without retries: the failure callback must stop the
    execution.
    """
    marker = yield from _start_and_poll(run)
    yield from _end_worker(run, marker, ProcessSession.kill)
    yield from wait_for_failure(run)
    (execution,) = run.executions()
    yield from run.until(
        "the failure callback has run",
        lambda: run.callback_log_has(f"{execution.arn}: {CALLBACK}"),
    )
    run.remarks.append("stopped by the failure callback in the DAG processor")


def worker_shut_down_warm(run: Run) -> Steps:
    """
    The Celery worker gets TERM in the synchronous mode: it takes no new tasks, and ends
    when its tasks have ended.
    """
    marker = yield from _start_and_poll(run)
    worker = run.deployment.worker_of(marker["pid"])
    yield from run.meet("the worker shuts down", lambda: worker.signal(signal.SIGTERM))
    yield from sleep(WARM_SECONDS)
    run.require(marker["pid"] in worker.members(), "the worker ended its task at once")
    yield from release(run)
    yield from run.until("the worker has ended", lambda: not worker.members())


def worker_shut_down_cold(run: Run) -> Steps:
    """
    The Celery worker gets QUIT in the synchronous mode: it sends TERM to its tasks, and
    ends.
    """
    marker = yield from _start_and_poll(run)
    yield from _end_worker(run, marker, lambda worker: worker.signal(signal.SIGQUIT))
    yield from end_in_second_try(run)
    run.remarks.append(f"message of a try received {run.deliveries()} times at most")


def frozen_during_start(run: Run) -> Steps:
    """
    The worker is frozen while the request to start is in flight, and continues when the
    next try has taken over.
    """
    marker = yield from _start_slowly(run)
    yield from _freeze(run, marker)


def frozen_during_wait(run: Run) -> Steps:
    """
    The worker is frozen in the synchronous mode, and continues when the next try has
    taken over.
    """
    marker = yield from _start_and_poll(run)
    yield from _freeze(run, marker)


def message_redelivered(run: Run) -> Steps:
    """
    The broker sends the message of the running task again, because the visibility
    timeout has passed.
    """
    yield from run.meet(
        "the workers restart", run.deployment.restart_workers_with_short_visibility
    )
    run.start()
    yield from _polling(run, "try-1")
    start = time.monotonic()
    yield from run.until(
        "a worker received the message again", lambda: run.deliveries() > 1
    )
    yield from run.until("the worker refused the task", lambda: run.refusals() > 0)
    seconds = time.monotonic() - start
    run.remarks.append(
        f"message received {run.deliveries()} times, refused {run.refusals()} times; {seconds:.0f} s"
    )
    yield from release(run)


def _start_slowly(run: Run) -> Any:
    """
    Start the task, and wait until its request to start is in flight; return the marker
    with its processes.
    """
    control = run.deployment.emulator.control
    control.add_fault(
        "latency", START, pipeline=run.pipeline, count=1, delay=REQUEST_SECONDS
    )
    return (yield from _start_on_one_worker(run, "calling"))


def _start_and_poll(run: Run) -> Any:
    """
    Start the task, and wait until it polls in its worker; return the marker with its
    processes.
    """
    return (yield from _start_on_one_worker(run, "try-1", polling=True))


def _start_on_one_worker(run: Run, name: str, *, polling: bool = False) -> Any:
    """
    Start the tasks of the group on the first Celery worker; return the marker with the
    processes of the run's task.
    """
    yield from run.meet("the second worker pauses", run.deployment.pause_second_worker)
    run.start()
    marker = yield from (_polling(run, name) if polling else _marker(run, name))
    yield from run.meet(
        "the second worker continues", run.deployment.resume_second_worker
    )
    return marker


def _marker(run: Run, name: str) -> Any:
    yield from run.until(
        f"the task wrote the marker {name!r}", lambda: run.marker(name) is not None
    )
    return run.marker(name)


def _polling(run: Run, name: str) -> Any:
    marker = yield from _marker(run, name)
    yield from run.until(
        "the task polls in its worker", lambda: bool(run.calls(DESCRIBE))
    )
    return marker


def _end_worker(run: Run, marker: Any, end: Callable[[ProcessSession], None]) -> Steps:
    worker = run.deployment.worker_of(marker["pid"])
    yield from run.meet("the worker ends", lambda: end(worker))
    yield from run.until("the worker has ended", lambda: not worker.members())


def _freeze(run: Run, marker: Any) -> Steps:
    """
    Freeze the worker until the second try has taken over, and let the execution end
    some time after the thaw.
    """
    processes = _worker_processes(run, marker)
    yield from run.meet("the worker freezes")
    _signal(processes, signal.SIGSTOP)
    yield from wait_for_second_try(run)
    yield from run.meet("the worker continues")
    _signal(processes, signal.SIGCONT)
    yield from run.until(
        "the process of the first try has ended", lambda: not alive(marker["pid"])
    )
    yield from sleep(SECONDS_AFTER_THAW)
    superseded = run.task_log_has(SUPERSEDED, try_number=1)
    run.remarks.append(
        "on_kill: later try noticed" if superseded else "on_kill: no later try noticed"
    )
    yield from release(run)


def _worker_processes(run: Run, marker: Any) -> Sequence[int]:
    """
    Return the processes to freeze: all of the Celery worker; of LocalExecutor's
    workers, only the task's.
    """
    worker = run.deployment.worker_of(marker["pid"])
    return (
        worker.members()
        if run.deployment.executor == CELERY
        else (marker["parent"], marker["pid"])
    )


def _signal(processes: Sequence[int], number: signal.Signals) -> None:
    for pid in processes:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def kill_worker(run: Run, has_begun: Callable[[], bool] | None = None) -> Any:
    """
    Kill the parent of the task's process: a process of LocalExecutor or of a Celery
    worker; return the orphan.

    :param has_begun: returns whether the task waits; None for a wait that polls.
    """
    if has_begun is None:
        has_begun = partial(_polls, run)
    yield from run.until(
        "the task waits in its worker",
        lambda: bool(run.marker("try-1")) and has_begun(),
    )
    marker = run.marker("try-1") or {}
    if marker["parent"] == run.deployment.worker_of(marker["parent"]).pid:
        raise UnexpectedStateError(
            f"process {marker['parent']} is not a process that runs tasks"
        )
    orphan = psutil.Process(marker["pid"])
    os.kill(marker["parent"], signal.SIGKILL)
    yield from run.until("the worker is gone", lambda: not alive(marker["parent"]))
    return orphan


def _polls(run: Run) -> bool:
    return bool(run.calls(DESCRIBE))


def _state_of(orphan: psutil.Process) -> str:
    return (
        "orphan still runs"
        if orphan.is_running() and alive(orphan.pid)
        else "orphan has ended"
    )
