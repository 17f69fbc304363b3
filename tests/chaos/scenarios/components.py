"""
Scenarios in which components of Airflow, the database or the broker end, and come back.
"""

from __future__ import annotations

import signal
import time
from typing import Final

from tests.chaos.run import Run, Steps
from tests.chaos.scenarios.shared import (
    DESCRIBE,
    MANY_TASKS_TIMEOUT,
    Scenario,
    running_triggerer,
    sleep,
    start_and_defer,
    wait_for_end,
    wait_for_takeover,
)

SECONDS_AFTER_SUSPENSION: Final = 12.0
API_SERVER_DOWN_SECONDS: Final = 5.0
ADOPTION_SECONDS: Final = 30.0
TRIGGERERS_DEAD_SECONDS: Final = 60.0
BROKER_AWAY_SECONDS: Final = 10.0
DATABASE_AWAY_SECONDS: Final = 20.0
# Longer than the heartbeat timeout of a task.
SECONDS_AFTER_OUTAGE: Final = 30.0
ON_KILL: Final = "invoking on_kill"


def triggerer_signalled(number: signal.Signals) -> Scenario:
    """
    The triggerer that polls receives a signal that ends it.

    :param number: the signal.
    """

    def scenario(run: Run) -> Steps:
        yield from start_and_defer(run)
        name = running_triggerer(run)
        triggerer = run.deployment.airflow.components[name]
        triggerer.signal(number)
        yield from wait_for_takeover(run, name)
        yield from run.wait_for_hold()
        run.release()
        yield from wait_for_end(run)
        if number is signal.SIGTERM:
            yield from run.until(
                "the triggerer has ended", lambda: not triggerer.members()
            )

    return scenario


def triggerer_suspended(run: Run) -> Steps:
    """
    The triggerer that polls is suspended until the other triggerer has taken over, and
    then continues.
    """
    yield from start_and_defer(run)
    name = running_triggerer(run)
    triggerer = run.deployment.airflow.components[name]
    triggerer.signal(signal.SIGSTOP, session=True)
    yield from wait_for_takeover(run, name)
    triggerer.signal(signal.SIGCONT, session=True)
    # The continued triggerer needs time to notice that it no longer owns the trigger,
    # and to call on_kill.
    yield from sleep(SECONDS_AFTER_SUSPENSION)
    yield from run.wait_for_hold()
    run.release()
    yield from wait_for_end(run)
    # Airflow tells the continued triggerer the same as when a user ends the task, so
    # on_kill may be called.
    run.remarks.append(
        "on_kill called" if run.trigger_log_has(ON_KILL) else "on_kill not called"
    )


def scheduler_killed_while_deferred(run: Run) -> Steps:
    """
    The scheduler and all its workers are killed while the task is deferred. A new
    scheduler starts.
    """
    yield from start_and_defer(run)
    yield from run.meet("the scheduler is replaced", run.deployment.replace_scheduler)
    yield from run.wait_for_hold()
    run.release()
    yield from wait_for_end(run)


def scheduler_killed_while_running(run: Run) -> Steps:
    """
    The scheduler and all its workers are killed, including the one that waits. A new
    scheduler starts.
    """
    run.start()
    yield from run.until(
        "the task polls in its worker", lambda: bool(run.calls(DESCRIBE))
    )
    yield from run.meet("the scheduler is replaced", run.deployment.replace_scheduler)
    yield from run.until(
        "the second try runs",
        lambda: run.task()["try_number"] == 2 and run.all_in("running"),
    )
    yield from run.wait_for_hold()
    run.release()
    yield from wait_for_end(run)


def api_server_restarted(run: Run) -> Steps:
    """
    Airflow's API server ends and starts again after some seconds, while many tasks are
    deferred.
    """
    run.start()
    yield from run.until(
        "all tasks are deferred", lambda: run.all_in("deferred"), MANY_TASKS_TIMEOUT
    )
    deployment = run.deployment
    start = time.monotonic()
    deployment.stop_api_server()
    yield from run.until(
        "the API server has ended", lambda: not deployment.api_server_runs()
    )
    yield from sleep(API_SERVER_DOWN_SECONDS)
    deployment.airflow.start_component("api-server")
    yield from run.until(
        "the API server responds", lambda: bool(deployment.client.health())
    )
    run.remarks.append(f"API server down for {time.monotonic() - start:.0f} s")
    run.require(
        run.all_in("deferred"),
        "a task was not deferred after the restart of the API server",
    )
    yield from run.wait_for_hold()
    run.release()
    yield from wait_for_end(run, MANY_TASKS_TIMEOUT)


def scheduler_killed_while_celery_runs(run: Run) -> Steps:
    """
    The scheduler is killed while the task waits in a Celery worker. A new scheduler
    adopts the task.
    """
    yield from start_and_wait(run)
    yield from run.meet("the scheduler is replaced", run.deployment.replace_scheduler)
    yield from sleep(ADOPTION_SECONDS)
    run.release()
    yield from wait_for_end(run)


def triggerers_dead(run: Run) -> Steps:
    """
    Both triggerers are killed while the task is deferred, and start again after a
    minute.
    """
    yield from start_and_defer(run)
    yield from run.wait_for_hold()
    yield from run.meet("both triggerers end", run.deployment.kill_triggerers)
    run.release()
    yield from sleep(TRIGGERERS_DEAD_SECONDS)
    run.require(
        run.all_in("deferred"), "the task did not stay deferred while no triggerer ran"
    )
    yield from run.meet("the triggerers start", run.deployment.start_triggerers)
    yield from wait_for_end(run)


def broker_killed(run: Run) -> Steps:
    """The broker is killed while the task waits, and comes back with its data."""
    yield from start_and_wait(run)
    yield from run.meet("the broker ends", run.deployment.broker.kill)
    yield from sleep(BROKER_AWAY_SECONDS)
    yield from run.meet("the broker starts", run.deployment.broker.restart)
    yield from end_under_supervision(run)
    run.remarks.append(f"message of a try received {run.deliveries()} times at most")


def database_killed(run: Run) -> Steps:
    """The database is killed while the task waits, and comes back with its data."""
    yield from start_and_wait(run)
    yield from run.meet("the database ends", run.deployment.database.kill)
    yield from sleep(DATABASE_AWAY_SECONDS)
    yield from run.meet("the database starts", run.deployment.database.restart)
    yield from end_under_supervision(run)


def many_tasks(run: Run) -> Steps:
    """Many mapped tasks are deferred at the same time."""
    run.start()
    yield from run.until(
        "all tasks are deferred", lambda: run.all_in("deferred"), MANY_TASKS_TIMEOUT
    )
    yield from run.wait_for_hold()
    run.release()
    yield from wait_for_end(run, MANY_TASKS_TIMEOUT)


def start_and_wait(run: Run) -> Steps:
    """
    Start, and wait until the task waits, deferred or in its worker, and the execution
    in its third step.
    """
    run.start()
    yield from run.until(
        "the task waits, and its execution was polled",
        lambda: bool(run.calls(DESCRIBE)) and run.all_in("running", "deferred"),
    )
    yield from run.wait_for_hold()


def end_under_supervision(run: Run) -> Steps:
    """
    Restart the components that end because of an outage, and let the execution end some
    time after it.
    """
    ended: list[str] = []
    end = time.monotonic() + SECONDS_AFTER_OUTAGE
    while time.monotonic() < end:
        ended += run.deployment.restart_ended()
        yield
    run.remarks.append(f"ended and restarted: {', '.join(ended) or 'no component'}")
    yield from run.until(
        "the task waits again", lambda: run.all_in("running", "deferred")
    )
    yield from run.wait_for_hold()
    run.release()
    yield from wait_for_end(run)
