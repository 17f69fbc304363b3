"""Start: what is sent, what is published and when, and what happens on the ways out."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowTaskTimeout

from polysync_airflow.emulator import EmulatorServer
from polysync_airflow.exceptions import ParametersError, PipelineExecutionTimeoutError, SageMakerApiError
from polysync_airflow.execution.parameters import default_display_name
from polysync_airflow.links import PolysyncPipelineExecutionLink
from polysync_airflow.operators import PolysyncStartPipelineOperator
from tests.conftest import connection
from tests.tasks import EmulatedTime, TaskInstance, run_task

ROLE = "arn:aws:iam::123456789012:role/Other"


def start(**arguments: Any) -> PolysyncStartPipelineOperator:
    """Make a Start of the quickest example pipeline."""
    return PolysyncStartPipelineOperator(
        **{"task_id": "train", "pipeline_name": "fanout", "poll_interval": 60, **arguments}
    )


def sent(emulator: EmulatorServer) -> dict[str, Any]:
    """Return the one StartPipelineExecution request that the emulator received."""
    (call,) = emulator.control.calls("StartPipelineExecution")
    request: dict[str, Any] = call["request"]
    return request


def test_every_argument_reaches_aws(emulator: EmulatorServer) -> None:
    """Arguments go out under the API's names, values as str() makes them, templated numbers as numbers."""
    run = run_task(
        start(
            pipeline_name="churn-tuning",
            pipeline_parameters={"MaxJobs": 3, "AucThreshold": 0.5, "DryRun": True, "InputData": "s3://b/k"},
            execution_display_name="nightly-7",
            execution_description="Nightly",
            max_parallel_steps="2",
            pipeline_version_id="1",
            wait_for_completion=False,
        )
    )

    request = sent(emulator)
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
    assert re.fullmatch(r"polysync-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", token)


def test_a_start_that_says_nothing_sends_nothing_else(emulator: EmulatorServer) -> None:
    """Absent arguments are absent from the request, not empty."""
    run_task(start(wait_for_completion=False))

    assert sent(emulator).keys() == {"PipelineName", "PipelineExecutionDisplayName", "ClientRequestToken"}


def test_a_lost_response_starts_no_second_execution(
    emulator: EmulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """botocore's own repeat of a request carries the same token, so AWS sees one start."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "3")
    emulator.control.add_fault("lost_response", "StartPipelineExecution", count=1)

    run = run_task(start(wait_for_completion=False))

    calls = emulator.control.calls("StartPipelineExecution")
    assert run.error is None
    assert len(calls) == 2
    assert calls[0]["request"] == calls[1]["request"]
    client: Any = start().hook.conn
    assert len(client.list_pipeline_executions(PipelineName="fanout")["PipelineExecutionSummaries"]) == 1


@pytest.mark.parametrize("deferrable", [False, True])
def test_arn_link_and_button_are_there_before_any_waiting(
    deferrable: bool, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """Who opens the task while it runs finds the execution: XComs and button come before the first sleep."""
    ti = TaskInstance("train")
    during: list[dict[str, Any]] = []
    emulated_time.after(0, lambda: during.append(dict(ti.xcoms)))

    run = run_task(start(deferrable=deferrable, pipeline_parameters={"Shards": 4}), ti)

    arn = run.result
    url = (
        "https://us-east-1.console.aws.amazon.com/sagemaker/home?region=us-east-1"
        f"#/pipelines/fanout/executions/{arn}"
    )
    assert during[0]["execution_arn"] == arn
    assert during[0]["console_url"] == during[0][PolysyncPipelineExecutionLink().xcom_key] == url
    assert during[0]["state"] == "Running"
    assert {key: run.xcoms[key] for key in ("execution_arn", "console_url")} == {
        "execution_arn": arn,
        "console_url": url,
    }


@pytest.mark.parametrize("deferrable", [False, True])
def test_the_run_record_tells_what_happened(
    deferrable: bool, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """``run`` has the facts of the execution in JSON, times in ISO 8601 UTC, seconds between them."""
    emulator.control.put_scenario({"steps": {"Shard1": {"fail": {"reason": "no data"}}}})

    run = run_task(start(deferrable=deferrable, pipeline_parameters={"Shards": 4}))

    record = run.xcoms["run"]
    times = {key: record.pop(key) for key in ("started_at", "ended_at")}
    seconds = record.pop("seconds")
    assert record.pop("failed_steps")[0]["name"] == "Shard1"
    assert record == {
        "execution_arn": run.xcoms["execution_arn"],
        "pipeline_name": "fanout",
        "state": "Failed",
        "status": "Failed",
        "message": "Step failure: One or multiple steps failed.",
        "parameters": {"Shards": "4"},
        "resumes": 0,
    }
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", value) for value in times.values())
    assert 200 < seconds < 400


def test_made_display_names_are_legal_unique_and_readable() -> None:
    """Run ids are no legal names, long ids are cut, and still no two tries of anything share a name."""
    keys = [
        ("retraining", "train", "scheduled__2026-01-01T00:00:00+00:00", -1, 1),
        ("retraining", "train", "scheduled__2026-01-01T00:00:00+00:00", -1, 2),
        ("retraining", "train", "scheduled__2026-01-01T00:00:00+00:00", 3, 1),
        ("d" * 200, "t" * 200, "manual__x", -1, 1),
        ("d" * 200, "t" * 200, "manual__y", -1, 1),
        ("__", "..", "--", None, 1),
        ("größe", "träning", "run", -1, 1),
    ]

    names = [default_display_name(*key) for key in keys]

    assert len(set(names)) == len(keys)
    assert all(re.fullmatch(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,81}", name) and len(name) <= 82 for name in names)
    assert names[0].startswith("retraining-train-scheduled-2026-01-01T00-00-00")


def test_the_made_display_name_is_accepted(emulator: EmulatorServer) -> None:
    """A start without a display name carries one that AWS's own pattern accepts."""
    assert run_task(start(wait_for_completion=False)).error is None
    assert sent(emulator)["PipelineExecutionDisplayName"].startswith("retraining-train-scheduled-2026")


def test_a_killed_worker_stops_its_execution(emulator: EmulatorServer, emulated_time: EmulatedTime) -> None:
    """``on_kill`` during a synchronous wait asks AWS for a stop, once however often it is called."""
    emulator.control.put_scenario({"steps": {"Merge": {"duration": None}}})
    operator = start()
    emulated_time.after(300, operator.on_kill)
    emulated_time.after(300, operator.on_kill)

    run = run_task(operator)

    assert run.xcoms["state"] == "Cancelled"
    assert {c["request"]["ClientRequestToken"] for c in emulator.control.calls("StopPipelineExecution")} == {
        emulator.control.calls("StopPipelineExecution")[0]["request"]["ClientRequestToken"]
    }


def test_a_killed_worker_leaves_it_running_if_told_to(
    emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """``stop_on_kill=False`` keeps the execution."""
    operator = start(stop_on_kill=False)
    emulated_time.after(120, operator.on_kill)

    run = run_task(operator)

    assert run.xcoms["state"] == "Success"
    assert emulator.control.calls("StopPipelineExecution") == []


def test_a_kill_before_the_start_or_after_the_end_stops_nothing(
    emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """There is nothing to stop before there is an execution, nor once it has ended."""
    operator = start()
    operator.on_kill()
    run_task(operator)
    operator.on_kill()

    assert emulator.control.calls("StopPipelineExecution") == []


def test_airflows_own_timer_ends_a_synchronous_wait_as_our_deadline_does(
    emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """``execution_timeout`` counts from the task's start and fires first; the outcome is the same."""

    def alarm() -> None:
        raise AirflowTaskTimeout("Timeout")

    emulated_time.after(300, alarm)

    run = run_task(start())

    assert isinstance(run.error, PipelineExecutionTimeoutError)
    assert "last AWS status: Executing" in str(run.error)
    assert run.xcoms["run"]["status"] == "Executing"
    assert len(emulator.control.calls("StopPipelineExecution")) == 1


def test_an_error_after_the_start_leaves_nothing_running(emulator: EmulatorServer) -> None:
    """If the ARN cannot be published the task fails, and the execution is stopped rather than lost."""

    class Unreachable(TaskInstance):
        def xcom_push(self, key: str, value: Any) -> None:
            raise ConnectionError("no API server")

    run = run_task(start(), Unreachable("train"))

    assert isinstance(run.error, ConnectionError)
    assert len(emulator.control.calls("StopPipelineExecution")) == 1


def test_a_role_goes_from_the_operator_else_the_connection(
    emulator: EmulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Order of the execution role: the operator's, the connection's default, none."""
    client: Any = start().hook.conn
    api = client.meta.service_model
    known = "RoleArn" in api.operation_model("StartPipelineExecution").input_shape.members
    monkeypatch.setenv(
        "AIRFLOW_CONN_POLYSYNC_DEFAULT",
        connection(endpoint_url=emulator.endpoint_url, execution_role_arn=ROLE.replace("Other", "Default")),
    )

    errors = [run_task(start(**arguments)).error for arguments in ({}, {"execution_role_arn": ROLE})]

    # AWS accepts a role for pipelines that it manages itself, and no others; older botocores know no role.
    assert [type(error) for error in errors] == 2 * [SageMakerApiError if known else ParametersError]
    sent_roles = [c["request"]["RoleArn"] for c in emulator.control.calls("StartPipelineExecution")]
    named = sent_roles if known else [re.search(r"'(arn:.*?)'", str(error))[1] for error in errors]  # type: ignore[index]
    assert named == [ROLE.replace("Other", "Default"), ROLE]


def test_a_role_that_this_botocore_cannot_send_is_refused(
    emulator: EmulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before 1.44 botocore would drop or refuse the member; the error names the version that is needed."""
    operator = start(execution_role_arn=ROLE)
    client: Any = operator.hook.conn
    shape = client.meta.service_model.operation_model("StartPipelineExecution").input_shape
    monkeypatch.delitem(shape.members, "RoleArn", raising=False)

    run = run_task(operator)

    assert isinstance(run.error, ParametersError)
    assert "needs boto3 1.44" in str(run.error)
    assert emulator.control.calls() == []


def test_times_are_utc_wherever_the_worker_is(
    emulator: EmulatorServer, emulated_time: EmulatedTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """botocore gives times in the host's zone; two workers in two zones must write the same."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        run = run_task(start())
    finally:
        monkeypatch.undo()
        time.tzset()

    assert run.xcoms["run"]["started_at"].endswith("Z")
