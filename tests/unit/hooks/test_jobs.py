"""How often the jobs of an execution are described while it runs, and at its end."""

from __future__ import annotations

from collections import Counter
from typing import Any

from polysync_airflow.execution import clock, results
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.hooks.jobs import JobReader
from polysync_airflow.triggers.step_tasks import CLIENT_OPERATIONS
from sagemaker_emulator import EmulatorServer
from tests.tasks import EmulatedTime
from tests.unit.events.conftest import client


def test_running_job_is_described_until_it_has_started_and_once_after_its_end(
    emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """
    A tuning job counts more with each list of its training jobs, until it has ended;
    also with the few operations of the client that the tasks of steps share.
    """
    sagemaker: Any = client(emulator, "sagemaker")
    emulator.control.put_scenario({"steps": {"ChurnTune": {"duration": 1000}}})
    started = sagemaker.start_pipeline_execution(PipelineName="churn-tuning")
    arn = started["PipelineExecutionArn"]
    hook = PolysyncSageMakerHook()
    hook.client_operations = CLIENT_OPERATIONS
    reader = JobReader(hook, print)
    used = []
    for seconds in [*[60] * 20, 3600, 60, 60]:
        with reader.in_time():
            jobs = reader.read(hook.list_pipeline_execution_steps(arn))
        billed = results.seconds_by_instance_type(jobs, clock.now())
        used.append(sum(billed.values()))
        emulated_time.sleep(seconds)

    calls = Counter(call["operation"] for call in emulator.control.calls())
    assert used == sorted(used)
    assert used[0] == 0
    assert len(set(used)) > 15
    assert used[-1] == used[-2]
    # Before and after the start, and after the end.
    assert calls["DescribeHyperParameterTuningJob"] == 2
    assert 0 < calls[results.LIST_TRAINING_JOBS] < 20
    assert calls["DescribeProcessingJob"] <= 2 * 4
    assert reader.notes() == ()
