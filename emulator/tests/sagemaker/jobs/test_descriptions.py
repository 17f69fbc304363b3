"""Tests of the Describe operations of the jobs that steps start, through boto3."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from sagemaker_emulator import EmulatorServer
from sagemaker_emulator.builders import ROLE, definition, step
from tests.builders import condition, fail
from tests.sagemaker.test_pipelines import error_of

Steps = Callable[[str], dict[str, dict[str, Any]]]

INPUT = {
    "ChannelName": "train",
    "DataSource": {
        "S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://data/train"}
    },
}
TRAINING = {
    "AlgorithmSpecification": {"TrainingInputMode": "File", "TrainingImage": "image:1"},
    "ResourceConfig": {
        "InstanceType": "ml.m5.2xlarge",
        "InstanceCount": 2,
        "VolumeSizeInGB": 50,
    },
    "OutputDataConfig": {"S3OutputPath": "s3://ml/models/"},
    "StoppingCondition": {"MaxRuntimeInSeconds": 3600},
    "InputDataConfig": [INPUT],
    "RoleArn": "arn:aws:iam::123456789012:role/Training",
}
OUTPUT = {
    "S3Uri": "s3://ml/evaluation",
    "LocalPath": "/opt/ml/processing/out",
    "S3UploadMode": "EndOfJob",
}
PROCESSING = {
    "ProcessingResources": {
        "ClusterConfig": {
            "InstanceType": "ml.c5.xlarge",
            "InstanceCount": 3,
            "VolumeSizeInGB": 20,
        }
    },
    "AppSpecification": {"ImageUri": "image:2"},
    "ProcessingOutputConfig": {
        "Outputs": [{"OutputName": "evaluation", "S3Output": OUTPUT}]
    },
}
TUNING = {
    "HyperParameterTuningJobConfig": {
        "Strategy": "Random",
        "HyperParameterTuningJobObjective": {
            "Type": "Maximize",
            "MetricName": "validation:auc",
        },
        "ResourceLimits": {"MaxNumberOfTrainingJobs": 3, "MaxParallelTrainingJobs": 2},
    },
    "TrainingJobDefinition": {**TRAINING, "StaticHyperParameters": {"depth": "5"}},
}
AUTO_ML = {
    "AutoMLJobConfig": {"Mode": "ENSEMBLING"},
    "AutoMLJobObjective": {"MetricName": "AUC"},
    "InputDataConfig": [
        {"DataSource": INPUT["DataSource"], "TargetAttributeName": "churn"}
    ],
    "OutputDataConfig": {"S3OutputPath": "s3://ml/automl"},
}


@pytest.fixture
def run_step(
    create: Callable[..., str],
    start: Callable[..., str],
    steps_of: Steps,
    server: EmulatorServer,
) -> Callable[..., str]:
    """Run a pipeline with one step to its end, and return the name of its job."""

    def run(
        kind: str, arguments: dict[str, Any], seconds: float = 5000, **scenario: Any
    ) -> str:
        server.control.put_scenario({"steps": {"S": scenario}})
        body = step("S", kind, Arguments=arguments)
        if "TrainingJobDefinitions" in arguments:
            body["Arguments"] = arguments
        create(definition(body))
        arn = start()
        server.control.advance(seconds)
        (metadata,) = steps_of(arn)["S"]["Metadata"].values()
        return str(metadata.get("Arn") or metadata["CheckJobArn"]).rpartition("/")[2]

    return run


def test_training_job(sagemaker: Any, run_step: Callable[..., str]) -> None:
    """
    The description has the arguments of the step, the times of its attempt, and the
    metrics of the scenario.
    """
    rule = {
        "RuleConfigurationName": "LossNotDecreasing",
        "RuleEvaluatorImage": "rules:1",
    }
    profiler = {"S3OutputPath": "s3://ml/profile"}
    arguments = {
        **TRAINING,
        "DebugRuleConfigurations": [rule],
        "ProfilerConfig": profiler,
    }
    name = run_step(
        "Training", arguments, duration=460, metrics={"validation:auc": 0.9, "loss": 3}
    )

    described = sagemaker.describe_training_job(TrainingJobName=name)

    assert (
        described["TrainingJobArn"]
        == f"arn:aws:sagemaker:us-east-1:123456789012:training-job/{name}"
    )
    assert {member: described[member] for member in TRAINING} == TRAINING
    assert described["DebugRuleConfigurations"] == [{**rule, "VolumeSizeInGB": 0}]
    assert described["ProfilerConfig"] == {
        **profiler,
        "ProfilingIntervalInMilliseconds": 500,
    }
    assert described["ProfilingStatus"] == "Enabled"
    assert (described["TrainingJobStatus"], described["SecondaryStatus"]) == (
        "Completed",
        "Completed",
    )
    assert described["ModelArtifacts"] == {
        "S3ModelArtifacts": f"s3://ml/models/{name}/output/model.tar.gz"
    }
    metrics = {
        each["MetricName"]: each["Value"] for each in described["FinalMetricDataList"]
    }
    assert metrics == {"validation:auc": 0.9, "loss": 3}
    created, started, ended = (
        described[f"{each}Time"]
        for each in ("Creation", "TrainingStart", "TrainingEnd")
    )
    assert ((started - created).total_seconds(), (ended - started).total_seconds()) == (
        60,
        400,
    )
    assert (described["TrainingTimeInSeconds"], described["BillableTimeInSeconds"]) == (
        400,
        400,
    )


def test_managed_spot_training_saves_billable_seconds(
    sagemaker: Any, run_step: Callable[..., str]
) -> None:
    """Of 400 seconds, 30 percent are billed."""
    waiting = {"MaxRuntimeInSeconds": 600, "MaxWaitTimeInSeconds": 600}
    spot = {"EnableManagedSpotTraining": True, "StoppingCondition": waiting}
    name = run_step("Training", {**TRAINING, **spot}, duration=460)
    described = sagemaker.describe_training_job(TrainingJobName=name)
    assert described["EnableManagedSpotTraining"] is True
    assert (described["TrainingTimeInSeconds"], described["BillableTimeInSeconds"]) == (
        400,
        120,
    )


def test_seconds_of_a_training_job_grow_while_it_runs(
    create: Callable[..., str],
    start: Callable[..., str],
    steps_of: Steps,
    sagemaker: Any,
    server: EmulatorServer,
) -> None:
    """They are final beside its end. Before its container has started, it has none."""
    create(definition(step("S", "Training", Arguments=TRAINING)))
    arn = start()
    server.control.advance(30)
    name = steps_of(arn)["S"]["Metadata"]["TrainingJob"]["Arn"].rpartition("/")[2]
    seen: list[list[Any]] = []
    for _ in range(4):
        described = sagemaker.describe_training_job(TrainingJobName=name)
        seen.append(
            [
                described.get("TrainingTimeInSeconds"),
                described.get("BillableTimeInSeconds"),
                "TrainingEndTime" in described,
            ]
        )
        server.control.advance(240)

    assert seen == [
        [None, None, False],
        [208, 208, False],
        [448, 448, False],
        [540, 540, True],
    ]


def test_processing_job(sagemaker: Any, run_step: Callable[..., str]) -> None:
    """The description has the outputs and the instances of the step."""
    name = run_step("Processing", PROCESSING, duration=130)
    described = sagemaker.describe_processing_job(ProcessingJobName=name)
    assert {member: described[member] for member in PROCESSING} == PROCESSING
    assert described["ProcessingJobStatus"] == "Completed"
    ended, started = described["ProcessingEndTime"], described["ProcessingStartTime"]
    assert (ended - started).total_seconds() == 100


def test_transform_job(sagemaker: Any, run_step: Callable[..., str]) -> None:
    """The description has the output and the instances of the step."""
    arguments = {
        "ModelName": "my-model",
        "TransformInput": {"DataSource": INPUT["DataSource"]},
        "TransformOutput": {"S3OutputPath": "s3://ml/scores"},
        "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 4},
    }
    name = run_step("Transform", arguments)
    described = sagemaker.describe_transform_job(TransformJobName=name)
    assert {member: described[member] for member in arguments} == arguments
    assert described["TransformJobStatus"] == "Completed"
    assert (
        described["TransformEndTime"] - described["TransformStartTime"]
    ).total_seconds() == 360


def test_tuning_job_and_its_best_training_job(
    sagemaker: Any, run_step: Callable[..., str]
) -> None:
    """
    The best training job has the metrics and the model, and runs in the second of two
    rounds.
    """
    name = run_step("Tuning", TUNING, duration=1060, metrics={"validation:auc": 0.8})

    described = sagemaker.describe_hyper_parameter_tuning_job(
        HyperParameterTuningJobName=name
    )
    best = described["BestTrainingJob"]
    training = sagemaker.describe_training_job(TrainingJobName=best["TrainingJobName"])

    assert described["HyperParameterTuningJobStatus"] == "Completed"
    assert described["TrainingJobStatusCounters"] == {"Completed": 3}
    assert best["FinalHyperParameterTuningJobObjectiveMetric"] == {
        "Type": "Maximize",
        "MetricName": "validation:auc",
        "Value": pytest.approx(0.8),
    }
    assert training["TuningJobArn"] == described["HyperParameterTuningJobArn"]
    assert training["HyperParameters"] == {"depth": "5"}
    assert training["ResourceConfig"] == TRAINING["ResourceConfig"]
    artifact = f"s3://ml/models/{best['TrainingJobName']}/output/model.tar.gz"
    assert training["ModelArtifacts"] == {"S3ModelArtifacts": artifact}
    (metric,) = training["FinalMetricDataList"]
    assert metric["MetricName"] == "validation:auc"
    assert training["BillableTimeInSeconds"] == 500
    assert training["TrainingEndTime"] == described["HyperParameterTuningEndTime"]


def test_training_jobs_of_a_tuning_job_are_listed_page_by_page(
    sagemaker: Any, run_step: Callable[..., str]
) -> None:
    """
    Each has the instances of one of the definitions, and runs in its round; the order
    is by name.
    """
    large = {"InstanceType": "ml.g5.2xlarge", "InstanceCount": 1, "VolumeSizeInGB": 1}
    definitions = [
        {**TRAINING, "DefinitionName": "small"},
        {**TRAINING, "DefinitionName": "large", "ResourceConfig": large},
    ]
    arguments = {
        "HyperParameterTuningJobConfig": TUNING["HyperParameterTuningJobConfig"],
        "TrainingJobDefinitions": definitions,
    }
    name = run_step("Tuning", arguments, duration=1060, metrics={"validation:auc": 0.8})

    def listed(**request: Any) -> list[dict[str, Any]]:
        paginator = sagemaker.get_paginator(
            "list_training_jobs_for_hyper_parameter_tuning_job"
        )
        pages = paginator.paginate(HyperParameterTuningJobName=name, **request)
        return [each for page in pages for each in page["TrainingJobSummaries"]]

    summaries = listed(MaxResults=2)
    names = [each["TrainingJobName"] for each in summaries]
    assert names == sorted(names)
    assert [each["TrainingJobDefinitionName"] for each in summaries] == [
        "small",
        "large",
        "small",
    ]
    seconds = [
        (each["TrainingEndTime"] - each["TrainingStartTime"]).total_seconds()
        for each in summaries
    ]
    assert seconds == [500, 500, 500]
    described = sagemaker.describe_training_job(TrainingJobName=names[1])
    assert described["ResourceConfig"]["InstanceType"] == "ml.g5.2xlarge"
    assert listed(SortOrder="Descending") == summaries[::-1]
    assert listed(SortBy="FinalObjectiveMetricValue") == summaries[2:]
    assert listed(SortBy="Status") == listed(SortBy="CreationTime") == summaries
    assert listed(StatusEquals="Failed") == []


def test_running_tuning_job_lists_the_training_jobs_of_its_first_round(
    sagemaker: Any, run_step: Callable[..., str], server: EmulatorServer
) -> None:
    """They have no start before their containers start, and no end while they run."""
    name = run_step("Tuning", TUNING, 20, duration=1060)

    def listed() -> list[dict[str, Any]]:
        response = sagemaker.list_training_jobs_for_hyper_parameter_tuning_job(
            HyperParameterTuningJobName=name
        )
        summaries: list[dict[str, Any]] = response["TrainingJobSummaries"]
        return summaries

    pending = listed()
    server.control.advance(300)
    running = listed()
    described = sagemaker.describe_hyper_parameter_tuning_job(
        HyperParameterTuningJobName=name
    )

    assert len(pending) == len(running) == 2
    assert not any("TrainingStartTime" in each for each in pending)
    assert all("TrainingStartTime" in each for each in running)
    assert not any("TrainingEndTime" in each for each in running)
    assert described["TrainingJobStatusCounters"] == {"InProgress": 2}


def test_training_jobs_have_the_first_of_several_instance_types(
    sagemaker: Any, run_step: Callable[..., str]
) -> None:
    """A tuning job may name several, in the order of preference."""
    configs = [
        {"InstanceType": "ml.g5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 10},
        {"InstanceType": "ml.m5.xlarge", "InstanceCount": 2, "VolumeSizeInGB": 10},
    ]
    flexible = {
        name: value for name, value in TRAINING.items() if name != "ResourceConfig"
    }
    flexible["HyperParameterTuningResourceConfig"] = {"InstanceConfigs": configs}
    name = run_step("Tuning", {**TUNING, "TrainingJobDefinition": flexible})

    (summary, *_) = sagemaker.list_training_jobs_for_hyper_parameter_tuning_job(
        HyperParameterTuningJobName=name
    )["TrainingJobSummaries"]
    described = sagemaker.describe_training_job(
        TrainingJobName=summary["TrainingJobName"]
    )

    assert described["ResourceConfig"] == configs[0]


def test_auto_ml_job(sagemaker: Any, run_step: Callable[..., str]) -> None:
    """
    A job of CreateAutoMLJob is described in the members of both versions, with its best
    candidate.
    """
    name = run_step("AutoML", AUTO_ML, metrics={"F1": 0.5, "AUC": 0.75})
    described = sagemaker.describe_auto_ml_job_v2(AutoMLJobName=name)
    assert (described["AutoMLJobStatus"], described["AutoMLJobSecondaryStatus"]) == (
        "Completed",
        "Completed",
    )
    assert described["AutoMLProblemTypeConfig"] == {
        "TabularJobConfig": {"TargetAttributeName": "churn", "Mode": "ENSEMBLING"}
    }
    assert described["OutputDataConfig"] == AUTO_ML["OutputDataConfig"]
    best = described["BestCandidate"]
    assert best["FinalAutoMLJobObjectiveMetric"] == {"MetricName": "AUC", "Value": 0.75}
    assert best["CandidateStatus"] == "Completed"
    assert best["CandidateProperties"]["CandidateArtifactLocations"] == {
        "Explainability": f"s3://ml/automl/{name}/documentation/explainability",
        "ModelInsights": f"s3://ml/automl/{name}/documentation/model-insights",
    }
    first = sagemaker.describe_auto_ml_job(AutoMLJobName=name)
    assert {member: first[member] for member in AUTO_ML} == AUTO_ML
    assert first["BestCandidate"] == best


def test_reports_of_the_best_candidate(
    create: Callable[..., str],
    start: Callable[..., str],
    steps_of: Steps,
    server: EmulatorServer,
    sagemaker: Any,
) -> None:
    """
    The properties of an AutoML step have their paths, below the locations that its job
    describes.
    """
    names = ("ModelInsightsJsonReportPath", "ExplainabilityJsonReportPath")
    reports = {
        name: {"Get": f"Steps.S.BestCandidateProperties.{name}"} for name in names
    }
    search = step("S", "AutoML", Arguments=AUTO_ML)
    read = step(
        "Read", "Processing", "S", Arguments={**PROCESSING, "Environment": reports}
    )
    create(definition(search, read))
    arn = start()
    server.control.advance(20_000)
    jobs = {
        name: job["Metadata"].popitem()[1]["Arn"].rpartition("/")[2]
        for name, job in steps_of(arn).items()
    }

    described = sagemaker.describe_processing_job(ProcessingJobName=jobs["Read"])

    folder = f"s3://ml/automl/{jobs['S']}/documentation"
    assert described["Environment"] == {
        "ModelInsightsJsonReportPath": f"{folder}/model-insights/statistics.json",
        "ExplainabilityJsonReportPath": f"{folder}/explainability/analysis.json",
    }


def test_auto_ml_job_of_the_second_version(
    create: Callable[..., str],
    start: Callable[..., str],
    steps_of: Steps,
    server: EmulatorServer,
    sagemaker: Any,
) -> None:
    """DescribeAutoMLJob does not describe it."""
    channel = {"ChannelType": "training", "DataSource": INPUT["DataSource"]}
    arguments = {
        "AutoMLJobInputDataConfig": [channel],
        "AutoMLProblemTypeConfig": {"TabularJobConfig": {"TargetAttributeName": "y"}},
        "OutputDataConfig": {"S3OutputPath": "s3://ml/automl"},
        "RoleArn": ROLE,
    }
    create(definition({"Name": "S", "Type": "AutoML", "Arguments": arguments}))
    arn = start()
    server.control.advance(5000)
    (metadata,) = steps_of(arn)["S"]["Metadata"].values()
    name = metadata["Arn"].rpartition("/")[2]
    assert sagemaker.describe_auto_ml_job_v2(AutoMLJobName=name)[
        "AutoMLJobInputDataConfig"
    ] == [channel]
    with pytest.raises(sagemaker.exceptions.ClientError):
        sagemaker.describe_auto_ml_job(AutoMLJobName=name)


# The log groups of the types of jobs that have another one than ProcessingJobs.
LOGS = {
    "Training": "TrainingJobs",
    "Transform": "TransformJobs",
    "Tuning": "TrainingJobs",
    "AutoML": "TrainingJobs",
}
DESCRIBE = {
    "Training": ("describe_training_job", "TrainingJobName", "TrainingJobStatus"),
    "Processing": (
        "describe_processing_job",
        "ProcessingJobName",
        "ProcessingJobStatus",
    ),
    "QualityCheck": (
        "describe_processing_job",
        "ProcessingJobName",
        "ProcessingJobStatus",
    ),
    "ClarifyCheck": (
        "describe_processing_job",
        "ProcessingJobName",
        "ProcessingJobStatus",
    ),
    "Transform": ("describe_transform_job", "TransformJobName", "TransformJobStatus"),
    "Tuning": (
        "describe_hyper_parameter_tuning_job",
        "HyperParameterTuningJobName",
        "HyperParameterTuningJobStatus",
    ),
    "AutoML": ("describe_auto_ml_job_v2", "AutoMLJobName", "AutoMLJobStatus"),
    "Endpoint": ("describe_endpoint", "EndpointName", "EndpointStatus"),
}


@pytest.mark.parametrize("kind", DESCRIBE)
@pytest.mark.usefixtures("lenient")
def test_job_of_each_step_type_from_its_start_to_its_failure(
    sagemaker: Any, run_step: Callable[..., str], server: EmulatorServer, kind: str
) -> None:
    """
    A definition with wrong arguments, which a lenient emulator accepts, has a
    description, too: running and failed.
    """
    operation, member, status = DESCRIBE[kind]
    wrong = {
        "ResourceConfig": {"InstanceType": "large"},
        "RoleArn": 7,
        "InputDataConfig": "s3://data",
    }
    name = run_step(
        kind, wrong, 50, fail={"reason": "No data"}, duration=100, metrics={"auc": 1}
    )
    describe = getattr(sagemaker, operation)
    running = describe(**{member: name})
    server.control.advance(100)
    failed = describe(**{member: name})
    assert running[status] == ("Creating" if kind == "Endpoint" else "InProgress")
    assert "FailureReason" not in running
    assert (failed[status], failed["FailureReason"]) == ("Failed", "No data")
    assert (
        not {"FinalMetricDataList", "BestTrainingJob", "BestCandidate"} & failed.keys()
    )


@pytest.mark.parametrize(
    "kind", [kind for kind in (*DESCRIBE, "Model") if kind != "Endpoint"]
)
def test_name_in_the_arguments_is_a_prefix(
    sagemaker: Any,
    client_of: Callable[..., Any],
    create: Callable[..., str],
    start: Callable[..., str],
    steps_of: Steps,
    server: EmulatorServer,
    kind: str,
) -> None:
    """
    The name of the job begins with it, as long as AWS documents, has the id of the
    execution, and is valid. The job and its log are found by the name, also if the
    prefix has the id of another execution.
    """
    operation, member, _ = DESCRIBE.get(kind, ("", "ModelName", ""))
    maximum, longest = (32, 6) if kind in ("Tuning", "AutoML") else (63, 38)
    prefix = {"Name": "Prefix", "Type": "String"}
    body = step("S", kind, Arguments={member: {"Get": "Parameters.Prefix"}})
    create(definition(body, parameters=(prefix,)))
    first = start(Prefix="ml").rpartition("/")[2]
    cut = "a" * (longest - 1) + "-b"
    for text in ("ml-ops", f"re-{first}-x", cut, "c" * maximum):
        arn = start(Prefix=text)
        server.control.advance(24 * 3600)
        (metadata,) = steps_of(arn)["S"]["Metadata"].values()
        job_arn = metadata.get("Arn") or metadata["CheckJobArn"]
        name = job_arn.rpartition("/")[2]
        execution = arn.rpartition("/")[2]
        begin = text[:longest].rstrip("-")
        assert re.fullmatch(rf"{begin}-{execution}-[a-z0-9]{{10}}", name)
        assert len(name) <= maximum
        if kind != "Model":
            described = getattr(sagemaker, operation)(**{member: name})
            assert job_arn in described.values()
            group = "/aws/sagemaker/" + LOGS.get(kind, "ProcessingJobs")
            (stream,) = client_of("logs").describe_log_streams(
                logGroupName=group, logStreamNamePrefix=name
            )["logStreams"]
            assert stream["logStreamName"].startswith(name)


def test_job_that_is_stopped_before_its_container_starts(
    create: Callable[..., str],
    start: Callable[..., str],
    steps_of: Steps,
    server: EmulatorServer,
    sagemaker: Any,
) -> None:
    """
    It is Stopping, then Stopped, and has neither a start time nor billable seconds.
    """
    create(definition({**step("S", "Training"), "Arguments": TRAINING}))
    arn = start()
    server.control.advance(5)
    sagemaker.stop_pipeline_execution(PipelineExecutionArn=arn)
    name = steps_of(arn)["S"]["Metadata"]["TrainingJob"]["Arn"].rpartition("/")[2]
    assert (
        sagemaker.describe_training_job(TrainingJobName=name)["TrainingJobStatus"]
        == "Stopping"
    )
    server.control.advance(100)
    described = sagemaker.describe_training_job(TrainingJobName=name)
    assert (described["TrainingJobStatus"], described["SecondaryStatus"]) == (
        "Stopped",
        "Stopped",
    )
    assert (
        not {"TrainingStartTime", "TrainingTimeInSeconds", "BillableTimeInSeconds"}
        & described.keys()
    )


def test_each_attempt_has_its_own_job(
    create: Callable[..., str],
    start: Callable[..., str],
    steps_of: Steps,
    server: EmulatorServer,
    sagemaker: Any,
) -> None:
    """
    After a retry, the job that failed can be described, and the one that succeeded has
    its metrics.
    """
    create(definition({**step("S", "Training"), "Arguments": TRAINING}))
    server.control.put_scenario({"steps": {"S": {"fail": {"reason": "No data"}}}})
    arn = start()
    server.control.advance(1000)
    first = steps_of(arn)["S"]["Metadata"]["TrainingJob"]["Arn"].rpartition("/")[2]
    server.control.put_scenario({"steps": {"S": {"metrics": {"auc": 0.9}}}})
    sagemaker.retry_pipeline_execution(PipelineExecutionArn=arn)
    server.control.advance(1000)
    server.control.delete_scenario()
    second = steps_of(arn)["S"]["Metadata"]["TrainingJob"]["Arn"].rpartition("/")[2]
    failed, succeeded = (
        sagemaker.describe_training_job(TrainingJobName=name)
        for name in (first, second)
    )
    assert (failed["TrainingJobStatus"], succeeded["TrainingJobStatus"]) == (
        "Failed",
        "Completed",
    )
    assert [each["MetricName"] for each in succeeded["FinalMetricDataList"]] == ["auc"]


def test_job_of_a_cache_hit_is_that_of_the_source(
    create: Callable[..., str],
    start: Callable[..., str],
    steps_of: Steps,
    server: EmulatorServer,
    sagemaker: Any,
) -> None:
    """
    The step that reuses results names the earlier job, which keeps its description.
    """
    create(
        definition(
            {
                **step("S", "Training", CacheConfig={"Enabled": True}),
                "Arguments": TRAINING,
            }
        )
    )
    start()
    server.control.advance(1000)
    again = start()
    server.control.advance(10)
    row = steps_of(again)["S"]
    assert row["CacheHitResult"]["SourcePipelineExecutionArn"]
    name = row["Metadata"]["TrainingJob"]["Arn"].rpartition("/")[2]
    assert (
        sagemaker.describe_training_job(TrainingJobName=name)["TrainingTimeInSeconds"]
        == 540
    )


def test_arguments_have_the_properties_of_other_steps(
    create: Callable[..., str],
    start: Callable[..., str],
    steps_of: Steps,
    server: EmulatorServer,
    sagemaker: Any,
) -> None:
    """
    A training job reads the output of a processing job, a transform job uses the model
    of a model step.
    """
    output = "Steps.Prepare.ProcessingOutputConfig.Outputs['evaluation'].S3Output.S3Uri"
    channel = {
        **INPUT,
        "DataSource": {
            "S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": {"Get": output}}
        },
    }
    create(
        definition(
            step("Prepare", Arguments=PROCESSING),
            step(
                "Train",
                "Training",
                Arguments={**TRAINING, "InputDataConfig": [channel]},
            ),
            step("Model", "Model", "Train"),
            step(
                "Score",
                "Transform",
                Arguments={"ModelName": {"Get": "Steps.Model.ModelName"}},
            ),
        )
    )
    arn = start()
    server.control.advance(5000)
    names = {
        name: next(iter(row["Metadata"].values()))["Arn"].rpartition("/")[2]
        for name, row in steps_of(arn).items()
    }
    train = sagemaker.describe_training_job(TrainingJobName=names["Train"])
    score = sagemaker.describe_transform_job(TransformJobName=names["Score"])
    assert (
        train["InputDataConfig"][0]["DataSource"]["S3DataSource"]["S3Uri"]
        == "s3://ml/evaluation"
    )
    assert score["ModelName"] == names["Model"]


@pytest.mark.parametrize(("value", "steps"), [(0.9, {"Good"}), (0.7, {"Bad"})])
def test_metric_decides_a_condition(
    create: Callable[..., str],
    start: Callable[..., str],
    steps_of: Steps,
    server: EmulatorServer,
    value: float,
    steps: set[str],
) -> None:
    """A condition on the final metric of a training step takes both branches."""
    metric = {"Get": "Steps.Train.FinalMetricDataList['validation:auc'].Value"}
    better = {"Type": "GreaterThan", "LeftValue": metric, "RightValue": 0.8}
    create(
        definition(
            step("Train", "Training"),
            condition("Check", [better], [step("Good")], [fail("Bad", "")]),
        )
    )
    server.control.put_scenario(
        {"steps": {"Train": {"metrics": {"validation:auc": value}}}}
    )
    arn = start()
    server.control.advance(5000)
    assert steps_of(arn).keys() - {"Train", "Check"} == steps


def test_jobs_that_no_step_has_started_are_those_of_moto(
    sagemaker: Any, create: Callable[..., str]
) -> None:
    """
    A job that a client has created can be described, and an unknown one does not exist.
    """
    create(definition(step("S", "Training")))
    sagemaker.create_training_job(
        TrainingJobName="pipelines-abcdefghijkl-S-x", **{**TRAINING, "RoleArn": ROLE}
    )
    described = sagemaker.describe_training_job(
        TrainingJobName="pipelines-abcdefghijkl-S-x"
    )
    assert described["TrainingJobStatus"] == "Completed"
    code, message = error_of(sagemaker.describe_training_job, TrainingJobName="other")
    assert code == "ValidationException"
    assert "Could not find training job" in message
