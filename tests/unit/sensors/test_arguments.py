"""
The arguments of a sensor, what it shows while it waits, and what its errors say about
the next try; ``tests/unit/operators/contract`` has how it ends.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES, capabilities_of
from polysync_airflow.exceptions import ParametersError
from polysync_airflow.execution.search import SEARCH_ARGUMENTS
from polysync_airflow.sensors import PolysyncModelApprovalSensor, PolysyncPipelineSensor
from polysync_airflow.sensors import base as sensors_base
from sagemaker_emulator import EmulatorServer
from tests.conftest import ARN
from tests.tasks import EmulatedTime, TaskInstance
from tests.unit.sensors.registry import GROUP
from tests.unit.sensors.sessions import (
    HOUR,
    MODES,
    at,
    make_sensor,
    run_sensor,
    start_execution,
)

ONE: dict[str, Any] = {"execution_arn": ARN}
NAMED: dict[str, Any] = {"pipeline_name": "fanout"}
NOT_LOOKED_FOR = "an execution with an execution_arn is not looked for."


def test_invalid_arguments_are_refused_when_the_dag_is_parsed() -> None:
    """A DAG author sees them as an import error."""
    for arguments, text in (
        ({}, "execution_arn and pipeline_name are both missing: give one of them"),
        (
            {**ONE, **NAMED},
            "execution_arn and pipeline_name are both given: give one of them.",
        ),
        *(
            ({**ONE, name: "2026-01-01"}, f"{name}: {NOT_LOOKED_FOR}")
            for name in SEARCH_ARGUMENTS
            if name not in ("pipeline_name", "which")
        ),
        (
            {**NAMED, "which": "newest"},
            "which = 'newest' is not valid: give one of first, latest.",
        ),
        (
            {**ONE, "poke_interval": 0.5},
            "poke_interval = 0.5 is not valid: give a number of seconds from 1 to",
        ),
        (
            {**ONE, "timeout": 96360 * HOUR},
            "timeout = 346896000.0 is not valid: give a number of seconds from 0 to",
        ),
        (
            {**ONE, "on_cancelled": "ignore"},
            "on_cancelled = 'ignore' is not valid: give one of fail, skip, retry.",
        ),
        (
            {**ONE, "progress_interval": 5},
            "progress_interval = 5 is not valid: give a number of seconds from 10 to",
        ),
        (
            {**ONE, "deferrable": "yes"},
            "deferrable = 'yes' is not valid: give True or False.",
        ),
    ):
        with pytest.raises(ParametersError) as caught:
            PolysyncPipelineSensor(task_id="wait", **arguments)

        assert str(caught.value).startswith(text)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (
            {"execution_arn": "fanout"},
            "execution_arn = 'fanout' is not the ARN of an execution: give "
            "arn:aws:sagemaker:<region>:<account>:pipeline/<name>/execution/<id>, ",
        ),
        (
            {"execution_arn": ""},
            "execution_arn and pipeline_name are both missing: give one of them.",
        ),
        (
            {**ONE, "region_name": "eu-west-1"},
            "region_name = 'eu-west-1' is not the region of the execution, us-east-1: ",
        ),
        (
            {**ONE, "step_name": "a\nb"},
            "step_name = 'a\\nb' is not the name of a step: give the name of a step of "
            "the pipeline, of 1 to 256 characters without control characters.",
        ),
        ({**NAMED, "created_after": "soon"}, "- created_after = 'soon': Value error, "),
    ],
)
def test_invalid_rendered_arguments_are_refused_before_any_call(
    arguments: dict[str, Any], text: str, emulator: EmulatorServer
) -> None:
    """Values of templates are known only when the task runs."""
    run = run_sensor(make_sensor("poke", **arguments))

    assert isinstance(run.error, ParametersError)
    assert text in str(run.error)
    assert emulator.control.calls() == []
    assert run.xcoms == {}


@pytest.mark.parametrize("version_of_airflow", ["2.11.0", "3.2.1"])
def test_older_versions_refuse_a_start_in_the_triggerer(
    monkeypatch: pytest.MonkeyPatch, version_of_airflow: str
) -> None:
    """There, the templates would not be rendered."""
    monkeypatch.setattr(
        sensors_base, "CAPABILITIES", capabilities_of(version_of_airflow)
    )

    for make in (
        lambda: PolysyncPipelineSensor(
            task_id="wait", execution_arn=ARN, start_from_trigger=True
        ),
        lambda: PolysyncModelApprovalSensor(
            task_id="wait", model_package_group=GROUP, start_from_trigger=True
        ),
    ):
        with pytest.raises(
            ParametersError, match=r"start_from_trigger = True needs Airflow 3\.3"
        ):
            make()


@pytest.mark.parametrize("by", ["execution_arn", "pipeline_name"])
def test_error_says_what_comes_next(
    by: str, emulator: EmulatorServer, airflow_time: EmulatedTime
) -> None:
    """A sensor starts and resumes nothing, so a person, or the next look, does."""
    failure = {"reason": "no data"}
    emulator.control.put_scenario({"steps": {"Shard3": {"fail": failure}}})
    begin = airflow_time.time()
    arn = start_execution()
    target: dict[str, Any] = {"execution_arn": arn}
    if by == "pipeline_name":
        target = {"pipeline_name": "fanout", "created_after": at(begin - 1)}
    retried = make_sensor("poke", **target, retries=1, retry_delay=timedelta(minutes=5))

    last = run_sensor(make_sensor("poke", **target))
    first = run_sensor(retried, TaskInstance("wait", max_tries=1))

    assert "start or resume the execution where it was started" in str(last.error)
    again = "waits for the same execution"
    if by == "pipeline_name":
        again = "looks for an execution again"
    announced = f"Next: Airflow retries the task in 5 min. The retry {again}."
    assert announced in str(first.error)


def test_sensor_stops_nothing_when_its_task_is_killed(emulator: EmulatorServer) -> None:
    """It has not started the execution."""
    sensor = make_sensor("poke", execution_arn=start_execution())
    emulator.control.clear_calls()

    sensor.on_kill()

    assert emulator.control.calls() == []
    assert not sensor.on_failure_callback


def test_sensor_is_one_of_airflows() -> None:
    """Airflow's scheduler must know that it can be rescheduled."""
    sensor = make_sensor("reschedule", execution_arn=ARN)

    assert sensor.reschedule
    assert getattr(sensor, "_is_sensor" if CAPABILITIES.task_sdk else "deps")
    assert {link.name for link in sensor.operator_extra_links} == {
        "SageMaker Console",
        "SageMaker Studio",
        "SageMaker Unified Studio",
        "Failed step's log",
    }


@pytest.mark.parametrize("mode", MODES)
def test_xcoms_are_there_while_the_execution_runs(
    mode: str, emulator: EmulatorServer, airflow_time: EmulatedTime
) -> None:
    """
    Links, state, steps and, except in reschedule mode, parameters can be seen before
    the execution has ended. They are read once.
    """
    ti = TaskInstance("wait")
    seen = list[dict[str, Any]]()
    arn = start_execution(Shards="4")
    airflow_time.after(500, lambda: seen.append(dict(ti.xcoms)))

    run = run_sensor(make_sensor(mode, execution_arn=arn), ti)

    assert run.error is None
    (xcoms,) = seen
    assert xcoms["execution_arn"] == arn
    assert arn.rsplit("/", 1)[-1] in xcoms["console_url"]
    assert xcoms["state"] == xcoms["run"]["state"] == "Running"
    assert {row["name"] for row in xcoms["steps"]} >= {"Shard0", "Shard3"}
    if mode != "reschedule":
        assert xcoms["run"]["parameters"] == {"Shards": "4"}
    assert run.xcoms["run"]["parameters"] == {"Shards": "4"}
    assert len(emulator.control.calls("ListPipelineParametersForExecution")) == 1
