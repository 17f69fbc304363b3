"""
What ``make demo KEEP=1`` adds: people who sign in, DAGs that start by themselves, and
how to use all of it.
"""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import boto3

from sagemaker_emulator.builders import ROLE, definition, step
from tests.system.airflow.client import AirflowClient
from tests.system.airflow.private_airflow import PrivateAirflow
from tests.system.demo.output import DemoOutput
from tests.system.emulator_process import REGION, EmulatorProcess

DAGS: Final = Path(__file__).parent / "dags"
# Of the person who runs the demo. Git ignores it.
OWN_DAGS: Final = Path(__file__).parents[3] / "demo_dags"
# Names, passwords and roles.
ADMIN: Final = ("admin", "admin")
VIEWER: Final = ("viewer", "viewer")
QUEUE: Final = "sagemaker-events"
RULE: Final = {
    "source": ["aws.sagemaker"],
    "detail-type": ["SageMaker Model Building Pipeline Execution Status Change"],
}
# The DAGs that start by themselves, and the types of their runs in Airflow.
STARTED: Final = {
    "demo_schedule": ("scheduled", "its schedule"),
    "demo_limit": ("scheduled", "its schedule"),
    "announce_model": ("asset_triggered", "an asset"),
    "react_to_events": ("asset_triggered", "an event"),
}
WATCH_INTERVAL: Final = 2.0
# Examples, of an hour.
PRICES: Final = {
    "currency": "USD",
    "date": "2026-11-01",
    "prices": {REGION: {"ml.m5.large": 0.115, "ml.m5.xlarge": 0.23}},
}
# The example DAGs compare it.
METRIC: Final = {"steps": {"ChurnTune": {"metrics": {"validation:auc": 0.87}}}}
# The pipeline of demo_limit: its steps run one after the other, ten minutes each.
DEAR: Final = "demo-limit"
DAYS: Final = tuple(f"Day{number}" for number in range(1, 13))
LONG_STEPS: Final = {"steps": {day: {"duration": 600} for day in DAYS}}


def settings(home: Path, emulator: EmulatorProcess) -> dict[str, str]:
    """
    Prepare the emulator, and return the settings of the Airflow that stays open, as
    environment variables.

    :param home: the folder of the demo.
    :param emulator: the emulator.
    """
    emulator.control.put_scenario(METRIC, pipeline="churn-tuning")
    emulator.control.put_scenario(LONG_STEPS, pipeline=DEAR)
    steps = [step(DAYS[0])]
    steps += [step(day, "Processing", before) for before, day in pairwise(DAYS)]
    emulator.client().create_pipeline(
        PipelineName=DEAR, PipelineDefinition=definition(*steps), RoleArn=ROLE
    )
    passwords = home / "passwords.json"
    passwords.write_text(json.dumps(dict([ADMIN, VIEWER])))
    return {
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{ADMIN[0]}:admin,{VIEWER[0]}:viewer",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
        "AIRFLOW__POLYSYNC_SAGEMAKER__HOURLY_PRICES": json.dumps(PRICES),
        "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "True",
        # Airflow starts a watcher when it next parses the file of a DAG that is not
        # paused.
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "15",
        "SAGEMAKER_EVENTS_QUEUE_URL": _create_queue(emulator),
    }


@contextmanager
def own_dags() -> Iterator[Path]:
    """
    Make the folder for the DAGs of the person who runs the demo. With DAGs in it, it
    stays.
    """
    OWN_DAGS.mkdir(exist_ok=True)
    yield OWN_DAGS
    if not any(path for path in OWN_DAGS.iterdir() if path.name != "__pycache__"):
        for path in (*OWN_DAGS.glob("__pycache__/*"), *OWN_DAGS.glob("__pycache__")):
            path.rmdir() if path.is_dir() else path.unlink()
        OWN_DAGS.rmdir()


def start_dags(client: AirflowClient) -> None:
    """Unpause the DAGs that start by themselves."""
    for dag_id in STARTED:
        client.wait_for_dag(dag_id)
        client.unpause(dag_id)


def explanation(
    url: str, emulator_url: str, connection: Mapping[str, Any], speed: float
) -> list[str]:
    """
    Return the lines that say how to use the demo.

    :param url: the address of Airflow.
    :param emulator_url: that of the emulator.
    :param connection: the connection to the emulator, in Airflow's JSON format.
    :param speed: emulated seconds per real second.
    """
    days = speed * 3600 / 86_400
    stored = shlex.quote(json.dumps(connection))
    return [
        f"Sign in at {url}",
        f"  user {ADMIN[0]}, password {ADMIN[1]}: may do everything",
        f"  user {VIEWER[0]}, password {VIEWER[1]}: may only look",
        "",
        f"Put DAG files into {OWN_DAGS}",
        "  Airflow shows them after some seconds, paused. When the demo ends, the folder stays, unless it is empty.",
        "  Their connection polysync_default leads to the emulator.",
        "",
        "These DAGs start by themselves:",
        "  demo_schedule    every two minutes",
        "  demo_limit       once: max_cost = 0.10 USD is spent in about a minute, then its execution is stopped",
        "  announce_model   by the asset that demo_schedule updates",
        "  react_to_events  by the event that the end of an execution of demo_schedule sends",
        "",
        f"The emulator is at {emulator_url}. Use it from another terminal, with boto3, the AWS CLI or polysync:",
        f"  export AWS_ENDPOINT_URL={emulator_url}",
        f"  export AWS_ACCESS_KEY_ID=any AWS_SECRET_ACCESS_KEY=any AWS_DEFAULT_REGION={REGION} AWS_REGION={REGION}",
        f"  export AIRFLOW_CONN_POLYSYNC_DEFAULT={stored}",
        f"  {Path(sys.executable).parent / 'polysync'} executions list",
        "",
        f"The clock of the emulator runs {speed:g} times as fast, so that no pipeline takes an hour: after an hour,",
        f"it is {days:g} days ahead. All times of executions and steps are by this clock, those of DAG runs are real.",
        "Therefore, an execution that runs seems to have begun just now; its duration is right when it has ended,",
        "and its cost is that of the jobs that have ended.",
        "Links to the AWS console lead to nothing: these executions are not in AWS.",
    ]


def keep_open(airflow: PrivateAirflow, output: DemoOutput) -> None:
    """Say which DAGs have started by themselves, each once, until Ctrl-C."""
    waiting = dict(STARTED)
    while True:
        airflow.check_alive()
        for dag_id, (run_type, cause) in list(waiting.items()):
            if any(
                run["run_type"] == run_type for run in _runs(airflow.client, dag_id)
            ):
                output.progress(
                    f"{dag_id} was started by {cause}: {airflow.url}/dags/{dag_id}/runs"
                )
                del waiting[dag_id]
        time.sleep(WATCH_INTERVAL)


def _runs(client: AirflowClient, dag_id: str) -> list[dict[str, Any]]:
    return list(client.get(f"{client.api}/dags/{dag_id}/dagRuns")["dag_runs"])


def _create_queue(emulator: EmulatorProcess) -> str:
    """Let the ends of executions fill a queue, and return its URL."""
    make: Any = boto3.client
    keys = {"aws_access_key_id": "any", "aws_secret_access_key": "any"}
    sqs, events = (
        make(service, endpoint_url=emulator.endpoint_url, region_name=REGION, **keys)
        for service in ("sqs", "events")
    )
    url: str = sqs.create_queue(QueueName=QUEUE)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])[
        "Attributes"
    ]["QueueArn"]
    rule = events.put_rule(Name=QUEUE, EventPattern=json.dumps(RULE))["RuleArn"]
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": "events.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": arn,
        "Condition": {"ArnEquals": {"aws:SourceArn": rule}},
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})
    events.put_targets(Rule=QUEUE, Targets=[{"Id": "queue", "Arn": arn}])
    return url
