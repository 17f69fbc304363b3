"""
The Start operator: the request, the XComs and when they are pushed, kills, timeouts and
errors.
"""

from __future__ import annotations

import json
import re
import time
from datetime import timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowTaskTimeout

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.exceptions import (
    CredentialsError,
    ParametersError,
    PipelineExecutionTimeoutError,
    SageMakerApiError,
)
from polysync_airflow.links import (
    PolysyncPipelineExecutionLink,
    PolysyncStudioLink,
    PolysyncUnifiedStudioLink,
)
from polysync_airflow.operators import (
    PolysyncStartPipelineOperator,
    PolysyncStopPipelineOperator,
)
from polysync_airflow.records import RECORD_KEY
from polysync_airflow.triggers import PolysyncPipelineExecutionTrigger
from sagemaker_emulator import EmulatorServer
from tests.conftest import IN_BOTH_MODES, connection
from tests.fakes.log_capture import capture_logs
from tests.managed_pipelines import MANAGED, NEEDS_ROLE, START_MANAGED
from tests.tasks import EmulatedTime, TaskInstance, run_task

ROLE = "arn:aws:iam::123456789012:role/Other"


def make_task(**arguments: Any) -> PolysyncStartPipelineOperator:
    """Create a Start task for the shortest example pipeline."""
    return PolysyncStartPipelineOperator(
        **{
            "task_id": "train",
            "pipeline_name": "fanout",
            "poll_interval": 60,
            **arguments,
        }
    )


def sent_request(emulator: EmulatorServer) -> dict[str, Any]:
    """Return the only StartPipelineExecution request that the emulator received."""
    (call,) = emulator.control.calls("StartPipelineExecution")
    request: dict[str, Any] = call["request"]
    return request


def test_every_argument_is_sent(emulator: EmulatorServer) -> None:
    """
    Arguments have the API's names, values are strings made by str(), and templated
    numbers are numbers.
    """
    run = run_task(
        make_task(
            pipeline_name="churn-tuning",
            pipeline_parameters={
                "MaxJobs": 3,
                "AucThreshold": 0.5,
                "DryRun": True,
                "InputData": "s3://b/k",
            },
            execution_display_name="nightly-7",
            execution_description="Nightly",
            max_parallel_steps="2",
            pipeline_version_id="1",
            wait_for_completion=False,
        )
    )

    request = sent_request(emulator)
    token = request.pop("ClientRequestToken")
    assert run.error is None
    assert request == {
        "PipelineName": "churn-tuning",
        "PipelineExecutionDisplayName": "nightly-7",
        "PipelineExecutionDescription": "Nightly",
        "ParallelismConfiguration": {"MaxParallelExecutionSteps": 2},
        "PipelineVersionId": 1,
        "PipelineParameters": [
            {"Name": "MaxJobs", "Value": "3"},
            {"Name": "AucThreshold", "Value": "0.5"},
            {"Name": "DryRun", "Value": "True"},
            {"Name": "InputData", "Value": "s3://b/k"},
        ],
    }
    assert re.fullmatch(r"polysync-[0-9a-f]{40}-0", token)


@IN_BOTH_MODES
def test_xcoms_and_link_are_pushed_before_the_wait(
    deferrable: bool, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """
    XComs and the extra link exist before the first poll, so that users find the running
    execution.
    """
    ti = TaskInstance("train")
    snapshots: list[dict[str, Any]] = []
    emulated_time.after(0, lambda: snapshots.append(dict(ti.xcoms)))

    run = run_task(
        make_task(deferrable=deferrable, pipeline_parameters={"Shards": 4}), ti
    )

    arn = run.result
    url = (
        "https://us-east-1.console.aws.amazon.com/sagemaker/home?region=us-east-1"
        f"#/pipelines/fanout/executions/{arn}"
    )
    assert snapshots[0]["execution_arn"] == arn
    assert snapshots[0]["console_url"] == url
    if CAPABILITIES.links_are_xcoms:
        assert snapshots[0][PolysyncPipelineExecutionLink().xcom_key] == url
    assert snapshots[0]["run"]["state"] == "Running"
    assert {key: run.xcoms[key] for key in ("execution_arn", "console_url")} == {
        "execution_arn": arn,
        "console_url": url,
    }


UNIFIED_STUDIO = (
    "https://dzd-4h7jbz76qckoh5.sagemaker.eu-west-1.on.aws/projects/adwbpi493gd9k9"
)


@pytest.mark.parametrize("url", [UNIFIED_STUDIO, None])
@IN_BOTH_MODES
def test_link_to_unified_studio(
    deferrable: bool,
    url: str | None,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    Start and Stop push the URL of the connection, if it has one, and the log has it.
    """
    more = {"unified_studio_url": url} if url else {}
    text = connection(endpoint_url=emulator.endpoint_url, **more)
    monkeypatch.setenv("AIRFLOW_CONN_POLYSYNC_DEFAULT", text)

    with capture_logs() as logs:
        started = run_task(make_task(deferrable=deferrable))
    stopped = run_task(
        PolysyncStopPipelineOperator(
            task_id="stop",
            execution_arn=started.xcoms["execution_arn"],
            deferrable=deferrable,
        )
    )

    link = PolysyncUnifiedStudioLink()
    keys = {
        "unified_studio_url",
        *([link.xcom_key] if CAPABILITIES.links_are_xcoms else []),
    }
    for run in (started, stopped):
        assert {run.xcoms.get(key) for key in keys} == {url}
        assert run.xcoms["console_url"].startswith(
            "https://us-east-1.console.aws.amazon.com/"
        )
        assert "studio_url" not in run.xcoms
    lines = [entry["event"] % entry.get("positional_args", ()) for entry in logs]
    assert [line for line in lines if "Unified Studio" in line] == (
        [f"Unified Studio: {url}"] if url else []
    )


@pytest.mark.parametrize("domain_id", ["d-abcdefghijkl", None])
def test_link_to_studio_needs_its_domain(
    domain_id: str | None, emulator: EmulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Start and Stop push it, if the connection names the domain; the link to the console
    is there in any case.
    """
    more = {"studio_domain_id": domain_id} if domain_id else {}
    text = connection(endpoint_url=emulator.endpoint_url, **more)
    monkeypatch.setenv("AIRFLOW_CONN_POLYSYNC_DEFAULT", text)

    started = run_task(make_task(wait_for_completion=False))
    stop = PolysyncStopPipelineOperator(
        task_id="stop", execution_arn=started.result, wait_for_completion=False
    )
    stopped = run_task(stop)

    host = f"https://studio-{domain_id}.studio.us-east-1.sagemaker.aws"
    url = f"{host}/pipelines/view/fanout/executions/{started.result.rsplit('/')[-1]}/graph"
    keys = [
        "studio_url",
        *([PolysyncStudioLink().xcom_key] if CAPABILITIES.links_are_xcoms else []),
    ]
    for run in (started, stopped):
        assert [run.xcoms.get(key) for key in keys] == [
            url if domain_id else None
        ] * len(keys)
        assert run.xcoms["console_url"].startswith(
            "https://us-east-1.console.aws.amazon.com/"
        )


@IN_BOTH_MODES
def test_timedeltas_are_seconds(
    deferrable: bool, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """The times of Start and Stop may be timedeltas; the trigger stores seconds."""
    times: dict[str, Any] = {
        "timeout": timedelta(minutes=2),
        "poll_interval": timedelta(minutes=1),
    }
    interval = timedelta(seconds=90)

    run = run_task(
        make_task(
            deferrable=deferrable,
            progress_interval=interval,
            stop_on_kill=False,
            **times,
        )
    )
    arn = run.xcoms["execution_arn"]
    stop = PolysyncStopPipelineOperator(
        task_id="stop", execution_arn=arn, deferrable=deferrable, **times
    )

    assert "the limit of 2 min" in str(run.error)
    assert stop.options.poll_interval == 60
    assert run_task(stop).result == "Cancelled"
    if deferrable:
        assert run.trigger
        stored = run.trigger[1]
        assert (stored["poll_interval"], stored["progress_interval"]) == (60.0, 90.0)


def test_trigger_takes_timedeltas() -> None:
    """A trigger that is made in code stores seconds, too."""
    minute = timedelta(minutes=1)
    trigger = PolysyncPipelineExecutionTrigger(
        execution_arn="arn:aws:sagemaker:us-east-1:123456789012:pipeline/x/execution/abcdefghijkl",
        pipeline_name=None,
        polysync_conn_id="polysync_default",
        region_name=None,
        poll_interval=minute,
        since=0,
        deadline=1,
        progress_interval=minute,
    )

    stored = trigger.serialize()[1]

    assert (stored["poll_interval"], stored["progress_interval"]) == (60.0, 60.0)


def test_run_xcom_describes_the_execution(
    deferrable: bool, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """
    The XCom ``run`` describes the execution in JSON, with times in ISO 8601 UTC and the
    duration.
    """
    emulator.control.put_scenario(
        {"steps": {"Shard3": {"fail": {"reason": "no data"}}}}
    )

    run = run_task(make_task(deferrable=deferrable, pipeline_parameters={"Shards": 4}))

    record = run.xcoms["run"]
    times = {key: record.pop(key) for key in ("started_at", "ended_at")}
    seconds = record.pop("seconds")
    assert record.pop("failed_steps") == [{"name": "Shard3", "reason": "no data"}]
    assert (
        record.pop("steps_note")
        is record.pop("attempt_started_at")
        is record.pop("stop")
        is None
    )
    assert (
        record.pop("source_execution") is record.pop("mlflow_experiment_name") is None
    )
    assert (record.pop("selected_steps"), record.pop("mlflow_resource_arn")) == (
        [],
        None,
    )
    billable = record.pop("billable_seconds")
    assert billable > 0
    assert record.pop("billable_seconds_by_instance_type") == {"ml.m5.large": billable}
    # This deployment has no prices.
    assert record.pop("cost") is None
    assert record == {
        "execution_arn": run.xcoms["execution_arn"],
        "pipeline_name": "fanout",
        "state": "Failed",
        "status": "Failed",
        "message": "Step failure: One or multiple steps failed.",
        "parameters": {"Shards": "4"},
        "resumes": 0,
    }
    assert all(
        re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", value)
        for value in times.values()
    )
    assert 200 < seconds < 400


def test_on_kill_without_an_execution_stops_nothing(
    emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """
    Before the start and after the end of the execution, ``on_kill`` requests no stop.
    """
    killed, ended = make_task(), make_task()
    killed.on_kill()
    assert str(run_task(killed).error) == "The task was killed."
    assert run_task(ended).xcoms["state"] == "Success"
    ended.on_kill()

    assert emulator.control.calls("StopPipelineExecution") == []


def test_execution_timeout_on_the_worker_is_a_timeout(
    emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """
    Airflow's timer fires before the operator's deadline, and the outcome is the same.
    """

    def raise_task_timeout() -> None:
        raise AirflowTaskTimeout("Timeout")

    emulated_time.after(300, raise_task_timeout)

    run = run_task(make_task())

    assert isinstance(run.error, PipelineExecutionTimeoutError)
    assert "last AWS status: Executing" in str(run.error)
    assert run.xcoms["run"]["status"] == "Stopping"
    assert len(emulator.control.calls("StopPipelineExecution")) == 1


def test_deleted_connection_of_a_deferred_task(
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    The task ends with the error of the wait, says that the execution may still run, and
    pushes its XComs.
    """
    emulator.control.put_scenario({"steps": {"Merge": {"duration": None}}})
    emulated_time.after(
        100, lambda: monkeypatch.delenv("AIRFLOW_CONN_POLYSYNC_DEFAULT")
    )

    run = run_task(make_task(deferrable=True))

    assert isinstance(run.error, CredentialsError)
    assert not run.error.permanent
    assert "the connection was deleted or renamed" in str(run.error)
    assert "The execution may still be running" in str(run.error)
    assert (run.xcoms["state"], run.xcoms["run"]["status"]) == ("Running", "Executing")


@NEEDS_ROLE
def test_role_of_the_connection_is_for_pipelines_that_aws_manages(
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    They run under the role of the operator, else that of the connection. AWS accepts it
    for no other pipeline.
    """
    default = ROLE.replace("Other", "Default")
    conn = connection(endpoint_url=emulator.endpoint_url, execution_role_arn=default)
    monkeypatch.setenv("AIRFLOW_CONN_POLYSYNC_DEFAULT", conn)
    managed = {**START_MANAGED, "execution_role_arn": None}

    runs = [
        run_task(make_task(**arguments))
        for arguments in (
            managed,
            {**managed, "execution_role_arn": ROLE},
            {},
            {"execution_role_arn": ROLE},
        )
    ]

    assert [type(run.error) for run in runs] == [*3 * [type(None)], SageMakerApiError]
    assert "RoleArn can't be specified" in str(runs[-1].error)
    sent = [
        call["request"].get("RoleArn")
        for call in emulator.control.calls("StartPipelineExecution")
    ]
    assert sent == [default, ROLE, None, ROLE]


@pytest.mark.parametrize("kind", ["polysync_sagemaker", "aws"])
def test_pipeline_that_aws_manages_is_not_started_without_a_role(
    kind: str, emulator: EmulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The error names the argument, the pipeline and the cure; AWS is not called, and no
    record is stored.
    """
    if kind == "aws":
        extra = {"region_name": "us-east-1", "endpoint_url": emulator.endpoint_url}
        key = {"login": "AKIAIOSFODNN7EXAMPLE", "password": "emulated-secret-key"}
        conn = json.dumps({"conn_type": "aws", **key, "extra": extra})
        monkeypatch.setenv("AIRFLOW_CONN_POLYSYNC_DEFAULT", conn)

    run = run_task(make_task(**{**START_MANAGED, "execution_role_arn": None}))

    assert isinstance(run.error, ParametersError)
    assert "Nothing was started" in str(run.error)
    assert f"execution_role_arn = None: AWS manages {MANAGED}" in str(run.error)
    assert "arn:aws:iam::<12-digit account>:role/<name>" in str(run.error)
    assert emulator.control.calls() == []
    assert run.ti.store.get(RECORD_KEY) is None


@pytest.mark.parametrize(
    ("member", "argument"),
    [
        ("RoleArn", {"execution_role_arn": ROLE}),
        ("PipelineVersionAlias", {"pipeline_version_alias": "prod"}),
    ],
)
def test_argument_that_an_older_botocore_cannot_send_is_refused(
    member: str,
    argument: dict[str, str],
    emulator: EmulatorServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    With a botocore before 1.43.127, the error names the argument, its value and the
    needed version.
    """
    operator = make_task(**argument)
    client: Any = operator.hook.conn
    shape = client.meta.service_model.operation_model(
        "StartPipelineExecution"
    ).input_shape
    monkeypatch.delitem(shape.members, member, raising=False)

    run = run_task(operator)

    assert isinstance(run.error, ParametersError)
    ((name, value),) = argument.items()
    assert f"{name} = {value!r} needs boto3 1.43.127 or newer" in str(run.error)
    assert emulator.control.calls() == []


def test_times_are_utc_in_every_time_zone(
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """botocore returns times in the host's time zone; the XCom has UTC."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        run = run_task(make_task())
    finally:
        monkeypatch.undo()
        time.tzset()

    assert run.xcoms["run"]["started_at"].endswith("Z")
