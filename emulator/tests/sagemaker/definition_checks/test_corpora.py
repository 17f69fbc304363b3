"""
Many sound definitions, which are accepted and run, and many faulty ones, which are
refused, or fail as AWS fails them: with the member, the value and the rule.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from typing import Any, Final

import pytest
from botocore.exceptions import ClientError

from sagemaker_emulator import EXAMPLE_DEFINITIONS, EmulatorServer
from sagemaker_emulator.builders import ROLE, definition, step

Steps = Callable[[str], dict[str, dict[str, Any]]]
Changes = dict[str, Any]
GONE: Final = object()
IMAGE: Final = "123456789012.dkr.ecr.us-east-1.amazonaws.com/image:2"
S3: Final = {"S3DataType": "S3Prefix", "S3Uri": "s3://bucket/data"}
CHANNEL: Final = {"ChannelName": "train", "DataSource": {"S3DataSource": S3}}
GROUP: Final = {"InstanceGroupName": "a", "InstanceType": "ml.m5.xlarge"}
GROUPS: Final = [{**GROUP, "InstanceCount": 2}]
VPC: Final = {"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-1"]}
SPOT: Final = {
    "EnableManagedSpotTraining": True,
    "StoppingCondition.MaxRuntimeInSeconds": 60,
}
POLICY: Final = [{"ExceptionType": ["Step.THROTTLING"], "MaxAttempts": 3}]
INTEGERS: Final = [{"Name": "depth", "MinValue": "1", "MaxValue": "9"}]
OUTPUT: Final = {
    "OutputName": "out",
    "S3Output": {
        "S3Uri": "s3://bucket/out",
        "LocalPath": "/opt/ml/processing/out",
        "S3UploadMode": "EndOfJob",
    },
}
INPUT: Final = {
    "InputName": "in",
    "S3Input": {**S3, "LocalPath": "/opt/ml/processing/in", "S3InputMode": "File"},
}
INFERENCE: Final = {
    "Containers": [{"Image": IMAGE}],
    "SupportedContentTypes": ["text/csv"],
    "SupportedResponseMIMETypes": ["text/csv"],
}
CLUSTER: Final = "ProcessingResources.ClusterConfig"
JOB: Final = "TrainingJobDefinition"
CONFIG: Final = "HyperParameterTuningJobConfig"
LIMITS: Final = f"{CONFIG}.ResourceLimits"
SOURCE: Final = "TransformInput.DataSource.S3DataSource"
# Members of a step, and not of its arguments, begin with a slash.
SOUND: Final[list[tuple[str, Changes]]] = [
    *((kind, {}) for kind in ("Training", "Processing", "Tuning", "Transform")),
    *((kind, {}) for kind in ("AutoML", "Model", "Lambda", "EndpointConfig", "EMR")),
    *((kind, {}) for kind in ("Endpoint", "InferenceComponent", "EMRServerless")),
    *((kind, {}) for kind in ("QualityCheck", "ClarifyCheck", "Lineage")),
    ("Training", {**SPOT, "StoppingCondition.MaxWaitTimeInSeconds": 60}),
    ("Training", {**SPOT, "StoppingCondition.MaxWaitTimeInSeconds": 86400}),
    ("Training", {"EnableManagedSpotTraining": False}),
    ("Training", {"ResourceConfig.KeepAlivePeriodInSeconds": 600}),
    (
        "Training",
        {"ResourceConfig": {"InstanceGroups": GROUPS, "VolumeSizeInGB": 5}},
    ),
    ("Training", {"InputDataConfig": [CHANNEL]}),
    ("Training", {"InputDataConfig": [CHANNEL, {**CHANNEL, "ChannelName": "test"}]}),
    ("Training", {"InputDataConfig": [{**CHANNEL, "InputMode": "Pipe"}]}),
    ("Training", {"Environment": {}, "HyperParameters": {}, "Tags": []}),
    ("Training", {"HyperParameters": {"depth": "5", "x" * 256: "y" * 2500}}),
    (
        "Training",
        {"AlgorithmSpecification": {"AlgorithmName": "a", "TrainingInputMode": "File"}},
    ),
    ("Training", {"AlgorithmSpecification.ContainerArguments": ["--day", "1"]}),
    ("Training", {"VpcConfig": VPC, "EnableNetworkIsolation": True}),
    ("Training", {"CheckpointConfig": {"S3Uri": "s3://bucket/checkpoints"}}),
    ("Training", {"RetryStrategy": {"MaximumRetryAttempts": 2}}),
    ("Training", {"/CacheConfig": {"Enabled": True}, "/RetryPolicies": POLICY}),
    ("Training", {"/Description": "x" * 3072, "/DisplayName": "x" * 256}),
    ("Processing", {"AppSpecification.ContainerArguments": []}),
    ("Processing", {"AppSpecification.ContainerArguments": ["x" * 256]}),
    ("Processing", {"AppSpecification.ContainerEntrypoint": ["python3", "run.py"]}),
    ("Processing", {"ProcessingInputs": [], "Environment": {}}),
    ("Processing", {"ProcessingInputs": [INPUT]}),
    ("Processing", {"ProcessingOutputConfig": {"Outputs": [OUTPUT]}}),
    ("Processing", {"ProcessingOutputConfig": {"Outputs": []}}),
    ("Processing", {"NetworkConfig": {"VpcConfig": VPC}}),
    ("Processing", {"StoppingCondition": {"MaxRuntimeInSeconds": 1}}),
    ("Processing", {"/CacheConfig": {"Enabled": True, "ExpireAfter": "P1D"}}),
    ("Transform", {"MaxPayloadInMB": 25, "MaxConcurrentTransforms": 4}),
    ("Transform", {"MaxPayloadInMB": 100}),
    ("Transform", {"BatchStrategy": "MultiRecord", "TransformInput.SplitType": "Line"}),
    ("Transform", {"BatchStrategy": "SingleRecord"}),
    ("Transform", {"/RetryPolicies": POLICY, "/CacheConfig": {"Enabled": False}}),
    ("Tuning", {f"{LIMITS}": {"MaxParallelTrainingJobs": 2}}),
    (
        "Tuning",
        {
            f"{LIMITS}.MaxNumberOfTrainingJobs": 4,
            f"{LIMITS}.MaxParallelTrainingJobs": 4,
        },
    ),
    ("Tuning", {f"{CONFIG}.Strategy": "Hyperband"}),
    (
        "Tuning",
        {
            f"{CONFIG}.Strategy": "Hyperband",
            f"{CONFIG}.TrainingJobEarlyStoppingType": "Off",
        },
    ),
    ("Tuning", {f"{CONFIG}.TrainingJobEarlyStoppingType": "Auto"}),
    (
        "Tuning",
        {
            f"{CONFIG}.ParameterRanges": {
                "IntegerParameterRanges": INTEGERS,
                "CategoricalParameterRanges": [],
            },
            f"{JOB}.StaticHyperParameters": {"eta": "1"},
        },
    ),
    ("Model", {"/RetryPolicies": POLICY}),
    ("Model", {"PrimaryContainer.Environment": {}}),
    ("RegisterModel", {"InferenceSpecification": INFERENCE}),
    ("RegisterModel", {"ModelPackageGroupName": "models", "/RetryPolicies": POLICY}),
    ("Lambda", {"/CacheConfig": {"Enabled": True}}),
    ("QualityCheck", {"/CacheConfig": {"Enabled": True}, "/RetryPolicies": POLICY}),
]
# The type of the step, what is changed, and what the error says: the member, the value,
# and the rule.
FAULTY: Final[list[tuple[str, Changes, tuple[str, ...]]]] = [
    # Bounds and patterns of the service model.
    (
        "Training",
        {"ResourceConfig.InstanceCount": 0},
        ("InstanceCount", "'0'", "at least 1"),
    ),
    (
        "Training",
        {"StoppingCondition.MaxRuntimeInSeconds": -1},
        ("MaxRuntimeInSeconds", "'-1'", "min"),
    ),
    (
        "Training",
        {"ResourceConfig.InstanceType": "m5.large"},
        ("InstanceType", "'m5.large'", "enum"),
    ),
    (
        "Training",
        {"OutputDataConfig.S3OutputPath": "not a uri"},
        ("S3OutputPath", "'not a uri'", "pattern"),
    ),
    ("Training", {"RoleArn": "nobody"}, ("RoleArn", "'nobody'", "min")),
    (
        "Processing",
        {"AppSpecification.ContainerArguments": ["x" * 257]},
        ("ContainerArguments", "x" * 257, "max=256"),
    ),
    (
        "Processing",
        {f"{CLUSTER}.VolumeSizeInGB": 0},
        ("VolumeSizeInGB", "'0'", "min"),
    ),
    ("Processing", {"Environment": {"A" * 257: "x"}}, ("Environment", "max")),
    ("Transform", {"BatchStrategy": "All"}, ("BatchStrategy", "'All'", "enum")),
    ("Training", {"/Description": "x" * 3073}, ("Description", "max=3072")),
    ("Training", {"/DisplayName": "x" * 257}, ("DisplayName", "max=256")),
    # Empty lists and maps.
    ("Training", {"InputDataConfig": []}, ("InputDataConfig=0", "min=1")),
    ("Training", {"VpcConfig": {**VPC, "Subnets": []}}, ("Subnets=0", "min=1")),
    (
        "Training",
        {"AlgorithmSpecification.ContainerEntrypoint": []},
        ("ContainerEntrypoint=0", "min=1"),
    ),
    (
        "Processing",
        {"AppSpecification.ContainerEntrypoint": []},
        ("ContainerEntrypoint=0", "min=1"),
    ),
    (
        "Processing",
        {"NetworkConfig": {"VpcConfig": {**VPC, "SecurityGroupIds": []}}},
        ("VpcSecurityGroupIds=0", "min=1"),
    ),
    ("AutoML", {"InputDataConfig": []}, ("InputDataConfig=0", "min=1")),
    (
        "RegisterModel",
        {"InferenceSpecification": {**INFERENCE, "Containers": []}},
        ("ContainerDefinitionList=0", "min=1"),
    ),
    (
        "RegisterModel",
        {
            "InferenceSpecification": {
                **INFERENCE,
                "SupportedTransformInstanceTypes": [],
            }
        },
        ("TransformInstanceTypes=0", "min=1"),
    ),
    (
        "RegisterModel",
        {"CustomerMetadataProperties": {}},
        ("CustomerMetadata", "=0", "min=1"),
    ),
    ("EndpointConfig", {"ProductionVariants": []}, ("VariantList=0", "min=1")),
    # Members that a type of step does not have.
    *(
        (kind, {"/CacheConfig": {"Enabled": True}}, ("unknown property", "CacheConfig"))
        for kind in ("Model", "RegisterModel", "Fail", "Lineage")
    ),
    *(
        (kind, {"/RetryPolicies": POLICY}, ("unknown property", "RetryPolicies"))
        for kind in ("Lambda", "Callback", "Fail", "Endpoint")
    ),
    # Members that need or exclude each other.
    ("Training", SPOT, ("MaxWaitTimeInSeconds", "'None'", "must be given")),
    (
        "Training",
        {**SPOT, "StoppingCondition.MaxWaitTimeInSeconds": 59},
        ("MaxWaitTimeInSeconds", "'59'", "at least MaxRuntimeInSeconds"),
    ),
    (
        "Training",
        {"StoppingCondition.MaxWaitTimeInSeconds": 90_000},
        ("Invalid MaxWaitTimeInSeconds", "EnableManagedSpotTraining is set to true"),
    ),
    (
        "Training",
        {
            **SPOT,
            "StoppingCondition.MaxWaitTimeInSeconds": 60,
            "ResourceConfig.KeepAlivePeriodInSeconds": 600,
        },
        ("KeepAlivePeriodInSeconds", "'600'", "EnableManagedSpotTraining"),
    ),
    (
        "Training",
        {"ResourceConfig.InstanceGroups": GROUPS},
        ("ResourceConfig.InstanceType", "'ml.m5.large'", "InstanceGroups"),
    ),
    (
        "Training",
        {
            "ResourceConfig.InstanceGroups": GROUPS,
            "ResourceConfig.InstanceType": GONE,
        },
        ("ResourceConfig.InstanceCount", "'1'", "InstanceGroups"),
    ),
    (
        "Training",
        {"InputDataConfig": [CHANNEL, CHANNEL]},
        ("ChannelName", "train", "a name of its own"),
    ),
    (
        "Training",
        {"AlgorithmSpecification.AlgorithmName": "xgboost"},
        ("AlgorithmName", "'xgboost'", "exactly one"),
    ),
    (
        "Training",
        {
            "AlgorithmSpecification.TrainingInputMode": "Pipe",
            "InputDataConfig": [{**CHANNEL, "InputMode": "FastFile"}],
        },
        ("Cannot use both 'Pipe' and 'FastFile' TrainingInputMode",),
    ),
    (
        "Processing",
        {"AppSpecification.ContainerArguments": ["a", ""]},
        ("ContainerArguments", "may not contain null or empty strings"),
    ),
    (
        "Transform",
        {"MaxPayloadInMB": 60, "MaxConcurrentTransforms": 2},
        ("MaxPayloadInMB", "'60'", "greater than 100"),
    ),
    (
        "Transform",
        {"BatchStrategy": "MultiRecord"},
        ("BatchStrategy", "'MultiRecord'", "SplitType"),
    ),
    (
        "Tuning",
        {
            f"{LIMITS}.MaxNumberOfTrainingJobs": 2,
            f"{LIMITS}.MaxParallelTrainingJobs": 3,
        },
        ("MaxParallelTrainingJobs", "'3'", "MaxNumberOfTrainingJobs"),
    ),
    (
        "Tuning",
        {
            f"{CONFIG}.ParameterRanges": {"IntegerParameterRanges": INTEGERS},
            f"{JOB}.StaticHyperParameters": {"depth": "5"},
        },
        ("StaticHyperParameters", "depth", "both"),
    ),
    (
        "Tuning",
        {
            f"{CONFIG}.Strategy": "Hyperband",
            f"{CONFIG}.TrainingJobEarlyStoppingType": "Auto",
        },
        ("TrainingJobEarlyStoppingType", "'Auto'", "Off"),
    ),
    (
        "Tuning",
        {f"{JOB}.InputDataConfig": [CHANNEL, CHANNEL]},
        ("ChannelName", "train", "a name of its own"),
    ),
    (
        "Tuning",
        {f"{JOB}.EnableManagedSpotTraining": True},
        ("MaxWaitTimeInSeconds", "'None'", "must be given"),
    ),
]
# The type of the step, the member that comes from a parameter, its value, and what the
# reason says beside the value.
RESOLVED: Final[list[tuple[str, str, Any, tuple[str, ...]]]] = [
    ("Training", "ResourceConfig.InstanceCount", 0, ("resourceConfig.instanceCount",)),
    (
        "Training",
        "StoppingCondition.MaxRuntimeInSeconds",
        -1,
        ("stoppingCondition.maxRuntimeInSeconds", "greater than or equal to 1"),
    ),
    ("Training", "ResourceConfig.InstanceType", "m5.large", ("instanceType", "enum")),
    (
        "Training",
        "OutputDataConfig.S3OutputPath",
        "not a uri",
        ("outputDataConfig.s3OutputPath", "regular expression pattern"),
    ),
    ("Processing", "RoleArn", "x" * 20, ("roleArn", "regular expression pattern")),
    (
        "Processing",
        "AppSpecification.ContainerArguments",
        ["x" * 257],
        ("containerArguments.1.member", "less than or equal to 256"),
    ),
    ("Transform", "MaxPayloadInMB", 101, ("maxPayloadInMB", "greater than 100")),
    (
        "Training",
        "EnableManagedSpotTraining",
        True,
        ("stoppingCondition.maxWaitTimeInSeconds", "must be given"),
    ),
]
VALUES: Final = {"String": "x", "Integer": "1", "Float": "0.5", "Boolean": "true"}
TYPES: Final = {str: "String", int: "Integer", bool: "Boolean"}


def changed(kind: str, changes: Changes) -> dict[str, Any]:
    """Return a sound step of a type, with other values of some members."""
    body = step("Step", kind)
    if kind == "RegisterModel":
        body["Arguments"] = {"ModelPackageGroupName": "models"}
    for path, value in changes.items():
        place = body
        if not path.startswith("/"):
            place = body["Arguments"]
        *parents, last = path.removeprefix("/").split(".")
        for parent in parents:
            place = place.setdefault(parent, {})
        if value is GONE:
            del place[last]
        else:
            place[last] = deepcopy(value)
    return body


@pytest.fixture
def run(server: EmulatorServer, sagemaker: Any, steps_of: Steps) -> Callable[..., str]:
    """
    Create and execute a pipeline. Return why it was refused, with the place, or has
    failed; empty if it has succeeded.
    """

    def execute(text: str, name: str = "Demo") -> str:
        try:
            sagemaker.create_pipeline(
                PipelineName=name, PipelineDefinition=text, RoleArn=ROLE
            )
        except ClientError:
            return str(server.control.calls("CreatePipeline")[-1]["detail"])
        arn = sagemaker.start_pipeline_execution(PipelineName=name)[
            "PipelineExecutionArn"
        ]
        server.control.advance(4 * 3600)
        steps = [*steps_of(arn).values()]
        return "".join(each.get("FailureReason", "") for each in steps)

    return execute


def test_corpora_are_large_enough() -> None:
    """No two rows are the same."""
    examples = len([*EXAMPLE_DEFINITIONS.glob("*.json")])
    assert examples + len({repr(row) for row in SOUND}) >= 60
    assert len({repr(row) for row in FAULTY}) == len(FAULTY) >= 45
    assert len(RESOLVED) >= 7


@pytest.mark.parametrize(("kind", "changes"), SOUND)
def test_sound_step_succeeds(
    run: Callable[..., str], kind: str, changes: Changes
) -> None:
    """It is accepted, and its job starts."""
    assert run(definition(changed(kind, changes))) == ""


@pytest.mark.parametrize("path", sorted(EXAMPLE_DEFINITIONS.glob("*.json")))
def test_jobs_of_examples_start(
    server: EmulatorServer,
    sagemaker: Any,
    create: Callable[..., str],
    steps_of: Steps,
    path: Any,
) -> None:
    """No request of their steps is refused."""
    document = json.loads(path.read_text())
    needed = [
        {"Name": each["Name"], "Value": VALUES[each["Type"]]}
        for each in document["Parameters"]
        if "DefaultValue" not in each
    ]
    name = create(path.read_text())
    arn = sagemaker.start_pipeline_execution(
        PipelineName=name, PipelineParameters=needed
    )["PipelineExecutionArn"]
    server.control.advance(4 * 3600)
    reasons = [each.get("FailureReason", "") for each in steps_of(arn).values()]
    assert reasons
    assert not any("Failed to invoke" in reason for reason in reasons)


@pytest.mark.parametrize(("kind", "changes", "words"), FAULTY)
def test_fault_is_named(
    run: Callable[..., str], kind: str, changes: Changes, words: tuple[str, ...]
) -> None:
    """The error has the member, the value and the rule."""
    problem = run(definition(changed(kind, changes)))
    assert [word for word in words if word not in problem] == []


@pytest.mark.parametrize(("kind", "path", "value", "words"), RESOLVED)
def test_resolved_value_fails_the_step(
    run: Callable[..., str],
    sagemaker: Any,
    kind: str,
    path: str,
    value: Any,
    words: tuple[str, ...],
) -> None:
    """
    The value comes from a parameter, so that AWS finds it when the step starts. There
    is no job, and no retry policy tries it again.
    """
    reference: Any = {"Get": "Parameters.Value"}
    shown = value
    if isinstance(value, list):
        reference, shown = [reference], value[0]
    parameter = {"Name": "Value", "Type": TYPES[type(shown)], "DefaultValue": shown}
    changes = {path: reference, "/RetryPolicies": POLICY}
    reason = run(definition(changed(kind, changes), parameters=(parameter,)))
    assert reason.startswith(f"ClientError: Failed to invoke sagemaker:Create{kind}Job")
    assert [word for word in words if word not in reason] == []
    if shown is not True:
        assert f"Value '{shown}' at" in reason
    (summary,) = sagemaker.list_pipeline_executions(PipelineName="Demo")[
        "PipelineExecutionSummaries"
    ]
    (entry,) = sagemaker.list_pipeline_execution_steps(
        PipelineExecutionArn=summary["PipelineExecutionArn"]
    )["PipelineExecutionSteps"]
    assert (entry["Metadata"], entry["AttemptCount"]) == ({}, 1)
    assert summary["PipelineExecutionStatus"] == "Failed"


@pytest.mark.usefixtures("lenient")
def test_lenient_emulator_starts_any_job(run: Callable[..., str]) -> None:
    """It starts what AWS would refuse, since the engine can run it."""
    assert run(definition(changed("Training", SPOT))) == ""


def test_value_that_is_not_known_is_not_refused(run: Callable[..., str]) -> None:
    """
    A location that only a job could know, and one that is made of it, fit a pattern.
    """
    ask = step("Ask", "Lambda", OutputParameters=[{"OutputName": "uri"}])
    reference = {"Get": "Steps.Ask.OutputParameters['uri']"}
    joined = {"Std:Join": {"On": "/", "Values": [reference, "x"]}}
    changes = {"OutputDataConfig.S3OutputPath": reference, "RoleArn": joined}
    assert run(definition(ask, changed("Training", changes))) == ""


def test_number_stands_for_the_text_of_a_hyperparameter(
    run: Callable[..., str],
) -> None:
    """Version 3 of the SDK writes it."""
    changes = {"HyperParameters": {"depth": {"Get": "Parameters.Depth"}}}
    depth = {"Name": "Depth", "Type": "Integer", "DefaultValue": 5}
    assert run(definition(changed("Training", changes), parameters=(depth,))) == ""


@pytest.mark.parametrize(("length", "kind"), [(82, "Training"), (256, "Lambda")])
def test_name_of_a_pipeline_is_short_enough(
    run: Callable[..., str], length: int, kind: str
) -> None:
    """A step that starts no job of SageMaker runs with each documented name."""
    assert run(definition(step("Step", kind)), name="x" * length) == ""


def test_name_of_a_pipeline_is_too_long_for_its_jobs(run: Callable[..., str]) -> None:
    """The pipeline is created, and the step fails with the limit."""
    reason = run(definition(step("Step", "Training")), name="x" * 83)
    assert "is too long (length: 83, maximum allowed: 82)] for pipelineName" in reason


def test_transform_needs_a_model_that_exists(
    run: Callable[..., str], sagemaker: Any
) -> None:
    """
    Those of clients and of steps exist. If there is none at all, the name is one of the
    account's.
    """
    made = step("Make", "Model")
    use = step(
        "Use", "Transform", Arguments={"ModelName": {"Get": "Steps.Make.ModelName"}}
    )
    wrong = step("Wrong", "Transform", "Make", Arguments={"ModelName": "nowhere"})
    mine = step("Mine", "Transform", "Make", Arguments={"ModelName": "mine"})

    assert run(definition(wrong | {"DependsOn": []}), name="Alone") == ""
    assert run(definition(made, use), name="Own") == ""
    reason = run(definition(made, wrong), name="Other")
    sagemaker.create_model(
        ModelName="mine", ExecutionRoleArn=ROLE, PrimaryContainer={"Image": IMAGE}
    )

    arn = "arn:aws:sagemaker:us-east-1:123456789012:model/nowhere"
    assert reason == (
        "ClientError: Failed to invoke sagemaker:CreateTransformJob. Error Details:"
        f' Could not find model "{arn}".'
    )
    assert run(definition(made, mine), name="Mine") == ""
    (summary,) = sagemaker.list_pipeline_executions(PipelineName="Own")[
        "PipelineExecutionSummaries"
    ]
    steps = sagemaker.list_pipeline_execution_steps(
        PipelineExecutionArn=summary["PipelineExecutionArn"]
    )["PipelineExecutionSteps"]
    (model,) = [
        each["Metadata"]["Model"]["Arn"]
        for each in steps
        if "Model" in each["Metadata"]
    ]
    again = {"ModelName": model.rpartition("/")[2]}
    assert (
        run(definition(step("Again", "Transform", Arguments=again)), name="Again") == ""
    )
