"""
The emulator of a test: an `EmulatorServer` with short ways to set up a test, and to see
what was started.

::

    def test_retraining(sagemaker_emulator, load_dag):
        sagemaker_emulator.fail_step("AbaloneTrain", "No space left on device")
        assert load_dag("dags/retraining.py").test().state == "failed"
        starts = sagemaker_emulator.starts()
        assert [start.pipeline_name for start in starts] == ["abalone"]
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Final

import pytest

from polysync_airflow.execution import clock, json_input
from sagemaker_emulator import EXAMPLE_DEFINITIONS, EmulatorServer


class PassingTime(clock.Clock):
    """
    The host's time, moved on by the length of each wait, which takes no time itself.

    So timeouts, intervals and backoffs of the provider have their real lengths, on a
    slow host as well.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._waited = 0.0

    def time(self) -> float:
        """Return the Unix time."""
        return super().time() + self._waited

    def monotonic(self) -> float:
        """Return the seconds of a clock that is never set back."""
        return super().monotonic() + self._waited

    def sleep(self, seconds: float) -> None:
        """Let a wait pass at once."""
        with self._lock:
            self._waited += max(0.0, seconds)

    def timeout(self, seconds: float | None, *, idle: bool) -> float | None:
        """
        Let a wait for an event pass at once, but only while nothing else takes time.
        """
        if seconds is None or not idle:
            return seconds
        self.sleep(seconds)
        return 0.0


class EmulatedTime:
    """
    The time of the emulator, which runs ``speed`` times as fast as that of the
    provider.

    :param speed: emulated seconds for each of its seconds.
    """

    def __init__(self, provider: clock.Clock, speed: float) -> None:
        self.speed: float | None = speed
        self._provider = provider
        self._factor = speed
        self._start = provider.time()
        self._monotonic_start = provider.monotonic()

    def now(self) -> float:
        """Return the emulated time as Unix time."""
        passed = self._provider.monotonic() - self._monotonic_start
        return self._start + passed * self._factor


# A job of an hour takes two polls at the default poll_interval. And a task that follows
# the start within a second still finds a job of a minute running.
DEFAULT_SPEED: Final = 60.0
DEFAULT_REGION: Final = "us-east-1"
# How long a callback step waits for the answer of ``answer_callback``, in emulated
# seconds.
ANSWER_SECONDS: Final = 1.0
_WITH_METRICS: Final = ("Training", "Tuning", "AutoML")
_CHECKS: Final = ("QualityCheck", "ClarifyCheck")


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

    What a test sets up for a step of a pipeline that does not exist yet is for the one
    that a task makes, such as that of a job. If no pipeline has such a step at the end
    of the test, that is a ``ValueError``.

    Its ``control`` can do everything else that the control API offers, such as
    throttling and lost responses.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        # The arguments of ``_pipelines_with`` for steps that no pipeline has yet.
        self._awaited: list[tuple[str, str | None, Sequence[str]]] = []

    def check_awaited_steps(self) -> None:
        """
        Check at the end of a test that each step for which it has set up something was
        there at last.

        :raises ValueError: no pipeline has such a step.
        """
        awaited = self._awaited
        self._awaited = []
        for arguments in awaited:
            self._existing_with(*arguments)

    def starts(self, pipeline: str | None = None) -> list[Start]:
        """
        Return the executions that were started, oldest first.

        :param pipeline: return only those of this pipeline.
        """
        # A client that lost the response sends the request again, with the same token.
        requests = {
            call["request"]["ClientRequestToken"]: call["request"]
            for call in self.control.calls("StartPipelineExecution")
            if _was_processed(call)
            and pipeline in (None, call["request"]["PipelineName"])
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
        self,
        step: str,
        reason: str,
        *,
        pipeline: str | None = None,
        times: int | None = None,
    ) -> None:
        """
        Let a step fail in the executions that start from now on.

        :param step: the name of the step.
        :param reason: the reason that AWS gives. One such as ``CapacityError: ...`` is
            retried if the step has a retry policy for it.
        :param pipeline: the pipeline; None for each pipeline with such a step.
        :param times: how often it fails before it succeeds; None for always.
        :raises ValueError: ``pipeline`` has no such step.
        """
        failure: dict[str, Any] = {"reason": reason}
        if times is not None:
            failure["times"] = times
        self._change(self._pipelines_with(step, pipeline), step, fail=failure)

    def keep_step_running(self, step: str, *, pipeline: str | None = None) -> None:
        """
        Let a step run until the execution is stopped, such as by the timeout of a task.

        :param step: the name of the step.
        :param pipeline: the pipeline; None for each pipeline with such a step.
        :raises ValueError: ``pipeline`` has no such step.
        """
        self._change(self._pipelines_with(step, pipeline), step, duration=None)

    def answer_callback(
        self,
        step: str,
        outputs: Mapping[str, str] | None = None,
        *,
        failure: str | None = None,
        pipeline: str | None = None,
    ) -> None:
        """
        Answer a callback step as soon as it runs, in the executions that start from now
        on.

        Without this, a callback step waits until a task of the DAG, or a client,
        answers it.

        :param step: the name of the callback step.
        :param outputs: its output parameters.
        :param failure: the reason of its failure; None if it succeeds.
        :param pipeline: the pipeline; None for each pipeline with such a step.
        :raises ValueError: ``pipeline`` has no such callback step.
        """
        fail = None
        if failure is not None:
            fail = {"reason": failure}
        self._change(
            self._pipelines_with(step, pipeline, ("Callback",)),
            step,
            duration=ANSWER_SECONDS,
            outputs=dict(outputs or {}),
            fail=fail,
        )

    def set_property_file(
        self, step: str, file: str, content: Any, *, pipeline: str | None = None
    ) -> None:
        """
        Set the content of a property file, which decides conditions. The job of the
        step writes it to S3.

        :param step: the name of the step that writes it.
        :param file: its ``PropertyFileName`` in the definition, such as ``Eval``.
        :param content: its JSON content. A condition reads a value of it by a path:
            ``auc.value`` is 0.9 in ``{"auc": {"value": 0.9}}``, and ``scores[1]`` is
            the second item of a list.
        :param pipeline: the pipeline; None for each pipeline whose step has such a
            file.
        :raises ValueError: ``pipeline`` has no such step.
        """
        self._change(
            self._pipelines_with(step, pipeline), step, property_files={file: content}
        )

    def set_metric(
        self, step: str, metric: str, value: float, *, pipeline: str | None = None
    ) -> None:
        """
        Set a metric of the job of a step in the executions that start from now on.

        :param step: the name of a training, tuning or AutoML step. The metrics of a
            tuning step are those of its best training job.
        :param metric: the name of the metric, such as ``validation:rmse``. AutoML has
            only AWS's names, such as ``AUC``.
        :param value: its final value.
        :param pipeline: the pipeline; None for each pipeline with such a step.
        :raises ValueError: ``pipeline`` has no such step with a job that has metrics.
        """
        pipelines = self._pipelines_with(step, pipeline, _WITH_METRICS)
        self._change(pipelines, step, metrics={metric: value})

    def set_violations(
        self,
        step: str,
        violations: Sequence[Mapping[str, str]],
        *,
        pipeline: str | None = None,
    ) -> None:
        """
        Let a QualityCheck or ClarifyCheck step find violations in the executions that
        start from now on.

        The step fails because of them, unless its ``FailOnViolation`` is false. Its
        report in S3 has them.

        :param step: the name of the check step.
        :param violations: the entries of the report, such as ``{"feature_name": "age",
            "constraint_check_type": "completeness_check", "description": "..."}``.
        :param pipeline: the pipeline; None for each pipeline with such a step.
        :raises ValueError: ``pipeline`` has no such check step.
        """
        self._change(
            self._pipelines_with(step, pipeline, _CHECKS),
            step,
            violations=[dict(violation) for violation in violations],
        )

    def _pipelines_with(
        self, step: str, pipeline: str | None, types: Sequence[str] = ()
    ) -> list[str | None]:
        """
        Return the names of the pipelines that have a step. If there is none yet, a task
        may make it: then only the given name, or None for whatever it is.

        :raises ValueError: ``pipeline`` exists, and has no such step.
        """
        try:
            return [*self._existing_with(step, pipeline, types)]
        except ValueError:
            if any(pipeline in names for names in self.pipelines.values()):
                raise
        self._awaited.append((step, pipeline, types))
        return [pipeline]

    def _existing_with(
        self, step: str, pipeline: str | None, types: Sequence[str]
    ) -> list[str]:
        """
        Return the names of the pipelines that have a step.

        :param step: the name of the step, or of one of its runs in a loop
            (``<name>-<number>``).
        :param pipeline: the only pipeline that is wanted; None for all.
        :param types: the types that the step may have; empty for any.
        :raises ValueError: no pipeline has such a step.
        """
        name_in_definition = re.sub(r"-\d+$", "", step)
        types_by_pipeline = self._types_of_steps()
        names = []
        for name, types_by_step in types_by_pipeline.items():
            step_type = types_by_step.get(step, types_by_step.get(name_in_definition))
            is_wanted = pipeline in (None, name) and step_type is not None
            if is_wanted and (not types or step_type in types):
                names.append(name)
        if names:
            return names
        of_types = ""
        if types:
            of_types = f" of the type {' or '.join(types)}"
        in_pipeline = ""
        if pipeline:
            in_pipeline = f" in pipeline {pipeline!r}"
        steps = "; ".join(
            f"{name}: {', '.join(types_by_step)}"
            for name, types_by_step in types_by_pipeline.items()
        )
        raise ValueError(
            f"There is no step {step!r}{of_types}{in_pipeline}; the steps are: {steps}"
        )

    def _change(
        self, pipelines: Iterable[str | None], step: str, **members: Any
    ) -> None:
        """
        Change the scenario of a step. Property files and metrics are added to those
        that it has.
        """
        scenarios = self.control.scenarios()
        for pipeline in pipelines:
            scenario = deepcopy(
                scenarios["pipelines"].get(pipeline) or scenarios["default"] or {}
            )
            changed = scenario.setdefault("steps", {}).setdefault(step, {})
            for member, value in members.items():
                if member in ("property_files", "metrics"):
                    changed.setdefault(member, {}).update(value)
                else:
                    changed[member] = value
            self.control.put_scenario(scenario, pipeline=pipeline)

    def _types_of_steps(self) -> dict[str, dict[str, str]]:
        """Return the types of the steps by their names, for each pipeline."""
        types_by_pipeline = {}
        for region, names in self.pipelines.items():
            for name in names:
                request = {"PipelineName": name}
                response, _ = self.sagemaker.call("DescribePipeline", region, request)
                definition = json_input.read_json(
                    response["PipelineDefinition"], "the definition"
                )
                types_by_pipeline[name] = {
                    step["Name"]: step["Type"]
                    for step in _steps_in(definition["Steps"])
                }
        return types_by_pipeline


@contextmanager
def emulator_for_test(
    *,
    definitions: Path | None = None,
    speed: float = DEFAULT_SPEED,
    region: str = DEFAULT_REGION,
    connections: Sequence[str] = ("polysync_default",),
) -> Iterator[SageMakerEmulator]:
    """
    Run an emulator, and let the waits of the provider pass at once. The environment is
    restored at the end.

    :param definitions: a folder; one pipeline is created from each ``*.json`` file.
        None for the examples.
    :param speed: emulated seconds for each second of the provider.
    :param region: AWS region of the pipelines and of the connections.
    :param connections: ids of the Airflow connections that lead to the emulator. They
        are set as environment variables, which have priority over Airflow's database.
    :raises ValueError: a file is not a pipeline definition.
    """
    passing = PassingTime()
    emulated = EmulatedTime(passing, float(speed))
    server = SageMakerEmulator(
        clock=emulated, definitions=definitions or EXAMPLE_DEFINITIONS, region=region
    )
    with pytest.MonkeyPatch.context() as patches, server, clock.replaced_by(passing):
        for connection_id in connections:
            patches.setenv(f"AIRFLOW_CONN_{connection_id.upper()}", server.connection())
        yield server
        server.check_awaited_steps()


def _was_processed(call: dict[str, Any]) -> bool:
    """Return whether a request in the call log had its effect."""
    if call["error_code"] is not None:
        return False
    return bool(call["status"] == 200 or call["fault"] == "lost_response")


def _steps_in(value: Any) -> Iterator[dict[str, Any]]:
    """Yield each step in a JSON value, also in branches and loops."""
    if isinstance(value, dict):
        if isinstance(value.get("Name"), str) and isinstance(value.get("Type"), str):
            yield value
        value = list(value.values())
    if isinstance(value, list):
        for member in value:
            yield from _steps_in(member)
