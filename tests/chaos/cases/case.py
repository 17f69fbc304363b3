"""What a test case of the suite is, and the outcome that it expects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tests.chaos.deployment.airflow_deployment import (
    CELERY,
    LOCAL,
    NO_KEY,
    PODS,
    QUEUES,
    TEAM,
)
from tests.chaos.scenarios.shared import Scenario

# Step duration, in seconds, of executions that do not end during the test unless they
# are stopped.
LONG: Final = 200.0
LOCAL_AND_CELERY: Final = (LOCAL, CELERY)
ALSO_OF_TEAM: Final = (*LOCAL_AND_CELERY, TEAM)
ALSO_WITH_QUEUES: Final = (LOCAL, QUEUES)
ALSO_WITHOUT_KEY: Final = (LOCAL, NO_KEY)


@dataclass(frozen=True)
class Expected:
    """
    The expected outcome of each run of a test case.

    :param statuses: the final statuses of the pipeline's executions, in the order of
        their start.
    :param state: the final state of each task; None if it does not matter.
    :param tries: the number of tries of each task; None if it does not matter.
    :param stops: whether the executions were stopped by request.
    :param forgotten: whether tasks that have succeeded leave no record.
    """

    statuses: tuple[str, ...] = ("Succeeded",)
    state: str | None = "success"
    tries: int | None = 1
    stops: bool = False
    forgotten: bool = True


@dataclass(frozen=True)
class Case:
    """
    A test case.

    :param number: the number in the table, also used in the DAG id.
    :param title: the failure that happens.
    :param scenario: how the run goes.
    :param expected: the expected outcome.
    :param seconds: how long each of the pipeline's three steps takes.
    :param exclusive: whether the case affects components that all tasks share, so that
        no other case can run.
    :param outage: the runs of exclusive cases with the same outage go through it
        together. Without one, they are made one after the other.
    :param released: whether the executions end only when the scenario releases them;
        None: if the case is exclusive.
    :param short: the executors with which the option ``--short`` includes the case.
    :param executors: the executors with which the case runs.
    :param group: whether the task is a group of tasks of steps, of which one starts the
        execution.
    """

    number: str
    title: str
    scenario: Scenario
    expected: Expected
    seconds: float = 5.0
    exclusive: bool = False
    outage: str = ""
    released: bool | None = None
    short: tuple[str, ...] = LOCAL_AND_CELERY
    executors: tuple[str, ...] = LOCAL_AND_CELERY
    group: bool = False

    @property
    def hold(self) -> bool:
        """
        Whether the executions end only when the scenario releases them, which also
        prevents their stop.
        """
        if self.released is not None:
            return self.released
        return self.exclusive and not self.expected.stops


SUCCESS_AFTER_RETRY: Final = Expected(tries=2)
STOPPED: Final = ("Stopped",)
FAILED_AND_STOPPED: Final = Expected(STOPPED, "failed", stops=True)
REPLACED: Final = Expected(("Stopped", "Succeeded"), tries=2, stops=True)
ONLY_LOCAL: Final = (LOCAL,)
ONLY_CELERY: Final = (CELERY,)
ONLY_PODS: Final = (PODS,)
ONLY_TEAM: Final = (TEAM,)
