"""
The Start operator: the request, the XComs and when they are pushed, kills, timeouts and
errors.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowTaskTimeout

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.exceptions import (
    ParametersError,
    PipelineExecutionTimeoutError,
    SageMakerApiError,
)
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.links import (
    PolysyncPipelineExecutionLink,
    PolysyncStudioLink,
    PolysyncUnifiedStudioLink,
)
from polysync_airflow.operators import (
    PolysyncStartPipelineOperator,
    PolysyncStopPipelineOperator,
    task_run,
)
from polysync_airflow.records.keys import RECORD_KEY
from sagemaker_emulator import EmulatorServer
from tests.conftest import IN_BOTH_MODES, connection
from tests.fakes.log_capture import capture_logs, texts_of
from tests.managed_pipelines import MANAGED, NEEDS_ROLE, START_MANAGED
from tests.tasks import EmulatedTime, TaskInstance, run_task
from tests.world import NEVER_ENDS, START, STOP, World

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
    (call,) = emulator.control.calls(START)
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
    description = request.pop("PipelineExecutionDescription")
    assert run.error is None
    page = "dags/retraining/runs/scheduled__2026-01-01T00:00:00+00:00/tasks/train"
    assert description.startswith(f"Nightly Airflow: {page} retraining-train-")
    assert request == {
        "PipelineName": "churn-tuning",
        "PipelineExecutionDisplayName": "nightly-7",
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


@pytest.mark.parametrize(
    ("arguments", "pattern"),
    [
        ({}, r"Airflow: URL/dags/retraining/runs/scheduled__\S+/tasks/train"),
        ({"execution_description": "x" * 3000}, "x{3000}"),
        (
            {"execution_description": "x" * 2980, "execution_display_name": "nightly"},
            "x{2980} Airflow: retraining-train-[0-9a-zT-]+-0-0",
        ),
    ],
)
def test_description_names_the_task_as_far_as_there_is_room(
    arguments: dict[str, Any], pattern: str, world: World
) -> None:
    """It has the page of the task, or the name by which the execution is found."""
    section = "API" if CAPABILITIES.task_sdk else "WEBSERVER"
    url = "https://airflow.example.com/" + "ml" * 30
    world.patch.setenv(f"AIRFLOW__{section}__BASE_URL", f"{url}/")

    run_task(make_task(wait_for_completion=False, **arguments))

    pattern = pattern.replace("URL/", f"{url}/" if CAPABILITIES.task_sdk else "")
    assert re.fullmatch(
        pattern, sent_request(world.emulator)["PipelineExecutionDescription"]
    )


@IN_BOTH_MODES
def test_xcoms_and_link_are_pushed_before_the_wait(
    deferrable: bool, world: World
) -> None:
    """
    XComs and the extra link exist before the first poll, so that users find the running
    execution.
    """
    ti = TaskInstance("train")
    snapshots: list[dict[str, Any]] = []
    world.time.after(0, lambda: snapshots.append(dict(ti.xcoms)))

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
    assert run.xcoms["execution_arn"] == arn
    assert run.xcoms["console_url"] == url


UNIFIED_LINK, STUDIO_LINK = PolysyncUnifiedStudioLink(), PolysyncStudioLink()
UNIFIED_STUDIO = (
    "https://dzd-4h7jbz76qckoh5.sagemaker.eu-west-1.on.aws/projects/adwbpi493gd9k9"
)
STUDIO = (
    "https://studio-d-abcdefghijkl.studio.us-east-1.sagemaker.aws"
    "/pipelines/view/fanout/executions/{}/graph"
)


@pytest.mark.parametrize(
    ("setting", "link", "url"),
    [
        ({"unified_studio_url": UNIFIED_STUDIO}, UNIFIED_LINK, UNIFIED_STUDIO),
        ({"studio_domain_id": "d-abcdefghijkl"}, STUDIO_LINK, STUDIO),
        ({}, UNIFIED_LINK, None),
        ({}, STUDIO_LINK, None),
    ],
)
@IN_BOTH_MODES
def test_links_are_those_that_the_connection_names(
    deferrable: bool, setting: dict[str, str], link: Any, url: str | None, world: World
) -> None:
    """Start and Stop push what the connection names; the console in any case."""
    text = connection(endpoint_url=world.emulator.endpoint_url, **setting)
    world.patch.setenv("AIRFLOW_CONN_POLYSYNC_DEFAULT", text)

    with capture_logs() as logs:
        started = run_task(make_task(deferrable=deferrable))
    arn = started.xcoms["execution_arn"]
    stop = PolysyncStopPipelineOperator(
        task_id="stop", execution_arn=arn, deferrable=deferrable
    )
    stopped = run_task(stop)

    expected = url and url.format(arn.rsplit("/")[-1])
    keys = [link.key, *([link.xcom_key] if CAPABILITIES.links_are_xcoms else [])]
    for run in (started, stopped):
        assert [run.xcoms.get(each) for each in keys] == len(keys) * [expected]
        assert run.xcoms["console_url"].startswith(
            "https://us-east-1.console.aws.amazon.com/"
        )
    assert [line for line in texts_of(logs) if "Unified Studio" in line] == (
        [f"Unified Studio: {url}"] if url == UNIFIED_STUDIO else []
    )


@IN_BOTH_MODES
def test_timedeltas_are_stored_as_seconds(deferrable: bool, world: World) -> None:
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


@IN_BOTH_MODES
def test_stop_in_aws_is_told_before_the_end(deferrable: bool, world: World) -> None:
    """The XCom ``run`` says Stopping as soon as a poll has seen it."""
    world.control.put_scenario(NEVER_ENDS)
    statuses: list[str | None] = []

    class XComs(dict[str, Any]):
        def __setitem__(self, key: str, value: Any) -> None:
            super().__setitem__(key, value)
            if key == "run":
                statuses.append(value["status"])

    ti = TaskInstance("train", xcoms=XComs())
    stop = partial(PolysyncSageMakerHook().stop_pipeline_execution, attempt=0)
    world.time.after(60, lambda: stop(ti.xcoms["execution_arn"]))

    run_task(make_task(deferrable=deferrable, poll_interval=5), ti)

    # The last one again, with what comes next.
    assert statuses == [None, "Stopping", "Stopped", "Stopped"]


def test_run_xcom_describes_the_execution(deferrable: bool, world: World) -> None:
    """
    The XCom ``run`` describes the execution in JSON, with times in ISO 8601 UTC and the
    duration.
    """
    world.control.put_scenario({"steps": {"Shard3": {"fail": {"reason": "no data"}}}})

    run = run_task(make_task(deferrable=deferrable, pipeline_parameters={"Shards": 4}))

    record = run.xcoms["run"]
    names = ("started_at", "ended_at", "added_up_at")
    times = {key: record.pop(key) for key in names}
    seconds = record.pop("seconds")
    billable = record.pop("billable_seconds")
    assert billable > 0
    without_value = {name for name, value in record.items() if value is None}
    # This deployment has no prices.
    assert {"cost", "spending"} <= without_value
    assert record == {
        **dict.fromkeys(without_value),
        "failed_steps": [{"name": "Shard3", "reason": "no data"}],
        "selected_steps": [],
        "billable_seconds_by_instance_type": {"ml.m5.large": billable},
        "execution_arn": run.xcoms["execution_arn"],
        "pipeline_name": "fanout",
        "state": "Failed",
        "status": "Failed",
        "message": "Step failure: One or multiple steps failed.",
        "parameters": {"Shards": "4"},
        "resumes": 0,
        "stops_with_task": True,
        "next": {
            "try_number": 1,
            "max_tries": 0,
            "until": None,
            "retry": None,
            "clear": "start",
            "resumable": True,
            "repeats": 2,
            "steps": 3,
        },
    }
    assert all(
        re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", value)
        for value in times.values()
    )
    assert 200 < seconds < 400


@pytest.mark.parametrize("skew", [-24 * 3600, 0, 24 * 3600])
def test_start_is_known_before_the_first_poll(skew: int, world: World) -> None:
    """
    The tab counts from it. It is a time of AWS's clock, as those of the steps are.
    """
    real = EmulatedTime.time
    world.patch.setattr(EmulatedTime, "time", lambda self: real(self) + skew)

    run = run_task(make_task(wait_for_completion=False))

    started_at = datetime.fromisoformat(run.xcoms["run"]["started_at"])
    assert started_at.timestamp() == int(real(world.time))


def test_execution_timeout_on_the_worker_is_a_timeout(world: World) -> None:
    """
    Airflow's timer fires before the operator's deadline, and the outcome is the same.
    """

    def raise_task_timeout() -> None:
        raise AirflowTaskTimeout("Timeout")

    world.time.after(300, raise_task_timeout)

    run = run_task(make_task())

    assert isinstance(run.error, PipelineExecutionTimeoutError)
    assert "last AWS status: Executing" in str(run.error)
    assert run.xcoms["run"]["status"] == "Stopping"
    assert len(world.control.calls(STOP)) == 1


@NEEDS_ROLE
def test_role_of_the_connection_is_for_pipelines_that_aws_manages(world: World) -> None:
    """
    They run under the role of the operator, else that of the connection. AWS accepts it
    for no other pipeline.
    """
    default = ROLE.replace("Other", "Default")
    conn = connection(
        endpoint_url=world.emulator.endpoint_url, execution_role_arn=default
    )
    world.patch.setenv("AIRFLOW_CONN_POLYSYNC_DEFAULT", conn)
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
    sent = [call["request"].get("RoleArn") for call in world.control.calls(START)]
    assert sent == [default, ROLE, None, ROLE]


@pytest.mark.parametrize("kind", ["polysync_sagemaker", "aws"])
def test_pipeline_that_aws_manages_is_not_started_without_a_role(
    kind: str, world: World
) -> None:
    """
    The error names the argument, the pipeline and the cure; AWS is not called, and no
    record is stored.
    """
    if kind == "aws":
        conn = connection(conn_type="aws", endpoint_url=world.emulator.endpoint_url)
        world.patch.setenv("AIRFLOW_CONN_POLYSYNC_DEFAULT", conn)

    run = run_task(make_task(**{**START_MANAGED, "execution_role_arn": None}))

    assert isinstance(run.error, ParametersError)
    assert "Nothing was started" in str(run.error)
    assert f"execution_role_arn = None: AWS manages {MANAGED}" in str(run.error)
    assert "arn:aws:iam::<12-digit account>:role/<name>" in str(run.error)
    assert world.calls() == []
    assert run.ti.store.get(RECORD_KEY) is None


@pytest.mark.parametrize(
    ("member", "argument"),
    [
        ("RoleArn", {"execution_role_arn": ROLE}),
        ("PipelineVersionAlias", {"pipeline_version_alias": "prod"}),
    ],
)
def test_argument_that_an_older_botocore_cannot_send_is_refused(
    member: str, argument: dict[str, str], world: World
) -> None:
    """
    With a botocore before 1.43.127, the error names the argument, its value and the
    needed version.
    """
    operator = make_task(**argument)
    hook = PolysyncSageMakerHook()
    world.patch.setattr(task_run, "PolysyncSageMakerHook", lambda *_: hook)
    client: Any = hook.conn
    shape = client.meta.service_model.operation_model(START).input_shape
    world.patch.delitem(shape.members, member, raising=False)

    run = run_task(operator)

    assert isinstance(run.error, ParametersError)
    ((name, value),) = argument.items()
    assert f"{name} = {value!r} needs boto3 1.43.127 or newer" in str(run.error)
    assert world.calls() == []
