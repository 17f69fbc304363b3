"""
The scenarios: what is used up or fails, for how long, and what is waited for then.

In each, nothing that was started in AWS may be lost from sight: `check` of the chaos
suite compares the emulator's list of executions with the expected one at the end.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Final

from tests.chaos.deployment.airflow_deployment import FIRST, TRIGGERERS
from tests.chaos.run import Run, Steps
from tests.chaos.scenarios.components import end_under_supervision, start_and_wait
from tests.chaos.scenarios.shared import DESCRIBE, ENDED, Scenario, sleep, wait_for_end
from tests.exhaustion.deployment import ExhaustedDeployment
from tests.exhaustion.host import Descriptors, memory_group

# Longer than the 20 seconds for which a request to STS is waited for.
STS_SECONDS: Final = 30.0
SECONDS_BEFORE_MARK: Final = 15.0
RESTARTS: Final = 3
RESTART_SECONDS: Final = 5.0
MEMORY_MEBIBYTES: Final = 256
HOUR: Final = 3600
NO_DESCRIPTOR: Final = "Too many open files"


def deployment_of(run: Run) -> ExhaustedDeployment:
    """Return the deployment of a run of this suite."""
    assert isinstance(run.deployment, ExhaustedDeployment)
    return run.deployment


def outage(
    begin: Callable[[ExhaustedDeployment], None],
    end: Callable[[ExhaustedDeployment], None],
    *,
    before_start: bool,
) -> Scenario:
    """
    Something fails for a while, and works again.

    :param before_start: whether it fails when the task begins, or while it waits.
    """

    def scenario(run: Run) -> Steps:
        deployment = deployment_of(run)
        if not before_start:
            yield from start_and_wait(run)
        yield from run.meet("the outage begins", partial(begin, deployment))
        if before_start:
            run.start()
        yield from sleep(deployment.outage_seconds)
        started = len(run.executions())
        run.remarks.append(f"{started} execution at the end of the outage")
        yield from run.meet("the outage ends", partial(end, deployment))
        if before_start:
            yield from _under_supervision(
                run, "the task has an execution", lambda: bool(run.calls(DESCRIBE))
            )
        yield from end_under_supervision(run)

    return scenario


def ends_in_outage(
    begin: Callable[[ExhaustedDeployment], None],
    end: Callable[[ExhaustedDeployment], None],
) -> Scenario:
    """Something fails while the task waits, and its execution ends meanwhile."""

    def scenario(run: Run) -> Steps:
        deployment = deployment_of(run)
        yield from start_and_wait(run)
        yield from run.meet("the outage begins", partial(begin, deployment))
        run.release()
        yield from _under_supervision_for(run, deployment.outage_seconds)
        run.remarks.append(f"at the end of the outage: {', '.join(run.states())}")
        yield from run.meet("the outage ends", partial(end, deployment))
        yield from _under_supervision(run, "the task has ended", _has_ended(run))

    return scenario


def full_for_good(run: Run) -> Steps:
    """
    The folder of logs is full while the task waits. A user marks the DAG run as failed,
    and a minute later there is space again.
    """
    run.start()
    yield from run.until(
        "the task waits, and its execution was polled",
        lambda: bool(run.calls(DESCRIBE)) and run.all_in("running", "deferred"),
    )
    deployment = deployment_of(run)
    yield from run.meet("the disk is full", deployment.log_folder.fill)
    yield from _under_supervision_for(run, SECONDS_BEFORE_MARK)
    run.remarks.append(f"before the mark: {', '.join(run.states())}")
    run.fail_dag_run()
    yield from _under_supervision_for(run, deployment.outage_seconds)
    run.remarks.append(f"on the full disk: {', '.join(run.running_statuses())}")
    yield from run.meet("there is space again", deployment.log_folder.clear)
    yield from _under_supervision(
        run, "no execution runs", lambda: not run.running_statuses()
    )
    yield from _under_supervision(run, "the task has ended", _has_ended(run))


def database_restarts(run: Run) -> Steps:
    """The database is killed and restarted three times while the task begins."""
    database = run.deployment.database
    run.start()
    for number in range(RESTARTS):
        yield from sleep(RESTART_SECONDS)
        yield from run.meet(f"the database ends {number}", database.kill)
        yield from run.meet(f"the database starts {number}", database.restart)
    yield from _under_supervision(
        run, "the task has an execution", lambda: bool(run.calls(DESCRIBE))
    )
    yield from end_under_supervision(run)


def descriptors_used_up_in_wait(run: Run) -> Steps:
    """The triggerers have no file descriptor left while the task is deferred."""
    yield from start_and_wait(run)
    yield from _without_descriptors(run)
    yield from end_under_supervision(run)


def descriptors_used_up_at_deferral(run: Run) -> Steps:
    """They have none left when the task is deferred, with a connection of its own."""
    run.start()
    yield from run.until("the execution exists", lambda: bool(run.executions()))
    yield from _without_descriptors(run)
    yield from end_under_supervision(run)


def _without_descriptors(run: Run) -> Steps:
    deployment = deployment_of(run)
    taken: list[Descriptors] = []

    def take() -> None:
        for name in TRIGGERERS:
            members = deployment.airflow.components[name].members()
            taken.append(Descriptors(members))

    def give_back() -> None:
        for descriptors in taken:
            descriptors.restore()

    yield from run.meet("no descriptors are left", take)
    before = len(run.calls(DESCRIBE))
    ended: list[str] = []
    try:
        for _ in range(int(deployment.outage_seconds / RESTART_SECONDS)):
            yield from sleep(RESTART_SECONDS)
            ended += deployment.restart_ended()
    finally:
        give_back()
    polls = len(run.calls(DESCRIBE)) - before
    run.remarks.append(f"at the end: {', '.join(run.states())}, {polls} polls")
    run.remarks.append(f"ended meanwhile: {', '.join(ended) or 'no component'}")
    if run.trigger_log_has(NO_DESCRIPTOR):
        run.remarks.append(f"the log of the task says: {NO_DESCRIPTOR}")
    yield from run.meet("there are descriptors again", give_back)


def little_memory(run: Run) -> Steps:
    """
    The process of the task and its supervisor, together what a pod of a worker has,
    get 256 MiB while the task begins.
    """
    with memory_group("polysync-exhaustion", MEMORY_MEBIBYTES) as group:
        run.start()
        yield from run.until(
            "the first try has begun", lambda: run.marker("try-1") is not None
        )
        marker = run.marker("try-1") or {}
        group.add([marker["parent"], marker["pid"]])
        yield from run.until(
            "the task waits, and its execution was polled",
            lambda: bool(run.calls(DESCRIBE)),
        )
        yield from run.wait_for_hold()
        run.release()
        yield from wait_for_end(run)
        peak = f"{group.peak / 2**20:.0f} of {MEMORY_MEBIBYTES} MiB"
        run.remarks.append(f"at most {peak}; {group.kills}")


def clock_jumps(component: str, seconds: int, *, ends: bool = False) -> Scenario:
    """
    The clock of a component jumps while the task waits in it, and comes back.

    :param component: the component; its triggers or tasks are those that wait.
    :param seconds: how far the clock jumps.
    :param ends: whether Airflow ends the task because of that.
    """

    def scenario(run: Run) -> Steps:
        deployment = deployment_of(run)

        def replace() -> None:
            if component == FIRST:
                deployment.kill_triggerers()
            deployment.start_with_clock(component)

        yield from run.meet(f"{component} gets a clock of its own", replace)
        if ends:
            run.start()
            yield from run.until("the task waits", lambda: bool(run.calls(DESCRIBE)))
        else:
            yield from start_and_wait(run)
        jump = partial(deployment.host_clock.jump, seconds)
        yield from run.meet("the clock jumps", jump)
        yield from sleep(deployment.outage_seconds)
        run.remarks.append(f"AWS has refused {deployment.front.refused} requests")
        back = partial(deployment.host_clock.jump, 0)
        yield from run.meet("the clock comes back", back)
        if ends:
            yield from _under_supervision(run, "the task has ended", _has_ended(run))
        else:
            yield from end_under_supervision(run)

    return scenario


def untrusted(run: Run) -> Steps:
    """The endpoint has a certificate that the worker does not trust."""
    run.start()
    yield from wait_for_end(run)
    for text in ("SSLCertVerificationError", "the field verify of the connection"):
        run.require(
            run.task_log_has(text, try_number=1), f"the log does not say {text}"
        )


def _has_ended(run: Run) -> Callable[[], bool]:
    return lambda: run.all_in(*ENDED)


def _under_supervision_for(run: Run, seconds: float) -> Steps:
    end = time.monotonic() + seconds
    yield from _under_supervision(
        run, "the time has passed", lambda: time.monotonic() > end
    )


def _under_supervision(run: Run, name: str, condition: Callable[[], bool]) -> Steps:
    """Wait for a condition, and restart the components that end, as Kubernetes does."""

    def supervised() -> bool:
        ended = run.deployment.restart_ended()
        remark = f"ended and restarted: {', '.join(ended)}"
        if ended and remark not in run.remarks:
            run.remarks.append(remark)
        return condition()

    yield from run.until(name, supervised)
