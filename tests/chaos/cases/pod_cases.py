"""
The test cases about pods of KubernetesExecutor.

Pods have the entry point of Airflow's image, which passes signals on; "bare" pods have
none.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tests.chaos.cases.case import (
    FAILED_AND_STOPPED,
    LONG,
    ONLY_PODS,
    SUCCESS_AFTER_RETRY,
    Case,
    Expected,
)
from tests.chaos.scenarios import pods
from tests.chaos.scenarios.shared import Scenario

# The number of a case in a pod without an entry point ends with it.
BARE: Final = "b"


def _case(
    number: str,
    title: str,
    scenario: Scenario,
    expected: Expected,
    *,
    seconds: float = 5,
    short: bool = False,
) -> Case:
    """
    Return a test case that affects only the pods of its task. If the task is retried,
    its second try waits.
    """
    return Case(
        number,
        title,
        scenario,
        expected,
        LONG if expected.stops else seconds,
        released=expected == SUCCESS_AFTER_RETRY,
        short=ONLY_PODS if short else (),
        executors=ONLY_PODS,
    )


def _in_both_kinds(
    number: str,
    title: str,
    scenario: Scenario,
    expected: Expected,
    *,
    seconds: float = 5,
    short: bool = False,
) -> Iterator[Case]:
    """
    Return a test case for a pod with an entry point, and the same for one without.
    """
    yield _case(f"{number}a", title, scenario, expected, seconds=seconds, short=short)
    yield _case(
        f"{number}{BARE}", f"{title}, bare pod", scenario, expected, seconds=seconds
    )


def _alone(
    number: str,
    title: str,
    scenario: Scenario,
    expected: Expected,
    *,
    short: tuple[str, ...] = (),
) -> Case:
    """Return a test case that affects what all tasks share."""
    return Case(
        number,
        title,
        scenario,
        expected,
        seconds=1,
        exclusive=True,
        outage=number,
        short=short,
        executors=ONLY_PODS,
    )


POD_CASES: Final = (
    _case(
        "29",
        "task defers, and resumes in a second pod",
        pods.deferred,
        Expected(),
        short=True,
    ),
    *_in_both_kinds(
        "30",
        "pod evicted, synchronous mode",
        pods.evicted_while_waiting,
        SUCCESS_AFTER_RETRY,
        short=True,
    ),
    *_in_both_kinds(
        "31",
        "as 30, retries=0",
        pods.evicted_while_waiting,
        FAILED_AND_STOPPED,
        short=True,
    ),
    *_in_both_kinds(
        "32",
        "pod evicted while the start is in flight",
        pods.evicted_during_start,
        SUCCESS_AFTER_RETRY,
        short=True,
    ),
    # Whether the process survives until the deferral depends on what handles the
    # signal. The executions outlive 30 s until SIGKILL, and some until the next try.
    *_in_both_kinds(
        "33",
        "pod evicted 8 s before the deferral",
        pods.evicted_before_deferral,
        Expected(tries=None),
        seconds=20,
    ),
    *_in_both_kinds(
        "34",
        "pod evicted 90 s before the deferral",
        pods.evicted_before_deferral,
        SUCCESS_AFTER_RETRY,
    ),
    *_in_both_kinds(
        "35", "as 34, retries=0", pods.evicted_before_deferral, FAILED_AND_STOPPED
    ),
    _case(
        "36a",
        "out of memory: the task's process is killed, synchronous mode",
        pods.out_of_memory(all_processes=False),
        SUCCESS_AFTER_RETRY,
    ),
    # Airflow runs no code of the provider then.
    _case(
        "36b",
        "as 36a, retries=0",
        pods.out_of_memory(all_processes=False),
        Expected(state="failed"),
    ),
    _case(
        "36c",
        "out of memory: the whole pod is killed, synchronous mode",
        pods.out_of_memory(all_processes=True),
        SUCCESS_AFTER_RETRY,
        short=True,
    ),
    _case(
        "36d",
        "as 36c, retries=0",
        pods.out_of_memory(all_processes=True),
        FAILED_AND_STOPPED,
    ),
    _case(
        "37a",
        "node lost until the next try, synchronous mode",
        pods.node_lost,
        SUCCESS_AFTER_RETRY,
    ),
    _case("37b", "as 37a, retries=0", pods.node_lost, FAILED_AND_STOPPED),
    _alone(
        "38",
        "triggerer evicted, 20 deferred tasks",
        pods.triggerer_evicted,
        Expected(("Succeeded",) * 20),
    ),
    _alone(
        "39a",
        "all components restarted one after the other, deferred mode",
        pods.all_restarted_while_deferred,
        Expected(),
    ),
    _alone(
        "39b",
        "all components restarted one after the other, synchronous mode",
        pods.all_restarted_while_waiting,
        Expected(tries=None),
    ),
    _alone(
        "39c",
        "scheduler killed, a new one adopts the pod, synchronous mode",
        pods.scheduler_killed,
        Expected(),
        short=ONLY_PODS,
    ),
)
