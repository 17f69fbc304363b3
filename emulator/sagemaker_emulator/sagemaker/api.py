"""
The entry point of the emulated SageMaker API: dispatches operations, and keeps regions
and scenarios. It knows no HTTP.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from threading import RLock
from typing import Any

from sagemaker_emulator.engine.clock import Clock
from sagemaker_emulator.engine.scenarios import Scenario
from sagemaker_emulator.errors import ApiError
from sagemaker_emulator.limits import DEFAULT_LIMITS, Limits
from sagemaker_emulator.sagemaker import executions, pipelines, search
from sagemaker_emulator.sagemaker.calls import (
    AwsServices,
    Call,
    NotEmulatedError,
    Operation,
)
from sagemaker_emulator.sagemaker.jobs import descriptions, model_packages
from sagemaker_emulator.sagemaker.jobs.callback_messages import send_callback_messages
from sagemaker_emulator.sagemaker.jobs.logs import log_streams
from sagemaker_emulator.sagemaker.jobs.reports import (
    write_files,
    write_violation_reports,
)
from sagemaker_emulator.sagemaker.role_calls import Authorize
from sagemaker_emulator.sagemaker.status_events import unsent_events
from sagemaker_emulator.sagemaker.store import Region
from sagemaker_emulator.sagemaker.validation import (
    check_request,
    check_response,
    conforming,
    service_model,
)


def _respond_of_job(operation: str, call: Call) -> dict[str, Any]:
    response = descriptions.respond(call.region, operation, call.request, call.now)
    if response is not None:
        return response
    name = call.request[descriptions.OPERATIONS[operation].member]
    if operation == descriptions.LIST_TRAINING_JOBS:
        # moto does not have it.
        raise ApiError("ResourceNotFound", f"Tuning job {name} does not exist.")
    raise NotEmulatedError(name)


OPERATIONS: Mapping[str, Operation] = {
    **pipelines.OPERATIONS,
    **executions.OPERATIONS,
    **pipelines.TAG_OPERATIONS,
    **model_packages.OPERATIONS,
    **search.OPERATIONS,
    **{name: partial(_respond_of_job, name) for name in descriptions.OPERATIONS},
}
# The operations before which all results are published: those that see the model
# packages of steps, and the deletion of a pipeline, whose events are sent.
_PUBLISHED_BEFORE = frozenset({"DeletePipeline", *model_packages.OPERATIONS})
# A scenario can show a status that AWS does not have, and a step that ran has an empty
# ARN in CacheHitResult. Everything else in a response must match its shape.
_UNCHECKED = frozenset({"PipelineExecutionStatus", "PipelineExecutionArn"})


class EmulatorBug(Exception):
    """Raised when the emulator produces a response that AWS could not return."""


def is_emulated(operation: str, body: bytes) -> bool:
    """
    Return whether the emulator handles a SageMaker request; moto handles all others.
    """
    if operation in pipelines.TAG_OPERATIONS:
        return b":pipeline/" in body
    return operation in OPERATIONS


class SageMaker:
    """
    The operations of the SageMaker API on pipelines and the jobs of their steps, in all
    regions. Thread-safe: it processes one request at a time.

    :param clock: the emulated time.
    :param services: the other services of AWS, which keep definitions and what the
        steps write.
    :param seed: the text from which all ids are derived.
    :param limits: what the emulator refuses.
    """

    def __init__(
        self,
        clock: Clock,
        services: AwsServices,
        seed: str,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self.clock = clock
        self._services = services
        self._seed = seed
        self.limits = limits
        #: Returns what authorizes the calls of steps; None if nothing does.
        self.authorizer: Callable[[], Authorize | None] = lambda: None
        self._lock = RLock()
        self.reset()

    def reset(self) -> None:
        """Remove all pipelines and scenarios."""
        with self._lock:
            self.regions: dict[str, Region] = {}
            self.default_scenario = Scenario()
            self.scenarios: dict[str, Scenario] = {}
            #: Those whose property files exist if no other scenario has any.
            self.files: dict[str, Scenario] = {}

    def scenario_of(self, pipeline_name: str) -> Scenario:
        """Return the scenario for the next execution of a pipeline."""
        name = pipeline_name.lower()
        scenario = self.scenarios.get(name, self.default_scenario)
        if name not in self.files:
            return scenario
        return scenario.with_files_of(self.files[name])

    def set_scenario(
        self, pipeline_name: str | None, scenario: Scenario | None
    ) -> None:
        """
        Set or remove a scenario.

        :param pipeline_name: the pipeline; None for the default scenario.
        :param scenario: the scenario; None to remove it.
        """
        with self._lock:
            if pipeline_name is None:
                self.default_scenario = scenario or Scenario()
            elif scenario is None:
                self.scenarios.pop(pipeline_name.lower(), None)
            else:
                self.scenarios[pipeline_name.lower()] = scenario

    def pipeline_names(self) -> dict[str, list[str]]:
        """Return the names of all pipelines that were created, by region."""
        with self._lock:
            return {
                name: sorted(
                    pipeline.name
                    for pipeline in region.pipelines.values()
                    if not pipeline.is_managed
                )
                for name, region in self.regions.items()
            }

    def call(
        self,
        operation: str,
        region: str,
        body: Any,
        identity: Mapping[str, str] | None = None,
    ) -> tuple[dict[str, Any], list[str]]:
        """
        Perform an operation, once for each ClientRequestToken.

        :param operation: the name of the operation, such as ``StartPipelineExecution``.
        :param region: the AWS region.
        :param body: the request, parsed from JSON.
        :param identity: ``Arn`` and ``PrincipalId`` of the caller.
        :return: the response, and the paths of the request members that were ignored.
        :raises ApiError: if AWS would respond with an error.
        :raises NotEmulatedError: if moto has what the request names.
        :raises EmulatorBug: if the response does not match its shape.
        """
        model = service_model().operation_model(operation)
        request, ignored = check_request(model.input_shape, body)
        with self._lock:
            if region not in self.regions:
                models = partial(self._services.models, region)
                self.regions[region] = Region(region, self._seed, models)
                self.regions[region].authorizer = self.authorizer
            if operation in _PUBLISHED_BEFORE:
                self.publish(region)
            if operation == "DeletePipeline":
                self.publish_logs(region, "")
            call = Call(
                request,
                self.regions[region],
                self.clock.now(),
                self.scenario_of,
                self._services,
                identity or {},
                self.limits,
            )
            perform = partial(OPERATIONS[operation], call)
            response = call.region.run_idempotently(operation, request, perform)
            self._close_ended(call.region)
        violations = check_response(model.output_shape, response, _UNCHECKED)
        if violations and self.limits.lenient and model.output_shape is not None:
            # What AWS would refuse can lead to a response that AWS could not return.
            return conforming(model.output_shape, response) or {}, ignored
        if violations:
            raise EmulatorBug(f"{operation}: {'; '.join(violations)}")
        return response, ignored

    def execution_with_token(self, region_name: str, token: str) -> str | None:
        """
        Return the ARN of the execution whose callback step has a token; None if nobody
        has it.
        """
        with self._lock:
            region = self.regions.get(region_name)
            if region is None:
                return None
            record = region.execution_with_token(token, self.clock.now())
            if record is None:
                return None
            return record.arn

    def _close_ended(self, region: Region) -> None:
        """Keep the executions that have ended in their compact form."""
        ended = [record for record in region.open_executions() if record.has_ended]
        if ended:
            self.publish(region.name)
        for record in ended:
            region.close(record, self.limits.max_ended_executions)

    def publish(self, *region_names: str) -> None:
        """
        Write to the other services what the steps have produced up to now: property
        files, violation reports, model packages and events.

        :param region_names: the AWS regions; none for all.
        """
        with self._lock:
            now = self.clock.now()
            for name in region_names or tuple(self.regions):
                region = self.regions.get(name)
                if region is None:
                    continue
                region.advance(now)
                model_packages.register_model_packages(region, self._services)
                write_files(region, self._services, now)
                write_violation_reports(region, self._services)
                self.send_events(region.name)

    def publish_logs(self, region_name: str, stream: str) -> None:
        """
        Write to CloudWatch Logs what the jobs have logged up to now.

        :param region_name: the AWS region.
        :param stream: with what the names of the streams begin that a client reads. If
            they are those of one execution, only its logs are written.
        """
        with self._lock:
            region = self.regions.get(region_name)
            if region is None:
                return
            now = self.clock.now()
            region.advance(now)
            for record in descriptions.logged_executions(region, stream):
                for log_stream in log_streams(region, record, now):
                    self._services.put_log_events(region.name, log_stream)

    def send_events(self, region_name: str) -> None:
        """
        Send what is due: the messages of Callback steps, and the events of executions,
        steps and model packages, in their order.

        :param region_name: the AWS region.
        """
        with self._lock:
            now = self.clock.now()
            events = []
            region = self.regions.get(region_name)
            if region is not None:
                region.advance(now)
                model_packages.register_model_packages(region, self._services)
                has_rules = self._services.has_event_rules(region_name)
                for record in region.open_executions():
                    events += unsent_events(region, record, has_rules)
            # A queue may be in another region than its pipeline.
            for pipeline_region in self.regions.values():
                pipeline_region.advance(now)
                send_callback_messages(pipeline_region, self._services)
            for event in self._services.model_package_events(region_name, now):
                events += [event] * self.default_scenario.event_copies
            for event in sorted(events, key=lambda event: event.time):
                self._services.send_event(region_name, event)
