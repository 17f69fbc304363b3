"""
The walks through the code on the page Architecture, compared with what a run of a task
does.
"""

from __future__ import annotations

from functools import partial
from typing import Final

import pytest

from polysync_airflow.operators import PolysyncStartPipelineOperator
from sagemaker_emulator import EmulatorServer
from tests.documentation.traces import (
    Function,
    assert_walked,
    contains,
    documented_walk,
    stack,
    traced,
)
from tests.tasks import EmulatedTime, run_task
from tests.world import START, RequestInterceptor

pytestmark = pytest.mark.documentation

MAX_FILES_ON_WORKER: Final = 5
MAX_FILES_DEFERRED: Final = 7
MAX_CALLS: Final = 4
STATUS: Final = "CompletedWithFailures"
# Neither AWS nor the example pipelines have this text.
VALUE: Final = "value-that-is-followed"
# The files that see the status, and why a reader of the walk may skip them.
SKIPPED: Final = {
    "hooks/executions.py": "makes a model of AWS's response",
    "execution/models.py": "leaves out what AWS leaves empty there",
    "states.py": "is the table of AWS's statuses",
    "execution/outcome.py": "makes the text of the error",
    "execution/lifecycle/decisions.py": "says in that text what comes next",
    "operators/try_runner.py": "reads the record that this follows from",
    "retrying.py": "decides by the error whether a retry follows",
}
SKIPPED_DEFERRED: Final = {
    **SKIPPED,
    "execution/lifecycle/ending.py": "has the trigger stop only what has not ended",
    "triggers/bursts.py": "holds the end for a second at most, so that ends share a pass",
    "triggers/shared_client.py": "has the client that the poller calls AWS with",
    "operators/base.py": "has the retry policy asked once, around each method",
}
# Between the functions of the walk, these call what they are given.
CALLERS: Final = {
    Function("operators/execution_calls.py", "_send"),
    Function("operators/execution_calls.py", "_send_start"),
    Function("operators/start.py", "execute"),
    # Until the task has an outcome.
    Function("operators/start_run.py", "execute"),
    Function("operators/start_run.py", "_execute_once"),
    # Each has the task's retry policy asked once; the latter before Airflow 3.3.
    Function("operators/base.py", "run_memoized"),
    Function("operators/base.py", "run"),
}


@pytest.mark.parametrize(
    ("heading", "deferrable", "max_files", "skipped", "first"),
    [
        (
            "From `execute` to the end of the task, on a worker",
            False,
            MAX_FILES_ON_WORKER,
            SKIPPED,
            Function("operators/task_run.py", "wait_on_worker"),
        ),
        (
            "From `execute` to the end of the task, deferred",
            True,
            MAX_FILES_DEFERRED,
            SKIPPED_DEFERRED,
            Function("triggers/wait_triggers.py", "run"),
        ),
    ],
    ids=["on a worker", "deferred"],
)
def test_walk_of_a_status(
    heading: str,
    deferrable: bool,
    max_files: int,
    skipped: dict[str, str],
    first: Function,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
) -> None:
    """
    From the start to the error of the task. All functions from ``first`` on see the
    status.
    """
    emulator.control.put_scenario({"end_as": STATUS})
    operator = PolysyncStartPipelineOperator(
        task_id="train", pipeline_name="fanout", deferrable=deferrable
    )

    with traced(partial(contains, wanted=STATUS), "aws/", "auth/") as trace:
        run_task(operator)

    walk = documented_walk(heading)
    files = {function.file for function in walk}
    assert len(files) <= max_files
    assert_walked(walk, trace)
    assert [
        each for each in walk[walk.index(first) :] if each not in trace.handled
    ] == []
    assert {*trace.files} - files == {*skipped}


def test_walk_of_a_parameter(
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From the argument of the operator to the request."""
    calls: list[Function] = []
    RequestInterceptor(monkeypatch).before(START, lambda _: calls.extend(stack()))
    operator = PolysyncStartPipelineOperator(
        task_id="train",
        pipeline_name="abalone",
        pipeline_parameters={"InputDataUrl": VALUE},
        wait_for_completion=False,
    )

    with traced(partial(contains, wanted=VALUE), "aws/", "auth/") as trace:
        run_task(operator)

    walk = documented_walk("A parameter, from the DAG to AWS")
    assert_walked(walk, trace)
    assert [each for each in walk if each not in trace.handled] == []
    own = [
        call
        for call in calls
        if call not in CALLERS and not call.file.startswith(("aws/", "auth/"))
    ]
    prepare = Function("operators/execution_calls.py", "_prepare")
    assert own == [function for function in walk if function != prepare]
    assert len(own) - 1 <= MAX_CALLS
