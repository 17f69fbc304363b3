"""
Builds the definitions of the pipelines that the checks create.

They have Condition and Fail steps, which start no job and cost nothing. Only ``with_job`` has a job.

https://docs.aws.amazon.com/sagemaker/latest/dg/build-and-manage-steps.html and
https://docs.aws.amazon.com/sagemaker/latest/dg/pipelines-experiments.html
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

Step = dict[str, Any]

# A quota of AWS: https://docs.aws.amazon.com/general/latest/gr/sagemaker.html (50 steps in a pipeline).
CHAIN_LENGTH: Final = 40
REASON: Final = "polysync verify: this step fails on purpose"
REASON_AFTER_UPDATE: Final = "polysync verify: this step fails after an update"
# The smallest instance for processing jobs.
JOB_INSTANCE: Final = "ml.t3.medium"
JOB_SECONDS: Final = 600
JOB_LINE: Final = "polysync verify: a line of the log"


def definition(*steps: Step, parameters: Sequence[Mapping[str, Any]] = ()) -> str:
    """Return a definition as JSON. Its executions make no experiments, which nobody would delete."""
    return json.dumps(
        {
            "Version": "2020-12-01",
            "PipelineExperimentConfig": None,
            "Parameters": list(parameters),
            "Steps": list(steps),
        }
    )


def parameter(name: str, kind: str, default: object = None, enum: Sequence[object] = ()) -> dict[str, Any]:
    """Return the declaration of a parameter; without a default, a start must give it a value."""
    members = {"Name": name, "Type": kind, "DefaultValue": default, "EnumValues": list(enum)}
    return {member: value for member, value in members.items() if value not in (None, [])}


def condition(
    name: str,
    *after: str | Mapping[str, str],
    left: object = "a",
    kind: str = "Equals",
    right: object = "a",
    then: Sequence[Step] = (),
    otherwise: Sequence[Step] = (),
) -> Step:
    """
    Return a Condition step, which is true by default.

    :param after: the steps on which it depends: their names, or their names with a trigger.
    :param then: the steps of its branch if it is true.
    """
    step: Step = {
        "Name": name,
        "Type": "Condition",
        "Arguments": {
            "Conditions": [{"Type": kind, "LeftValue": left, "RightValue": right}],
            "IfSteps": list(then),
            "ElseSteps": list(otherwise),
        },
    }
    return {**step, "DependsOn": list(after)} if after else step


def fail(name: str, reason: str = REASON) -> Step:
    """Return a Fail step."""
    return {"Name": name, "Type": "Fail", "Arguments": {"ErrorMessage": reason}}


def succeeding(*parameters: Mapping[str, Any]) -> str:
    """Return a pipeline that succeeds. The branch of its condition that is not taken has a Fail step."""
    return definition(condition("Only", otherwise=[fail("NotTaken")]), parameters=parameters)


def failing(reason: str = REASON) -> str:
    """Return a pipeline whose third step fails, after two that succeed."""
    gate = condition("Second", "First", then=[fail("Third", reason)])
    return definition(condition("First"), gate)


def chain(*parameters: Mapping[str, Any], length: int = CHAIN_LENGTH) -> str:
    """Return a pipeline whose steps run one after the other: it takes long enough to be stopped."""
    names = [f"Step{number}" for number in range(1, length + 1)]
    before: list[str | None] = [None, *names]
    steps = [condition(name, *([other] if other else [])) for name, other in zip(names, before, strict=False)]
    return definition(*steps, parameters=parameters)


def caught_failure() -> str:
    """Return a pipeline with a step that fails, and one that runs because of that."""
    # A text is compared with a number.
    broken = condition("Broken", kind="GreaterThan", left={"Get": "Parameters.Text"}, right=1)
    notify = condition("Notify", {"Step": "Broken", "Trigger": "Failed"})
    return definition(broken, notify, parameters=[parameter("Text", "String", "a")])


def with_job(image_uri: str, role_arn: str) -> str:
    """Return a pipeline with one processing job, which writes a line and ends."""
    cluster = {"InstanceCount": 1, "InstanceType": JOB_INSTANCE, "VolumeSizeInGB": 1}
    arguments = {
        "ProcessingResources": {"ClusterConfig": cluster},
        "AppSpecification": {"ImageUri": image_uri, "ContainerEntrypoint": ["echo", JOB_LINE]},
        "StoppingCondition": {"MaxRuntimeInSeconds": JOB_SECONDS},
        "RoleArn": role_arn,
    }
    return definition({"Name": "Job", "Type": "Processing", "Arguments": arguments})
