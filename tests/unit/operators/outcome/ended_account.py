"""
A loopback account in which an execution with all kinds of steps has ended, and a task
that starts it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from polysync_airflow.execution.results import JOB_KINDS, LIST_TRAINING_JOBS
from polysync_airflow.operators import PolysyncStartPipelineOperator
from tests.fakes.fake_sagemaker import Body
from tests.tasks import Run, run_task
from tests.world import LIST_STEPS

ACCOUNT = "arn:aws:sagemaker:us-east-1:123456789012"
ARN = f"{ACCOUNT}:pipeline/churn/execution/abcdefghijkl"
PACKAGE = f"{ACCOUNT}:model-package/churn/7"
T0 = 1767225600
PROCESSING = {
    "ProcessingResources": {
        "ClusterConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 2}
    },
    "ProcessingOutputConfig": {
        "Outputs": [
            {"OutputName": "report", "S3Output": {"S3Uri": "s3://ml-bucket/eval/"}},
            {
                "OutputName": "features",
                "FeatureStoreOutput": {"FeatureGroupName": "churn"},
            },
        ]
    },
    "ProcessingStartTime": T0,
    "ProcessingEndTime": T0 + 90.5,
}
PROCESSED = {
    "output_uris": {"report": "s3://ml-bucket/eval/"},
    "instance_type": "ml.m5.large",
    "instance_count": 2,
    "seconds": 90.5,
}
TRAINING = {
    "FinalMetricDataList": [
        {"MetricName": "validation:auc", "Value": 0.91, "Timestamp": T0},
        {"MetricName": "loss\x1b[0m", "Value": 0.2},
        {"MetricName": "broken", "Value": "NaN"},
        {"MetricName": "without a value"},
    ],
    "ModelArtifacts": {"S3ModelArtifacts": "s3://ml-bucket/model.tar.gz"},
    "ResourceConfig": {"InstanceType": "ml.p3.2xlarge", "InstanceCount": 2},
    "TrainingEndTime": T0 + 1000,
    "BillableTimeInSeconds": 300,
    "TrainingTimeInSeconds": 1000,
    "EnableManagedSpotTraining": True,
}
TRAINED = {
    "metrics": {"validation:auc": 0.91, "loss\N{REPLACEMENT CHARACTER}[0m": 0.2},
    "model_artifact": "s3://ml-bucket/model.tar.gz",
    "billable_seconds": 300,
    "instance_type": "ml.p3.2xlarge",
    "instance_count": 2,
    "spot_savings_percent": 70.0,
}
# By the member of the step's metadata: the job's ARN, what AWS says of it, and what
# outputs has besides the ARN.
KINDS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "TrainingJob": (f"{ACCOUNT}:training-job/train", TRAINING, TRAINED),
    "TuningJob": (
        f"{ACCOUNT}:hyper-parameter-tuning-job/tune",
        {
            "BestTrainingJob": {"TrainingJobName": "tune-003"},
            "TrainingJobStatusCounters": {"Completed": 3, "NonRetryableError": 1},
            "TrainingJobDefinition": {
                "ResourceConfig": {"InstanceType": "ml.g5.xlarge", "InstanceCount": 2}
            },
        },
        {
            "metrics": TRAINED["metrics"],
            "model_artifact": TRAINED["model_artifact"],
            "billable_seconds": 2 * (100 + 200 + 300),
            "instance_type": "ml.g5.xlarge",
            "best_training_job": "tune-003",
            "training_jobs": 4,
        },
    ),
    "ProcessingJob": (f"{ACCOUNT}:processing-job/prepare", PROCESSING, PROCESSED),
    "QualityCheck": (f"{ACCOUNT}:processing-job/quality", PROCESSING, PROCESSED),
    "ClarifyCheck": (f"{ACCOUNT}:processing-job/clarify", PROCESSING, PROCESSED),
    "TransformJob": (
        f"{ACCOUNT}:transform-job/score",
        {
            "TransformOutput": {"S3OutputPath": "s3://ml-bucket/scores"},
            "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
            "TransformStartTime": T0,
            "TransformEndTime": T0 + 60,
        },
        {
            "output_uri": "s3://ml-bucket/scores",
            "instance_type": "ml.m5.large",
            "instance_count": 1,
            "seconds": 60.0,
        },
    ),
    "AutoMLJob": (
        f"{ACCOUNT}:automl-job/auto",
        {
            "BestCandidate": {
                "CandidateName": "auto-1",
                "FinalAutoMLJobObjectiveMetric": {"MetricName": "F1", "Value": 0.8},
            }
        },
        {"best_candidate": "auto-1", "objective": {"F1": 0.8}},
    ),
    "RegisterModel": (
        PACKAGE,
        {
            "ModelPackageGroupName": "churn",
            "ModelPackageVersion": 7,
            "ModelApprovalStatus": "PendingManualApproval",
        },
        {
            "model_package_group": "churn",
            "model_package_version": 7,
            "approval_status": "PendingManualApproval",
        },
    ),
    "Endpoint": (
        f"{ACCOUNT}:endpoint/churn",
        {"EndpointStatus": "InService"},
        {"endpoint_status": "InService"},
    ),
}
# The training jobs of the tuning job, on two pages. The last one got no instance.
SUMMARIES: list[list[dict[str, Any]]] = [
    [
        {"TrainingStartTime": T0, "TrainingEndTime": T0 + 100},
        {"TrainingStartTime": T0 + 100, "TrainingEndTime": T0 + 300},
    ],
    [{"TrainingStartTime": T0, "TrainingEndTime": T0 + 300}, {}],
]
# Kinds of which nothing is described.
OTHERS: dict[str, dict[str, Any]] = {
    "Model": {"Arn": f"{ACCOUNT}:model/m"},
    "Condition": {"Outcome": "True"},
    "Lambda": {
        "Arn": "arn:aws:lambda:us-east-1:123456789012:function:f",
        "OutputParameters": [],
    },
    "EMR": {"ClusterId": "j-1"},
    "QuantumJob": {"Arn": f"{ACCOUNT}:quantum-job/q"},
}


class Account:
    """
    An account in which one execution has ended. A test changes what AWS says of it.
    """

    def __init__(self) -> None:
        self.status = "Succeeded"
        self.steps: list[dict[str, Any]] = []
        self.definition: dict[str, Any] = {"Steps": []}
        self.objects: dict[str, bytes | Body] = {}
        self.jobs: dict[str, dict[str, Any]] = {}
        self.errors: dict[str, Body] = {}
        # The seconds between two bytes of the responses to an operation.
        self.seconds: dict[str, float] = {}
        # The next pages of the list of the steps.
        self.tokens: Iterator[str] | None = None
        # The request of each Describe and each GetObject.
        self.asked: list[str] = []
        self.operations: list[str] = []

    def add(self, kind: str, name: str | None = None, **members: Any) -> None:
        """Add a step of a kind of the table, whose name is that of the kind."""
        arn, description, _ = KINDS[kind]
        member = "CheckJobArn" if kind.endswith("Check") else "Arn"
        self.jobs[arn] = description
        step = {
            "StepName": name or kind,
            "StepStatus": "Succeeded",
            "CacheHitResult": {"SourcePipelineExecutionArn": ""},
            "Metadata": {kind: {member: arn}},
        }
        self.steps.append({**step, **members})

    def respond(self, operation: str, request: dict[str, Any]) -> Body:
        """Respond to a request."""
        if operation == "GetObject":
            key = f"s3://{request['Bucket']}/{request['Key']}"
            self.asked.append(key)
            content = self.objects.get(key)
            if isinstance(content, Body):
                return content
            return (
                error("NoSuchKey", 404, xml=True) if content is None else Body(content)
            )
        kind = next(
            (kind for kind in JOB_KINDS.values() if kind.operation == operation), None
        )
        if kind:
            name = request[kind.member]
            self.asked.append(name)
            for key in (name, operation):
                if key in self.errors:
                    return self.errors[key]
            arn = (
                name if name.startswith("arn:") else f"{ACCOUNT}:{kind.resource}/{name}"
            )
            return Body(
                json.dumps(
                    {
                        kind.member.replace("Name", "Arn"): arn,
                        **self.jobs.get(arn, TRAINING),
                    }
                ).encode()
            )
        if operation == LIST_TRAINING_JOBS:
            self.asked.append(operation)
            if operation in self.errors:
                return self.errors[operation]
            page = int(request.get("NextToken", 0))
            token = {"NextToken": str(page + 1)} if page + 1 < len(SUMMARIES) else {}
            listed = {"TrainingJobSummaries": SUMMARIES[page], **token}
            return Body(json.dumps(listed).encode())
        described = {
            "PipelineExecutionArn": ARN,
            "PipelineExecutionStatus": self.status,
        }
        members: dict[str, dict[str, Any]] = {
            LIST_STEPS: {"PipelineExecutionSteps": self.steps},
            "DescribeLogStreams": {"logStreams": []},
            "ListPipelineExecutions": {"PipelineExecutionSummaries": [described]},
            "DescribePipelineDefinitionForExecution": {
                "PipelineDefinition": json.dumps(self.definition)
            },
        }
        response = members.get(operation, described)
        if operation == LIST_STEPS and self.tokens:
            response["NextToken"] = next(self.tokens)
        seconds = self.seconds.get(operation, 0)
        return Body(json.dumps(response).encode(), seconds=seconds)


def error(code: str, status: int = 400, *, xml: bool = False) -> Body:
    """Return a response with an error of AWS."""
    text = f"<Error><Code>{code}</Code><Message>no</Message></Error>"
    return Body(
        (text if xml else json.dumps({"__type": code, "message": "no"})).encode(),
        status,
    )


def start(deferrable: bool, **arguments: Any) -> Run:
    """Run a task whose execution ends at once."""
    task = PolysyncStartPipelineOperator(
        task_id="train", pipeline_name="churn", deferrable=deferrable, **arguments
    )
    return run_task(task)
