"""
Tests of what AWS refuses: a sound definition with steps of all types, and definitions
that differ from it in one member.
"""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any, Final

import pytest

from sagemaker_emulator import EmulatorServer
from sagemaker_emulator.builders import ROLE, step
from sagemaker_emulator.engine.definition import DefinitionError
from sagemaker_emulator.sagemaker.definition_checks.check import checked
from tests.builders import condition, fail
from tests.sagemaker.test_pipelines import error_of

#: A member that is removed.
MISSING: Final = object()
OUTPUTS = "Steps.Prepare.ProcessingOutputConfig.Outputs"
DATA = f"{OUTPUTS}['data'].S3Output.S3Uri"
MODEL = "Steps.Train.ModelArtifacts.S3ModelArtifacts"
TICKET = "Steps.Notify.OutputParameters['ticket']"
REPORT = "Steps.Prepare.PropertyFiles.Report"
# It is a map.
PARAMETER = "Steps.Train.HyperParameters[0]"
POLICY = {"ExceptionType": ["Step.THROTTLING"], "MaxAttempts": 3}


def get(reference: str) -> dict[str, str]:
    """Return a reference."""
    return {"Get": reference}


def join(*values: Any) -> dict[str, Any]:
    """Return the function that joins values."""
    return {"Std:Join": {"On": "/", "Values": list(values)}}


def json_get(path: str = "auc.value", **members: Any) -> dict[str, Any]:
    """Return the function that reads a property file."""
    return {"Std:JsonGet": {"PropertyFile": get(REPORT), "Path": path, **members}}


def compare(left: Any, right: Any, kind: str = "GreaterThan") -> dict[str, Any]:
    """Return a condition."""
    return {"Type": kind, "LeftValue": left, "RightValue": right}


def output(name: str) -> dict[str, Any]:
    """Return an output of a processing job."""
    location = {
        "S3Uri": f"s3://bucket/{name}",
        "LocalPath": f"/opt/ml/processing/{name}",
        "S3UploadMode": "EndOfJob",
    }
    return {"OutputName": name, "S3Output": location}


def channel(name: str, location: Any) -> dict[str, Any]:
    """Return an input channel of a training job."""
    source = {"S3DataType": "S3Prefix", "S3Uri": location}
    return {"ChannelName": name, "DataSource": {"S3DataSource": source}}


def sound_steps() -> list[dict[str, Any]]:
    """Return steps of all types that have a documented definition."""
    prepare = step(
        "Prepare",
        Arguments={
            "ProcessingOutputConfig": {"Outputs": [output("data"), output("report")]},
            "Environment": {
                "SOURCE": get("Parameters.Source"),
                "EXPERIMENT": get("PipelineExperimentConfig.ExperimentName"),
            },
        },
        PropertyFiles=[
            {
                "PropertyFileName": "Report",
                "OutputName": "report",
                "FilePath": "report.json",
            }
        ],
        DisplayName="Prepare the data",
        Description="Cleans and splits",
    )
    train = step(
        "Train",
        "Training",
        Arguments={
            "InputDataConfig": [
                channel("train", get(DATA)),
                # The SDK writes it for a model that is no object of S3.
                channel("model", "/tmp/model.tar.gz"),
            ],
            "HyperParameters": {"depth": "5", "path": join("s3:/", get(DATA))},
        },
        CacheConfig={"Enabled": True, "ExpireAfter": "P30D"},
        RetryPolicies=[
            POLICY,
            {"ExceptionType": ["SageMaker.CAPACITY_ERROR"], "ExpireAfterMin": 60},
        ],
    )
    container = {"Image": "image:1", "ModelDataUrl": get(MODEL)}
    register = step(
        "Register",
        "RegisterModel",
        Arguments={
            "ModelPackageGroupName": "models",
            "ModelApprovalStatus": get("Parameters.Approval"),
            "InferenceSpecification": {
                "Containers": [container],
                "SupportedContentTypes": ["*"],
                "SupportedResponseMIMETypes": ["*"],
            },
        },
    )
    cluster = {
        "Instances": {
            "InstanceGroups": [
                {
                    "InstanceRole": "MASTER",
                    "InstanceType": "m5.xlarge",
                    "InstanceCount": 1,
                }
            ]
        }
    }
    search = {
        "AutoMLJobInputDataConfig": [{"ChannelType": "training"}],
        "AutoMLProblemTypeConfig": {"TabularJobConfig": {"TargetAttributeName": "y"}},
        "OutputDataConfig": {"S3OutputPath": "s3://bucket/models"},
        "RoleArn": ROLE,
    }
    job = {
        "JobCategory": "AgentRFT",
        "JobConfigDocument": "{}",
        "JobConfigSchemaVersion": "1.0.0",
        "RoleArn": ROLE,
    }
    variant = {
        "ModelName": "model",
        "VariantName": "all",
        "InitialVariantWeight": get("Parameters.Count"),
    }
    steps = [
        prepare,
        train,
        step("Tune", "Tuning", "Train"),
        step("Search", "AutoML"),
        {"Name": "NewSearch", "Type": "AutoML", "Arguments": search},
        {"Name": "Job", "Type": "Job", "Arguments": job},
        step("Model", "Model", Arguments={"PrimaryContainer": container}),
        step(
            "Score", "Transform", Arguments={"ModelName": get("Steps.Model.ModelName")}
        ),
        register,
        step("Quality", "QualityCheck", SkipCheck=get("Parameters.Skip")),
        step("Bias", "ClarifyCheck", ModelPackageGroupName="models"),
        step(
            "Notify",
            "Lambda",
            Arguments={"count": get("Parameters.Count"), "nested": {"list": [1]}},
            OutputParameters=[{"OutputName": "ticket", "OutputType": "String"}],
        ),
        step("Ask", "Callback", Arguments={"ticket": get(TICKET)}),
        step("Emr", "EMR"),
        step("Cluster", "EMR"),
        step("Serverless", "EMRServerless"),
        step(
            "Config",
            "EndpointConfig",
            Arguments={"ProductionVariants": [variant]},
        ),
        step(
            "Endpoint",
            "Endpoint",
            Arguments={
                "EndpointConfigName": get("Steps.Config.EndpointConfigName"),
            },
        ),
        step("Component", "InferenceComponent", "Endpoint"),
        step("Record", "Lineage"),
        condition(
            "Decide",
            [
                compare(json_get(), 0.8),
                {"Type": "Not", "Condition": compare(get(TICKET), "x", "NotEquals")},
                {
                    "Type": "Or",
                    "Conditions": [
                        {
                            "Type": "In",
                            "QueryValue": get("Parameters.Source"),
                            "Values": ["a", "s3://bucket/in"],
                        },
                        {
                            "Type": "NotIn",
                            "Value": get("Parameters.Count"),
                            "In": [1, get("Parameters.Count")],
                        },
                    ],
                },
            ],
            [step("Good"), condition("Inner", [], [step("Deep", "Model")], [])],
            [
                # It never runs, but AWS accepts it.
                step("Other", "Lambda", "Good"),
                fail("Bad", join("Run", get("Execution.PipelineExecutionId"))),
            ],
        ),
        {
            "Name": "Loop",
            "Type": "ForEach",
            "Arguments": {
                "IterableItems": ["a", get("Parameters.Source")],
                "MaxConcurrency": 2,
                "ForEachBody": [
                    step(
                        "Each",
                        "Lambda",
                        Arguments={"item": get("ForEach.CurrentItem")},
                        OutputParameters=[{"OutputName": "auc"}],
                    )
                ],
                "Selector": {
                    "Pick": "MaxBy",
                    "Field": get("IterationOutput.Each.OutputParameters['auc']"),
                },
            },
        },
        step(
            "Best",
            "Lambda",
            Arguments={
                "n": get("Steps.Loop.TotalStepCount"),
                "emr": get("Steps.Emr.Status.State"),
                "lineage": get("Steps.Record.Anything"),
                "job": get("Steps.Job.JobConfigDocument.OutputDataConfig"),
            },
        ),
    ]
    for each in steps:
        if each["Name"] == "Cluster":
            del each["Arguments"]["ClusterId"]
            each["Arguments"]["ClusterConfig"] = cluster
    return steps


def sound_definition() -> dict[str, Any]:
    """Return a definition that AWS accepts."""
    return {
        "Version": "2020-12-01",
        "Metadata": {"Owner": "team"},
        "Parameters": [
            {"Name": "Source", "Type": "String", "DefaultValue": "s3://bucket/in"},
            {"Name": "Count", "Type": "Integer", "DefaultValue": 1},
            {"Name": "Rate", "Type": "Float", "DefaultValue": 1},
            {"Name": "Skip", "Type": "Boolean", "DefaultValue": False},
            {
                "Name": "Approval",
                "DefaultValue": "Approved",
                "EnumValues": ["Approved", "Rejected"],
            },
            {"Name": "Long", "DefaultValue": "x" * 4096},
        ],
        "PipelineExperimentConfig": {
            "ExperimentName": get("Execution.PipelineName"),
            "TrialName": get("Execution.PipelineExecutionId"),
        },
        "Steps": sound_steps(),
    }


def step_of(document: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a step of the definition, at any level."""
    waiting = list(document["Steps"])
    while waiting:
        body: dict[str, Any] = waiting.pop()
        if body["Name"] == name:
            return body
        for member in ("IfSteps", "ElseSteps", "ForEachBody"):
            waiting += body["Arguments"].get(member, [])
    raise KeyError(name)


def changed(name: str | None, path: str, value: Any) -> str:
    """Return the sound definition with another value of one member."""
    document = deepcopy(sound_definition())
    place: Any = document
    if name is not None:
        place = step_of(document, name)
    *parents, last = path.replace("[", ".[").split(".")
    for parent in parents:
        place = place[_key(parent)]
    if value is MISSING:
        del place[_key(last)]
    else:
        place[_key(last)] = value
    return json.dumps(document)


def _key(part: str) -> str | int:
    if part.startswith("["):
        return int(part.strip("[]"))
    return part


PROCESSING = "Arguments.ProcessingResources.ClusterConfig"
SOURCE = "Arguments.InputDataConfig[0].DataSource.S3DataSource"
SPECIFICATION = "Arguments.AlgorithmSpecification"
TUNING = "Arguments.HyperParameterTuningJobConfig"
INFERENCE = "Arguments.InferenceSpecification"
CONDITION = "Arguments.Conditions[0]"
EXPERIMENT = "Arguments.ExperimentConfig"
MORE_DATA = "AdditionalModelDataSources"
# The step (None: the definition), the member that is changed, its new value, and the
# member that the error must name, if it is not the changed one.
FAULTS: list[tuple[str | None, str, Any, str | None]] = [
    # Members of the definition.
    (None, "Version", "2021-01-01", None),
    (None, "Step", [], None),
    (None, "Metadata", "team", None),
    (None, "Metadata.Owner", 5, None),
    (None, "PipelineExperimentConfig.Experiment", "x", None),
    (None, "PipelineExperimentConfig.TrialName", get(MODEL), None),
    (None, "PipelineExperimentConfig.TrialName", 7, None),
    # Parameters.
    (None, "Parameters[0].Type", "Text", "type"),
    (None, "Parameters[0].Default", "x", None),
    (None, "Parameters[0].Name", "a b", None),
    (None, "Parameters[0].Name", "a" * 65, "max=64.0"),
    (None, "Parameters[0].Name", "Count", "not unique"),
    (None, "Parameters[0].DefaultValue", 5, None),
    (None, "Parameters[0].DefaultValue", json_get(), None),
    (None, "Parameters[0].DefaultValue", "x" * 4097, None),
    (None, "Parameters", [{"Name": f"P{n}"} for n in range(201)], "max=200"),
    (None, "Parameters[1].DefaultValue", "abc", None),
    (None, "Parameters[1].DefaultValue", 1.5, None),
    (None, "Parameters[1].DefaultValue", True, None),
    (None, "Parameters[2].DefaultValue", "0.5", None),
    (None, "Parameters[3].DefaultValue", "false", None),
    (None, "Parameters[4].DefaultValue", "Maybe", None),
    (None, "Parameters[4].EnumValues[1]", 5, None),
    (None, "Parameters[4].EnumValues", ["Approved"] * 17, None),
    (
        None,
        "Parameters[4].EnumValues",
        "Approved",
        "'EnumValues' of parameter 'Approval'",
    ),
    # Members of steps.
    ("Prepare", "Type", "Spark", None),
    ("Prepare", "Name", "Prepare data", "Name"),
    ("Prepare", "Name", "Train", "Name"),
    ("Good", "Name", "Train", "Name"),
    ("Prepare", "Argument", {}, None),
    ("Prepare", "FunctionArn", "arn:aws:lambda:us-east-1:1:function:x", None),
    ("Prepare", "DisplayName", 5, None),
    ("Prepare", "DependsOn", "Train", None),
    ("Prepare", "DependsOn", ["Nowhere"], None),
    ("Prepare", "DependsOn", ["Train"], None),
    ("Good", "DependsOn", ["Bad"], None),
    # Cache and retry policies.
    ("Train", "CacheConfig.ExpireAfter", "30 days", None),
    ("Train", "CacheConfig.ExpireAfter", 30, None),
    ("Train", "CacheConfig.Enabled", "yes", None),
    ("Train", "CacheConfig.Expires", "P1D", None),
    ("Train", "CacheConfig", [], None),
    ("Model", "CacheConfig", {"Enabled": False}, None),
    ("Train", "Arguments.InputDataConfig", [], None),
    ("Train", "RetryPolicies", POLICY, None),
    ("Train", "RetryPolicies", 5, None),
    ("Train", "RetryPolicies[0].ExceptionType", MISSING, None),
    ("Train", "RetryPolicies[0].ExceptionType", [], None),
    ("Train", "RetryPolicies[0].ExceptionType[0]", "Step.TIMEOUT", None),
    ("Train", "RetryPolicies[0].MaxAttempts", 21, None),
    ("Train", "RetryPolicies[0].MaxAttempts", -1, None),
    ("Train", "RetryPolicies[0].IntervalSeconds", 43_201, None),
    ("Train", "RetryPolicies[0].BackoffRate", "2", None),
    ("Train", "RetryPolicies[0].ExpireAfterMin", 5, None),
    ("Train", "RetryPolicies[1].ExpireAfterMin", True, None),
    ("Train", "RetryPolicies[0].Attempts", 3, None),
    # Processing.
    ("Prepare", "Arguments.AppSpecification.ImageUri", MISSING, None),
    ("Prepare", "Arguments.RoleArn", MISSING, None),
    ("Prepare", "Arguments.RoleArn", "SageMakerRole", None),
    ("Prepare", f"{PROCESSING}.InstanceType", "ml.m5.huge", None),
    ("Prepare", f"{PROCESSING}.InstanceCount", 0, None),
    ("Prepare", f"{PROCESSING}.InstanceCount", "1", None),
    ("Prepare", f"{PROCESSING}.InstanceCount", get("Parameters.Source"), None),
    ("Prepare", f"{PROCESSING}.VolumeSizeInGB", MISSING, None),
    ("Prepare", "Arguments.Environment.SOURCE", get("Parameters.Count"), None),
    ("Prepare", f"{PROCESSING}.InstanceCount", get("Parameters.Rate"), None),
    ("Prepare", "Arguments.Environment.SOURCE", 7, None),
    ("Prepare", f"Arguments.Environment.{'A' * 257}", "x", None),
    ("Prepare", "Arguments.ProcessingInputs", get("Parameters.Source"), None),
    ("Prepare", "Arguments.ProcessingInputs", {}, None),
    ("Prepare", "Arguments.ProcessingInputs", [{"InputName": "x"}] * 11, None),
    ("Prepare", "PropertyFiles[0].OutputName", "reports", None),
    ("Prepare", "PropertyFiles[0].FilePath", MISSING, None),
    ("Prepare", "PropertyFiles", [{"OutputName": "report"}], "PropertyFileName"),
    (
        "Prepare",
        "PropertyFiles",
        [{"PropertyFileName": "Report", "OutputName": "report", "FilePath": "a"}] * 2,
        "PropertyFiles[1].PropertyFileName",
    ),
    # Training.
    ("Train", SPECIFICATION, MISSING, None),
    ("Train", f"{SPECIFICATION}.TrainingImage", MISSING, None),
    ("Train", f"{SPECIFICATION}.AlgorithmName", "xgboost", None),
    ("Train", f"{SPECIFICATION}.TrainingInputMode", "Stream", None),
    ("Train", f"{SPECIFICATION}.TrainingInputMode", "Stream" * 1000, None),
    ("Train", "Arguments.OutputDataConfig", MISSING, None),
    ("Train", "Arguments.ResourceConfig", MISSING, None),
    ("Train", "Arguments.ResourceConfig.InstanceType", MISSING, None),
    ("Train", "Arguments.ResourceConfig.InstanceCount", -1, None),
    ("Train", "Arguments.ResourceConfig.InstanceCount", join(1), None),
    ("Train", "Arguments.StoppingCondition", MISSING, None),
    ("Train", "Arguments.HyperParameter", {}, None),
    ("Train", "Arguments.HyperParameters.depth", 5, None),
    ("Train", "Arguments.OutputDataConfig.S3OutputPath", "bucket/models", None),
    ("Train", f"{SOURCE}.S3Uri", get("Steps.Prepare.Nothing"), None),
    ("Train", f"{SOURCE}.S3Uri", get(f"{OUTPUTS}.data.OutputName"), None),
    ("Tune", "Arguments.Tags", [{"Key": "a", "Value": get(PARAMETER)}], "Tags[0]"),
    ("Train", f"{SOURCE}.S3Uri", get("Steps.Nowhere.ModelName"), "Arguments"),
    ("Train", f"{SOURCE}.S3Uri", get("Steps.Train.TrainingJobName"), "references"),
    ("Train", f"{SOURCE}.S3Uri", get("Parameters.Nothing"), None),
    ("Train", f"{SOURCE}.S3Uri", get("Execution.Id"), None),
    ("Train", f"{SOURCE}.S3Uri", get("Pipeline.Name"), None),
    ("Train", f"{SOURCE}.S3Uri", get("ForEach.CurrentItem"), None),
    (
        "Train",
        EXPERIMENT,
        {"TrialComponentDisplayName": "x", "TrialName": "x"},
        f"{EXPERIMENT}.TrialName",
    ),
    ("Score", EXPERIMENT, {"ExperimentName": "x"}, f"{EXPERIMENT}.ExperimentName"),
    # Tuning and AutoML.
    ("Tune", TUNING, MISSING, None),
    ("Tune", f"{TUNING}.Strategy", "Guessing", None),
    ("Tune", f"{TUNING}.ResourceLimits.MaxParallelTrainingJobs", MISSING, None),
    ("Tune", "Arguments.TrainingJobDefinition", MISSING, None),
    ("Tune", "Arguments.TrainingJobDefinition.RoleArn", MISSING, None),
    ("Tune", "Arguments.TrainingJobDefinition.ResourceConfig", MISSING, None),
    ("Search", "Arguments.InputDataConfig", MISSING, None),
    ("Search", "Arguments.AutoMLJobConfig", MISSING, None),
    ("Search", "Arguments.AutoMLJobConfig.Mode", MISSING, None),
    ("Search", "Arguments.InputDataConfig[0].TargetAttributeName", MISSING, None),
    ("Search", "Arguments.ProblemType", "Guess", None),
    (
        "NewSearch",
        "Arguments.AutoMLProblemTypeConfig.TextClassificationJobConfig",
        {"ContentColumn": "text", "TargetLabelColumn": "y"},
        "Arguments.AutoMLProblemTypeConfig",
    ),
    ("Search", "Arguments.AutoMLJobConfig.Mode", "HYPERPARAMETER_TUNING", None),
    ("Search", "Arguments.GenerateCandidateDefinitionsOnly", False, None),
    ("Search", "Arguments.ModelDeployConfig", {}, None),
    # Models and endpoints.
    ("Model", "Arguments.PrimaryContainer", MISSING, None),
    ("Model", "Arguments.ExecutionRoleArn", MISSING, None),
    ("Model", "Arguments.PrimaryContainer.ModelDataURL", "s3://b/m", None),
    ("Model", f"Arguments.PrimaryContainer.{MORE_DATA}", [], None),
    ("Register", f"{INFERENCE}.Containers[0].{MORE_DATA}", [], None),
    ("Register", "Arguments.CertifyForMarketplace", False, None),
    ("Score", "Arguments.ModelName", MISSING, None),
    ("Score", "Arguments.ModelName", get("Steps.Model.Name"), None),
    ("Score", "Arguments.TransformResources.InstanceType", "m5.large", None),
    ("Score", "Arguments.BatchStrategy", "All", None),
    ("Register", "Arguments", MISSING, None),
    ("Register", "Arguments.ModelPackageName", "model", None),
    ("Register", "Arguments.ModelApprovalStatus", "Perhaps", None),
    ("Register", "Arguments.MetadataProperties", ["x"], None),
    ("Register", f"{INFERENCE}.Containers", MISSING, None),
    ("Config", "Arguments.ProductionVariants", MISSING, None),
    ("Config", "Arguments.ProductionVariants[0].VariantName", MISSING, None),
    ("Endpoint", "Arguments.EndpointConfigName", MISSING, None),
    ("Component", "Arguments.EndpointName", MISSING, None),
    # Checks.
    ("Quality", "CheckType", MISSING, None),
    ("Quality", "CheckType", "DATA_BIAS", None),
    ("Quality", "SkipCheck", "no", None),
    ("Quality", "Arguments.RoleArn", MISSING, None),
    ("Bias", "CheckType", "MODEL_QUALITY", None),
    ("Bias", "ModelPackageGroup", "models", None),
    # Lambda and Callback.
    ("Notify", "FunctionArn", MISSING, None),
    ("Notify", "FunctionArn", 5, None),
    ("Notify", "OutputParameters[0].OutputType", "Number", None),
    ("Notify", "OutputParameters[0].OutputName", MISSING, None),
    ("Notify", "OutputParameters", {"ticket": "String"}, None),
    ("Notify", "Arguments.count", {"Std:Sum": [1, 2]}, None),
    ("Ask", "SqsQueueUrl", MISSING, None),
    ("Ask", "QueueUrl", "https://sqs.us-east-1.amazonaws.com/1/q", None),
    ("Ask", "Arguments.ticket", get("Steps.Notify.OutputParameters['tick']"), None),
    ("Ask", "Arguments.ticket", get("Steps.Notify.ticket"), None),
    ("Ask", "Arguments.ticket", get("Steps.Notify"), None),
    # EMR.
    ("Emr", "Arguments.StepConfig", MISSING, None),
    ("Emr", "Arguments.StepConfig.HadoopJarStep.Jar", MISSING, None),
    ("Emr", "Arguments.StepConfig.ActionOnFailure", "RETRY", None),
    ("Emr", "Arguments.ClusterId", MISSING, None),
    ("Emr", "Arguments.ClusterConfig", {}, None),
    ("Cluster", "Arguments.ExecutionRoleArn", ROLE, "ExecutionRoleArn"),
    ("Cluster", "Arguments.ClusterConfig.Steps", [], None),
    ("Cluster", "Arguments.ClusterConfig.Instances.InstanceGroups", MISSING, None),
    ("Cluster", "Arguments.ClusterConfig.Instances.TerminationProtected", True, None),
    ("Serverless", "Arguments.JobConfig", MISSING, None),
    ("Serverless", "Arguments.ApplicationConfig", {}, None),
    ("Serverless", "Arguments.ApplicationId", MISSING, None),
    # Conditions.
    ("Decide", "Arguments.Conditions", MISSING, None),
    ("Inner", "Arguments", MISSING, None),
    ("Decide", f"{CONDITION}.LeftValue", MISSING, None),
    ("Decide", f"{CONDITION}.RightValue", [1], None),
    ("Decide", f"{CONDITION}.Type", "Greater", None),
    ("Decide", f"{CONDITION}.Type", MISSING, None),
    ("Decide", f"{CONDITION}.Value", 5, None),
    ("Decide", "Arguments.Conditions[1].Condition", MISSING, None),
    ("Decide", "Arguments.Conditions[1].Condition.Type", "Like", None),
    ("Decide", "Arguments.Conditions[1].Expression", {}, None),
    ("Decide", "Arguments.Conditions[2].Conditions", MISSING, None),
    ("Decide", "Arguments.Conditions[2].Conditions[0].Values", MISSING, None),
    ("Decide", "Arguments.Conditions[2].Conditions[1].In", "a", None),
    ("Decide", "Arguments.ThenSteps", [], None),
    ("Decide", "Arguments.IfSteps", {}, "IfSteps"),
    # Functions.
    ("Decide", f"{CONDITION}.LeftValue.Std:JsonGet.Path", MISSING, None),
    ("Decide", f"{CONDITION}.LeftValue.Std:JsonGet.Path", "", None),
    ("Decide", f"{CONDITION}.LeftValue.Std:JsonGet.PropertyFile", MISSING, None),
    (
        "Decide",
        f"{CONDITION}.LeftValue.Std:JsonGet.PropertyFile",
        get("Steps.Prepare.PropertyFiles.Reports"),
        None,
    ),
    (
        "Decide",
        f"{CONDITION}.LeftValue.Std:JsonGet.S3Uri",
        "s3://b/r.json",
        "PropertyFile",
    ),
    ("Bad", "Arguments.ErrorMessage.Std:Join.Values", MISSING, None),
    ("Bad", "Arguments.ErrorMessage.Std:Join.Values", "Run", None),
    ("Bad", "Arguments.ErrorMessage.Std:Join.Separator", ",", None),
    ("Bad", "Arguments.ErrorMessage.Std:Join.Values[0]", ["Run"], None),
    ("Bad", "Arguments.Message", "x", None),
    ("Bad", "Arguments", MISSING, None),
    # Loops.
    ("Loop", "Arguments.MaxConcurrency", 51, "MaxConcurrency"),
    ("Loop", "Arguments.IterableItems", [], "IterableItems"),
    ("Loop", "Arguments.IterableItems", get("Parameters.Items"), None),
    ("Loop", "Arguments.ForEachBody", [], "ForEachBody"),
    ("Loop", "Arguments.Parallel", 1, None),
    ("Each", "FunctionArn", MISSING, None),
    ("Best", "Arguments.n", get("Steps.Loop.Count"), None),
]


def test_sound_definition_is_accepted() -> None:
    """All rows differ from it in one member."""
    text = json.dumps(sound_definition())
    assert len(checked(text, max_steps=50).steps) == 28


def test_table_has_enough_rows() -> None:
    """Each row is a mistake of its own."""
    rows = {
        (name, path, json.dumps(value, default=str)) for name, path, value, _ in FAULTS
    }
    assert len(rows) == len(FAULTS) > 150


@pytest.mark.parametrize(
    ("name", "path", "value", "named"),
    FAULTS,
    ids=[f"{name or 'definition'}-{path}" for name, path, _, _ in FAULTS],
)
def test_fault_is_refused_with_step_and_member(
    name: str | None, path: str, value: Any, named: str | None
) -> None:
    """
    AWS's text does not name the step and the path of the member. What goes to the logs
    does.
    """
    with pytest.raises(DefinitionError) as error:
        checked(changed(name, path, value), max_steps=50)
    places = error.value.places
    assert (named or path) in places
    assert len(str(error.value)) < 5000
    if name is not None:
        assert f"'{value if path == 'Name' else name}'" in places
    assert ", member '" not in str(error.value)


# Word for word, https://github.com/aws/sagemaker-python-sdk/issues/N (those whose
# number is None are quoted by public programs).
PUBLIC_TEXTS: list[tuple[int | None, str, str, Any, str]] = [
    (
        5099,
        "Prepare",
        "Arguments.ProcessingJobName",
        "a" * 91,
        f"Model Validation failed: string '{'a' * 91}' with length=91 cannot be greater"
        " than max=63.0 defined for ProcessingJobName.",
    ),
    (
        314,
        "Prepare",
        "Arguments.AppSpecification.ContainerArguments",
        ["s3://" + "b" * 255],
        f"Model Validation failed: string 's3://{'b' * 255}' with length=260 cannot be"
        " greater than max=256.0 defined for ContainerArgument.",
    ),
    (
        4994,
        "Model",
        f"Arguments.PrimaryContainer.{MORE_DATA}",
        [],
        "Unknown Argument member 'AdditionalModelDataSources'",
    ),
    (
        3472,
        "Register",
        "Arguments.ModelPackageName",
        "model",
        "Unknown Argument member 'ModelPackageName'",
    ),
    (
        2345,
        "Prepare",
        "Arguments.NetworkConfig",
        {"VpcConfig": {"SecurityGroupIds": get("Parameters.Source"), "Subnets": ["a"]}},
        "Expecting start of Json Array.",
    ),
    (
        3908,
        "Search",
        "Arguments.AutoMLJobObjective",
        "F1",
        "Expecting start of Json Object.",
    ),
    (
        2746,
        "Decide",
        "Arguments.Conditions[0]",
        # The required Condition is missing, too.
        {"Type": "Not", "Expression": compare(1, 1)},
        "Cannot parse object, unknown property 'Expression'.",
    ),
    (
        None,
        "Prepare",
        "Arguments.ProcessingInputs",
        [
            {
                "InputName": "x",
                "S3Input": {
                    "S3Uri": "s3://a/b",
                    "S3DataType": "S3Prefix",
                    "S3InputMode": "FastFile",
                },
            }
        ],
        "Model Validation failed: Value 'FastFile' for 'ProcessingS3InputMode' failed to"
        " satisfy enum value set: [Pipe, File]",
    ),
]


@pytest.mark.parametrize(
    ("name", "path", "value", "text"),
    [row[1:] for row in PUBLIC_TEXTS],
    ids=[str(row[0]) for row in PUBLIC_TEXTS],
)
def test_text_is_that_of_aws(
    sagemaker: Any,
    server: EmulatorServer,
    name: str,
    path: str,
    value: Any,
    text: str,
) -> None:
    """Step and member are in the log of calls only, where AWS says nothing of them."""
    assert error_of(
        sagemaker.create_pipeline,
        PipelineName="Demo",
        PipelineDefinition=changed(name, path, value),
        RoleArn=ROLE,
    ) == ("ValidationException", f"Unable to parse pipeline definition. {text}")
    (call,) = server.control.calls("CreatePipeline")
    member, _, _ = path.partition("[")
    assert f"Step '{name}', member '{member}" in call["detail"]
