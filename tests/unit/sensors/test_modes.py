"""
What a sensor shows while it waits; ``tests/unit/operators/contract`` has how it ends.
"""

from __future__ import annotations

from typing import Any

import pytest

from sagemaker_emulator import EmulatorServer
from tests.tasks import EmulatedTime, TaskInstance
from tests.unit.sensors.sessions import MODES, make_sensor, run_sensor, start_execution


@pytest.mark.parametrize("mode", MODES)
def test_xcoms_are_there_while_the_execution_runs(
    mode: str, emulator: EmulatorServer, airflow_time: EmulatedTime
) -> None:
    """
    Links, state, steps and, except in reschedule mode, parameters can be seen before
    the execution has ended.
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
