"""
The XComs that PolysyncStartPipelineOperator publishes, arranged for the tests.
docs/reference/xcoms.md describes them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

REGION: Final = "eu-central-1"
ACCOUNT: Final = "123456789012"
PIPELINE: Final = "churn-tuning"
ARN: Final = (
    f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:pipeline/{PIPELINE}/execution/k3m9x2p7q1ab"
)
CONSOLE: Final = f"https://{REGION}.console.aws.amazon.com"
CONSOLE_URL: Final = (
    f"{CONSOLE}/sagemaker/home?region={REGION}#/pipelines/{PIPELINE}/executions/{ARN}"
)
LOG_URL: Final = f"{CONSOLE}/cloudwatch/home?region={REGION}#logsV2:log-groups/log-group/TrainingJobs"

START: Final = datetime(2026, 3, 1, 13, 0, tzinfo=UTC)

Steps = list[dict[str, Any]]


@dataclass
class XComs:
    """
    The XComs of one task instance.

    :param run: the record of the execution.
    :param steps: its steps.
    :param outputs: the outputs of its steps, by name.
    :param console_url: the URL of the execution in the console.
    """

    run: dict[str, Any]
    steps: Steps = field(default_factory=list)
    outputs: dict[str, Any] = field(default_factory=dict)
    console_url: str = CONSOLE_URL

    def by_key(self) -> dict[str, Any]:
        """Return the value of each XCom."""
        return {
            "execution_arn": self.run["execution_arn"],
            "console_url": self.console_url,
            "state": self.run["state"],
            "run": self.run,
            "steps": self.steps,
            "outputs": self.outputs,
        }


def run(
    state: str,
    status: str,
    *,
    start: datetime,
    end: datetime | None = None,
    **fields: Any,
) -> dict[str, Any]:
    """Return the record of an execution (XCom ``run``)."""
    return {
        "execution_arn": ARN,
        "pipeline_name": PIPELINE,
        "state": state,
        "status": status,
        "message": None,
        "started_at": start.isoformat(),
        "ended_at": end and end.isoformat(),
        "seconds": end and (end - start).total_seconds(),
        "parameters": {
            "InputDataUrl": "s3://ml-bucket/churn/2026-03.csv",
            "MaxDepth": "6",
            "Approve": "True",
        },
        "resumes": 0,
        "failed_steps": [],
        "steps_note": None,
        "attempt_started_at": None,
        **fields,
    }


def step(
    name: str,
    kind: str,
    state: str,
    start: datetime | None = None,
    seconds: float | None = None,
    **fields: Any,
) -> dict[str, Any]:
    """Return one step (an item of the XCom ``steps``)."""
    end = start + timedelta(seconds=seconds) if start and seconds is not None else None
    status = {
        "Success": "Succeeded",
        "Running": "Executing",
        "Cancelled": "Stopped",
        "NotStarted": None,
    }
    return {
        "name": name,
        "type": kind,
        "condition": None,
        "branch": None,
        "not_taken": False,
        "state": state,
        "status": status.get(state, state),
        "started_at": start and start.isoformat(),
        "ended_at": end and end.isoformat(),
        "seconds": seconds,
        "attempt": 1 if start else None,
        "cache_hit": False,
        "reason": None,
        "job_arn": None,
        "job_name": None,
        "console_url": None,
        "log_url": None,
        "log_lines": [],
        **fields,
    }


def job(kind: str, name: str) -> dict[str, Any]:
    """Return the fields of a step that name its job."""
    return {
        "job_arn": f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:{kind}-job/{name}",
        "job_name": name,
        "console_url": f"{CONSOLE}/sagemaker/home?region={REGION}#/jobs/{name}",
        "log_url": LOG_URL,
    }


def ago(seconds: float) -> datetime:
    """Return a time in the past."""
    return datetime.now(UTC) - timedelta(seconds=seconds)


def running() -> XComs:
    """An execution whose third step runs."""
    start = ago(970)
    steps = [
        step(
            "Preprocess",
            "Processing",
            "Success",
            start,
            240,
            cache_hit=True,
            **job("processing", "churn-prep-x1"),
        ),
        step(
            "Tune", "Tuning", "Success", start + timedelta(seconds=245), 400, attempt=2
        ),
        step(
            "TrainBest",
            "Training",
            "Running",
            start + timedelta(seconds=650),
            **job("training", "churn-train-x1"),
        ),
        step("CheckQuality", "Condition", "NotStarted"),
        step("Register", "RegisterModel", "NotStarted"),
    ]
    return XComs(run("Running", "Executing", start=start), steps)


def stoppable() -> XComs:
    """An execution that is stopped if its task ends."""
    xcoms = running()
    xcoms.run["stops_with_task"] = True
    return xcoms


def just_started() -> XComs:
    """An execution of ten seconds, whose steps nobody has listed yet."""
    declared = [
        ("Preprocess", "Processing"),
        ("Train", "Training"),
        ("CheckQuality", "Condition"),
    ]
    steps = [step(name, kind, "NotStarted") for name, kind in declared]
    return XComs(run("Running", "Executing", start=ago(10)), steps)


def branch_not_taken() -> XComs:
    """
    An execution that has succeeded, with a condition whose other branch has two steps.
    """
    xcoms = success()
    for name in ("Retrain", "Report"):
        place: Any = {"condition": "CheckQuality", "branch": "False", "not_taken": True}
        xcoms.steps.append(step(name, "Lambda", "NotStarted", **place))
    return xcoms


def selective() -> XComs:
    """
    A selective execution that has succeeded: one step was reused, one was not selected.
    """
    xcoms = success()
    source = f"{ARN[:-12]}a1b2c3d4e5f6"
    preprocess, register = xcoms.steps[0], xcoms.steps[-1]
    long_ago = START - timedelta(days=30)
    preprocess |= {
        "reused_from": source,
        "cache_hit": False,
        "started_at": long_ago.isoformat(),
        "seconds": 60.0,
    }
    preprocess["ended_at"] = (long_ago + timedelta(seconds=60)).isoformat()
    register |= step(
        register["name"], register["type"], "NotStarted", not_selected=True
    )
    xcoms.run |= {
        "selected_steps": [each["name"] for each in xcoms.steps[1:-1]],
        "source_execution": source,
        "mlflow_experiment_name": "churn <b>nightly</b>",
        "mlflow_resource_arn": f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:mlflow-app/app-1",
    }
    return xcoms


def resumed() -> XComs:
    """An execution that failed, and that was resumed an hour later, 100 seconds ago."""
    start, resumed_at = ago(4000), ago(100)
    steps = [
        step("Preprocess", "Processing", "Success", start, 300),
        step(
            "Train", "Training", "Running", resumed_at + timedelta(seconds=5), attempt=2
        ),
        step("Register", "RegisterModel", "NotStarted"),
    ]
    times: Any = {"start": start, "attempt_started_at": resumed_at.isoformat()}
    return XComs(run("Running", "Executing", resumes=1, **times), steps)


def answered(**output_parameters: str) -> dict[str, Any]:
    """Return the XComs of a task that has answered a callback step, by key."""
    xcoms = {"execution_arn": ARN, "step_name": "Approve", "console_url": CONSOLE_URL}
    return {**xcoms, "return_value": output_parameters}


def stopped(**fields: Any) -> XComs:
    """What a Stop task stores of an execution that it has stopped."""
    end = START + timedelta(seconds=2286)
    return XComs(
        run("Cancelled", "Stopped", start=START, end=end, parameters={}, **fields)
    )


def stop(requested_at: datetime) -> dict[str, Any]:
    """Return the stop that a task has requested (a member of the XCom ``run``)."""
    return {
        "requested_at": requested_at.isoformat(),
        "reason": "ended_task",
        "process": "triggerer",
        "result": "accepted",
        "seen_at": (requested_at + timedelta(seconds=1)).isoformat(),
        "error": None,
    }


def being_stopped(requested_at: datetime) -> XComs:
    """An execution whose stop was requested, and that nobody has seen ending."""
    xcoms = running()
    xcoms.run |= {"status": "Stopping", "stop": stop(requested_at)}
    return xcoms


def success(start: datetime = START) -> XComs:
    """An execution that has succeeded, with a condition and a registered model."""
    package = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:model-package/churn/42"
    steps = [
        step(
            "Preprocess",
            "Processing",
            "Success",
            start,
            300,
            **job("processing", "churn-prep-x2"),
        ),
        step(
            "Train",
            "Training",
            "Success",
            start + timedelta(seconds=305),
            1500,
            **job("training", "churn-train-x2"),
        ),
        step(
            "CheckQuality", "Condition", "Success", start + timedelta(seconds=1806), 0.6
        ),
        step(
            "Register", "RegisterModel", "Success", start + timedelta(seconds=1808), 4
        ),
        step("Notify", "Lambda", "Success", start + timedelta(seconds=1813), 9),
    ]
    outputs = {
        "CheckQuality": {"outcome": "True"},
        "Register": {"model_package_arn": package},
        "Notify": {
            "lambda_arn": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:notify",
            "output_parameters": {"sent": "3"},
        },
    }
    end = start + timedelta(seconds=1823)
    return XComs(
        run("Success", "Succeeded", start=start, end=end, resumes=1), steps, outputs
    )


def measured(
    auc: float,
    *,
    seconds: float = 1823,
    billable: float = 540,
    start: datetime = START,
    **fields: Any,
) -> XComs:
    """
    An execution that has succeeded, and whose steps say what they have measured and
    used.

    :param auc: the metric of the training.
    :param seconds: the duration of the execution.
    :param billable: the billable seconds of the training, on two instances.
    """
    xcoms = success(start)
    by_type = {"ml.g5.xlarge": 2 * billable, "ml.m5.xlarge": 288.0}
    costs = {
        "billable_seconds": sum(by_type.values()),
        "billable_seconds_by_instance_type": by_type,
    }
    end = start + timedelta(seconds=seconds)
    record = {**run("Success", "Succeeded", start=start, end=end, **costs), **fields}
    outputs = {
        "Preprocess": {
            "processing_job_arn": job("processing", "churn-prep-x2")["job_arn"],
            "output_uris": {
                "train": "s3://ml-bucket/churn/train",
                "test": "s3://ml-bucket/churn/test",
            },
            "instance_type": "ml.m5.xlarge",
            "instance_count": 1,
            "seconds": 288.0,
        },
        "Train": {
            "training_job_arn": job("training", "churn-train-x2")["job_arn"],
            "metrics": {"validation:auc": auc, "train:logloss": 0.2113847},
            "model_artifact": "s3://ml-bucket/churn/model/output/model.tar.gz",
            "billable_seconds": billable,
            "instance_type": "ml.g5.xlarge",
            "instance_count": 2,
            "spot_savings_percent": round(100 * (1 - billable / 1500), 1),
        },
        **xcoms.outputs,
    }
    return XComs(record, xcoms.steps, outputs)


LOG_LINES: Final = [
    "2026-03-01 13:12:40 INFO  Loading s3://ml-bucket/churn/2026-03.csv",
    "2026-03-01 13:12:44 INFO  Rows: 184223, columns: 61",
    "Traceback (most recent call last):",
    '  File "/opt/ml/code/train.py", line 88, in <module>',
    "    booster = train(frame[FEATURES], frame[TARGET])",
    "KeyError: \"['tenure_months'] not in index\"",
]
REASON: Final = "AlgorithmError: ExecuteUserScriptError: ExitCode 1, ErrorMessage \"KeyError: 'tenure_months'\""


def failure(kind: str = "Training") -> XComs:
    """
    An execution that has failed, with the last lines of the failed step's log.

    :param kind: the type of the failed step.
    """
    start = datetime(2026, 3, 1, 13, 0, tzinfo=UTC)
    end = start + timedelta(seconds=770)
    steps = [
        step(
            "Preprocess",
            "Processing",
            "Success",
            start,
            300,
            **job("processing", "churn-prep-x3"),
        ),
        step(
            "Train",
            kind,
            "Failed",
            start + timedelta(seconds=305),
            460,
            reason=REASON,
            log_lines=LOG_LINES,
            **job("training", "churn-train-x3"),
        ),
        step("CheckQuality", "Condition", "NotStarted"),
        step("Register", "RegisterModel", "NotStarted"),
    ]
    message = "Step failure: One or multiple steps failed."
    failed = [{"name": "Train", "reason": REASON}]
    return XComs(
        run(
            "Failed",
            "Failed",
            start=start,
            end=end,
            message=message,
            failed_steps=failed,
        ),
        steps,
    )


def resumed_success() -> XComs:
    """
    An execution that has succeeded after a resume, an hour after its first attempt,
    which Train had failed in.
    """
    xcoms = measured(
        0.9, resumes=1, attempt_started_at=(START + timedelta(seconds=3900)).isoformat()
    )
    for name in ("started_at", "ended_at"):
        for later in [xcoms.run, *xcoms.steps[1:]]:
            if later is not xcoms.run or name == "ended_at":
                moved = datetime.fromisoformat(later[name]) + timedelta(seconds=3600)
                later[name] = moved.isoformat()
    xcoms.steps[1]["attempt"] = 2
    return xcoms


def many_steps(number: int) -> XComs:
    """An execution with many steps, of which the last quarter has not started."""
    start = ago(3600)
    kinds = ("Processing", "Training", "Model", "Transform", "RegisterModel")
    done = number * 3 // 4
    steps = []
    for index in range(number):
        kind = kinds[index % len(kinds)]
        name = f"{kind}-segment-{index // len(kinds) + 1:02}"
        began = start + timedelta(seconds=index * 3400 / done)
        if index < done - 2:
            steps.append(
                step(
                    name,
                    kind,
                    "Success",
                    began,
                    60 + 37 * (index % 7),
                    cache_hit=index % 9 == 4,
                )
            )
        elif index < done:
            steps.append(step(name, kind, "Running", began))
        else:
            steps.append(step(name, kind, "NotStarted"))
    # As tasks do with so many: the XCom has at most 48 KiB.
    known = [
        {member: value for member, value in each.items() if value is not None}
        for each in steps
    ]
    return XComs(run("Running", "Executing", start=start), known)
