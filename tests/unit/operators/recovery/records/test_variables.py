"""
The Variables that hold the records: their keys and contents, that each is written ahead
of its request, whose they are, and which of them remain.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from typing import Any

from polysync_airflow.airflow_compat.signatures import SIGNATURE
from polysync_airflow.execution.lifecycle.instructions import TaskKey
from polysync_airflow.records.keys import variable_key
from polysync_airflow.records.serialization import RECORD, TASK
from tests.fakes.simulated_airflow import SimulatedAirflow
from tests.unit.operators.recovery.conftest import MakeTask
from tests.unit.operators.recovery.harness import MERGE_FAILS_ONCE, Task, crash
from tests.world import RETRY, START, World

KEY = TaskKey("retraining", "scheduled__2026-01-01T00:00:00+00:00", "train", -1)
SIMILAR = [
    KEY,
    TaskKey("retraining", "scheduled__2026-01-01T00:00:00+01:00", "train", -1),
    TaskKey("retraining", "scheduled__2026-01-01T00:00:00 00:00", "train", -1),
    TaskKey("retraining", "scheduled__2026-01-01T00:00:00+00:00", "train", 0),
    TaskKey("retraining.train", "scheduled__2026-01-01T00:00:00+00:00", "train", -1),
    TaskKey("retraining", "scheduled__2026-01-01T00:00:00+00:00", "train.0", -1),
    TaskKey("d" * 250, "r" * 250, "t" * 250, 10**6),
    TaskKey("d" * 250, "r" * 250, "t" * 249, 10**6),
    TaskKey("retraining", "manual/äöü?#%41", "train", -1),
]


def test_keys_are_readable_short_and_unique() -> None:
    """
    A key fits Airflow's column, and has only characters that secrets backends of AWS
    accept in names.
    """
    keys = [variable_key(task) for task in SIMILAR]

    assert len(set(keys)) == len(SIMILAR)
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]{1,250}", key) for key in keys), keys
    assert keys[0].startswith(
        "polysync_execution.retraining.train.scheduled__2026-01-01T00_00_00_00_00."
    )


def test_variable_names_its_task_and_try(
    make_task: MakeTask, simulated_airflow: SimulatedAirflow, world: World
) -> None:
    """
    A person who finds the Variable sees to which task it belongs; the record in it is
    signed. It has no credentials, and no values once the ARN is known: every user who
    may read Variables can read it.
    """
    task = make_task()

    task.crash_while_waiting(world.time, pipeline_parameters={"Shards": 4})

    text = simulated_airflow.variable(variable_key(task.key)) or ""
    value = json.loads(text)
    record = value[RECORD]
    assert value[TASK] == asdict(task.key)
    assert (record["try_number"], record["execution_arn"]) == (1, world.log.arns[0])
    assert record[SIGNATURE]
    for secret in ("emulated-secret-key", "AKIAIOSFODNN7EXAMPLE", "Shards"):
        assert secret not in text


# ---- which of them remain


def test_success_leaves_no_record(make_task: MakeTask, world: World) -> None:
    """Also of a mapped task, without a wait, and after failures that count as one."""
    tasks = [
        make_task(),
        Task(run_id="asset_triggered__1", map_index=1),
        Task(arguments={"wait_for_completion": False}, task_id="starts"),
        Task(arguments={"on_completed_with_failures": "succeed"}, task_id="completes"),
    ]

    for task in tasks:
        assert task.next_try().error is None

    assert [task.record for task in tasks] == 4 * [None]


def test_arn_is_stored_before_xcoms_are_pushed(
    make_task: MakeTask, world: World
) -> None:
    """
    The ARN is stored before any XCom is pushed: a new try has the record but no XComs.
    """
    task = make_task()
    task.prepare_try()
    pushed: list[Any] = []
    writes: list[Any] = []
    store_set = task.store.set

    def recording_set(key: str, value: Any) -> None:
        writes.append((value.get("execution_arn"), list(pushed)))
        store_set(key, value)

    task.store.set = recording_set  # type: ignore[method-assign]

    task.run_prepared_try()

    assert writes == [(None, []), (world.log.arns[0], [])]


def test_resume_is_stored_before_it_is_sent(make_task: MakeTask, world: World) -> None:
    """
    Before RetryPipelineExecution is sent, the record has the same token and no time of
    the resume.
    """
    world.control.put_scenario(MERGE_FAILS_ONCE)
    task, saved = make_task(retry_mode="resume"), list[Any]()
    world.requests.before(RETRY, lambda body: saved.append((body, task.last_record)))

    task.next_try()
    task.next_try()

    ((request, record),) = saved
    assert record["resume_token"] == request["ClientRequestToken"]
    assert (record["resumes"], record.get("resumed_at")) == (1, None)
    assert task.last_record.get("resumed_at") is not None


def test_start_is_not_sent_if_the_record_cannot_be_stored(
    make_task: MakeTask, world: World
) -> None:
    """If Airflow cannot be reached, no execution is started."""
    task = make_task()
    task.prepare_try()
    task.store.set = crash  # type: ignore[method-assign,assignment]

    task.run_prepared_try()

    assert world.tokens(START) == []


def test_wait_behind_the_old_execution_does_not_use_the_timeout(
    make_task: MakeTask, world: World
) -> None:
    """
    After the wait behind the old execution, the start and the wait have the whole
    ``timeout``.
    """
    task = make_task(stop_on_kill=False, timeout=550)
    task.crash_while_waiting(world.time)
    task.clear()
    # The throttling lasts longer than the time that a wait of 400 s behind the old
    # execution would leave.
    world.control.add_fault("throttle", START, count=9)

    run = task.next_try()

    assert run.error is None
    assert world.log.statuses == ["Succeeded", "Succeeded"]
