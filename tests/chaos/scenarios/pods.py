"""
Scenarios in which the pod of a task is evicted, runs out of memory, or is on a node
that is lost.
"""

from __future__ import annotations

import time
from typing import Final

from tests.chaos.deployment.airflow_deployment import TRIGGERERS
from tests.chaos.run import Run, Steps
from tests.chaos.scenarios.shared import (
    DESCRIBE,
    ENDED,
    MANY_TASKS_TIMEOUT,
    START,
    Scenario,
    end_in_second_try,
    release,
    start_and_defer,
    wait_for_end,
)

# Seconds for which the emulator holds the request to start: the pod is evicted
# meanwhile.
REQUEST_SECONDS: Final = 20.0
# The label with the scheduler whose executor looks after the pod.
OWNER: Final = "airflow-worker"


def deferred(run: Run) -> Steps:
    """The task defers, and goes on in a second pod when its trigger has fired."""
    yield from start_and_defer(run)
    yield from wait_for_end(run)
    run.require(len(run.pods()) == 2, f"the task had {len(run.pods())} pods")


def scheduler_killed(run: Run) -> Steps:
    """
    The scheduler is killed while the task waits in its pod. The new one adopts the pod.
    """
    yield from _start_and_poll(run)
    labels, (pod,) = run.deployment.cluster.pods.labels, run.pods()
    owner, start = labels(pod)[OWNER], time.monotonic()
    yield from run.meet("the scheduler is replaced", run.deployment.replace_scheduler)
    yield from run.until(
        "the new scheduler has adopted the pod",
        lambda: labels(pod).get(OWNER, owner) != owner,
    )
    run.remarks.append(f"adopted after {time.monotonic() - start:.0f} s")
    yield from release(run)
    yield from run.until("the pod has ended", lambda: not pod.runs)
    run.require(run.pods() == [pod], f"the task had {len(run.pods())} pods")


def evicted_while_waiting(run: Run) -> Steps:
    """The pod is evicted while its task waits."""
    yield from _start_and_poll(run)
    yield from _evict(run)
    yield from _end(run)


def evicted_during_start(run: Run) -> Steps:
    """
    The pod is evicted while the request to start is in flight. AWS processes it all the
    same.
    """
    run.deployment.emulator.control.add_fault(
        "latency", START, pipeline=run.pipeline, count=1, delay=REQUEST_SECONDS
    )
    run.start()
    yield from _marker(run, "calling")
    yield from _evict(run)
    yield from _end(run)


def evicted_before_deferral(run: Run) -> Steps:
    """The pod is evicted when its task defers, which takes some time."""
    run.start()
    yield from _marker(run, "deferring")
    yield from _evict(run)
    yield from _end(run)


def out_of_memory(*, all_processes: bool) -> Scenario:
    """
    The kernel kills the process of the task, or all of its pod, while the task waits.

    :param all_processes: whether it kills all.
    """

    def scenario(run: Run) -> Steps:
        yield from _start_and_poll(run)
        (pod,) = run.pods()
        if all_processes:
            pod.kill()
        else:
            pod.kill_task()
        yield from _end(run)

    return scenario


def node_lost(run: Run) -> Steps:
    """
    The node is cut off until the task has its next try or has failed, and comes back
    then.
    """
    yield from _start_and_poll(run)
    (pod,) = run.pods()
    pod.lose()
    start = time.monotonic()
    yield from run.until(
        "Airflow has noticed that the pod is lost",
        lambda: (
            run.all_in(*ENDED)
            or (run.task()["try_number"] == 2 and run.all_in("running"))
        ),
    )
    run.remarks.append(f"noticed after {time.monotonic() - start:.0f} s")
    pod.come_back()
    # It notices that it no longer owns the task. Airflow 3.4 gives it a minute then.
    yield from run.until(
        "the processes of the lost node have ended", lambda: not pod.runs
    )
    yield from _end(run)


def triggerer_evicted(run: Run) -> Steps:
    """
    The pod of the triggerer that polls most of the tasks is evicted, and replaced.
    """
    yield from start_and_defer_all(run)
    triggerer = max(TRIGGERERS, key=run.triggerers().count)
    count = run.triggerers().count(triggerer)
    run.remarks.append(f"{run.deployment.evict(triggerer)}, with {count} triggers")
    run.deployment.start_triggerer(triggerer)
    yield from run.wait_for_hold()
    run.release()
    yield from wait_for_end(run, MANY_TASKS_TIMEOUT)


def start_and_defer_all(run: Run) -> Steps:
    """Start, and wait until each task is deferred and has a triggerer."""
    run.start()
    yield from run.until(
        "all tasks are deferred",
        lambda: run.all_in("deferred") and all(run.triggerers()),
        MANY_TASKS_TIMEOUT,
    )


def all_restarted_while_deferred(run: Run) -> Steps:
    """
    All components of Airflow are replaced one after the other while the task is
    deferred.
    """
    yield from start_and_defer(run)
    yield from _restart_all(run)


def all_restarted_while_waiting(run: Run) -> Steps:
    """
    All components of Airflow are replaced one after the other while the task waits in
    its pod.
    """
    yield from _start_and_poll(run)
    yield from _restart_all(run)


def _restart_all(run: Run) -> Steps:
    yield from run.meet(
        "all components restart", run.deployment.restart_one_after_the_other
    )
    yield from run.until(
        "the task waits again", lambda: run.all_in("running", "deferred")
    )
    yield from release(run)


def _end(run: Run) -> Steps:
    """
    Wait for the end of the task, after its second try, if the executions wait for that.
    """
    yield from (end_in_second_try(run) if run.hold else wait_for_end(run))


def _start_and_poll(run: Run) -> Steps:
    run.start()
    yield from _marker(run, "try-1")
    yield from run.until("the task polls in its pod", lambda: bool(run.calls(DESCRIBE)))


def _marker(run: Run, name: str) -> Steps:
    yield from run.until(
        f"the task wrote the marker {name!r}", lambda: run.marker(name) is not None
    )


def _evict(run: Run) -> Steps:
    start, (pod,) = time.monotonic(), run.pods()
    run.deployment.cluster.evict(pod)
    yield from run.until("the pod has ended", lambda: not pod.runs)
    run.remarks.append(f"pod ended after {time.monotonic() - start:.0f} s")
