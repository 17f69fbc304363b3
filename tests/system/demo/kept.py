"""
What ``make demo KEEP=1`` adds: people who sign in, prices, DAGs that start by
themselves, and how to use all of it.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import boto3

from tests.system.airflow.client import RUN_ENDED, AirflowClient
from tests.system.airflow.private_airflow import PrivateAirflow
from tests.system.demo import shown
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
# The DAGs that start each other, and the types of their runs in Airflow.
STARTED: Final = {
    "demo_schedule": ("scheduled", "its schedule"),
    "announce_model": ("asset_triggered", "an asset"),
    "react_to_events": ("asset_triggered", "an event"),
}
WATCH_INTERVAL: Final = 2.0
# Of an ml.m5.large, for an hour: AWS's, times the speed of the steps: each costs what it costs there.
PRICE: Final = 0.115 * shown.SPEED
PRICES: Final = {
    "currency": "USD",
    "date": "2026-11-01",
    "prices": {
        REGION: {
            "ml.m5.large": PRICE,
            "ml.m5.xlarge": 2 * PRICE,
        }
    },
}
# Settings of the person who runs the demo that hold there, too.
OWN_SETTINGS: Final = "AIRFLOW__POLYSYNC_SAGEMAKER__"
# Where polysync finds what tasks have stored, and what Airflow does next.
DATABASE: Final = ("AIRFLOW_HOME", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN")
# The example DAGs compare it.
METRIC: Final = {"ChurnTune": {"metrics": {"validation:auc": 0.87}}}


def settings(home: Path, emulator: EmulatorProcess) -> dict[str, str]:
    """
    Prepare the emulator, and return the settings of the Airflow that stays open, as
    environment variables.

    :param home: the folder of the demo.
    :param emulator: the emulator.
    """
    emulator.control.put_scenario(
        {**shown.USUAL, "steps": METRIC}, pipeline="churn-tuning"
    )
    shown.prepare(emulator)
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
        **own_settings(),
    }


def own_settings() -> dict[str, str]:
    """Return the settings of the person who runs the demo, which go before its own."""
    return {
        name: value
        for name, value in os.environ.items()
        if name.startswith(OWN_SETTINGS)
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
    """Start the DAGs to look at, and unpause those that start each other."""
    shown.start(client)
    for dag_id in STARTED:
        client.wait_for_dag(dag_id)
        client.unpause(dag_id)


def explanation(
    airflow: PrivateAirflow, emulator_url: str, connection: Mapping[str, Any]
) -> list[str]:
    """
    Return the lines that say how to use the demo.

    :param airflow: Airflow.
    :param emulator_url: the address of the emulator.
    :param connection: the connection to the emulator, in Airflow's JSON format.
    """
    url = airflow.url
    database = " ".join(f"{name}={shlex.quote(airflow.env[name])}" for name in DATABASE)
    stored = shlex.quote(json.dumps(connection))
    settings = ", ".join(sorted(own_settings())) or "none"
    lines = [
        f"Sign in at {url}",
        f"  user {ADMIN[0]}, password {ADMIN[1]}: may do everything",
        f"  user {VIEWER[0]}, password {VIEWER[1]}: may only look",
        "",
        "Then look at these, in this order; the button Dag Docs on the page of each DAG says more:",
    ]
    for number, each in enumerate(shown.ALL, start=1):
        lines += [f"  {number}. {each.dag_id}: {each.text}", f"     {each.url(url)}"]
    lines += [
        f"  {len(shown.ALL) + 1}. all executions, with what each has cost: Browse > SageMaker",
        f"     {url}/plugin/sagemaker-executions",
        "",
        "These DAGs start each other:",
        "  demo_schedule    every two minutes",
        "  announce_model   by the asset that demo_schedule updates",
        "  react_to_events  by the event that the end of an execution of demo_schedule sends",
        "",
        f"Put DAG files into {OWN_DAGS}",
        "  Airflow shows them after some seconds, paused. When the demo ends, the folder stays, unless it is empty.",
        "  Their connection polysync_default leads to the emulator.",
        f"  Settings of your shell that hold, too ({OWN_SETTINGS}...): {settings}",
        "",
        f"The emulator is at {emulator_url}. Use it from another terminal, with boto3, the AWS CLI or polysync:",
        f"  export AWS_ENDPOINT_URL={emulator_url}",
        f"  export AWS_ACCESS_KEY_ID=any AWS_SECRET_ACCESS_KEY=any AWS_DEFAULT_REGION={REGION} AWS_REGION={REGION}",
        f"  export AIRFLOW_CONN_POLYSYNC_DEFAULT={stored}",
        f"  export {database}",
        f"  {Path(sys.executable).parent / 'polysync'} executions list --wide",
        "",
        f"Steps are {shown.SPEED:g} times as fast as in AWS, and an hour of an instance is as much dearer: a step costs",
        "what it would cost there. Links to the AWS console lead to nothing: these executions are not in AWS.",
    ]
    return lines


def keep_open(airflow: PrivateAirflow, output: DemoOutput) -> None:
    """
    Say what has ended, and which DAGs have been started by others, each once, until
    Ctrl-C.
    """
    running = {each.dag_id: each for each in shown.ALL}
    waiting = dict(STARTED)
    while True:
        airflow.check_alive()
        for each in list(running.values()):
            state = airflow.client.run_state(each.dag_id, shown.RUN)
            if state in RUN_ENDED:
                text = each.end_text if state == each.end else f"has ended as {state}"
                output.progress(f"{each.dag_id} {text}")
                del running[each.dag_id]
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
