"""
The emulator of a test: an `EmulatorServer` with short ways to set up a test, and to see what was started.

::

    def test_retraining(sagemaker_emulator, load_dag):
        sagemaker_emulator.fail_step("AbaloneTrain", "No space left on device")
        assert load_dag("dags/retraining.py").test().state == "failed"
        assert [start.pipeline_name for start in sagemaker_emulator.starts()] == ["abalone"]
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, Final

import pytest

from polysync_airflow.emulator import EXAMPLE_DEFINITIONS, EmulatorServer
from polysync_airflow.execution import clock
from polysync_airflow.testing.passing_time import EmulatedTime, PassingTime

# A job of an hour takes two polls at the default poll_interval. And a task that follows the start within a
# second still finds a job of a minute running.
DEFAULT_SPEED: Final = 60.0
DEFAULT_REGION: Final = "us-east-1"
_CONNECTION_ID: Final = re.compile(r"[\w.-]+")
_REGION: Final = re.compile(r"[a-z]{2}(-[a-z]+)+-\d+")


@dataclass(frozen=True)
class Start:
    """
    An execution that was started.

    :param pipeline_name: the pipeline, as the request named it.
    :param parameters: the parameters of the request, as the texts that AWS receives.
    :param display_name: the display name; None if the request had none.
    """

    pipeline_name: str
    parameters: dict[str, str]
    display_name: str | None


class SageMakerEmulator(EmulatorServer):
    """
    An emulator for one test. Use ``emulator_for_test``, which starts it.

    Its ``control`` can do everything else that the control API offers, such as throttling and lost responses.
    """

    def starts(self, pipeline: str | None = None) -> list[Start]:
        """
        Return the executions that were started, oldest first.

        :param pipeline: return only those of this pipeline.
        """
        # A client that lost the response sends the request again, with the same token.
        requests = {
            call["request"]["ClientRequestToken"]: call["request"]
            for call in self.control.calls("StartPipelineExecution")
            if _was_processed(call) and pipeline in (None, call["request"]["PipelineName"])
        }
        return [
            Start(
                request["PipelineName"],
                {p["Name"]: p["Value"] for p in request.get("PipelineParameters", ())},
                request.get("PipelineExecutionDisplayName"),
            )
            for request in requests.values()
        ]

    def fail_step(
        self, step: str, reason: str, *, pipeline: str | None = None, times: int | None = None
    ) -> None:
        """
        Let a step fail in the executions that start from now on.

        :param step: the name of the step.
        :param reason: the reason that AWS gives. One such as ``CapacityError: ...`` is retried if the
            step has a retry policy for it.
        :param pipeline: the pipeline; None for each pipeline with such a step.
        :param times: how often it fails before it succeeds; None for always.
        :raises ValueError: no pipeline has such a step.
        """
        failure = {"reason": reason, **({} if times is None else {"times": times})}
        self._change_step(step, pipeline, fail=failure)

    def keep_step_running(self, step: str, *, pipeline: str | None = None) -> None:
        """
        Let a step run until the execution is stopped, such as by the timeout of a task.

        :param step: the name of the step.
        :param pipeline: the pipeline; None for each pipeline with such a step.
        :raises ValueError: no pipeline has such a step.
        """
        self._change_step(step, pipeline, duration=None)

    def set_property_file(self, step: str, file: str, content: Any, *, pipeline: str | None = None) -> None:
        """
        Set the content of a property file, which decides conditions.

        :param step: the name of the step that writes it.
        :param file: its ``PropertyFileName`` in the definition, such as ``Eval``.
        :param content: its JSON content. A condition reads a value of it by a path: ``auc.value`` is 0.9 in
            ``{"auc": {"value": 0.9}}``, and ``scores[1]`` is the second item of a list.
        :param pipeline: the pipeline; None for each pipeline whose step has such a file.
        :raises ValueError: no pipeline has such a step, or the step has no such file.
        """
        self._change_step(step, pipeline, file, property_files={file: content})

    def _change_step(self, step: str, pipeline: str | None, file: str | None = None, **members: Any) -> None:
        by_pipeline = self._steps()
        if pipeline is not None and pipeline not in by_pipeline:
            known = ", ".join(by_pipeline) or "none"
            raise ValueError(f"There is no pipeline {pipeline!r}; the pipelines are: {known}")
        name = re.sub(r"-\d+$", "", step)
        candidates = by_pipeline if pipeline is None else {pipeline: by_pipeline[pipeline]}
        written = {each: steps.get(step, steps.get(name)) for each, steps in candidates.items()}
        found = {each: files for each, files in written.items() if files is not None}
        if not found:
            known = "; ".join(f"{each}: {', '.join(steps)}" for each, steps in candidates.items())
            raise ValueError(f"There is no step {step!r}; the steps are: {known or 'none'}")
        if file is not None and not any(file in files for files in found.values()):
            known = "; ".join(f"{each}: {', '.join(files) or 'none'}" for each, files in found.items())
            raise ValueError(f"Step {step!r} has no property file {file!r}; its files are: {known}")
        scenarios = self.control.scenarios()
        for each in [each for each, files in found.items() if file is None or file in files]:
            scenario = deepcopy(scenarios["pipelines"].get(each) or scenarios["default"] or {})
            changed = scenario.setdefault("steps", {}).setdefault(step, {})
            files = {**changed.get("property_files", {}), **members.get("property_files", {})}
            changed |= {**members, **({"property_files": files} if files else {})}
            self.control.put_scenario(scenario, pipeline=each)

    def _steps(self) -> dict[str, dict[str, list[str]]]:
        """Return the steps of each pipeline by name, with the names of the property files that they write."""
        return {
            name: dict(_steps_in(json.loads(self._definition(region, name))["Steps"]))
            for region, names in self.pipelines.items()
            for name in names
        }

    def _definition(self, region: str, name: str) -> str:
        response, _ = self.sagemaker.call("DescribePipeline", region, {"PipelineName": name})
        return str(response["PipelineDefinition"])


@contextmanager
def emulator_for_test(
    *,
    definitions: Path | None = None,
    speed: float = DEFAULT_SPEED,
    region: str = DEFAULT_REGION,
    connections: Sequence[str] = ("polysync_default",),
) -> Iterator[SageMakerEmulator]:
    """
    Run an emulator, and let the waits of the provider pass at once. The environment is restored at the end.

    :param definitions: a folder; one pipeline is created from each ``*.json`` file. None for the examples.
    :param speed: emulated seconds for each second of the provider.
    :param region: AWS region of the pipelines and of the connections.
    :param connections: ids of the Airflow connections that lead to the emulator. They are set as environment
        variables, which have priority over Airflow's database.
    :raises ValueError: an argument is not valid, or a file is not a pipeline definition.
    """
    if not isinstance(speed, int | float) or not (speed > 0 and isfinite(speed)):
        raise ValueError(f"speed is {speed!r}; give a number greater than 0")
    if not _REGION.fullmatch(region):
        raise ValueError(f"region is {region!r}; give an AWS region such as {DEFAULT_REGION}")
    if wrong := [each for each in connections if not _CONNECTION_ID.fullmatch(each)]:
        raise ValueError(f"connections has {wrong}; give ids of Airflow connections")
    passing = PassingTime()
    emulated = EmulatedTime(passing, float(speed))
    server = SageMakerEmulator(clock=emulated, definitions=definitions or EXAMPLE_DEFINITIONS, region=region)
    with pytest.MonkeyPatch.context() as patches, server, clock.replaced_by(passing):
        for connection_id in connections:
            patches.setenv(f"AIRFLOW_CONN_{connection_id.upper()}", server.connection())
        yield server


def _was_processed(call: dict[str, Any]) -> bool:
    """Return whether a request in the call log had its effect."""
    return call["error_code"] is None and (call["status"] == 200 or call["fault"] == "lost_response")


def _steps_in(value: Any) -> Iterator[tuple[str, list[str]]]:
    """Yield each step in a JSON value, also in branches and loops: its name and its property files."""
    if isinstance(value, dict):
        if isinstance(value.get("Name"), str) and isinstance(value.get("Type"), str):
            yield value["Name"], [file["PropertyFileName"] for file in value.get("PropertyFiles") or ()]
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from _steps_in(each)
