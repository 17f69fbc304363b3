"""The emulated SageMaker API: regions, time and scenarios behind one lock; no HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from threading import RLock
from typing import Any

import botocore.session
from botocore.model import ServiceModel

from polysync_airflow.emulator.engine.clock import Clock
from polysync_airflow.emulator.engine.scenarios import Scenario
from polysync_airflow.emulator.sagemaker import executions, pipelines
from polysync_airflow.emulator.sagemaker.calls import Call, Operation, ReadObject
from polysync_airflow.emulator.sagemaker.store import Region
from polysync_airflow.emulator.sagemaker.validation import check_answer, check_request

OPERATIONS: Mapping[str, Operation] = {
    **pipelines.OPERATIONS,
    **executions.OPERATIONS,
    **pipelines.TAG_OPERATIONS,
}
# A scenario may show a status that AWS does not have yet; nothing else in an answer may break its shape.
_FREE_ENUMS = frozenset({"PipelineExecutionStatus"})


class EmulatorBug(Exception):
    """An answer that AWS could not have given."""


def emulates(operation: str, body: bytes) -> bool:
    """Return whether a SageMaker request is answered here, and not by moto."""
    return operation in OPERATIONS and (operation not in pipelines.TAG_OPERATIONS or b":pipeline/" in body)


class SageMaker:
    """The pipeline operations of the SageMaker API, in all regions.

    :param clock: what time it is.
    :param read_object: reads a pipeline definition that lies in S3.
    :param seed: from which all ids are derived.
    """

    def __init__(self, clock: Clock, read_object: ReadObject, seed: str) -> None:
        self.clock = clock
        self._read_object = read_object
        self._seed = seed
        self._lock = RLock()
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        with self._lock:
            self.regions: dict[str, Region] = {}
            self.default_scenario = Scenario()
            self.scenarios: dict[str, Scenario] = {}

    def scenario_of(self, pipeline_name: str) -> Scenario:
        """Return the scenario of a pipeline's next execution."""
        return self.scenarios.get(pipeline_name.lower(), self.default_scenario)

    def set_scenario(self, pipeline_name: str | None, scenario: Scenario | None) -> None:
        """Set (or with None: remove) the scenario of a pipeline, or with no name the default."""
        with self._lock:
            if pipeline_name is None:
                self.default_scenario = scenario or Scenario()
            elif scenario is None:
                self.scenarios.pop(pipeline_name.lower(), None)
            else:
                self.scenarios[pipeline_name.lower()] = scenario

    def pipeline_names(self) -> dict[str, list[str]]:
        """Return the names of all pipelines, by region."""
        with self._lock:
            return {
                name: sorted(pipeline.name for pipeline in region.pipelines.values())
                for name, region in self.regions.items()
            }

    def call(self, operation: str, region: str, body: Any) -> tuple[dict[str, Any], list[str]]:
        """Answer a request.

        :param body: the request as it came from JSON.
        :returns: the answer, and the paths of the request's members that were ignored.
        :raises ApiError: what AWS would answer instead.
        :raises EmulatorBug: if the answer does not match its shape.
        """
        model = _service_model().operation_model(operation)
        request, ignored = check_request(model.input_shape, body)
        with self._lock:
            if region not in self.regions:
                self.regions[region] = Region(region, self._seed)
            call = Call(request, self.regions[region], self.clock.now(), self.scenario_of, self._read_object)
            answer = OPERATIONS[operation](call)
        if wrong := check_answer(model.output_shape, answer, _FREE_ENUMS):
            raise EmulatorBug(f"{operation}: {'; '.join(wrong)}")
        return answer, ignored


@cache
def _service_model() -> ServiceModel:
    return botocore.session.get_session().get_service_model("sagemaker")
