"""
The descriptions of training, tuning and AutoML jobs.

Reference:
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribeTrainingJob.html,
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribeHyperParameterTuningJob.html,
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ListTrainingJobsForHyperParameterTuningJob.html
and
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribeAutoMLJobV2.html,
which also describes jobs of CreateAutoMLJob; DescribeAutoMLJob describes only these.
AWS does not document whether it names the seconds of a training job before its end.
Here it does, so that nobody takes them as final: they grow while the job runs. The
metrics come from the scenario. In the emulator, a managed spot training job saves
70 percent, the last training job of a tuning job is the best one and the only one with
an objective, several definitions take turns, and the candidate of an AutoML job names
no steps. A tuning job that has not succeeded has launched the training jobs of its
first round only, and these have its times.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import ceil
from typing import Any

from sagemaker_emulator.sagemaker.calls import omit_none
from sagemaker_emulator.sagemaker.jobs.job import INSTANCE_TYPE, VOLUME_SIZE, Job
from sagemaker_emulator.sagemaker.jobs.names import training_job_names
from sagemaker_emulator.sagemaker.pagination import page
from sagemaker_emulator.sagemaker.validation import conforming, service_model

SPOT_SAVED = 0.7
_OBJECTIVE = "FinalHyperParameterTuningJobObjectiveMetric"
#: The instances of a training job whose arguments name none.
RESOURCES = {
    "InstanceType": INSTANCE_TYPE,
    "InstanceCount": 1,
    "VolumeSizeInGB": VOLUME_SIZE,
}
_TRAINING_DEFAULTS: dict[str, dict[str, Any]] = {
    "AlgorithmSpecification": {"TrainingInputMode": "File"},
    "ResourceConfig": RESOURCES,
    "StoppingCondition": {"MaxRuntimeInSeconds": 86_400},
}
# The rules of Debugger and Profiler, which have a volume of size 0 by default.
_RULES = ("DebugRuleConfigurations", "ProfilerRuleConfigurations")
_PROFILING_INTERVAL = 500
_TUNING_DEFAULTS = {
    "HyperParameterTuningJobConfig": {
        "Strategy": "Bayesian",
        "ResourceLimits": {"MaxNumberOfTrainingJobs": 1, "MaxParallelTrainingJobs": 1},
    }
}
# For each status of a tuning job: the counters of its training jobs and of their
# objectives.
_COUNTERS = {
    "Completed": ("Completed", "Succeeded"),
    "Failed": ("NonRetryableError", "Failed"),
    "Stopped": ("Stopped", "Failed"),
    "InProgress": ("InProgress", "Pending"),
    "Stopping": ("InProgress", "Pending"),
}


def describe_training_job(job: Job, **members: Any) -> dict[str, Any]:
    """Return the response of DescribeTrainingJob; ``members`` are added to it."""
    described = job.described(
        "DescribeTrainingJob",
        {
            **_TRAINING_DEFAULTS,
            "OutputDataConfig": {"S3OutputPath": job.default_bucket},
        },
        TrainingJobName=job.name,
        TrainingJobArn=job.region.arn("training-job", job.name),
        TrainingJobStatus=job.status,
        SecondaryStatus=_secondary_status(job, "Training"),
        FailureReason=job.failure_reason,
        CreationTime=job.created_at,
        TrainingStartTime=job.started_at,
        TrainingEndTime=job.ended_at,
        LastModifiedTime=job.modified_at,
        TrainingTimeInSeconds=job.seconds,
        BillableTimeInSeconds=_billable_seconds(job),
        **members,
    )
    for member in _RULES:
        for rule in described.get(member, ()):
            rule.setdefault("VolumeSizeInGB", 0)
    profiler = described.get("ProfilerConfig")
    if profiler:
        described["ProfilingStatus"] = "Enabled"
        if profiler.get("DisableProfiler"):
            described["ProfilingStatus"] = "Disabled"
        profiler.setdefault("ProfilingIntervalInMilliseconds", _PROFILING_INTERVAL)
    output = described["OutputDataConfig"]["S3OutputPath"].rstrip("/")
    artifacts = f"{output}/{job.name}/output/model.tar.gz"
    described["ModelArtifacts"] = {"S3ModelArtifacts": artifacts}
    if job.succeeded and job.metrics:
        described["FinalMetricDataList"] = [
            {"MetricName": name, "Value": value, "Timestamp": job.modified_at}
            for name, value in job.metrics.items()
        ]
    return described


def describe_tuning_job(job: Job) -> dict[str, Any]:
    """Return the response of DescribeHyperParameterTuningJob."""
    names = _training_jobs_launched(job)
    training_jobs, objectives = _COUNTERS[job.status]
    best_training_job = None
    if job.succeeded:
        best_training_job = _best_training_job(job, names[-1])
    return job.described(
        "DescribeHyperParameterTuningJob",
        _TUNING_DEFAULTS,
        HyperParameterTuningJobName=job.name,
        HyperParameterTuningJobArn=job.arn,
        HyperParameterTuningJobStatus=job.status,
        FailureReason=job.failure_reason,
        CreationTime=job.created_at,
        HyperParameterTuningEndTime=job.ended_at,
        LastModifiedTime=job.modified_at,
        TrainingJobStatusCounters={training_jobs: len(names)},
        ObjectiveStatusCounters={objectives: len(names)},
        BestTrainingJob=best_training_job,
        ConsumedResources=omit_none(RuntimeInSeconds=job.seconds),
    )


def describe_training_job_of_tuning(job: Job, name: str) -> dict[str, Any]:
    """
    Return the response of DescribeTrainingJob for a training job that a tuning job has
    started.

    :param job: the tuning job.
    :param name: the name of the training job.
    """
    return describe_training_job(_training_job(job, name), TuningJobArn=job.arn)


def _training_job(job: Job, name: str) -> Job:
    """Return a training job of a tuning job. They run in rounds of equal length."""
    names = training_job_names(job.region, job.name, job.arguments)
    described = job.described("DescribeHyperParameterTuningJob", _TUNING_DEFAULTS)
    definition = _definition_of(described, names.index(name))
    started_at = job.started_at
    ended_at = job.ended_at
    if job.succeeded and started_at is not None and ended_at is not None:
        parallel = _parallel_training_jobs(job, len(names))
        rounds = ceil(len(names) / parallel)
        round_number = names.index(name) // parallel
        length = (ended_at - started_at) / rounds
        started_at += round_number * length
        ended_at = started_at + length
    arguments: dict[str, Any] = {
        "HyperParameters": definition.get("StaticHyperParameters")
    }
    tuning_resources = definition.get("HyperParameterTuningResourceConfig")
    if tuning_resources:
        configs = tuning_resources.get("InstanceConfigs") or [{}]
        arguments["ResourceConfig"] = {
            **RESOURCES,
            **tuning_resources,
            **configs[0],
        }
    arguments |= definition
    metrics: Mapping[str, float] = {}
    if name == names[-1]:
        metrics = job.metrics
    return replace(
        job,
        name=name,
        arguments=arguments,
        started_at=started_at,
        ended_at=ended_at,
        metrics=metrics,
    )


def _training_jobs_launched(job: Job) -> list[str]:
    """Return the names of all training jobs; those of the first round until the end."""
    names = training_job_names(job.region, job.name, job.arguments)
    if job.succeeded:
        return names
    return names[: _parallel_training_jobs(job, len(names))]


def _parallel_training_jobs(job: Job, count: int) -> int:
    described = job.described("DescribeHyperParameterTuningJob", _TUNING_DEFAULTS)
    limits = described["HyperParameterTuningJobConfig"]["ResourceLimits"]
    parallel: int = limits["MaxParallelTrainingJobs"]
    return min(max(1, parallel), count)


def _definition_of(tuning_job: Mapping[str, Any], number: int) -> dict[str, Any]:
    """Return the definition of a training job, by its number from 0 on."""
    only_one = tuning_job.get("TrainingJobDefinition") or {}
    definitions = tuning_job.get("TrainingJobDefinitions") or [only_one]
    definition: dict[str, Any] = definitions[number % len(definitions)]
    return definition


def list_training_jobs(job: Job, request: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return the response of ListTrainingJobsForHyperParameterTuningJob.

    :param job: the tuning job.
    """
    names = _training_jobs_launched(job)
    summaries = [_training_job_summary(job, name) for name in names]
    if job.succeeded:
        summaries[-1] = _best_training_job(job, names[-1])
    status = request.get("StatusEquals")
    if status:
        summaries = [each for each in summaries if each["TrainingJobStatus"] == status]
    if request.get("SortBy") == "FinalObjectiveMetricValue":
        summaries = [each for each in summaries if _OBJECTIVE in each]

    def sort_key(summary: dict[str, Any]) -> tuple[Any, ...]:
        name = summary["TrainingJobName"]
        match request.get("SortBy"):
            case "CreationTime":
                return (summary["CreationTime"], name)
            case "Status":
                return (summary["TrainingJobStatus"], name)
            case "FinalObjectiveMetricValue":
                return (summary[_OBJECTIVE]["Value"], name)
        return (name,)

    with_defaults = {"SortOrder": "Ascending", "MaxResults": 10, **request}
    listed, token = page(summaries, sort_key, with_defaults)
    return {"TrainingJobSummaries": listed, **token}


def _training_job_summary(job: Job, name: str) -> dict[str, Any]:
    training_job = _training_job(job, name)
    _, objective = _COUNTERS[job.status]
    return omit_none(
        TrainingJobDefinitionName=training_job.arguments.get("DefinitionName"),
        TrainingJobName=name,
        TrainingJobArn=job.region.arn("training-job", name),
        TrainingJobStatus=training_job.status,
        FailureReason=training_job.failure_reason,
        CreationTime=training_job.created_at,
        TrainingStartTime=training_job.started_at,
        TrainingEndTime=training_job.ended_at,
        TunedHyperParameters={},
        ObjectiveStatus=objective,
    )


def _best_training_job(job: Job, name: str) -> dict[str, Any]:
    config = job.argument(
        "HyperParameterTuningJobConfig", "HyperParameterTuningJobConfig"
    )
    objective: dict[str, Any] = {}
    if config:
        objective = config.get("HyperParameterTuningJobObjective") or {}
    final_objective = None
    metric_name = objective.get("MetricName", "")
    if metric_name in job.metrics:
        final_objective = {**objective, "Value": job.metrics[metric_name]}
    return {
        **_training_job_summary(job, name),
        **omit_none(**{_OBJECTIVE: final_objective}),
    }


def describe_auto_ml_job(
    job: Job, operation: str = "DescribeAutoMLJobV2"
) -> dict[str, Any]:
    """
    Return the response of DescribeAutoMLJobV2, or of DescribeAutoMLJob.

    :param job: the job. DescribeAutoMLJob needs one with the arguments of
        CreateAutoMLJob.
    :param operation: the operation.
    """
    channels = job.argument("InputDataConfig", "AutoMLInputDataConfig")
    tabular = {
        **job.arguments,
        **(job.argument("AutoMLJobConfig", "AutoMLJobConfig") or {}),
    }
    if channels:
        tabular["TargetAttributeName"] = channels[0].get("TargetAttributeName")
    version_2 = {
        "AutoMLJobInputDataConfig": channels,
        "AutoMLProblemTypeConfig": {"TabularJobConfig": tabular},
    }
    training_data = {
        "ChannelType": "training",
        "DataSource": {
            "S3DataSource": {
                "S3DataType": "S3Prefix",
                "S3Uri": f"{job.default_bucket}/input",
            }
        },
    }
    defaults: dict[str, Any] = {
        "OutputDataConfig": {"S3OutputPath": job.default_bucket}
    }
    if operation == "DescribeAutoMLJobV2":
        defaults["AutoMLJobInputDataConfig"] = [training_data]
    else:
        channel = {**training_data, "TargetAttributeName": "target"}
        defaults["InputDataConfig"] = [channel]
    best_candidate = None
    if job.succeeded:
        best_candidate = _best_candidate(job)
    return replace(job, arguments={**version_2, **job.arguments}).described(
        operation,
        defaults,
        AutoMLJobName=job.name,
        AutoMLJobArn=job.arn,
        AutoMLJobStatus=job.status,
        AutoMLJobSecondaryStatus=_secondary_status(job, "ModelTuning"),
        FailureReason=job.failure_reason,
        CreationTime=job.created_at,
        EndTime=job.ended_at,
        LastModifiedTime=job.modified_at,
        BestCandidate=best_candidate,
    )


def best_candidate_properties(job: Job) -> dict[str, str]:
    """
    Return the paths of reports, which are properties of an AutoML step, but no members
    of its job.
    """
    locations = _artifact_locations(job)
    return {
        "ModelInsightsJsonReportPath": f"{locations['ModelInsights']}/statistics.json",
        "ExplainabilityJsonReportPath": f"{locations['Explainability']}/analysis.json",
    }


def _artifact_locations(job: Job) -> dict[str, str]:
    output = job.argument("OutputDataConfig", "AutoMLOutputDataConfig") or {
        "S3OutputPath": job.default_bucket
    }
    folder = f"{output['S3OutputPath'].rstrip('/')}/{job.name}/documentation"
    return {
        "Explainability": f"{folder}/explainability",
        "ModelInsights": f"{folder}/model-insights",
    }


def _best_candidate(job: Job) -> dict[str, Any]:
    objective = job.argument("AutoMLJobObjective", "AutoMLJobObjective") or {}
    names = [objective.get("MetricName", ""), *job.metrics]
    shape = service_model().shape_for("FinalAutoMLJobObjectiveMetric")
    final_metric = None
    for name in names:
        if name not in job.metrics:
            continue
        # None, if AWS has no metric of this name.
        final_metric = conforming(
            shape, {"MetricName": name, "Value": job.metrics[name]}
        )
        if final_metric is not None:
            break
    return omit_none(
        CandidateName=f"{job.name}-{job.region.identifier(8, job.name)}",
        CandidateStatus="Completed",
        CandidateSteps=[],
        ObjectiveStatus="Succeeded",
        CandidateProperties={"CandidateArtifactLocations": _artifact_locations(job)},
        FinalAutoMLJobObjectiveMetric=final_metric,
        CreationTime=job.created_at,
        EndTime=job.ended_at,
        LastModifiedTime=job.modified_at,
    )


def _secondary_status(job: Job, working: str) -> str:
    if job.status != "InProgress":
        return job.status
    if job.started_at is None:
        return "Starting"
    return working


def _billable_seconds(job: Job) -> int | None:
    seconds = job.seconds
    is_spot = job.arguments.get("EnableManagedSpotTraining") is True
    if seconds is None or not is_spot:
        return seconds
    return max(1, round(seconds * (1 - SPOT_SAVED)))
