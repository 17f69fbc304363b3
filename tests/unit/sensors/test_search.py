"""
The search of a sensor against the emulator, in all modes: windows, which execution,
retries and reschedules.
"""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from polysync_airflow.execution import search
from polysync_airflow.sensors.pipeline_run import default_window
from sagemaker_emulator import EmulatorServer
from tests.managed_pipelines import MANAGED, MODEL, NEEDS_ROLE, ROLE
from tests.tasks import EmulatedTime, TaskInstance
from tests.unit.sensors.sessions import (
    HOUR,
    MODES,
    at,
    make_sensor,
    run_sensor,
    start_execution,
)
from tests.world import LIST

pytestmark = pytest.mark.usefixtures("emulator")


@pytest.mark.parametrize("mode", MODES)
def test_found_execution_stays_the_one(mode: str, airflow_time: EmulatedTime) -> None:
    """
    ``latest`` is that of the begin of the try, also when newer ones are started; the
    next try takes the newest.
    """
    begin = airflow_time.time()
    first = start_execution()
    airflow_time.sleep(5)
    newer = list[str]()
    airflow_time.after(300, lambda: newer.append(start_execution()))
    ti = TaskInstance("wait", max_tries=1)
    sensor = make_sensor(
        mode, pipeline_name="fanout", which="latest", created_after=at(begin), retries=1
    )

    run = run_sensor(sensor, ti)
    again = run_sensor(sensor, TaskInstance("wait", try_number=2, max_tries=1))

    assert run.result == first
    assert again.result == newer[0]


def test_data_interval_is_the_default_window(airflow_time: EmulatedTime) -> None:
    """The executions before and after it do not count."""
    start_execution()
    airflow_time.sleep(100)
    begin = airflow_time.time()
    airflow_time.sleep(100)
    inside = start_execution()
    airflow_time.sleep(100)
    end = airflow_time.time()
    start_execution()
    interval = (at(begin), at(end))

    run = run_sensor(
        make_sensor("poke", pipeline_name="fanout", which="latest"),
        TaskInstance("wait", interval=interval),
    )

    assert run.result == inside


START = at(1_750_000_000)


@pytest.mark.parametrize(
    ("context", "expected"),
    [
        (
            {
                "data_interval_start": START,
                "data_interval_end": START + timedelta(days=1),
            },
            (0, 24 * HOUR),
        ),
        ({"data_interval_start": START, "data_interval_end": START}, (0, None)),
        ({"data_interval_start": START, "data_interval_end": None}, (0, None)),
        (
            {
                "data_interval_start": None,
                "dag_run": SimpleNamespace(run_after=START, start_date=START),
            },
            (0, None),
        ),
        ({"dag_run": SimpleNamespace(run_after=START, start_date=None)}, (0, None)),
        ({"dag_run": SimpleNamespace(run_after=None, start_date=START)}, (0, None)),
        ({"dag_run": SimpleNamespace(start_date=START)}, (0, None)),
    ],
)
def test_window_of_a_dag_run_is_its_data_interval(
    context: Any, expected: tuple[float, float | None]
) -> None:
    """
    An interval without length, or none, as Airflow 3 has them, is a window without end.
    """
    begin, end = default_window(context)

    assert (begin - START).total_seconds() == expected[0]
    assert (end and (end - START).total_seconds()) == expected[1]


@pytest.mark.parametrize("mode", MODES)
def test_searches_cost_few_calls(
    mode: str, emulator: EmulatorServer, airflow_time: EmulatedTime
) -> None:
    """
    One list for each look, of what is new; the parameters of each execution are read
    once.
    """
    begin = airflow_time.time()
    for _ in range(3):
        start_execution()
    airflow_time.after(1500, lambda: start_execution(Shards="9"))
    emulator.control.clear_calls()
    sensor = make_sensor(
        mode,
        pipeline_name="fanout",
        created_after=at(begin - 1),
        parameters={"Shards": 9},
        poke_interval=300,
        progress_interval=None,
    )

    run_sensor(sensor)

    counts = Counter(call["operation"] for call in emulator.control.calls())
    assert 6 <= counts[LIST] <= 20
    # Three that do not match, the one that does, and its parameters for the XCom
    # ``run``.
    expected = {
        "poke": range(5, 30),
        "deferrable": range(5, 9),
        "reschedule": range(5, 60),
    }
    expected["triggerer"] = expected["deferrable"]
    assert counts["ListPipelineParametersForExecution"] in expected[mode]
    requests = [
        call["request"]
        for call in emulator.control.calls(LIST)
        if call["request"].get("SortOrder") == "Ascending"
    ]
    assert requests[0]["CreatedAfter"] == pytest.approx(begin - 2, abs=2)
    if mode != "reschedule":
        assert requests[-1]["CreatedAfter"] > begin + 600


@pytest.mark.parametrize("mode", ["poke", "deferrable"])
def test_window_with_too_many_executions_is_an_error(
    mode: str, airflow_time: EmulatedTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One more than are looked at is enough to know it."""
    monkeypatch.setattr(search, "MAX_LISTED", 3)
    begin = at(airflow_time.time() - 1)
    window = {"pipeline_name": "fanout", "created_after": begin, "timeout": HOUR}
    sensor = make_sensor(mode, display_name_pattern="none", **window)
    # A sensor that defers has looked before.
    for seconds in range(300, 304):
        airflow_time.after(seconds, start_execution)

    run = run_sensor(sensor)

    assert "has more than 3 executions in the window" in str(run.error)


@NEEDS_ROLE
@pytest.mark.parametrize("mode", MODES)
def test_execution_of_a_pipeline_that_aws_manages_is_found_by_its_arn(
    mode: str, airflow_time: EmulatedTime
) -> None:
    """
    It is looked for by the ARN of the pipeline, although its own ARN has the account.
    """
    began_at = at(airflow_time.time())
    arn = start_execution(MANAGED, role=ROLE, ModelPackageArn=MODEL)

    run = run_sensor(make_sensor(mode, pipeline_name=MANAGED, created_after=began_at))

    assert (run.error, run.result) == (None, arn)
    assert (run.xcoms["run"]["pipeline_name"], run.xcoms["run"]["state"]) == (
        MANAGED,
        "Success",
    )
    assert run.xcoms["console_url"].endswith(f"#/pipelines/model-eval/executions/{arn}")
