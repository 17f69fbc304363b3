"""
The events that Airflow's OpenLineage provider sends of a DAG run, on each version of
Airflow.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import Asset

from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.testing.emulator import SageMakerEmulator
from sagemaker_emulator import EXAMPLE_DEFINITIONS
from tests.documentation.examples.test_example_dags import states_of, xcom
from tests.fakes.dag_bundle import use_bundle

pytestmark = [pytest.mark.matrix, pytest.mark.nightly]
DAGS = Path(__file__).parent / "dags"
CODE = "s3://ml-bucket/abalone/code/preprocess.py"
SENT = {
    "abalone": {"InputDataUrl": "s3://ml-bucket/with_lineage.csv", "DbPassword": "***"},
    "churn-tuning": {"InputData": "s3://ml-bucket/raw"},
}


@pytest.fixture
def events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return the file to which the provider's own listener writes events."""
    file = tmp_path / "events.jsonl"
    transport = {"type": "file", "log_file_path": str(file), "append": True}
    monkeypatch.setenv("AIRFLOW__OPENLINEAGE__TRANSPORT", json.dumps(transport))
    listener = import_module(
        "airflow.providers.openlineage.plugins.listener"
    ).OpenLineageListener()
    manager = import_module("airflow.listeners.listener").get_listener_manager()
    manager.add_listener(listener)
    yield file
    manager.pm.unregister(listener)


def events_by_task(file: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the events of the tasks of a DAG, by task id."""
    found: dict[str, list[dict[str, Any]]] = {}
    for event in map(json.loads, file.read_text().splitlines()):
        _, _, task_id = event["job"]["name"].partition(".")
        if task_id:
            found.setdefault(task_id, []).append(event)
    return found


def converts_assets() -> bool:
    """
    Return whether the provider tells OpenLineage of a task's own assets at all; its
    older versions do not.
    """
    manager = import_module("airflow.providers.openlineage.extractors").ExtractorManager
    return manager.convert_to_ol_dataset(Asset("s3://ml-bucket/published")) is not None


def names(datasets: list[dict[str, Any]]) -> set[str]:
    """Return namespace and name of each dataset, as one URI."""
    return {f"{each['namespace']}/{each['name']}" for each in datasets}


def test_events_of_a_run(
    example: Any,
    endpoint: SageMakerEmulator,
    events: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    Each task has events of its start and its end, which name the execution and its
    datasets, but no secret.
    """
    definition = json.loads((EXAMPLE_DEFINITIONS / "abalone.json").read_text())
    definition["Parameters"].append({"Name": "DbPassword", "Type": "String"})
    client: Any = PolysyncSageMakerHook().conn
    client.update_pipeline(
        PipelineName="abalone", PipelineDefinition=json.dumps(definition)
    )
    endpoint.fail_step("ChurnPreprocess", "No space left on device")
    use_bundle(DAGS, monkeypatch)

    run = example("with_lineage", DAGS)

    published = {"s3://ml-bucket/published"} if converts_assets() else set()
    states = {task_id: state for task_id, _, state in states_of(run)}
    by_task = events_by_task(events)
    assert by_task.keys() == states.keys()
    assert "a-secret" not in events.read_text()
    for task_id, (started, *_, ended) in by_task.items():
        pipeline = "abalone" if task_id == "started" else task_id.split("_")[0]
        record = xcom(run, task_id, "run")
        before, after = (
            each["run"]["facets"]["polysync_sagemakerExecution"]
            for each in (started, ended)
        )
        assert (
            started["job"]["facets"]["polysync_sagemakerPipeline"]["pipelineName"]
            == pipeline
        )
        assert (
            ended["job"]["facets"]["polysync_sagemakerPipeline"]["region"]
            == "us-east-1"
        )
        assert before["parameters"] == after["parameters"] == SENT[pipeline]
        assert after["executionArn"] == record["execution_arn"]
        assert (after["state"], after["consoleUrl"]) == (
            record["state"],
            xcom(run, task_id, "console_url"),
        )
    for mode in ("on_the_worker", "deferred"):
        *_, ended = by_task[f"abalone_{mode}"]
        outputs = xcom(run, f"abalone_{mode}", "outputs")
        account, _, package = outputs["AbaloneRegisterModel-RegisterModel"][
            "model_package_arn"
        ].rpartition(":")
        made = {
            f"{account}/{package}",
            outputs["AbaloneTrain"]["model_artifact"],
            *published,
        }
        assert (states[f"abalone_{mode}"], ended["eventType"]) == (
            "success",
            "COMPLETE",
        )
        # The second of the two runs may have the result of the first one, and so has
        # not read the code.
        (step,) = (
            row
            for row in xcom(run, f"abalone_{mode}", "steps")
            if row["name"] == "AbaloneProcess"
        )
        prepared = ended["inputs" if step["cache_hit"] else "outputs"]
        assert made <= names(ended["outputs"])
        assert set(outputs["AbaloneProcess"]["output_uris"].values()) <= names(prepared)
        assert (CODE in names(ended["inputs"])) is not step["cache_hit"]
        assert not names(ended["inputs"]) & names(ended["outputs"])
        *_, ended = by_task[f"churn-tuning_{mode}"]
        facets = ended["run"]["facets"]
        assert (states[f"churn-tuning_{mode}"], ended["eventType"]) == (
            "failed",
            "FAIL",
        )
        assert (
            "ChurnPreprocess failed: No space left on device"
            in facets["errorMessage"]["message"]
        )
        assert facets["polysync_sagemakerExecution"]["failedSteps"] == [
            {"name": "ChurnPreprocess", "reason": "No space left on device"}
        ]
        assert names(ended["outputs"]) == published
    assert (states["started"], by_task["started"][-1]["eventType"]) == (
        "success",
        "COMPLETE",
    )
