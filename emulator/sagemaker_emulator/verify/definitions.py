"""
Builds the definitions of the pipelines that the checks create.

Their steps start no job and cost nothing; only ``with_job`` has a job. AWS resumes no
execution that a Fail step has ended, and lets no step depend on one. So where it
matters, a Lambda step fails: nobody has its function.

https://docs.aws.amazon.com/sagemaker/latest/dg/build-and-manage-steps-types.html and
https://docs.aws.amazon.com/sagemaker/latest/dg/pipelines-experiments.html
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

Step = dict[str, Any]
Steps = Sequence[Step]

# A quota of AWS: https://docs.aws.amazon.com/general/latest/gr/sagemaker.html (50 steps
# in a pipeline).
CHAIN_LENGTH: Final = 40
# As many steps as take longer than a step fails.
OTHERS_LENGTH: Final = 8
CALLBACK_ARGUMENTS: Final = {"number": 3, "text": "a"}
REASON: Final = "polysync verify: this step fails on purpose"
# Nobody has a function whose name begins so. The emulator does not have one, either.
NO_FUNCTION: Final = "polysync-no-such-function"
# The smallest instance for processing jobs.
JOB_INSTANCE: Final = "ml.t3.medium"
JOB_SECONDS: Final = 600
JOB_LINE: Final = "polysync verify: a line of the log"


def definition(*steps: Step, parameters: Sequence[Mapping[str, Any]] = ()) -> str:
    """
    Return a definition as JSON. Its executions make no experiments, which nobody would
    delete.
    """
    members = {"Version": "2020-12-01", "PipelineExperimentConfig": None}
    return json.dumps({**members, "Parameters": list(parameters), "Steps": list(steps)})


def parameter(
    name: str, kind: str, default: object = None, enum: Sequence[object] = ()
) -> dict[str, Any]:
    """
    Return the declaration of a parameter; without a default, a start must give it a
    value.
    """
    members = {
        "Name": name,
        "Type": kind,
        "DefaultValue": default,
        "EnumValues": list(enum),
    }
    return {
        member: value for member, value in members.items() if value not in (None, [])
    }


def condition(
    name: str, *after: Any, left: Any = "yes", then: Steps = (), otherwise: Steps = ()
) -> Step:
    """
    Return a Condition step, which is true by default.

    :param after: the steps on which it depends: their names, or their names with a
        trigger.
    :param left: what is compared with ``yes``.
    :param then: the steps of its branch if it is true.
    :param otherwise: the steps of the other branch.
    """
    test = {"Type": "Equals", "LeftValue": left, "RightValue": "yes"}
    arguments = {
        "Conditions": [test],
        "IfSteps": list(then),
        "ElseSteps": list(otherwise),
    }
    step: Step = {"Name": name, "Type": "Condition", "Arguments": arguments}
    if after:
        step["DependsOn"] = list(after)
    return step


def fail(name: str) -> Step:
    """Return a Fail step."""
    return {"Name": name, "Type": "Fail", "Arguments": {"ErrorMessage": REASON}}


def missing_function(name: str, arn: str) -> Step:
    """
    Return a Lambda step that fails, because there is no such function, or the role may
    not call it.
    """
    return {
        "Name": name,
        "Type": "Lambda",
        "FunctionArn": arn,
        "OutputParameters": [],
        "Arguments": {},
    }


def succeeding(*parameters: Mapping[str, Any]) -> str:
    """
    Return a pipeline that succeeds. The branch of its condition that is not taken has a
    Fail step.
    """
    return definition(
        condition("Only", otherwise=[fail("NotTaken")]), parameters=parameters
    )


def failing(function_arn: str | None = None) -> str:
    """
    Return a pipeline whose third step fails, after two that succeed.

    :param function_arn: the function of a Lambda step, whose execution can be resumed;
        None for a Fail step.
    """
    if function_arn:
        third = missing_function("Third", function_arn)
    else:
        third = fail("Third")
    return definition(condition("First"), condition("Second", "First", then=[third]))


def chain(length: int = CHAIN_LENGTH) -> str:
    """
    Return a pipeline whose steps run one after the other: it takes long enough to be
    stopped.
    """
    return definition(*_chain(length))


def _chain(length: int) -> list[Step]:
    steps = [condition("Step1")]
    for number in range(2, length + 1):
        steps.append(condition(f"Step{number}", f"Step{number - 1}"))
    return steps


def failure_beside_others(function_arn: str, *catching: Step) -> str:
    """
    Return a pipeline with a step that fails, while others run one after the other.

    :param catching: steps that run because of the failure.
    """
    return definition(
        missing_function("Broken", function_arn), *catching, *_chain(OTHERS_LENGTH)
    )


def callback(queue_url: str) -> str:
    """
    Return a pipeline with a callback step, and a step that fails unless its answer is
    ``yes``.
    """
    ask: Step = {
        "Name": "Ask",
        "Type": "Callback",
        "SqsQueueUrl": queue_url,
        "Arguments": CALLBACK_ARGUMENTS,
        "OutputParameters": [{"OutputName": "answer", "OutputType": "String"}],
    }
    answer = {"Get": "Steps.Ask.OutputParameters['answer']"}
    return definition(ask, condition("Use", left=answer, otherwise=[fail("Other")]))


def with_job(image_uri: str, role_arn: str) -> str:
    """
    Return a pipeline with one processing job, which writes a line and ends. Another
    execution may reuse its result.
    """
    cluster = {"InstanceCount": 1, "InstanceType": JOB_INSTANCE, "VolumeSizeInGB": 1}
    arguments = {
        "ProcessingResources": {"ClusterConfig": cluster},
        "AppSpecification": {
            "ImageUri": image_uri,
            "ContainerEntrypoint": ["echo", JOB_LINE],
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": JOB_SECONDS},
        "RoleArn": role_arn,
    }
    step = {"Name": "Job", "Type": "Processing", "Arguments": arguments}
    return definition({**step, "CacheConfig": {"Enabled": True, "ExpireAfter": "PT1H"}})
