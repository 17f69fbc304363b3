"""
Owns the demo: one SageMaker pipeline run from a private Airflow, against the local emulator.

``make demo`` runs it. It needs no AWS account and leaves nothing behind.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import httpx
from botocore.exceptions import BotoCoreError, ClientError

from tests.system.airflow_client import AirflowClient, AirflowError
from tests.system.demo_screen import Screen
from tests.system.foreground import in_foreground
from tests.system.interruption import InterruptedByPersonError, raise_when_interrupted
from tests.system.local_emulator import LocalEmulator
from tests.system.private_airflow import PrivateAirflow
from tests.system.processes import ProcessError

EXAMPLES: Final = Path(__file__).parents[2] / "example_dags"
DAG: Final = "scheduled_retraining"
TASK: Final = "retrain"

# The pipeline's 38 minutes in 19 seconds, so that the task is deferred for two looks.
SPEED: Final = 120.0
RUN_TIMEOUT: Final = 180.0
LOOK_INTERVAL: Final = 0.5
ENDED: Final = ("success", "failed")
# A task to be tried again counts: its retry is minutes away.
FAILED: Final = ("failed", "up_for_retry")
LOG_TAIL: Final = 5
REMARKS: Final = {"deferred": "it waits in the triggerer and holds no worker"}


class DemoFailedError(RuntimeError):
    """The run did not end as it should."""


def main() -> int:
    """
    Run the demo.

    :returns: the exit status: 0, 1 if it failed, 130 if it was interrupted before its end.
    """
    options = _parser().parse_args()
    raise_when_interrupted()
    home = Path(tempfile.mkdtemp(prefix="polysync-demo-"))
    screen = Screen()
    try:
        with in_foreground() if options.keep else ExitStack():
            _run(home, screen, keep=options.keep)
    except InterruptedByPersonError:
        screen.say("Interrupted. Nothing is left running.")
        shutil.rmtree(home)
        return 130
    except (
        AirflowError,
        ProcessError,
        DemoFailedError,
        httpx.HTTPError,
        BotoCoreError,
        ClientError,
    ) as error:
        screen.failure(f"{error}", logs=home)
        return 1
    shutil.rmtree(home)
    screen.say("Done. Nothing is left running.")
    return 0


def _run(home: Path, screen: Screen, *, keep: bool) -> None:
    screen.say("Starting the SageMaker emulator")
    with ExitStack() as stack:
        definitions = EXAMPLES / "definitions"
        emulator = stack.enter_context(LocalEmulator(home, speed=SPEED, definitions=definitions))
        screen.say(f"The emulator answers at {emulator.endpoint_url}; its time is {SPEED:g} times as fast")
        screen.say("Starting a private Airflow: database, API server, DAG processor, scheduler, triggerer")
        airflow = stack.enter_context(
            PrivateAirflow(
                home, dag_folders=[EXAMPLES], connections={"polysync_default": emulator.connection}
            )
        )
        screen.say(f"Airflow is ready at {airflow.url}")
        run_id = _trigger(airflow.client, screen)
        _watch(airflow, emulator, screen, run_id)
        _tell(airflow.client, emulator, screen, run_id)
        if keep:
            _keep(airflow, screen, run_id)
        screen.say("Ending Airflow and the emulator")


def _trigger(client: AirflowClient, screen: Screen) -> str:
    client.wait_for_dag(DAG)
    run_id = client.trigger(DAG)
    client.unpause(DAG)
    screen.say(f"Triggered the DAG {DAG}")
    return run_id


def _watch(airflow: PrivateAirflow, emulator: LocalEmulator, screen: Screen, run_id: str) -> None:
    """Tell every change until the run has ended."""
    sagemaker = emulator.client()
    deadline = time.monotonic() + RUN_TIMEOUT
    state, arn = "queued", None
    while state not in ENDED:
        if time.monotonic() > deadline:
            raise DemoFailedError(f"The run is still {state} after {RUN_TIMEOUT:.0f} s")
        airflow.check_alive()
        state = airflow.client.run_state(DAG, run_id)
        for task, task_state in airflow.client.task_states(DAG, run_id).items():
            screen.change(f"Task {task}", task_state, remarks=REMARKS)
            if task_state in FAILED:
                raise DemoFailedError(_failure(airflow.client, run_id, task))
        if arn is None:
            arn = airflow.client.xcom(DAG, run_id, TASK, "execution_arn")
            if arn:
                screen.say(f"  Execution {arn.rsplit('/')[-1]} exists; the task has its console button")
        for step in _steps(sagemaker, arn) if arn else ():
            screen.change(f"  Step {step['StepName']}", step["StepStatus"])
        time.sleep(LOOK_INTERVAL)
    if state != "success":
        raise DemoFailedError(f"The run ended as {state}")


def _failure(client: AirflowClient, run_id: str, task: str) -> str:
    messages = [line for line in client.log(DAG, run_id, task) if not line.startswith("::")]
    return "\n".join([f"The task {task} failed. The end of its log:", *messages[-LOG_TAIL:]])


def _tell(client: AirflowClient, emulator: LocalEmulator, screen: Screen, run_id: str) -> None:
    run = client.xcom(DAG, run_id, TASK, "run")
    screen.tasks(client.tasks(DAG, run_id))
    screen.execution(run, console_url=client.links(DAG, run_id, TASK)["SageMaker Console"])
    screen.steps(_steps(emulator.client(), run["execution_arn"]))
    if run["state"] != "Success":
        raise DemoFailedError(f"The execution ended as {run['state']}, though its task succeeded")


def _keep(airflow: PrivateAirflow, screen: Screen, run_id: str) -> None:
    screen.say(f"Airflow stays at {airflow.url} until Ctrl-C. The task with its button:")
    screen.line(f"{airflow.url}/dags/{DAG}/runs/{run_id}/tasks/{TASK}/details")
    try:
        while True:
            airflow.check_alive()
            time.sleep(1)
    except InterruptedByPersonError:
        screen.line("")


def _steps(sagemaker: Any, execution_arn: str) -> list[dict[str, Any]]:
    answer = sagemaker.list_pipeline_execution_steps(
        PipelineExecutionArn=execution_arn, SortOrder="Ascending"
    )
    return list(answer["PipelineExecutionSteps"])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.system.demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="keep Airflow's UI open until Ctrl-C")
    return parser


if __name__ == "__main__":
    sys.exit(main())
