"""Every example DAG can be parsed, and runs in Airflow against the emulator."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.execution import clock
from polysync_airflow.execution.console import execution_url, is_console_url
from polysync_airflow.execution.cost import Basis
from polysync_airflow.execution.steps.descriptions import job_name_of
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.hooks.spending import add_up_steps
from polysync_airflow.testing.dag_files import DagFiles, MetadataDatabase
from polysync_airflow.testing.emulator import SageMakerEmulator, emulator_for_test
from sagemaker_emulator import EmulatorServer
from tests.conftest import DEFINITIONS
from tests.fakes.airflow_rows import dag_run_state
from tests.fakes.dag_bundle import use_bundle
from tests.fakes.message_receiver import MessageReceiver

EXAMPLES = Path(__file__).parents[3] / "example_dags"


@pytest.fixture
def endpoint() -> Iterator[SageMakerEmulator]:
    """
    Start an emulator, with the connection to it. Waits of the provider take no time.
    """
    with emulator_for_test() as server:
        yield server


@pytest.fixture(scope="module")
def database(airflow_database: None) -> MetadataDatabase:
    """
    Return Airflow's database of the tests, and start Airflow's API for tasks once.
    """
    database = MetadataDatabase(None)
    database.prepare()
    return database


@pytest.fixture
def example(database: MetadataDatabase, endpoint: EmulatorServer) -> Iterator[Any]:
    """
    Return a function that runs a DAG by its id, by default of an example, and returns
    the finished DAG run.
    """

    def run(
        dag_id: str, folder: Path = EXAMPLES, file: str | None = None, conf: Any = None
    ) -> Any:
        dag = dag_of(dag_id, folder, file)
        if not CAPABILITIES.task_sdk:
            # Airflow 2 has events only for datasets that the scheduler has stored.
            dag.sync_to_db()
        return dag.test(run_conf=conf)

    # It removes what dag.test() leaves behind in the process.
    with DagFiles(EXAMPLES, database):
        yield run


def dag_of(dag_id: str, folder: Path, file: str | None = None) -> Any:
    """Parse the file of a DAG, by default that of its name, and return the DAG."""
    module = (
        "airflow.dag_processing.dagbag"
        if CAPABILITIES.task_sdk
        else "airflow.models.dagbag"
    )
    bag = import_module(module).DagBag(folder / (file or f"{dag_id}.py"))
    assert bag.import_errors == {}
    return bag.dags[dag_id]


def test_all_examples_are_covered() -> None:
    """Each example DAG is in this list, so that a new one without a test fails."""
    assert {path.stem for path in EXAMPLES.rglob("*.py")} == {
        "quickstart",
        "scheduled_retraining",
        "start_and_stop",
        "wait_for_capacity",
        "import_and_fan_out",
        "deploy_model",
        "deploy_if_better",
        "approve_model",
        "deploy_approved_model",
        "jobs_as_dags",
        "react_to_events",
        "answer_callback_step",
        "react_to_others",
        "delete_old_records",
        "limit_costs",
        "stop_orphans",
        "steps_as_tasks",
        "notify_by_email",
        "notify_teams",
        "deploy_and_run",
        "run_a_job",
        "start_on_new_data",
        "freeze_deployments",
        "keep_instances_warm",
    }
    assert os.environ["AIRFLOW__CORE__DAGS_FOLDER"] == str(EXAMPLES)


def xcom(run: Any, task_id: str, key: str) -> Any:
    """Read an XCom from Airflow's database."""
    return run.get_task_instance(task_id).xcom_pull(task_ids=task_id, key=key)


def asset_events(dag_id: str) -> dict[str, tuple[str, Any]]:
    """
    Read the asset events of a DAG from Airflow's database: by task id, the URI and the
    extra.
    """
    from airflow.utils.session import create_session

    names = (
        ("asset", "AssetEvent")
        if CAPABILITIES.task_sdk
        else ("dataset", "DatasetEvent")
    )
    model = getattr(import_module(f"airflow.models.{names[0]}"), names[1])
    with create_session() as session:
        events = session.query(model).filter_by(source_dag_id=dag_id).all()
        by_task = {event.source_task_id: (event.uri, event.extra) for event in events}
    assert len(by_task) == len(events)
    return by_task


def states_of(run: Any) -> list[tuple[str, int, str]]:
    """Return (task id, map index, state) of every task instance."""
    return sorted(
        (ti.task_id, ti.map_index, str(ti.state)) for ti in run.get_task_instances()
    )


@pytest.mark.documentation
def test_quickstart_runs_and_is_in_the_readme(example: Any) -> None:
    """The first DAG in the README is the file quickstart.py, and it runs to success."""
    readme = (EXAMPLES.parent / "README.md").read_text()

    run = example("quickstart")

    assert f"```python\n{(EXAMPLES / 'quickstart.py').read_text()}```" in readme
    assert states_of(run) == [("train", -1, "success")]
    assert xcom(run, "train", "run")["parameters"] == {
        "InputDataUrl": "s3://ml-bucket/abalone.csv"
    }
    assert dag_run_state("quickstart", run.run_id) == "success"


@pytest.mark.documentation
def test_limit_costs_runs_to_success_below_its_limit(
    example: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit is a parameter of the DAG."""
    prices = {"us-east-1": {"ml.m5.xlarge": 30}}
    table = {"currency": "USD", "date": "2026-11-01", "prices": prices}
    monkeypatch.setenv("AIRFLOW__POLYSYNC_SAGEMAKER__HOURLY_PRICES", json.dumps(table))

    run = example("limit_costs", conf={"max_cost": 1000})

    assert states_of(run) == [("train", -1, "success")]
    assert 0 < xcom(run, "train", "run")["cost"]["amount"] < 1000


@pytest.mark.documentation
def test_scheduled_retraining_runs_to_success(
    example: Any, endpoint: EmulatorServer
) -> None:
    """
    Parameters are rendered from templates, the wait is deferred, and the report task
    gets the record.
    """
    run = example("scheduled_retraining")

    assert states_of(run) == [("report", -1, "success"), ("retrain", -1, "success")]
    (call,) = endpoint.control.calls("StartPipelineExecution")
    sent = {p["Name"]: p["Value"] for p in call["request"]["PipelineParameters"]}
    assert sent == {
        "InputData": f"s3://ml-bucket/churn/raw/{run.data_interval_end:%Y-%m-%d}",
        "MaxJobs": "8",
        "AucThreshold": "0.75",
    }
    assert xcom(run, "retrain", "run")["parameters"] == sent
    assert xcom(run, "retrain", "state") == "Success"
    assert xcom(run, "report", "return_value").startswith(
        "churn-tuning ended as Success after "
    )
    # The button shows it.
    assert is_console_url(xcom(run, "retrain", "console_url"))


@pytest.mark.documentation
@pytest.mark.skipif(not CAPABILITIES.shared_event_streams, reason="needs Airflow 3.3")
def test_react_to_events_reports_executions_of_others(
    endpoint: EmulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Its watcher fires when an execution that somebody else has started ends, and its
    task knows the execution.
    """
    from tests.unit.events.conftest import Triggerer, make_queue, until

    queue = make_queue(endpoint)
    monkeypatch.setenv("SAGEMAKER_EVENTS_QUEUE_URL", queue.url)
    dag = dag_of("react_to_events", EXAMPLES / "airflow_3_3", None)
    (asset,) = dag.timetable.asset_condition.objects
    (watcher,) = asset.watchers
    client: Any = PolysyncSageMakerHook().conn
    arn = client.start_pipeline_execution(PipelineName="churn-tuning")[
        "PipelineExecutionArn"
    ]

    async def fire() -> Any:
        triggerer = Triggerer()
        triggerer.run(1, watcher.trigger)
        try:
            clock.sleep(24 * 3600)  # of emulated time
            await until(lambda: triggerer.fired)
        finally:
            await triggerer.stop()
        (payload,) = triggerer.payloads()
        return payload

    event = SimpleNamespace(
        extra={"from_trigger": True, "payload": asyncio.run(fire())}
    )
    report: Any = dag.task_dict["report"]
    lines = report.python_callable(triggering_asset_events={asset: [event]})
    assert lines == [f"churn-tuning: Success ({arn})"]


@pytest.mark.documentation
@pytest.mark.parametrize("good_enough", [True, False])
def test_deploy_model_uses_what_the_pipeline_has_made(
    example: Any, endpoint: SageMakerEmulator, good_enough: bool
) -> None:
    """
    The condition decides which task comes next; the model's ARN reaches that task and
    the asset's event.
    """
    if not good_enough:
        endpoint.set_property_file(
            "ChurnEvaluate", "Eval", {"classification_metrics": {"auc": {"value": 0.1}}}
        )

    run = example("deploy_model")

    states = {task_id: state for task_id, _, state in states_of(run)}
    outputs = xcom(run, "train", "outputs")
    assert states["train"] == "success"
    assert outputs["AucCheck"]["outcome"] == str(good_enough)
    assert states["deploy"] == ("success" if good_enough else "skipped")
    assert states["keep_the_old_model"] == ("skipped" if good_enough else "success")
    assert run.state == "success"
    if good_enough:
        arn = outputs["ChurnRegister"]["model_package_arn"]
        assert xcom(run, "deploy", "return_value") == arn
        _, extra = asset_events("deploy_model")["train"]
        assert extra["model_package_arns"] == [arn]


@pytest.mark.documentation
def test_deploy_if_better_compares_with_the_model_that_was_deployed_last(
    example: Any, endpoint: SageMakerEmulator
) -> None:
    """
    The first model is deployed, a worse one is kept back, and a better one is deployed.
    """
    deployed = []
    for auc in (0.8, 0.7, 0.75, 0.9):
        endpoint.set_metric("ChurnTune", "validation:auc", auc)
        run = example("deploy_if_better")
        states = {task_id: state for task_id, _, state in states_of(run)}
        assert states["train"] == "success"
        assert (
            xcom(run, "train", "outputs")["ChurnTune"]["metrics"]["validation:auc"]
            == auc
        )
        assert {states["deploy"], states["keep_the_old_model"]} == {
            "success",
            "skipped",
        }
        deployed.append(states["deploy"] == "success")

    assert deployed == [True, False, False, True]


@pytest.mark.documentation
@pytest.mark.parametrize("good_enough", [True, False])
def test_steps_as_tasks_shows_each_step(
    example: Any, endpoint: SageMakerEmulator, good_enough: bool
) -> None:
    """
    Each step has a task with its outcome; the task after a step gets what it made, and
    is skipped with it.
    """
    if not good_enough:
        endpoint.set_property_file(
            "ChurnEvaluate", "Eval", {"classification_metrics": {"auc": {"value": 0.1}}}
        )
    definition = json.loads((EXAMPLES / "churn_tuning.json").read_text())

    run = example("steps_as_tasks")

    assert definition == json.loads((DEFINITIONS / "churn_tuning.json").read_text())
    taken, other = (
        ("ChurnRegister", "ChurnReport")
        if good_enough
        else ("ChurnReport", "ChurnRegister")
    )
    steps = ("ChurnPreprocess", "ChurnTune", "ChurnEvaluate", "AucCheck", taken)
    assert {task_id: state for task_id, _, state in states_of(run)} == {
        **{f"churn.{name}": "success" for name in ("begin", "execution", *steps)},
        f"churn.{other}": "skipped",
        "deploy": "success" if good_enough else "skipped",
    }
    assert (
        len(
            {
                xcom(run, f"churn.{name}", "execution_arn")
                for name in ("execution", *steps, other)
            }
        )
        == 1
    )
    outputs = xcom(run, "churn.execution", "outputs")
    assert {
        name: xcom(run, f"churn.{name}", "return_value") for name in steps
    } == outputs
    assert [start.parameters["MaxJobs"] for start in endpoint.starts()] == ["8"]
    if good_enough:
        assert (
            xcom(run, "deploy", "return_value")
            == outputs["ChurnRegister"]["model_package_arn"]
        )


@pytest.mark.documentation
def test_start_and_stop_cancels_the_execution(
    example: Any, endpoint: EmulatorServer
) -> None:
    """
    The stop task gets the ARN that the start task returns, and stops the execution.
    """
    # Without an end of its own, since Airflow may take as long between two tasks as the
    # pipeline does.
    endpoint.control.put_scenario({"steps": {"Merge": {"duration": None}}})

    run = example("start_and_stop")

    assert states_of(run) == [("start", -1, "success"), ("stop", -1, "success")]
    assert xcom(run, "start", "return_value") == xcom(run, "start", "execution_arn")
    assert xcom(run, "stop", "return_value") == "Cancelled"


@pytest.mark.documentation
def test_wait_for_capacity_asks_again(example: Any, endpoint: EmulatorServer) -> None:
    """One execution, in one try."""
    endpoint.control.add_fault("quota", "StartPipelineExecution", count=1)

    run = example("wait_for_capacity")

    assert states_of(run) == [("train", -1, "success")]
    starts = endpoint.control.calls("StartPipelineExecution")
    assert [call["error_code"] for call in starts] == ["ResourceLimitExceeded", None]


@pytest.mark.documentation
def test_start_on_new_data_waits_for_the_last_object(
    example: Any, endpoint: EmulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pipeline gets the folder in which the object is."""
    url = endpoint.endpoint_url
    keys = {"login": "AKIAIOSFODNN7EXAMPLE", "password": "s"}
    extra = {"endpoint_url": url, "region_name": "us-east-1"}
    connection = {"conn_type": "aws", **keys, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(connection))
    s3: Any = import_module("airflow.providers.amazon.aws.hooks.s3").S3Hook().conn
    s3.create_bucket(Bucket="ml-bucket")
    # The DAG run is one of today, and the day may end meanwhile.
    today = datetime.now(UTC)
    days = [f"{today + timedelta(days=each):%Y-%m-%d}" for each in (0, 1)]
    arrived: Any = dag_of("start_on_new_data", EXAMPLES).task_dict["arrived"]
    arrived.bucket_key = f"s3://ml-bucket/incoming/{days[0]}/_SUCCESS"
    for name in ("part-0.csv", "_SUCCESS"):
        assert not arrived.poke({})
        for day in days:
            s3.put_object(Bucket="ml-bucket", Key=f"incoming/{day}/{name}", Body=b"")

    run = example("start_on_new_data")

    assert states_of(run) == [("arrived", -1, "success"), ("train", -1, "success")]
    parameters = xcom(run, "train", "run")["parameters"]
    day = f"{run.logical_date:%Y-%m-%d}"
    assert parameters["InputData"] == f"s3://ml-bucket/incoming/{day}"


@pytest.mark.documentation
@pytest.mark.parametrize(
    ("freeze", "deployed"), [("", "success"), ("until 7 January", "skipped")]
)
def test_freeze_deployments_trains_and_deploys_nothing(
    freeze: str, deployed: str, example: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the Variable is set."""
    monkeypatch.setenv("AIRFLOW_VAR_DEPLOYMENT_FREEZE", freeze)

    run = example("freeze_deployments")

    states = {task_id: state for task_id, _, state in states_of(run)}
    assert states == {"train": "success", "is_allowed": "success", "deploy": deployed}


def test_run_a_job_runs_one_version_each_day(
    example: Any, endpoint: EmulatorServer
) -> None:
    """The second run has another value of the parameter, and no new version."""
    for _ in range(2):
        run = example("run_a_job")

        assert str(run.state) == "success"
    requests = [
        call["request"] for call in endpoint.control.calls("StartPipelineExecution")
    ]
    assert [request["PipelineVersionId"] for request in requests] == [1, 1]
    values = [request["PipelineParameters"][0]["Value"] for request in requests]
    assert values[0] != values[1]


def test_instances_of_one_run_are_those_of_the_next_one(example: Any) -> None:
    """
    Its job starts sooner. Two such runs together cost less than two whose pools nobody
    has used, because an hour has passed between them.
    """
    lists = []
    with emulator_for_test(speed=1):
        hook = PolysyncSageMakerHook()
        for pause in (0, 3600, 3600):
            run = example("keep_instances_warm")
            assert str(run.state) == "success"
            arn = xcom(run, "train", "execution_arn")
            lists.append(hook.list_pipeline_execution_steps(arn))
            clock.sleep(pause)
        jobs = [
            hook.call("DescribeTrainingJob", TrainingJobName=job_name_of(step))
            for (step,) in lists
        ]
        added_up = [add_up_steps(hook, steps, Basis(), print)[0] for steps in lists]

    waits = [job["TrainingStartTime"] - job["CreationTime"] for job in jobs]
    assert [wait.total_seconds() for wait in waits] == [60, 15, 60]
    pools = [job["WarmPoolStatus"] for job in jobs]
    statuses = [pool["Status"] for pool in pools]
    assert statuses == ["Reused", "Terminated", "Terminated"]
    assert pools[0]["ReusedByJob"] == jobs[1]["TrainingJobName"]
    first, second, third = (each.billable_seconds or 0.0 for each in added_up if each)
    assert second == third == 540 + 1200
    assert 540 < first < third


def test_deploy_and_run_runs_the_version_that_it_has_made(
    example: Any,
    endpoint: EmulatorServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A changed file becomes the next version; an unchanged one does not."""
    for name in ("deploy_and_run.py", "churn_tuning.json"):
        shutil.copy(EXAMPLES / name, tmp_path)
    use_bundle(tmp_path, monkeypatch)
    report = {"classification_metrics": {"auc": {"value": 0.9}}}
    outcome = {"property_files": {"Eval": report}}
    endpoint.control.put_scenario({"steps": {"ChurnEvaluate": outcome}})
    definition = tmp_path / "churn_tuning.json"
    for version in (1, 1, 2):
        if version == 2:
            changed = definition.read_text().replace("churn/raw", "churn/new")
            definition.write_text(changed)

        run = example("deploy_and_run", tmp_path)

        assert str(run.state) == "success"
        assert xcom(run, "deploy", "pipeline_version_id") == version
        started = endpoint.control.calls("StartPipelineExecution")[-1]["request"]
        assert started["PipelineName"] == xcom(run, "deploy", "return_value")
        assert started["PipelineVersionId"] == version


@pytest.mark.parametrize(
    ("dag_id", "conn_id"),
    [("notify_teams", "teams"), ("notify_by_email", "smtp_default")],
)
def test_notification_has_the_failed_step(
    dag_id: str,
    conn_id: str,
    example: Any,
    endpoint: EmulatorServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It names the reason, which others have written: it is not rendered."""
    reason = "No data {{ 7 * 7 }}"
    endpoint.control.put_scenario(
        {"steps": {"AbaloneTrain": {"fail": {"reason": reason}}}}
    )
    with MessageReceiver().running() as receiver:
        connection = receiver.connections()[conn_id]
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", connection)
        run = example(dag_id)

    assert str(run.state) == "failed"
    (message,) = receiver.messages
    assert f"Step AbaloneTrain: {reason}" in message


@pytest.mark.documentation
@pytest.mark.parametrize("ticket", ["T-1", "X-1"])
def test_answer_callback_step_decides_about_the_ticket(
    example: Any, endpoint: SageMakerEmulator, ticket: str
) -> None:
    """
    The function gets the argument of the step, and the pipeline gets what it returns.
    """
    scenario = {"steps": {"Notify": {"outputs": {"ticket": ticket}}}}
    endpoint.control.put_scenario(scenario, pipeline="callback-lambda")

    run = example("answer_callback_step")

    assert states_of(run) == [("check_ticket", -1, "success"), ("start", -1, "success")]
    answer = {"ok": "yes" if ticket == "T-1" else "no"}
    assert xcom(run, "check_ticket", "return_value") == answer
    (call,) = endpoint.control.calls("SendPipelineExecutionStepSuccess")
    assert {
        each["Name"]: each["Value"] for each in call["request"]["OutputParameters"]
    } == answer
    assert call["request"]["CallbackToken"] not in json.dumps(
        [
            xcom(run, task, key)
            for task in ("start", "check_ticket")
            for key in ("return_value", "console_url")
        ]
    )


@pytest.mark.documentation
def test_import_and_fan_out_starts_the_jobs_that_have_values(
    example: Any, endpoint: EmulatorServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    One mapped task for each job starts its pipeline with the values of the DAG and the
    declared default values.

    The task of a job that needs a value is skipped, and its log says why. A default value that is a template is not rendered: it reaches AWS as its
    author wrote it.
    """
    definition = json.loads((DEFINITIONS / "fanout.json").read_text())
    note = {
        "Name": "Note",
        "Type": "String",
        "DefaultValue": "{{ conn.polysync_default.password }}",
    }
    definition["Parameters"].append(note)
    client: Any = PolysyncSageMakerHook().conn
    client.update_pipeline(
        PipelineName="fanout", PipelineDefinition=json.dumps(definition)
    )

    run = example("import_and_fan_out")

    assert states_of(run) == [
        ("import_jobs", -1, "success"),
        ("start", 0, "success"),
        ("start", 1, "success"),
        ("start", 2, "skipped"),
    ]
    # At the end of a mapped task, Airflow stores the URLs of its buttons again.
    ti = run.get_task_instance("start", map_index=0)
    keys = ("console_url", "execution_arn")
    url, arn = (ti.xcom_pull(task_ids="start", key=key, map_indexes=0) for key in keys)
    assert url == execution_url(arn, "churn-tuning")
    started = {
        call["request"]["PipelineName"]: {
            p["Name"]: p["Value"] for p in call["request"]["PipelineParameters"]
        }
        for call in endpoint.control.calls("StartPipelineExecution")
    }
    assert started == {
        "churn-tuning": {
            "InputData": "s3://ml-bucket/churn/raw",
            "MaxJobs": "2",
            "AucThreshold": "0.75",
            "DryRun": "False",
        },
        "fanout": {"Shards": "5", "Note": note["DefaultValue"]},
    }
    assert (
        "scoring-required-params needs a value for ModelName" in capsys.readouterr().out
    )


@pytest.mark.documentation
def test_asset_events_name_the_execution(
    example: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    In each mode, the event of the task's asset has the ARN and the console link in
    Airflow's database.
    """
    folder = Path(__file__).parent / "dags"
    use_bundle(folder, monkeypatch)

    run = example("retrain_and_publish", folder)

    tasks = ("deferred", "on_the_worker", "started")
    assert states_of(run) == [(task, -1, "success") for task in tasks]
    assert asset_events("retrain_and_publish") == {
        task: (
            f"s3://ml-bucket/models/{task}",
            {
                "execution_arn": xcom(run, task, "execution_arn"),
                "console_url": xcom(run, task, "console_url"),
            },
        )
        for task in tasks
    }
    assert [xcom(run, task, "state") for task in tasks] == [
        "Success",
        "Success",
        "Running",
    ]


def sent_parameters(endpoint: EmulatorServer) -> dict[str, str]:
    """Return the parameter values of the only start."""
    (call,) = endpoint.control.calls("StartPipelineExecution")
    return {
        each["Name"]: each["Value"] for each in call["request"]["PipelineParameters"]
    }


@pytest.mark.documentation
def test_job_runs_with_the_values_of_its_form(
    example: Any, endpoint: EmulatorServer
) -> None:
    """
    Values of the form are sent as they are, also if they look like templates; the
    others are the defaults.
    """
    inert = "s3://{{ conn.polysync_default.password }}/{% raw %}"

    run = example(
        "job-churn-tuning",
        file="jobs_as_dags.py",
        conf={"InputData": inert, "DryRun": True},
    )

    assert states_of(run) == [("run", -1, "success")]
    expected = {
        "InputData": inert,
        "MaxJobs": "4",
        "AucThreshold": "0.75",
        "DryRun": "True",
    }
    assert sent_parameters(endpoint) == expected
    assert xcom(run, "run", "run")["parameters"] == expected


@pytest.mark.documentation
def test_job_uses_the_template_of_its_author(
    example: Any, endpoint: EmulatorServer
) -> None:
    """A run without a value, such as a scheduled one, uses it."""
    run = example("job-churn-tuning", file="jobs_as_dags.py")

    assert states_of(run) == [("run", -1, "success")]
    assert re.fullmatch(
        r"s3://ml-bucket/churn/raw/\d{4}-\d\d-\d\d",
        sent_parameters(endpoint)["InputData"],
    )


@pytest.mark.documentation
def test_job_refuses_a_wrong_value(example: Any, endpoint: EmulatorServer) -> None:
    """No run is made, and nothing is started."""
    with pytest.raises(Exception, match="'abc' is not of type 'integer'"):
        example("job-churn-tuning", file="jobs_as_dags.py", conf={"MaxJobs": "abc"})

    assert endpoint.control.calls("StartPipelineExecution") == []


@pytest.mark.documentation
def test_defaults_of_a_catalogue_are_not_rendered(
    example: Any,
    endpoint: EmulatorServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    Whoever may create a pipeline in AWS could otherwise read Airflow's secrets by a
    default value.
    """
    inert = "{{ conn.polysync_default.password }}"
    job = {
        "name": "churn-tuning",
        "arn": "arn:aws:sagemaker:us-east-1:123456789012:pipeline/churn-tuning",
        "region": "us-east-1",
        "description": inert,
        "parameters": [
            {
                "name": "InputData",
                "type": "String",
                "default": inert,
                "description": inert,
            }
        ],
    }
    (tmp_path / "jobs.yaml").write_text(json.dumps({"version": 1, "jobs": [job]}))
    code = """
from airflow.providers.common.compat.sdk import DAG
from polysync_airflow.dags import polysync_dags, polysync_task_group
polysync_dags("jobs.yaml", operator_args={"deferrable": True})
with DAG("group", schedule=None):
    polysync_task_group("jobs.yaml", operator_args={"deferrable": True})
"""
    (tmp_path / "made.py").write_text(code)
    use_bundle(tmp_path, monkeypatch)

    for dag_id in ("churn-tuning", "group"):
        endpoint.control.clear_calls()
        run = example(dag_id, folder=tmp_path, file="made.py")
        assert [state for *_, state in states_of(run)] == ["success"]
        assert sent_parameters(endpoint) == {"InputData": inert}
