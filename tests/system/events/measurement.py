"""
Measures a real Airflow that reacts to events of the emulator, whose queues have the
rules of ``docs/assets/sagemaker-events.yaml``.
"""

from __future__ import annotations

import json
import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import boto3

from sagemaker_emulator import EXAMPLE_DEFINITIONS
from sagemaker_emulator.builders import ROLE, definition, step
from tests.chaos.deployment.postgres import private_postgres
from tests.queue_stack import ACCOUNT, create_stack, rules
from tests.system.airflow.client import AirflowError
from tests.system.airflow.private_airflow import PrivateAirflow
from tests.system.conftest import EXAMPLES
from tests.system.emulator_process import REGION, EmulatorProcess
from tests.system.process.sessions import wait_until

HERE: Final = Path(__file__).parent
PIPELINE, DAG_ID, ASSET = "measured", "watch_executions", "sagemaker://measured"
EXAMPLE, EXAMPLE_QUEUE = "react_to_events", "sagemaker-events"
# The pipeline of the example takes 38 s.
SPEED: Final = 60
TIMEOUT: Final = 180.0


@dataclass(frozen=True)
class Reaction:
    """
    How soon Airflow has reacted to the end of an execution, in seconds.

    :param stored: from the end to the asset event.
    :param started: from the end to the start of the DAG run.
    """

    stored: float
    started: float


@dataclass
class Deployment:
    """An emulator, and an Airflow that reads the queue of its events."""

    emulator: EmulatorProcess
    airflow: PrivateAirflow

    def client(self, service: str) -> Any:
        """Return a boto3 client of the emulator."""
        make: Any = boto3.client
        keys = {"aws_access_key_id": "AKIATEST", "aws_secret_access_key": "secret"}
        return make(
            service, endpoint_url=self.emulator.endpoint_url, region_name=REGION, **keys
        )

    def create_queue(self, name: str, pipeline: str) -> None:
        """
        Create a queue, and the rule that fills it with the ends of the executions of a
        pipeline. The emulator has no CloudFormation, but its rules are moto's.
        """
        create_stack(QueueName=name, PipelineName=pipeline)
        self.client("sqs").create_queue(QueueName=name)
        events = self.client("events")
        rule = f"{name}-executions"
        events.put_rule(Name=rule, EventPattern=json.dumps(rules()[rule]))
        queue_arn = f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}"
        events.put_targets(Rule=rule, Targets=[{"Id": "queue", "Arn": queue_arn}])

    def start_execution(self, pipeline: str = PIPELINE) -> str:
        """Start an execution, as somebody else does."""
        response = self.client("sagemaker").start_pipeline_execution(
            PipelineName=pipeline
        )
        return str(response["PipelineExecutionArn"])

    def wait_for_reader(self, queue: str) -> None:
        """Wait until Airflow reads a queue."""

        def is_read() -> bool:
            calls = self.emulator.control.calls("ReceiveMessage")
            return any(
                call["request"]["QueueUrl"].endswith(f"/{queue}") for call in calls
            )

        if not wait_until(is_read, timeout=TIMEOUT):
            raise RuntimeError(f"nobody reads the queue {queue}")

    def ended_at(self, arn: str) -> float:
        """Return when an execution has ended, by the clock of the host."""
        description = self.client("sagemaker").describe_pipeline_execution(
            PipelineExecutionArn=arn
        )
        emulated, now = float(self.emulator.control.clock()["now"]), time.time()
        end: float = description["LastModifiedTime"].timestamp()
        return now - (emulated - end) / SPEED

    def asset_events(self) -> list[dict[str, Any]]:
        """
        Return the latest events of the measured asset.

        Airflow 3.3 answers with HTTP status 500 while a run that an event has started
        is queued: its response requires the start of the run.
        """
        client = self.airflow.client
        pages: list[Any] = []

        def is_listed() -> bool:
            try:
                pages.append(
                    client.get(
                        f"{client.api}/assets/events", limit=100, order_by="-timestamp"
                    )
                )
            except AirflowError:
                return False
            return True

        if not wait_until(is_listed, timeout=TIMEOUT):
            raise RuntimeError("Airflow does not list asset events")
        return [
            event
            for event in pages[-1]["asset_events"]
            if event["uri"].rstrip("/") == ASSET
        ]

    def events_of(self, arns: list[str]) -> list[dict[str, Any]]:
        """Return the asset events of some executions."""
        return [
            event
            for event in self.asset_events()
            if event["extra"]["payload"]["execution_arn"] in set(arns)
        ]


@contextmanager
def deployed(home: Path) -> Iterator[Deployment]:
    """Run the emulator and Airflow, with the DAG of the measurement and the example."""
    airflow_home = home / "airflow"
    airflow_home.mkdir()
    with (
        private_postgres() as database,
        EmulatorProcess(home, speed=SPEED, definitions=EXAMPLE_DEFINITIONS) as emulator,
    ):
        queue = f"{emulator.endpoint_url}/{ACCOUNT}"
        with PrivateAirflow(
            airflow_home,
            dag_folders=[HERE / "dags", EXAMPLES / "airflow_3_3"],
            connections={"polysync_default": emulator.connection},
            database=database.url,
            settings={
                "MEASURED_QUEUE_URL": f"{queue}/{PIPELINE}",
                "SAGEMAKER_EVENTS_QUEUE_URL": f"{queue}/{EXAMPLE_QUEUE}",
                "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "True",
                # Airflow starts watchers when it next parses the file of a DAG that is
                # not paused.
                "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "5",
                "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "10",
            },
        ) as airflow:
            deployment = Deployment(emulator, airflow)
            deployment.client("sagemaker").create_pipeline(
                PipelineName=PIPELINE,
                PipelineDefinition=definition(step("Only")),
                RoleArn=ROLE,
            )
            emulator.control.put_scenario(
                {"steps": {"Only": {"duration": 30}}}, pipeline=PIPELINE
            )
            for name, pipeline in (
                (PIPELINE, PIPELINE),
                (EXAMPLE_QUEUE, "churn-tuning"),
            ):
                deployment.create_queue(name, pipeline)
            airflow.client.wait_for_dag(DAG_ID)
            airflow.client.unpause(DAG_ID)
            deployment.wait_for_reader(PIPELINE)
            yield deployment


def measure(deployment: Deployment, count: int) -> list[Reaction]:
    """
    Start executions one after the other, and return how soon Airflow has reacted to the
    end of each.

    Not two at a time: an event that comes while another one of its asset waits for the
    scheduler starts no DAG run of its own in Airflow.

    :param count: how many.
    """
    return [_reaction(deployment) for _ in range(count)]


def _reaction(deployment: Deployment) -> Reaction:
    # At any time within a loop of the triggerer and of the scheduler.
    time.sleep(random.random())
    arn = deployment.start_execution()

    def run() -> dict[str, Any] | None:
        (event,) = deployment.events_of([arn]) or [{"created_dagruns": []}]
        return next(
            (run for run in event["created_dagruns"] if run["start_date"]), None
        )

    if not wait_until(lambda: run() is not None, timeout=TIMEOUT, interval=0.5):
        raise RuntimeError(f"no DAG run has started for {arn}")
    (event,), end, started = (
        deployment.events_of([arn]),
        deployment.ended_at(arn),
        run(),
    )
    assert started
    return Reaction(
        _seconds(event["timestamp"]) - end, _seconds(started["start_date"]) - end
    )


def kill_between_receive_and_store(deployment: Deployment, count: int) -> list[str]:
    """
    Kill the triggerer when it has received events and has stored none of them; start
    another one.

    :param count: how many events.
    :return: the ARN of each asset event that was stored then.
    """
    sqs = deployment.client("sqs")
    url = sqs.get_queue_url(QueueName=PIPELINE)["QueueUrl"]
    name = "ApproximateNumberOfMessagesNotVisible"

    def received() -> bool:
        attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=[name])[
            "Attributes"
        ]
        return int(attributes[name]) >= count

    triggerer = deployment.airflow.components["triggerer"]
    # Its first process stores the events that the other one, which runs the triggers,
    # sends it.
    triggerer.signal(signal.SIGSTOP)
    arns = [deployment.start_execution() for _ in range(count)]
    if not wait_until(received, timeout=TIMEOUT):
        raise RuntimeError("the triggerer does not receive the messages")
    time.sleep(2)
    if deployment.events_of(arns):
        raise RuntimeError("the triggerer has stored events")
    triggerer.kill()
    deployment.airflow.start_component("triggerer")
    wait_until(
        lambda: len(deployment.events_of(arns)) >= count, timeout=TIMEOUT, interval=1
    )
    # For events that come twice.
    time.sleep(5)
    return [
        event["extra"]["payload"]["execution_arn"]
        for event in deployment.events_of(arns)
    ]


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
