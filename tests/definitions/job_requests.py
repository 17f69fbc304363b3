"""
Requests of jobs: what the pages of AWS's API and developer guide describe, the forms of
the system tests of Airflow's Amazon provider, and names that are long or alike.

They have facts only: members, and values of the tests' own.
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateTrainingJob.html
https://github.com/apache/airflow/tree/main/providers/amazon/tests/system/amazon/aws
"""

from __future__ import annotations

from typing import Any, Final

ROLE: Final = "arn:aws:iam::123456789012:role/SageMakerRole"
IMAGE: Final = "123456789012.dkr.ecr.us-east-1.amazonaws.com/knn:1"
VPC: Final = {"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-1", "subnet-2"]}
STOP: Final = {"MaxRuntimeInSeconds": "{{ params.seconds }}"}
CLUSTER: Final = {
    "InstanceType": "ml.m5.large",
    "InstanceCount": 1,
    "VolumeSizeInGB": 10,
}
OUTPUT: Final = {"S3OutputPath": "s3://ml/{{ ds }}/out"}
S3: Final = {"S3DataType": "S3Prefix", "S3Uri": "s3://ml/{{ ds }}/in"}
TRAIN: Final = {
    "ChannelName": "train",
    "ContentType": "text/csv",
    "CompressionType": "None",
    "DataSource": {"S3DataSource": S3},
}


def training(**members: Any) -> dict[str, Any]:
    """Return the request of a training job."""
    return {
        "TrainingJobName": "train-{{ ds }}",
        "AlgorithmSpecification": {"TrainingImage": IMAGE, "TrainingInputMode": "File"},
        "HyperParameters": {"k": "3", "predictor_type": "classifier"},
        "InputDataConfig": [TRAIN],
        "OutputDataConfig": OUTPUT,
        "ResourceConfig": CLUSTER,
        "StoppingCondition": STOP,
        "RoleArn": ROLE,
        **members,
    }


def processing(**members: Any) -> dict[str, Any]:
    """Return the request of a processing job."""
    place = {"S3Uri": "s3://ml/{{ ds }}/out", "LocalPath": "/opt/ml/processing/out"}
    output = {"OutputName": "out", "S3Output": {**place, "S3UploadMode": "EndOfJob"}}
    return {
        "ProcessingJobName": "process-{{ ds }}",
        "AppSpecification": {"ImageUri": IMAGE},
        "ProcessingOutputConfig": {"Outputs": [output]},
        "ProcessingResources": {"ClusterConfig": CLUSTER},
        "StoppingCondition": STOP,
        "RoleArn": ROLE,
        **members,
    }


def dataset(definition: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the input of a processing job that is a dataset."""
    path = {"LocalPath": "/opt/ml/processing/in", "InputMode": "File"}
    return [{"InputName": "data", "DatasetDefinition": {**path, **definition}}]


def transform(**members: Any) -> dict[str, Any]:
    """Return the request of a transform job."""
    source = {"DataSource": {"S3DataSource": S3}, "ContentType": "text/csv"}
    return {
        "TransformJobName": "transform-{{ ds }}",
        "ModelName": "knn",
        "TransformInput": {**source, "SplitType": "Line"},
        "TransformOutput": OUTPUT,
        "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
        **members,
    }


def definition(**members: Any) -> dict[str, Any]:
    """Return how a tuning job trains."""
    return {
        "StaticHyperParameters": {"predictor_type": "classifier"},
        "AlgorithmSpecification": {"TrainingImage": IMAGE, "TrainingInputMode": "File"},
        "InputDataConfig": [TRAIN, {**TRAIN, "ChannelName": "test"}],
        "OutputDataConfig": OUTPUT,
        "ResourceConfig": CLUSTER,
        "StoppingCondition": STOP,
        "RoleArn": ROLE,
        **members,
    }


OBJECTIVE: Final = {"Type": "Maximize", "MetricName": "test:accuracy"}
RANGES: Final = {
    "CategoricalParameterRanges": [],
    "IntegerParameterRanges": [{"Name": "k", "MinValue": "1", "MaxValue": "100"}],
}


def tuning(job: dict[str, Any] | None = None, **members: Any) -> dict[str, Any]:
    """Return the request of a tuning job."""
    limits = {"MaxNumberOfTrainingJobs": "4", "MaxParallelTrainingJobs": 2}
    config = {"Strategy": "Bayesian", "ResourceLimits": limits}
    how = {"HyperParameterTuningJobObjective": OBJECTIVE, "ParameterRanges": RANGES}
    return {
        "HyperParameterTuningJobName": "tune-{{ ds }}",
        "HyperParameterTuningJobConfig": {**config, **how, **(job or {})},
        "TrainingJobDefinition": definition(),
        **members,
    }


MODEL: Final = {
    "ModelName": "knn",
    "ExecutionRoleArn": ROLE,
    "PrimaryContainer": {
        "Image": IMAGE,
        "Mode": "SingleModel",
        "ModelDataUrl": "s3://ml/{{ ds }}/model.tar.gz",
    },
}
SPOT: Final = {
    "EnableManagedSpotTraining": True,
    "StoppingCondition": {"MaxRuntimeInSeconds": 60, "MaxWaitTimeInSeconds": "120"},
    "CheckpointConfig": {"S3Uri": "s3://ml/{{ ds }}/checkpoints"},
}
FILE_SYSTEM: Final = {
    "FileSystemId": "fs-0123456789abcdef0",
    "FileSystemAccessMode": "ro",
    "FileSystemType": "FSxLustre",
    "DirectoryPath": "/fsx/{{ ds }}",
}
GROUPS: Final = [
    {"InstanceType": "ml.c5.xlarge", "InstanceCount": 2, "InstanceGroupName": "data"},
    {"InstanceType": "ml.g5.xlarge", "InstanceCount": 1, "InstanceGroupName": "dnn"},
]
ATHENA: Final = {
    "Catalog": "AwsDataCatalog",
    "Database": "sales",
    "QueryString": "SELECT * FROM orders WHERE day = '{{ ds }}'",
    "OutputS3Uri": "s3://ml/athena",
    "OutputFormat": "PARQUET",
}
REDSHIFT: Final = {
    "ClusterId": "dw",
    "Database": "sales",
    "DbUser": "ml",
    "QueryString": "SELECT 1",
    "ClusterRoleArn": ROLE,
    "OutputS3Uri": "s3://ml/{{ ds }}/redshift",
    "OutputFormat": "CSV",
}
LONG: Final = "early_stopping_patience_of_the_second_phase_of_the_training"
# The type of the job, and its request, by what it is an example of.
REQUESTS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "amazon training": (
        "Training",
        training(ExperimentConfig={"ExperimentName": "knn-{{ ds }}"}),
    ),
    "managed spot": ("Training", training(**SPOT)),
    "network": (
        "Training",
        training(
            VpcConfig=VPC,
            EnableNetworkIsolation=True,
            EnableInterContainerTrafficEncryption="{{ params.encrypted }}",
        ),
    ),
    "file system": (
        "Training",
        training(
            VpcConfig=VPC,
            InputDataConfig=[
                {
                    "ChannelName": "train",
                    "DataSource": {"FileSystemDataSource": FILE_SYSTEM},
                }
            ],
        ),
    ),
    "instance groups": (
        "Training",
        training(ResourceConfig={"InstanceGroups": GROUPS, "VolumeSizeInGB": 50}),
    ),
    "warm pool": (
        "Training",
        training(
            ResourceConfig={**CLUSTER, "KeepAlivePeriodInSeconds": "600"},
            RetryStrategy={"MaximumRetryAttempts": 2},
        ),
    ),
    "script mode": (
        "Training",
        training(
            AlgorithmSpecification={
                "TrainingImage": IMAGE,
                "TrainingInputMode": "FastFile",
                "ContainerEntrypoint": ["python", "train.py"],
                "ContainerArguments": ["--day", "{{ ds }}"],
                "MetricDefinitions": [{"Name": "loss", "Regex": "loss=(.*)"}],
            },
            Environment={"DAY": "{{ ds }}"},
            Tags=[{"Key": "day", "Value": "{{ ds }}"}],
        ),
    ),
    "long hyperparameters": (
        "Training",
        training(
            HyperParameters={
                LONG: "{{ ds }}",
                LONG.replace("second", "first"): "{{ ds }}",
                # Two names of one text, but for what a parameter cannot have.
                "optimizer.rate": "{{ ds }}",
                "optimizer-rate": "{{ ds }}",
                "optimizer/rate": "{{ ds }}",
                "\u00f6": "{{ ds }}",
            }
        ),
    ),
    "amazon processing": (
        "Processing",
        processing(
            ProcessingInputs=[
                {
                    "InputName": "input",
                    "AppManaged": False,
                    "S3Input": {
                        **S3,
                        "LocalPath": "/opt/ml/processing/in",
                        "S3InputMode": "File",
                        "S3CompressionType": "None",
                    },
                }
            ]
        ),
    ),
    "entry point": (
        "Processing",
        processing(
            AppSpecification={
                "ImageUri": IMAGE,
                "ContainerEntrypoint": ["python3", "/opt/ml/run.py"],
                "ContainerArguments": ["--day", "{{ ds }}", "--all"],
            },
            Environment={"DAY": "{{ ds }}"},
        ),
    ),
    "processing network": (
        "Processing",
        processing(
            NetworkConfig={
                "EnableNetworkIsolation": False,
                "EnableInterContainerTrafficEncryption": True,
                "VpcConfig": VPC,
            }
        ),
    ),
    "athena": (
        "Processing",
        processing(ProcessingInputs=dataset({"AthenaDatasetDefinition": ATHENA})),
    ),
    "redshift": (
        "Processing",
        processing(ProcessingInputs=dataset({"RedshiftDatasetDefinition": REDSHIFT})),
    ),
    "amazon transform": ("Transform", transform()),
    "amazon model": ("Transform", {"Model": MODEL, "Transform": transform()}),
    "containers": (
        "Transform",
        {
            "Model": {
                "ExecutionRoleArn": ROLE,
                "Containers": [
                    {"Image": IMAGE, "Environment": {LONG: "{{ ds }}"}},
                    {"Image": IMAGE, "ModelDataUrl": "s3://ml/{{ ds }}/b.tar.gz"},
                ],
                "Tags": [{"Key": "day", "Value": "model of {{ ds }}"}],
            },
            "Transform": transform(Tags=[{"Key": "day", "Value": "{{ ds }}"}]),
        },
    ),
    "record filter": (
        "Transform",
        transform(
            BatchStrategy="SingleRecord",
            MaxConcurrentTransforms=4,
            MaxPayloadInMB="6",
            DataProcessing={"InputFilter": "$[1:]", "JoinSource": "Input"},
            Environment={"DAY": "{{ ds }}"},
        ),
    ),
    "model error tolerance": (
        "Transform",
        transform(
            ModelClientConfig={
                "InvocationsTimeoutInSeconds": 600,
                "InvocationsMaxRetries": "{{ params.retries }}",
            }
        ),
    ),
    "amazon tuning": ("Tuning", tuning()),
    "warm start": (
        "Tuning",
        tuning(
            WarmStartConfig={
                "ParentHyperParameterTuningJobs": [
                    {"HyperParameterTuningJobName": "tune-1"}
                ],
                "WarmStartType": "TransferLearning",
            }
        ),
    ),
    "early stopping": (
        "Tuning",
        tuning({"TrainingJobEarlyStoppingType": "Auto", "RandomSeed": "7"}),
    ),
    "two algorithms": (
        "Tuning",
        {
            "HyperParameterTuningJobName": "tune",
            "HyperParameterTuningJobConfig": {
                "Strategy": "Random",
                "ResourceLimits": {"MaxParallelTrainingJobs": 2},
            },
            "TrainingJobDefinitions": [
                definition(
                    DefinitionName=name,
                    TuningObjective=OBJECTIVE,
                    HyperParameterRanges=RANGES,
                )
                for name in ("knn", "xgb")
            ],
        },
    ),
}
