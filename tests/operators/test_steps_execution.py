"""The execution task of a group of steps: what a clear does, what becomes of its execution, and what it keeps."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.records import RECORD_KEY
from polysync_airflow.task_groups import PolysyncPipelineTaskGroup
from polysync_airflow.triggers import PolysyncPipelineExecutionTrigger, waits
from sagemaker_emulator import EmulatorServer
from sagemaker_emulator.builders import definition, step
from tests.fakes.log_capture import capture_logs
from tests.fakes.simulated_dag_run import SimulatedDagRun
from tests.jobs.catalogue.builders import put_pipelines
from tests.operators.recovery.harness import RETRY, START, STOP, calls
from tests.tasks import EmulatedTime

# A and B are independent.
STEPS = definition(step("A"), step("B"), step("Join", "Processing", "A", "B"), step("End", "Processing", "Join"))
B_FAILS_ONCE = {"B": {"duration": 300, "fail": {"reason": "AlgorithmError: no data", "times": 1}}}
ALL = ("A", "B", "Join", "End")
MakeRun = Callable[..., SimulatedDagRun]


@pytest.fixture
def make_run(
    emulator: EmulatorServer, emulated_time: EmulatedTime, monkeypatch: pytest.MonkeyPatch
) -> MakeRun:
    """A factory of DAG runs of a group, whose tasks start in the triggerer if they can."""
    # A trigger that was killed looks at its task in real seconds.
    monkeypatch.setattr(waits, "FOLLOW_POLL_SECONDS", 0.001)
    put_pipelines(emulator, {"steps": json.loads(STEPS)})

    def make(scenario: Any = None, **arguments: Any) -> SimulatedDagRun:
        emulator.control.put_scenario({"steps": scenario or {}})
        with DAG("retraining", schedule=None) as dag:
            own = {"pipeline_name": "steps", "poll_interval": 60, "progress_interval": None}
            PolysyncPipelineTaskGroup("g", definition=_file(emulator), **{**own, **arguments})
        return SimulatedDagRun(dag, in_triggerer=CAPABILITIES.start_from_trigger)

    return make


@pytest.fixture(scope="module")
def _folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return tmp_path_factory.mktemp("steps")
