"""
Demo: a private Airflow runs one SageMaker pipeline on the local emulator.

``make demo`` runs it. It needs no AWS account, and it removes all its processes and
files at the end.
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

from sagemaker_emulator import EXAMPLE_DEFINITIONS
from tests.system.airflow.client import AirflowClient, AirflowError
from tests.system.airflow.private_airflow import PrivateAirflow
from tests.system.airflow.versions import INSTALLED
from tests.system.demo import kept, shown
from tests.system.demo.output import DemoOutput
from tests.system.emulator_process import EmulatorProcess
from tests.system.process.sessions import ProcessError
from tests.system.process.signals import InterruptedByUserError, raise_on_signals
from tests.system.process.terminal import in_foreground

EXAMPLES: Final = Path(__file__).parents[3] / "example_dags"
DAG: Final = "scheduled_retraining"
TASK: Final = "retrain"
RUN_TIMEOUT: Final = 180.0
POLL_INTERVAL: Final = 0.5
ENDED: Final = ("success", "failed")
# A task that is up for retry counts as failed, because its retry starts only minutes
# later.
FAILED: Final = ("failed", "up_for_retry")
LOG_TAIL: Final = 5
EXPLANATIONS: Final = {"deferred": "waits in the triggerer without using a worker"}


class DemoFailedError(RuntimeError):
    """Raised when the DAG run or the execution does not succeed."""


def main() -> int:
    """
    Run the demo.

    :return: the exit status: 0 on success, 1 on failure, 130 if a signal interrupted
        the demo.
    """
    options = _parser().parse_args()
    raise_on_signals()
    home = Path(tempfile.mkdtemp(prefix="polysync-demo-"))
    output = DemoOutput()
    try:
        with in_foreground() if options.keep else ExitStack():
            _run(home, output, keep=options.keep)
    except InterruptedByUserError:
        output.progress("Interrupted. All processes were stopped.")
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
        output.failure(f"{error}", logs=home)
        return 1
    shutil.rmtree(home)
    output.progress("Done. All processes were stopped.")
    return 0


def _run(home: Path, output: DemoOutput, *, keep: bool) -> None:
    output.progress("Starting the SageMaker emulator")
    with ExitStack() as stack:
        emulator = stack.enter_context(
            EmulatorProcess(home, speed=1, definitions=EXAMPLE_DEFINITIONS)
        )
        emulator.control.put_scenario(shown.USUAL)
        output.progress(
            f"The emulator is ready at {emulator.endpoint_url}; steps are {shown.SPEED:g} times as fast as in AWS"
        )
        output.progress("Starting a private Airflow, which takes half a minute")
        more_dags = (
            (EXAMPLES / "airflow_3_3", kept.DAGS, stack.enter_context(kept.own_dags()))
            if keep
            else ()
        )
        database = None
        if not INSTALLED.sqlite:
            from tests.chaos.deployment.postgres import private_postgres

            database = stack.enter_context(private_postgres()).url
        airflow = stack.enter_context(
            PrivateAirflow(
                home,
                dag_folders=[EXAMPLES, *more_dags],
                database=database,
                connections={"polysync_default": emulator.connection},
                settings=kept.settings(home, emulator) if keep else None,
                on_wait=lambda text: output.progress(f"  waiting for {text}"),
            )
        )
        output.progress(f"Airflow is ready at {airflow.url}")
        if keep:
            airflow.client.sign_in(*kept.ADMIN)
        run_id = _trigger(airflow.client, output)
        _poll(airflow, emulator, output, run_id)
        _show_results(airflow.client, emulator, output, run_id)
        if keep:
            _keep_open(airflow, emulator, output)
        output.progress("Stopping Airflow and the emulator")


def _trigger(client: AirflowClient, output: DemoOutput) -> str:
    output.progress(f"  waiting for the DAG processor to parse {DAG}")
    client.wait_for_dag(DAG)
    run_id = client.trigger(DAG)
    client.unpause(DAG)
    output.progress(f"Triggered the DAG {DAG}")
    output.progress("  waiting for the scheduler to queue its first task")
    return run_id


def _poll(
    airflow: PrivateAirflow, emulator: EmulatorProcess, output: DemoOutput, run_id: str
) -> None:
    """Print every change of state until the DAG run ends."""
    sagemaker = emulator.client()
    deadline = time.monotonic() + RUN_TIMEOUT
    state, arn = "queued", None
    while state not in ENDED:
        if time.monotonic() > deadline:
            raise DemoFailedError(
                f"The DAG run is still {state} after {RUN_TIMEOUT:.0f} s"
            )
        airflow.check_alive()
        state = airflow.client.run_state(DAG, run_id)
        for task, task_state in airflow.client.task_states(DAG, run_id).items():
            output.state(f"Task {task}", task_state, explanations=EXPLANATIONS)
            if task_state in FAILED:
                raise DemoFailedError(_failure(airflow.client, run_id, task))
        if arn is None:
            arn = airflow.client.xcom(DAG, run_id, TASK, "execution_arn")
            if arn:
                output.progress(
                    f"  Execution {arn.rsplit('/')[-1]} started; the task has the SageMaker Console link"
                )
        for step in _steps(sagemaker, arn) if arn else ():
            output.state(f"  Step {step['StepName']}", step["StepStatus"])
        time.sleep(POLL_INTERVAL)
    if state != "success":
        raise DemoFailedError(f"The DAG run ended as {state}")


def _failure(client: AirflowClient, run_id: str, task: str) -> str:
    messages = [
        line for line in client.log(DAG, run_id, task) if not line.startswith("::")
    ]
    return "\n".join(
        [f"The task {task} failed. Last messages of its log:", *messages[-LOG_TAIL:]]
    )


def _show_results(
    client: AirflowClient, emulator: EmulatorProcess, output: DemoOutput, run_id: str
) -> None:
    run = client.xcom(DAG, run_id, TASK, "run")
    output.tasks(client.tasks(DAG, run_id))
    output.execution(
        run, console_url=client.links(DAG, run_id, TASK)["SageMaker Console"]
    )
    output.steps(_steps(emulator.client(), run["execution_arn"]))
    if run["state"] != "Success":
        raise DemoFailedError(
            f"The execution ended as {run['state']}, although the task succeeded"
        )


def _keep_open(
    airflow: PrivateAirflow, emulator: EmulatorProcess, output: DemoOutput
) -> None:
    output.progress("Starting the DAGs to look at")
    kept.start_dags(airflow.client)
    output.line("")
    for line in kept.explanation(airflow, emulator.endpoint_url, emulator.connection):
        output.line(line)
    output.line("")
    output.progress("Airflow stays open until you press Ctrl-C")
    try:
        kept.keep_open(airflow, output)
    except InterruptedByUserError:
        output.line("")


def _steps(sagemaker: Any, execution_arn: str) -> list[dict[str, Any]]:
    response = sagemaker.list_pipeline_execution_steps(
        PipelineExecutionArn=execution_arn, SortOrder="Ascending"
    )
    return list(response["PipelineExecutionSteps"])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.system.demo", description=__doc__
    )
    parser.add_argument(
        "--keep",
        action="store_true",
        help="keep Airflow's UI open until you press Ctrl-C",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
