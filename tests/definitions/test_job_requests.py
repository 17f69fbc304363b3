"""Requests of jobs that are public run as steps, as they are."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest

from polysync_airflow.operators import PolysyncRunJobOperator
from sagemaker_emulator import EmulatorServer
from tests.conftest import IN_BOTH_MODES
from tests.definitions.job_requests import REQUESTS, ROLE, training
from tests.tasks import EmulatedTime, run_task
from tests.world import World

DAYS = ("2026-01-01", "2026-01-02")
PARAMS = {"seconds": 600, "encrypted": True, "retries": 3}
# The names of jobs, and how long a prefix may be.
PREFIXES = {
    "TrainingJobName": 38,
    "ProcessingJobName": 38,
    "TransformJobName": 38,
    "HyperParameterTuningJobName": 6,
}
_NAME = re.compile(r"[A-Za-z0-9\-_]{1,64}")
_REFERENCE = re.compile(r'{"Get": "Parameters\.([^"]*)"}')


def faults(document: Mapping[str, Any]) -> list[str]:
    """
    Return what AWS's schema does not allow in the own members of a definition.

    https://aws-sagemaker-mlops.github.io/sagemaker-model-building-pipeline-definition-JSON-schema/
    """
    parameters = document["Parameters"]
    declared = [each["Name"] for each in parameters]
    entries = [*parameters, *document["Steps"]]
    found = [each["Name"] for each in entries if not _NAME.fullmatch(each["Name"])]
    found += [name for name in declared if declared.count(name) > 1]
    for parameter in parameters:
        if parameter["Type"] not in ("String", "Integer", "Float", "Boolean"):
            found.append(str(parameter))
        if set(parameter) - {"Name", "Type", "Description", "DefaultValue"}:
            found.append(str(parameter))
    used = set(_REFERENCE.findall(json.dumps(document)))
    return found + sorted(used ^ set(declared))


def with_values(value: Any, parameters: Mapping[str, str]) -> Any:
    """Return arguments with values in the place of references, all as texts."""
    if isinstance(value, list):
        return [with_values(each, parameters) for each in value]
    if not isinstance(value, dict):
        return str(value)
    name = str(value.get("Get")).removeprefix("Parameters.")
    if name in parameters:
        return parameters[name]
    return {name: with_values(each, parameters) for name, each in value.items()}


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
    The job runs on two days with their values, in one version, which the schema takes.
    Each member of the request is in the step, mapped, or the prefix of a name.
    """
    log = World(emulator, emulated_time, monkeypatch).log
    job_type, config = REQUESTS[name]
    requests = []
    for day in DAYS:
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
        requests.append(with_values(operator.config, {}))

    document = log.executions[0].version.definition.document
    assert faults(document) == []
    for record, request in zip(log.executions, requests, strict=True):
        assert (record.version.id, record.engine.status) == (1, "Succeeded")
        given = record.request["PipelineParameters"]
        values = {each["Name"]: each["Value"] for each in given}
        *model, job = [
            with_values(each["Arguments"], values) for each in document["Steps"]
        ]
        expected = request.get("Transform", request)
        if model:
            assert model == [request["Model"]]
            expected["ModelName"] = job["ModelName"]
        for member, longest in PREFIXES.items():
            if member in expected:
                expected[member] = expected[member][:longest]
        experiment = expected.pop("ExperimentConfig", None)
        assert job == expected
        assert bool(document["PipelineExperimentConfig"]) == bool(experiment)


def test_name_of_a_parameter_follows_from_its_argument(
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is the same whatever else has a template, and in whatever order."""
    log = World(emulator, emulated_time, monkeypatch).log
    _, config = REQUESTS["long hyperparameters"]
    given = config["HyperParameters"]
    named: dict[str, str] = {}
    for names in ([*given], [*reversed(given)], *([name] for name in given)):
        request = training(HyperParameters={name: given[name] for name in names})
        operator = PolysyncRunJobOperator(
            task_id="job", job_type="Training", config=request
        ).prepare_for_execution()
        operator.render_template_fields({"ds": DAYS[0], "params": PARAMS})
        assert run_task(operator).error is None
        (made,) = log.executions[-1].version.definition.document["Steps"]
        references = made["Arguments"]["HyperParameters"]
        assert references.keys() == set(names)
        for name, reference in references.items():
            assert named.setdefault(name, reference["Get"]) == reference["Get"]

    assert len(set(named.values())) == len(given)
    assert named["optimizer-rate"] == "Parameters.HyperParameters-optimizer-rate"
    dotted = "Parameters.HyperParameters-optimizer-rate-[0-9a-f]{8}"
    assert re.fullmatch(dotted, named["optimizer.rate"])
