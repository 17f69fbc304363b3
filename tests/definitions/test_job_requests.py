"""Requests of jobs that are public run as steps, as they are."""

from __future__ import annotations

import json
from typing import Any

import pytest

from polysync_airflow.operators import PolysyncRunJobOperator
from sagemaker_emulator import EmulatorServer
from tests.conftest import IN_BOTH_MODES
from tests.definitions.job_requests import REQUESTS, ROLE
from tests.tasks import EmulatedTime, run_task
from tests.world import World

PARAMS = {"seconds": 600, "encrypted": True, "retries": 3}


@IN_BOTH_MODES
@pytest.mark.parametrize("name", REQUESTS)
def test_request_runs(
    name: str,
    deferrable: bool,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    The job runs on two days with their values, in one version, and each member of the
    request is in the step, mapped, or made by AWS.
    """
    log = World(emulator, emulated_time, monkeypatch).log
    job_type, config = REQUESTS[name]
    for day in ("2026-01-01", "2026-01-02"):
        operator = PolysyncRunJobOperator(
            task_id="job",
            job_type=job_type,
            config=config,
            # Only the role of a model that exists is nowhere in the request.
            role_arn=ROLE if "TransformInput" in config else None,
            deferrable=deferrable,
        ).prepare_for_execution()
        context: Any = {"ds": day, "params": PARAMS}
        operator.render_template_fields(context)

        assert run_task(operator).error is None

    first, second = log.executions
    assert [first.engine.status, second.engine.status] == ["Succeeded", "Succeeded"]
    assert (first.version.id, second.version.id) == (1, 1)
    values = [
        json.dumps(each.request["PipelineParameters"]) for each in (first, second)
    ]
    assert values[0].replace("2026-01-01", "2026-01-02") == values[1]
    document = first.version.definition.document
    arguments = document["Steps"][-1]["Arguments"]
    request = config.get("Transform", config)
    gone = set(request) - set(arguments)
    made_by_aws = {
        "TrainingJobName",
        "ProcessingJobName",
        "TransformJobName",
        "HyperParameterTuningJobName",
    }
    assert gone == set(request) & {*made_by_aws, "ExperimentConfig"}
    assert bool(document["PipelineExperimentConfig"]) == ("ExperimentConfig" in request)
