"""Durations: how long everything takes in emulated seconds, unless a scenario says otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf

#: From StartPipelineExecution (or a retry) to the first step.
EXECUTION_START = 2.0
#: How long a job takes to stop, and how long an execution is at least seen as Stopping.
STOPPING = 20.0
#: A Lambda step fails after ten minutes, the longest time AWS allows it.
LAMBDA_TIMEOUT = 600.0
#: A Callback step that nobody answers fails after seven days.
CALLBACK_TIMEOUT = 7 * 24 * 3600.0


@dataclass(frozen=True)
class StepTiming:
    """Seconds a step is shown as Starting and seconds it takes in all; whether a stop interrupts it."""

    starting: float
    total: float
    interruptible: bool = True


DEFAULTS: Mapping[str, StepTiming] = {
    "Processing": StepTiming(30, 240),
    "Training": StepTiming(60, 600),
    "Tuning": StepTiming(60, 1800),
    "Transform": StepTiming(60, 420),
    "AutoML": StepTiming(60, 3600),
    "EMR": StepTiming(60, 900),
    "EMRServerless": StepTiming(30, 600),
    "ClarifyCheck": StepTiming(30, 300),
    "QualityCheck": StepTiming(30, 300),
    "NotebookJob": StepTiming(30, 300),
    "Endpoint": StepTiming(10, 300),
    "EndpointConfig": StepTiming(0, 3, interruptible=False),
    "Model": StepTiming(0, 3, interruptible=False),
    "RegisterModel": StepTiming(0, 3, interruptible=False),
    "Condition": StepTiming(0, 1, interruptible=False),
    "Fail": StepTiming(0, 1, interruptible=False),
    "Lambda": StepTiming(0, 15, interruptible=False),
    "Callback": StepTiming(0, inf, interruptible=False),
}
OTHER = StepTiming(30, 240)


def timing(step_type: str) -> StepTiming:
    """Return the default timing of a type of step."""
    return DEFAULTS.get(step_type, OTHER)
