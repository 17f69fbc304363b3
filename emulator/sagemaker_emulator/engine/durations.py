"""
The default durations, in emulated seconds. A scenario can replace the duration of a
step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf

#: The time from StartPipelineExecution or RetryPipelineExecution to the first step.
EXECUTION_START = 2.0
#: The time from the end of a step to the start of the steps after it. In AWS, some
#: seconds pass.
STEP_START = 2.0
#: The time that a training job takes to start with instances of a warm pool:
#: https://aws.amazon.com/blogs/machine-learning/best-practices-for-amazon-sagemaker-training-managed-warm-pools/
#: has less than 20 seconds.
WARM_START = 15.0
#: The time that a job takes to stop, and the minimum time that an execution is
#: Stopping.
STOPPING = 20.0
#: How long an execution runs at most
#: (https://docs.aws.amazon.com/sagemaker/latest/dg/feature-store-feature-processor-quotas.html:
#: "Pipeline execution timeout"). AWS documents neither its status afterwards nor the
#: reason, nor whether a retry begins anew; here it has failed, and a retry does.
EXECUTION_TIMEOUT = 672 * 3600.0
TIMEOUT_REASON = "The pipeline execution has reached its maximum time of 672 hours."
#: After how many seconds a step fails, and with which reason: a Lambda step after ten
#: minutes, the longest timeout that AWS allows, and a Callback step if it receives no
#: result within seven days.
TIMEOUTS: Mapping[str, tuple[float, str]] = {
    "Lambda": (600.0, "The Lambda function did not finish in time."),
    "Callback": (7 * 24 * 3600.0, "The callback step received no result in time."),
}


@dataclass(frozen=True)
class StepDuration:
    """
    The default duration of a step type. Without arguments, that of a processing job.

    :param starting: seconds in the status Starting, which are part of ``total``.
    :param total: seconds from the start to the end of the step.
    :param interruptible: whether StopPipelineExecution interrupts a running step.
    """

    starting: float = 30
    total: float = 240
    interruptible: bool = True


#: By the type of the step: all types that AWS has, by the service model
#: (``PipelineExecutionStepMetadata``, whose TrainingJob is a step of type Training) and
#: the SageMaker Python SDK (``StepTypeEnum``).
DEFAULTS: Mapping[str, StepDuration] = {
    "Processing": StepDuration(),
    "Training": StepDuration(60, 600),
    "Tuning": StepDuration(60, 1800),
    "Transform": StepDuration(60, 420),
    "AutoML": StepDuration(60, 3600),
    "EMR": StepDuration(60, 900),
    "EMRServerless": StepDuration(30, 600),
    "ClarifyCheck": StepDuration(30, 300),
    "QualityCheck": StepDuration(30, 300),
    "Endpoint": StepDuration(10, 300),
    "EndpointConfig": StepDuration(0, 3, interruptible=False),
    "Model": StepDuration(0, 3, interruptible=False),
    "RegisterModel": StepDuration(0, 3, interruptible=False),
    "Condition": StepDuration(0, 1, interruptible=False),
    "Fail": StepDuration(0, 1, interruptible=False),
    "Lambda": StepDuration(0, 15, interruptible=False),
    "Callback": StepDuration(0, inf, interruptible=False),
    "ForEach": StepDuration(),
    "InferenceComponent": StepDuration(),
    "Lineage": StepDuration(),
    "Athena": StepDuration(),
    "Cleanup": StepDuration(),
    "Job": StepDuration(),
    "HubContent": StepDuration(),
    "BedrockCustomModel": StepDuration(),
    "BedrockCustomModelDeployment": StepDuration(),
    "BedrockProvisionedModelThroughput": StepDuration(),
    "BedrockModelImport": StepDuration(),
}
