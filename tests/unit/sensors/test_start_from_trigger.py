"""
Sensors that start in the triggerer: what is refused, templates, tries, and a triggerer
that takes over.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.models.crypto import get_fernet
from airflow.providers.common.compat.sdk import DAG, Asset, XComArg
from airflow.triggers.base import TaskSuccessEvent

from polysync_airflow import exceptions
from polysync_airflow.airflow_compat import supervisor
from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.aws.rate_limiter import RateLimiter
from polysync_airflow.exceptions import ParametersError
from polysync_airflow.sensors import (
    PolysyncModelApprovalSensor,
    PolysyncPipelineSensor,
    sensor_run,
)
from polysync_airflow.start_in_triggerer.triggerer_task import WAIT_KEY, XCOM_KEYS
from tests.conftest import ARN
from tests.fakes.airflow_encoding import check_dag
from tests.fakes.evil_json import NESTED, nested_value
from tests.fakes.simulated_airflow import SimulatedAirflow
from tests.tasks import TaskInstance
from tests.unit.operators.recovery.harness import RetryEverything
from tests.unit.sensors.registry import GROUP, Registry, version
from tests.unit.sensors.sessions import (
    HOUR,
    at,
    make_sensor,
    run_sensor,
    start_execution,
)
from tests.world import World

if CAPABILITIES.start_from_trigger:
    from tests.unit.sensors.triggerer import Started

pytestmark = pytest.mark.skipif(
    not CAPABILITIES.start_from_trigger, reason="tasks of this version start on workers"
)


def callback(context: Any) -> None:
    """Do nothing."""


# ---- what is refused


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("on_execute_callback", callback),
        ("on_success_callback", callback),
        ("on_skipped_callback", callback),
        ("email", "ada@example.com"),
        ("outlets", [Asset("s3://bucket/model")]),
        ("pre_execute", callback),
        ("post_execute", lambda context, result: None),
        ("execution_timeout", timedelta(hours=1)),
        ("retry_policy", RetryEverything()),
    ],
)
def test_what_needs_a_worker_is_refused(argument: str, value: Any) -> None:
    """
    The error names the argument, its value and what to do. Without
    ``start_from_trigger``, it is accepted.
    """
    arguments: Any = {"task_id": "wait", "execution_arn": ARN, argument: value}
    PolysyncPipelineSensor(**arguments, deferrable=True)

    with pytest.raises(
        ParametersError, match=f"^{argument} = .+leave out one of them"
    ) as caught:
        PolysyncPipelineSensor(**arguments, start_from_trigger=True)

    assert "timeout limits the wait" in str(caught.value)


@pytest.mark.parametrize(
    ("argument", "make", "others"),
    [
        ("parameters", lambda output: output, {"pipeline_name": "fanout"}),
        ("execution_arn", lambda output: output.map(lambda value: value), {}),
    ],
)
def test_output_that_cannot_be_rendered_is_refused(
    argument: str, make: Callable[[XComArg], Any], others: dict[str, Any]
) -> None:
    """A text of a template cannot stand for it."""
    with DAG("outputs", schedule=None):
        first = PolysyncPipelineSensor(task_id="first", execution_arn=ARN)

        with pytest.raises(ParametersError, match=f"^{argument} = .+give a template"):
            PolysyncPipelineSensor(
                task_id="wait",
                start_from_trigger=True,
                **others,
                **{argument: make(first.output)},
            )


def test_mapped_sensor_starts_on_a_worker() -> None:
    """
    Airflow starts no mapped task in the triggerer. The DAG is stored all the same.
    """
    with DAG("mapped", schedule=None) as dag:
        mapped: Any = PolysyncPipelineSensor.partial(
            task_id="wait", start_from_trigger=True
        ).expand(execution_arn=[ARN, ARN])

    check_dag(dag)
    assert mapped.start_trigger_args is None
    unmapped = PolysyncPipelineSensor(
        task_id="wait", execution_arn=ARN, start_from_trigger=True
    )
    assert unmapped.options.deferrable


# ---- its start


@pytest.mark.parametrize(
    ("native", "parameters"),
    [
        (False, {"Shards": "{{ params.wanted.Shards }}"}),
        # Only a native template renders to something else than a text.
        (True, "{{ params.wanted }}"),
    ],
)
def test_arguments_are_rendered_in_the_triggerer(
    native: bool, parameters: Any, world: World
) -> None:
    """
    With what a template has on a worker, and the output of another task. Airflow itself
    renders nothing.
    """
    arn = start_execution(Shards="3")
    start = datetime.fromtimestamp(world.time.time() - 60, UTC)
    TaskInstance("other").xcom_push("return_value", "fanout")
    with DAG("retraining", schedule=None, render_template_as_native_obj=native) as dag:
        other = PolysyncPipelineSensor(task_id="other", execution_arn=ARN)
        sensor = PolysyncPipelineSensor(
            task_id="wait",
            pipeline_name=other.output,
            created_after="{{ data_interval_start }}",
            created_before=start + timedelta(hours=1),
            parameters=parameters,
            params={"wanted": {"Shards": 3}},
            start_from_trigger=True,
        )
    ti = TaskInstance("wait", interval=(start, start + timedelta(hours=1)))

    run = Started(sensor, ti, dag=dag).run(sensor)

    assert run.error is None
    assert run.result == arn
    assert "wait" in other.downstream_task_ids


def test_retry_begins_without_the_xcoms_of_the_try_before(world: World) -> None:
    """
    As on a worker; else the button would lead to the log of the failed step of the try
    before.
    """
    sensor = make_sensor("triggerer", execution_arn=start_execution())
    old = dict.fromkeys((*XCOM_KEYS, WAIT_KEY), "old")
    ti = TaskInstance("wait", try_number=2, xcoms=dict(old))

    run = run_sensor(sensor, ti)

    assert run.error is None
    assert "failed_step_log_url" not in ti.xcoms
    assert "old" not in ti.xcoms.values()


def test_all_xcoms_are_known(registry: Registry, world: World) -> None:
    """Each XCom that a sensor pushes is deleted before a retry."""
    world.control.put_scenario({"steps": {"Shard3": {"fail": {"reason": "no data"}}}})
    failed = run_sensor(make_sensor("triggerer", execution_arn=start_execution()))
    registry.register("Rejected")
    rejected = run_sensor(
        PolysyncModelApprovalSensor(
            task_id="wait", model_package_group=GROUP, start_from_trigger=True
        )
    )

    assert type(failed.error) is exceptions.PipelineExecutionFailedError
    assert type(rejected.error) is exceptions.ModelRejectedError
    assert failed.xcoms.keys() | rejected.xcoms.keys() <= {*XCOM_KEYS, WAIT_KEY}
    assert rejected.xcoms["model_package_arn"] == version(1)


@pytest.mark.parametrize("by_search", [False, True])
def test_first_poll_is_one_of_the_rate_limiter(
    by_search: bool, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Many tasks may start at the same time in one process, beside the pollers with the
    same connection.
    """
    keys = list[Any]()

    class CountingLimiter(RateLimiter):
        def acquire(self, *_: Any) -> None:
            keys.append(key_of[self])

    key_of = dict[Any, Any]()

    def limiter_for(key: Any, now: float) -> RateLimiter:
        limiter = CountingLimiter(now)
        key_of[limiter] = key
        return limiter

    monkeypatch.setattr(sensor_run, "rate_limiter_for", limiter_for)
    arn = start_execution()
    search = {"pipeline_name": "fanout", "created_after": at(world.time.time() - 60)}

    run_sensor(
        make_sensor("triggerer", **(search if by_search else {"execution_arn": arn}))
    )

    assert keys == [("polysync_default", "us-east-1")]


# ---- a triggerer that takes over


def test_next_triggerer_goes_on_with_the_same_deadline(world: World) -> None:
    """It does not begin the time that the search may take again."""
    began_at = world.time.time()
    sensor = make_sensor(
        "triggerer",
        pipeline_name="fanout",
        created_after=at(began_at - 1),
        timeout=HOUR,
    )
    ti = TaskInstance("wait")

    async def end_the_triggerer_after_half_an_hour() -> None:
        async with aclosing(Started(sensor, ti).trigger.run()) as events:
            waiting = asyncio.create_task(anext(events))
            cancel = asyncio.get_running_loop().call_soon_threadsafe
            world.time.after(HOUR / 2, lambda: cancel(waiting.cancel))
            await asyncio.wait([waiting])
            assert waiting.cancelled()

    asyncio.run(end_the_triggerer_after_half_an_hour())
    world.time.sleep(600)

    run = Started(sensor, ti).run(sensor)

    assert type(run.error) is exceptions.PipelineExecutionTimeoutError
    assert "No execution was found within 1 h" in str(run.error)
    # Datetimes have microseconds.
    assert HOUR - 0.001 <= world.time.time() - began_at < HOUR + 120


@pytest.mark.parametrize(
    "kept",
    [
        "nonsense",
        7,
        "gAAAAA==",
        None,
        nested_value(200),
        get_fernet().encrypt(NESTED.encode()).decode(),
        get_fernet().encrypt(b'["a", 1]').decode(),
    ],
    ids=["text", "number", "no token", "none", "nested", "nested text", "short list"],
)
def test_damaged_wait_begins_again(kept: Any, world: World) -> None:
    """Others can edit XComs."""
    sensor = make_sensor("triggerer", execution_arn=start_execution())
    ti = TaskInstance("wait", xcoms={WAIT_KEY: kept})

    run = run_sensor(sensor, ti)

    assert type(run.event) is TaskSuccessEvent
    assert ti.xcoms[WAIT_KEY] != kept


def test_wait_of_another_try_is_not_continued(world: World) -> None:
    """The execution that it had found may be another one than that of the task now."""
    other = run_sensor(make_sensor("triggerer", execution_arn=start_execution()))
    arn = start_execution()

    run = run_sensor(
        make_sensor("triggerer", execution_arn=arn),
        TaskInstance("wait", xcoms={WAIT_KEY: other.xcoms[WAIT_KEY]}),
    )

    assert run.result == arn


@pytest.mark.parametrize("is_answered", [True, False])
def test_slow_airflow_is_asked_again(
    is_answered: bool, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A fresh triggerer on a busy machine gets no answer to its first question. If none
    comes at all, the error says so.
    """
    monkeypatch.setattr(supervisor, "TIMEOUT_SECONDS", 0.5)
    answer = SimulatedAirflow.xcom
    released = threading.Event()
    asked: list[Any] = []

    def answer_late(airflow: SimulatedAirflow, *key: Any) -> Any:
        asked.append(key)
        if not is_answered or len(asked) == 1:
            released.wait(30)
        return answer(airflow, *key)

    sensor = make_sensor("triggerer", execution_arn=start_execution())
    monkeypatch.setattr(SimulatedAirflow, "xcom", answer_late)

    try:
        run = run_sensor(sensor)
    finally:
        released.set()

    if is_answered:
        assert type(run.event) is TaskSuccessEvent
    else:
        assert str(run.error).startswith("Airflow has not responded to the triggerer")
        assert len(asked) == supervisor.MAX_CALLS


def test_error_of_the_trigger_fails_the_task_without_a_worker(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the error with which a worker would fail it."""
    from polysync_airflow.triggers import wait_triggers

    def fail(*_: Any) -> Any:
        raise OSError("a bug")

    monkeypatch.setattr(
        wait_triggers.PolysyncPipelineExecutionTrigger, "_find_poller", fail
    )

    run = run_sensor(make_sensor("triggerer", execution_arn=start_execution()))

    assert (type(run.error).__name__, str(run.error)) == (
        "TaskDeferralError",
        "Trigger failure",
    )
