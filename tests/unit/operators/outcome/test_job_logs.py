"""The new lines of running jobs in the log of a task with ``job_logs``."""

from __future__ import annotations

import re
import threading
from typing import Any

import pytest

from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.operators import PolysyncStartPipelineOperator
from polysync_airflow.triggers import wait_triggers
from polysync_airflow.triggers.threads import MAX_THREADS
from tests.conftest import IN_BOTH_MODES
from tests.fakes.log_capture import capture_logs, texts_of
from tests.tasks import run_task
from tests.world import DESCRIBE, World

pytestmark = IN_BOTH_MODES
DENIED = {
    "kind": "error",
    "code": "AccessDeniedException",
    "message": "User is not authorized to perform: logs:*",
}


def run_fanout(deferrable: bool, **arguments: Any) -> list[str]:
    """Run a task that succeeds, and return the texts of its log."""
    with capture_logs() as lines:
        run = run_task(
            PolysyncStartPipelineOperator(
                task_id="train",
                pipeline_name="fanout",
                deferrable=deferrable,
                poll_interval=20,
                progress_interval=20,
                **arguments,
            )
        )
    assert run.error is None
    return texts_of(lines)


def entries_by_step(texts: list[str], world: World) -> dict[str, list[str]]:
    """
    Return what the log of a task has of the jobs of the last execution, and check that
    it has each line once.
    """
    hook = PolysyncSageMakerHook()
    found = {}
    for step in hook.list_pipeline_execution_steps(world.log.arns[-1]):
        head = f"Step {step.name}: new lines of its log\n"
        found[step.name] = [each.removeprefix(head) for each in texts if head in each]
        lines = "\n".join(found[step.name]).splitlines()
        assert lines == [f"| {line}" for line in hook.read_step_log(step, 100)]
    return found


def test_each_line_is_written_once_with_its_step(
    deferrable: bool, world: World
) -> None:
    """
    While its job runs, and the last ones at the end; a job takes a call for each list.
    """
    world.control.put_scenario({"steps": {"Merge": {"duration": 10}}})
    texts = run_fanout(deferrable, job_logs=True)

    for name, entries in entries_by_step(texts, world).items():
        if name != "Merge":
            assert len(entries) > 1
            reads = [
                call["time"]
                for call in world.control.calls("GetLogEvents")
                if f"-{name}-" in call["request"]["logStreamName"]
            ][:-1]
            assert len(reads) == len({*reads}) > 10


def test_single_slow_call_leaves_out_no_line(deferrable: bool, world: World) -> None:
    """A line says when it is repeated, and advises nothing."""
    # botocore repeats it once.
    world.control.add_fault("throttle", service="logs", skip=9, count=2)

    texts = run_fanout(deferrable, job_logs=True)

    (line,) = [text for text in texts if "the logs of jobs has failed" in text]
    assert re.search(r"repeated after 60 s, from the same line on: \w+ failed: ", line)
    assert "What to do" not in line
    assert [text for text in texts if text.startswith("The log lacks")] == []
    entries_by_step(texts, world)


def test_each_outage_of_the_logs_is_warned_of_once(
    deferrable: bool, world: World
) -> None:
    """Two calls fail twice each, and others succeed between these outages."""
    for skip in (9, 13):
        world.control.add_fault("throttle", service="logs", skip=skip, count=4)

    texts = run_fanout(deferrable, job_logs=True)

    assert sum(text.startswith("The log lacks lines of jobs: ") for text in texts) == 2
    entries_by_step(texts, world)


def test_slow_logs_do_not_delay_the_polls(deferrable: bool, world: World) -> None:
    """The worker waits for the rest of the interval only."""
    polls = []
    for seconds in (0.0, 3.0):
        world.control.reset()
        began_at = world.time.time()

        def delay(_: object, seconds: float = seconds) -> None:
            world.time.sleep(seconds)

        world.requests.after("DescribeLogStreams", delay)
        run_fanout(deferrable, job_logs=True)
        polls.append(
            [round(call["time"] - began_at) for call in world.control.calls(DESCRIBE)]
        )
    assert polls[0] == polls[1]


@pytest.mark.parametrize(
    ("fault", "most_calls"), [(DENIED, 1), ({"kind": "throttle"}, 10)]
)
def test_logs_that_cannot_be_read_delay_nothing(
    deferrable: bool, fault: dict[str, Any], most_calls: int, world: World
) -> None:
    """
    One warning says so. After throttling, they are tried again, less and less: four times
    in eight minutes, and at the end, with botocore's two attempts.
    """
    polled = []
    for job_logs in (False, True):
        world.control.reset()
        world.control.add_fault(service="logs", **fault)
        began_at = world.time.time()
        texts = run_fanout(deferrable, job_logs=job_logs)
        polls = world.control.calls(DESCRIBE)
        polled.append([round(call["time"] - began_at) for call in polls])

    assert polled[0] == polled[1]
    assert sum(text.startswith("The log lacks lines of jobs: ") for text in texts) == 1
    logs = [each for each in world.control.calls() if each["service"] == "logs"]
    assert 1 <= len(logs) <= most_calls


def test_last_lines_are_read_in_threads_that_nobody_else_needs(
    deferrable: bool, world: World
) -> None:
    """
    Airflow's triggerer speaks with its supervisor by the threads of the event loop. If
    many waits end at once, the task goes on without its last lines, and says so.
    """
    threads = []
    for _ in range(100):
        world.requests.before(
            "GetLogEvents", lambda _: threads.append(threading.current_thread().name)
        )
    run_fanout(deferrable, job_logs=True)
    world.requests.clear()
    names = {name.partition("_")[0] for name in threads}
    assert names == (
        {"polysync-poll", "polysync-logs"} if deferrable else {"MainThread"}
    )

    released = threading.Event()
    world.patch.setattr(wait_triggers, "FINISH_SECONDS", 0.0)
    for _ in range(MAX_THREADS):
        wait_triggers.submit_read("polysync_default", released.wait)
    texts = run_fanout(deferrable, job_logs=True)
    released.set()
    lacking = [text for text in texts if text.startswith("The log lacks the last")]
    assert len(lacking) == deferrable
