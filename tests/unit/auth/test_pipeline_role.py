"""
The printed rights of a pipeline's role are enough for each type of step, and each of
them is needed.

The emulator has a table of its own of what AWS asks for.
"""

from __future__ import annotations

import json
import re
from itertools import product
from typing import Any

import pytest

from polysync_airflow.auth import pipeline_role
from polysync_airflow.exceptions import ParametersError
from sagemaker_emulator import EmulatorServer
from sagemaker_emulator.builders import definition, step
from sagemaker_emulator.sagemaker.store import ACCOUNT
from tests.unit.auth.sign_in.test_least_privilege import REFERENCE
from tests.unit.events.conftest import client

NAME = "RightsOf"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/Pipeline"
JOB_ROLE = f"arn:aws:iam::{ACCOUNT}:role/Job"
IMAGE = f"{ACCOUNT}.dkr.ecr.us-east-1.amazonaws.com/image:1"
NETWORK = {"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-1"]}
INSTANCES = {
    "InstanceCount": 1,
    "InstanceType": "ml.m5.large",
    "VolumeSizeInGB": 30,
    "VolumeKmsKeyId": "11111111-2222-3333-4444-555555555555",
}
OUTPUT = {
    "S3OutputPath": "s3://out/models",
    "KmsKeyId": f"arn:aws:kms:us-east-1:{ACCOUNT}:key/99999999-2222-3333-4444-5",
}
SOURCE = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://in/data"}}
TRAINING = {
    "InputDataConfig": [{"ChannelName": "train", "DataSource": SOURCE}],
    "OutputDataConfig": OUTPUT,
    "ResourceConfig": INSTANCES,
    "RoleArn": ROLE,
    "VpcConfig": NETWORK,
}
EVALUATION = {
    "OutputName": "evaluation",
    "S3Output": {
        "LocalPath": "/opt/ml/processing/evaluation",
        "S3UploadMode": "EndOfJob",
        "S3Uri": "s3://out/evaluation",
    },
}
OF_TUNING = {
    **TRAINING,
    "AlgorithmSpecification": {"TrainingImage": IMAGE, "TrainingInputMode": "File"},
    "StoppingCondition": {"MaxRuntimeInSeconds": 3600},
}
PROCESSING = {
    "NetworkConfig": {"VpcConfig": NETWORK},
    "ProcessingInputs": [
        {
            "InputName": "raw",
            "S3Input": {
                "LocalPath": "/opt/ml/processing/raw",
                "S3DataType": "S3Prefix",
                "S3InputMode": "File",
                "S3Uri": {"Get": "Parameters.Input"},
            },
        }
    ],
    "ProcessingOutputConfig": {
        "KmsKeyId": OUTPUT["KmsKeyId"],
        "Outputs": [EVALUATION],
    },
    "ProcessingResources": {"ClusterConfig": INSTANCES},
    "RoleArn": ROLE,
}
INPUT = {"Name": "Input", "Type": "String", "DefaultValue": "s3://in/raw"}
MODEL = {
    "ExecutionRoleArn": ROLE,
    "PrimaryContainer": {"Image": IMAGE, "ModelDataUrl": "s3://in/model.tar.gz"},
    "VpcConfig": NETWORK,
}
CLUSTER = {
    "Instances": {"InstanceGroups": []},
    "JobFlowRole": "EC2Role",
    "ReleaseLabel": "emr-6.6.0",
    "ServiceRole": "EmrRole",
}
JSON_GET = {
    "Std:JsonGet": {
        "PropertyFile": {"Get": "Steps.A.PropertyFiles.Evaluation"},
        "Path": "mse",
    }
}
PROPERTY_FILES = [
    {
        "PropertyFileName": "Evaluation",
        "OutputName": "evaluation",
        "FilePath": "evaluation.json",
    }
]


def without(member: str, entry: dict[str, Any]) -> dict[str, Any]:
    """Return a step without one of its arguments."""
    del entry["Arguments"][member]
    return entry


CASES: dict[str, list[dict[str, Any]]] = {
    "Training": [step("A", "Training", Arguments=TRAINING)],
    "Processing": [step("A", Arguments=PROCESSING)],
    "Transform": [
        step("M", "Model", Arguments=MODEL),
        step(
            "A",
            "Transform",
            Arguments={"ModelName": {"Get": "Steps.M.ModelName"}},
        ),
    ],
    "Tuning": [step("A", "Tuning", Arguments={"TrainingJobDefinition": OF_TUNING})],
    "AutoML": [step("A", "AutoML", Arguments={"RoleArn": ROLE})],
    "Model": [step("A", "Model", Arguments=MODEL)],
    "RegisterModel": [
        step(
            "A",
            "RegisterModel",
            Arguments={
                "InferenceSpecification": {
                    "Containers": [
                        {"Image": IMAGE, "ModelDataUrl": "s3://in/model.tar.gz"}
                    ],
                    "SupportedContentTypes": ["text/csv"],
                    "SupportedResponseMIMETypes": ["text/csv"],
                },
                "ModelPackageGroupName": "Churn",
            },
        )
    ],
    "Lambda": [step("A", "Lambda")],
    "Callback": [step("A", "Callback")],
    "EMR": [step("A", "EMR")],
    "EMR, new cluster": [
        without("ClusterId", step("A", "EMR", Arguments={"ClusterConfig": CLUSTER}))
    ],
    "EMRServerless": [step("A", "EMRServerless")],
    "EMRServerless, new application": [
        without(
            "ApplicationId",
            step(
                "A",
                "EMRServerless",
                Arguments={"ApplicationConfig": {"type": "SPARK"}},
            ),
        )
    ],
    "QualityCheck": [
        step(
            "A",
            "QualityCheck",
            Arguments=PROCESSING,
            ModelPackageGroupName="Churn",
            SuppliedBaselineConstraints="s3://in/constraints.json",
        )
    ],
    "ClarifyCheck": [
        step(
            "A",
            "ClarifyCheck",
            Arguments=PROCESSING,
            CheckType="MODEL_BIAS",
            ModelName="churn",
            ModelPackageGroupName="Churn",
            SuppliedBaselineConstraints="s3://in/analysis.json",
        )
    ],
    "Endpoint": [step("A", "Endpoint")],
    "EndpointConfig": [
        step("A", "EndpointConfig", Arguments={"ExecutionRoleArn": ROLE})
    ],
    "InferenceComponent": [step("A", "InferenceComponent")],
    "Condition": [
        step("A", Arguments=PROCESSING, PropertyFiles=PROPERTY_FILES),
        {
            "Name": "B",
            "Type": "Condition",
            "Arguments": {
                "Conditions": [
                    {"Type": "Equals", "LeftValue": JSON_GET, "RightValue": 1}
                ],
                "IfSteps": [],
                "ElseSteps": [step("Stop", "Fail")],
            },
        },
    ],
    "ForEach": [
        {
            "Name": "Each",
            "Type": "ForEach",
            "Arguments": {
                "IterableItems": ["a"],
                "MaxConcurrency": 1,
                "ForEachBody": [step("A", "Training", Arguments=TRAINING)],
            },
        }
    ],
}


def text_of(case: str) -> str:
    """Return the definition of a case."""
    return definition(*CASES[case], parameters=(INPUT,))


def needs_of(
    *steps: dict[str, Any], role_arn: str | None = ROLE, **members: Any
) -> pipeline_role.RoleNeeds:
    """Return what the role of a pipeline needs in the emulated account."""
    return pipeline_role.role_needs(
        {"Steps": [*steps], "Parameters": [INPUT], **members},
        account=ACCOUNT,
        region="us-east-1",
        pipeline=NAME,
        role_arn=role_arn,
    )


def statements_of(needs: pipeline_role.RoleNeeds) -> list[dict[str, Any]]:
    """Return the statements of the policy of a role."""
    statements: list[dict[str, Any]]
    statements = needs.role["Policies"][0]["PolicyDocument"]["Statement"]
    return statements


def resources_of(needs: pipeline_role.RoleNeeds) -> dict[str, list[str]]:
    """Return the resources of the statements of a role."""
    return {entry["Sid"]: entry["Resource"] for entry in statements_of(needs)}


class RoleInUse:
    """
    A pipeline whose role has exactly what is printed.

    :param case: the key of its steps in ``CASES``.
    """

    def __init__(self, emulator: EmulatorServer, case: str) -> None:
        self.emulator = emulator
        self.iam = client(emulator, "iam")
        self.client = client(emulator, "sagemaker")
        self.needs = needs_of(*CASES[case])
        trust = json.dumps(self.needs.role["AssumeRolePolicyDocument"])
        self.iam.create_role(RoleName="Pipeline", AssumeRolePolicyDocument=trust)
        self.client.create_pipeline(
            PipelineName=NAME, PipelineDefinition=text_of(case), RoleArn=ROLE
        )
        files = {"A": {"property_files": {"Evaluation": {"mse": 1}}}}
        emulator.control.put_scenario({"steps": files}, NAME)
        emulator.control.set_sign_in(enforce_iam=True)

    def allow(self, without: str = "") -> None:
        """Give the role its rights, without one."""
        allowed = []
        for statement in statements_of(self.needs):
            actions = [each for each in statement["Action"] if each != without]
            if actions:
                allowed.append({**statement, "Action": actions})
        document = {"Version": "2012-10-17", "Statement": allowed}
        name = {"RoleName": "Pipeline", "PolicyName": "pipeline"}
        if allowed:
            self.iam.put_role_policy(**name, PolicyDocument=json.dumps(document))
        else:
            self.iam.delete_role_policy(**name)

    def run(self, stop_after: float | None = None) -> tuple[str, str]:
        """
        Run the pipeline, and return how it ends, with the reasons of its steps.

        :param stop_after: after how many seconds it is stopped.
        """
        started = self.client.start_pipeline_execution(PipelineName=NAME)
        arn = {"PipelineExecutionArn": started["PipelineExecutionArn"]}
        if stop_after:
            self.emulator.control.advance(stop_after)
            self.client.stop_pipeline_execution(**arn)
        self.emulator.control.advance(20_000)
        listed = self.client.list_pipeline_execution_steps(**arn)
        steps = listed["PipelineExecutionSteps"]
        for entry in steps:
            token = entry["Metadata"].get("Callback", {}).get("CallbackToken")
            if token and entry["StepStatus"] == "Executing":
                self.client.send_pipeline_execution_step_success(CallbackToken=token)
        reasons = [entry.get("FailureReason", "") for entry in steps]
        execution = self.client.describe_pipeline_execution(**arn)
        return execution["PipelineExecutionStatus"], "".join(reasons)


STOPS = re.compile(r".*:(Stop(?!Application)|Cancel|Terminate).*")


@pytest.mark.parametrize("case", CASES)
def test_each_right_is_needed_and_no_other(emulator: EmulatorServer, case: str) -> None:
    """Without any one of them a step fails, or cannot be stopped, and says so."""
    role = RoleInUse(emulator, case)
    actions = {
        action for entry in statements_of(role.needs) for action in entry["Action"]
    }
    stops = {action for action in actions if STOPS.fullmatch(action)}

    role.allow()
    assert role.run() == ("Succeeded", "")
    if stops:
        assert role.run(stop_after=20) == ("Stopped", "")
    for action in sorted(actions):
        role.allow(without=action)
        stop_after = 20 if action in stops else None
        status, reasons = role.run(stop_after)
        assert (status, f"perform: {action} on" in reasons) == ("Failed", True), action


# The page about roles has no resources for them: metrics have none, unless they are in
# a dataset, and of the others it says "Don't scope in the policy".
WITHOUT_RESOURCES = re.compile(r"cloudwatch:PutMetricData|ec2:\w+")


@pytest.mark.parametrize("case", CASES)
def test_resources_are_of_the_types_of_the_reference(case: str) -> None:
    """A resource is ``*`` only for an action that has no resources."""
    for entry in statements_of(needs_of(*CASES[case])):
        for action, resource in product(entry["Action"], entry["Resource"]):
            service, _, name = action.partition(":")
            kinds = REFERENCE[service]["Actions"][name.lower()].get("Resources", ())
            if not kinds or WITHOUT_RESOURCES.fullmatch(action):
                assert resource == "*"
                continue
            formats = [
                re.sub(r"\$\{\w+\}", "[^:]*", arn)
                for kind, entity in REFERENCE[service]["Resources"].items()
                if kind.lower() in {each.lower() for each in kinds}
                for arn in entity["ARNFormats"]
            ]
            assert any(re.fullmatch(each, resource) for each in formats), action


def test_job_with_a_role_of_its_own_adds_no_more_than_its_calls() -> None:
    """SageMaker may then assume the pipeline's role for executions only."""
    own = step("A", "Training", Arguments={**TRAINING, "RoleArn": JOB_ROLE})

    needs = needs_of(own)

    assert [*resources_of(needs)] == ["TrainingJobs", "PassRoles"]
    assert resources_of(needs)["PassRoles"] == [JOB_ROLE]
    (trust,) = needs.role["AssumeRolePolicyDocument"]["Statement"]
    pipelines = f"arn:aws:sagemaker:us-east-1:{ACCOUNT}:pipeline"
    executions = [f"{pipelines}/RightsOf/*", f"{pipelines}/rightsof/*"]
    assert trust["Condition"] == {"ArnLike": {"aws:SourceArn": executions}}
    # It is not known that the pipeline has another one.
    assert "Input" in resources_of(needs_of(own, role_arn=None))


def test_transform_has_the_role_of_its_model() -> None:
    """The data are read and written by the role of the model."""
    model = step("M", "Model", Arguments={**MODEL, "ExecutionRoleArn": JOB_ROLE})
    transform = step(
        "A", "Transform", Arguments={"ModelName": {"Get": "Steps.M.ModelName"}}
    )

    assert [*resources_of(needs_of(model, transform))] == [
        "TransformJobs",
        "Models",
        "PassRoles",
    ]


@pytest.mark.parametrize(
    ("uri", "resource"),
    [
        ("s3://in/data", "in/data*"),
        ("s3://in/{{ ds }}/data", "in/*/data*"),
        ("s3://in/${aws:username}", "in/?{aws:username}*"),
        ({"Get": "Parameters.Input"}, "in/raw*"),
        (
            {
                "Std:Join": {
                    "On": "/",
                    "Values": [
                        "s3:/",
                        "in",
                        {"Get": "Execution.PipelineName"},
                        {"Get": "Execution.PipelineExecutionId"},
                        "train",
                    ],
                }
            },
            "in/RightsOf/*/train*",
        ),
        (
            {
                "Get": "Steps.P.ProcessingOutputConfig.Outputs['evaluation'].S3Output.S3Uri"
            },
            "out/evaluation*",
        ),
        ({"Get": "Steps.T.ModelArtifacts.S3ModelArtifacts"}, "out/models/*"),
        ('s3://in/"quoted', "in/*"),
    ],
)
def test_resource_is_what_the_definition_says(uri: Any, resource: str) -> None:
    """A reference counts as what is certain of it; no variable of IAM is put in."""
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": uri}}
    inputs = [{"ChannelName": "train", "DataSource": source}]
    needs = needs_of(
        step("P", Arguments={**PROCESSING, "RoleArn": JOB_ROLE}),
        step("T", "Training", Arguments={**TRAINING, "RoleArn": JOB_ROLE}),
        step("A", "Training", Arguments={**TRAINING, "InputDataConfig": inputs}),
    )

    assert resources_of(needs)["Input"] == [f"arn:aws:s3:::{resource}"]
    assert needs.unknown == []


@pytest.mark.parametrize(
    ("member", "arguments"),
    [
        (
            "S3Uri",
            {
                "InputDataConfig": [
                    {
                        "DataSource": {
                            "S3DataSource": {"S3Uri": {"Get": "Parameters.None"}}
                        }
                    }
                ]
            },
        ),
        ("RoleArn", {"RoleArn": {"Get": "Parameters.None"}}),
        ("RoleArn", {"RoleArn": f"arn:aws:iam::{ACCOUNT}:role/*"}),
        (
            "TrainingImage",
            {"AlgorithmSpecification": {"TrainingImage": {"Get": "Steps.Loop.Image"}}},
        ),
        ("KmsKeyId", {"OutputDataConfig": {**OUTPUT, "KmsKeyId": "alias/models"}}),
    ],
)
def test_what_cannot_be_told_is_named(member: str, arguments: dict[str, Any]) -> None:
    """Such a resource would allow all of its kind."""
    entry = step("A", "Training", Arguments={**TRAINING, **arguments})

    assert needs_of(entry, role_arn=None).unknown[0] == f"Step A: {member}"


@pytest.mark.parametrize(
    ("name", "resource"),
    [
        ("nightly", "nightly*"),
        ("n" * 39, f"{'n' * 38}*"),
        ({"Get": "Parameters.None"}, "*"),
    ],
)
def test_name_of_a_job_is_a_prefix(name: Any, resource: str) -> None:
    """AWS uses 38 characters of it."""
    needs = needs_of(step("A", "Training", Arguments={"TrainingJobName": name}))

    jobs = f"arn:aws:sagemaker:us-east-1:{ACCOUNT}:training-job/{resource}"
    assert resources_of(needs)["TrainingJobs"] == [jobs]


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        (without("RoleArn", step("A", "Training")), "Step A names no role for its job"),
        (
            step("A", "Lambda", FunctionArn="work"),
            r"Step A: FunctionArn = 'work' is not",
        ),
        (
            step("A", "Callback", SqsQueueUrl="http://x"),
            "Step A: SqsQueueUrl = 'http://x'",
        ),
    ],
)
def test_definition_that_is_not_valid(entry: dict[str, Any], problem: str) -> None:
    """The error names the step, the member and the value."""
    with pytest.raises(ParametersError, match=problem):
        needs_of(entry, role_arn=None)


def test_steps_that_refer_to_each_other_end() -> None:
    """AWS would refuse the definition, but anybody may have written it."""
    arguments = {
        "OutputDataConfig": {
            "S3OutputPath": {"Get": "Steps.A.OutputDataConfig.S3OutputPath"}
        }
    }
    needs = needs_of(step("A", "Training", Arguments=arguments), role_arn=None)

    assert needs.unknown == ["Step A: S3OutputPath"]


def test_definition_of_anybody_is_read_in_bounds() -> None:
    """Neither what grows with each reference, nor other types, nor long texts."""
    doubled = [
        {
            "Name": f"S{number}",
            "Type": ["Training"],
            "Arguments": {
                "X": {
                    "Std:Join": {
                        "On": "",
                        "Values": [{"Get": f"Steps.S{number + 1}.X"}] * 9,
                    }
                }
            },
        }
        for number in range(60)
    ]
    texts: Any = [
        "{{" * 500_000,
        "s3://" + "*" * 1_000_000,
        {"Std:Join": 1},
        {"Get": 1},
    ]
    others: Any = [
        {"Name": [], "Type": "Transform", "Arguments": texts},
        {"Type": "Model"},
    ]
    reader = step(
        "A", "Training", Environment=texts, Arguments={"X": {"Get": "Steps.S0.X"}}
    )

    assert resources_of(needs_of(*doubled, *others, reader))["TrainingJobs"]


def test_chain_of_references_has_an_end() -> None:
    """A step has at most 50 others before it."""
    chain: Any = [
        {
            "Name": f"S{number}",
            "Type": "Training",
            "Arguments": {"X": {"Get": f"Steps.S{number + 1}.X"}},
        }
        for number in range(5000)
    ]
    with pytest.raises(ParametersError, match="a chain of references that is too long"):
        needs_of(*chain)


def test_type_of_step_that_is_not_known_is_named() -> None:
    """Its rights are missing."""
    assert needs_of(step("A", "Athena"), step("F", "Fail")).notes == [
        "Step A: what steps of type 'Athena' need is not known."
    ]
