"""
Groups with a task for each step, compared with Start tasks for the same pipelines, in a
whole Airflow on PostgreSQL.

Beside some of the Start tasks, as many tasks as the groups have only sleep: they start
and end in the triggerer, which is what Airflow itself takes for such tasks.

The executions are those of the emulator, and the steps of a pipeline are parallel
chains. Each provider column of the other parts is here a way to run the pipelines. The
lateness of a step is the end of its task, as Airflow has stored it, after the end of
the step in AWS.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import psutil

from sagemaker_emulator.builders import definition, step
from tests.benchmarks.context import BenchmarkContext
from tests.benchmarks.measure.event_loop_lag import percentile
from tests.benchmarks.results_cache import Metrics
from tests.benchmarks.tables import compare
from tests.chaos.deployment.postgres import private_postgres
from tests.system.airflow.private_airflow import PrivateAirflow
from tests.system.emulator_process import EmulatorProcess

TRIGGERER: Final = "triggerer"
SETTINGS: Final = {
    "AIRFLOW__TRIGGERER__CAPACITY": "10000",
    "AIRFLOW__CORE__PARALLELISM": "32",
    "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": "5000",
    "PYTHONPATH": str(Path(__file__).parents[3]),
}
CHAINS: Final = 10
# Emulated seconds per second; a step takes ten emulated minutes.
SPEED: Final = 30.0
STEP_SECONDS: Final = 600.0
DAGS: Final = """
from airflow.sdk import DAG
from polysync_airflow.operators import PolysyncStartPipelineOperator
from polysync_airflow.task_groups import PolysyncPipelineTaskGroup
from tests.benchmarks.deployment.sleep_trigger import SleepOperator

def start():
    return PolysyncStartPipelineOperator(
        task_id="start",
        pipeline_name="chains",
        deferrable=True,
        poll_interval={poll},
        progress_interval=max({poll}, 10),
    )

for number in range({groups}):
    with DAG(f"groups_{{number}}", schedule=None) as dag:
        PolysyncPipelineTaskGroup(
            "group", pipeline_name="chains", definition={file!r}, poll_interval={poll}
        )
    globals()[dag.dag_id] = dag
    with DAG(f"starts_{{number}}", schedule=None) as dag:
        start()
    globals()[dag.dag_id] = dag
    with DAG(f"sleeps_{{number}}", schedule=None) as dag:
        tasks = [SleepOperator(task_id=f"Step{{each}}", sleep={sleep}) for each in range({steps})]
        for above, below in zip(tasks, tasks[{chains}:]):
            above >> below
        start()
    globals()[dag.dag_id] = dag
"""


def _definition(steps: int) -> str:
    names = [f"Step{number}" for number in range(steps)]
    first = [step(name) for name in names[:CHAINS]]
    others = [
        step(name, "Processing", before)
        for before, name in zip(names, names[CHAINS:], strict=False)
    ]
    return definition(*first, *others)


def add_options(parser: argparse.ArgumentParser) -> None:
    """
    Add the options of this part.

    :param parser: the parser of this part.
    """
    parser.add_argument(
        "--groups", type=int, default=20, help="number of groups, and of Start tasks"
    )
    parser.add_argument(
        "--steps", type=int, default=50, help="number of steps of each pipeline"
    )
    parser.add_argument(
        "--poll",
        type=float,
        default=5.0,
        help="seconds between two polls of an execution",
    )


def show(options: argparse.Namespace, context: BenchmarkContext) -> None:
    """
    Measure all ways, and print the metrics.

    :param options: the parsed command line.
    :param context: the benchmark context.
    """
    with tempfile.TemporaryDirectory(prefix="polysync-benchmark-") as folder:
        home, dags, definitions = (
            Path(folder, name) for name in ("home", "dags", "definitions")
        )
        for each in (home, dags, definitions):
            each.mkdir()
        file = definitions / "chains.json"
        file.write_text(_definition(options.steps))
        sizes = {"groups": options.groups, "steps": options.steps, "chains": CHAINS}
        sleep = STEP_SECONDS / SPEED
        text = DAGS.format(**sizes, file=str(file), poll=options.poll, sleep=sleep)
        dags.joinpath("all.py").write_text(text)
        with (
            EmulatorProcess(home, speed=SPEED, definitions=definitions) as emulator,
            private_postgres() as database,
            PrivateAirflow(
                home,
                dag_folders=[dags],
                connections={"polysync_default": emulator.connection},
                settings=SETTINGS,
                database=database.url,
            ) as airflow,
        ):
            results = {
                name: _run(name, options.groups, airflow, emulator, context)
                for name in ("starts", "sleeps", "groups")
            }
    what = f"groups {options.groups}, steps {options.steps}, poll {options.poll:g}"
    print(f"\n### A task for each step: {what}\n\n{compare(results)}", flush=True)


def _run(
    name: str,
    groups: int,
    airflow: PrivateAirflow,
    emulator: EmulatorProcess,
    context: BenchmarkContext,
) -> Metrics:
    context.log(name)
    client = airflow.client
    dags = [f"{name}_{number}" for number in range(groups)]
    for dag_id in dags:
        client.wait_for_dag(dag_id)
        client.unpause(dag_id)
    airflow.start_component(TRIGGERER)
    time.sleep(20)
    emulator.control.clear_calls()
    cpu, memory, start = *_usage(airflow), time.time()
    runs = {dag_id: client.trigger(dag_id) for dag_id in dags}
    ends = {client.wait_for_run(*run, timeout=1200, interval=2) for run in runs.items()}
    wall, (cpu_after, memory_after) = time.time() - start, _usage(airflow)
    calls = Counter(call["operation"] for call in emulator.control.calls())
    tasks = [task for run in runs.items() for task in _tasks(airflow, *run)]
    late = _lateness(tasks, airflow, emulator) if name == "groups" else []
    steps = [task for task in tasks if "Step" in task["task_id"]]
    values = {
        "CPU of the triggerer, s": cpu_after - cpu,
        "peak memory of the triggerer above the start, MiB": memory_after - memory,
        "lists of steps": calls["ListPipelineExecutionSteps"],
        "descriptions and lists of executions": calls["DescribePipelineExecution"]
        + calls["ListPipelineExecutions"],
        "tasks of steps": len(steps),
        "tasks of steps with a worker process": sum(
            1 for task in steps if task["pid"] or task["hostname"]
        ),
        "lateness of the steps' tasks, p50, s": percentile(late, 50) if late else None,
        "lateness of the steps' tasks, p99, s": percentile(late, 99) if late else None,
        "wall time, s": wall,
    }
    return Metrics(
        {key: value for key, value in values.items() if value is not None},
        None if ends == {"success"} else f"ended: {ends}",
    )


def _tasks(airflow: PrivateAirflow, dag_id: str, run_id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while True:
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances"
        page = airflow.client.get(path, limit=100, offset=len(found))["task_instances"]
        found += page
        if not page:
            return found


def _lateness(
    tasks: list[dict[str, Any]], airflow: PrivateAirflow, emulator: EmulatorProcess
) -> list[float]:
    """Return the seconds from the end of each step to the end of its task."""
    now, emulated_now = time.time(), emulator.control.clock()["now"]
    late = []
    for task in tasks:
        if "Step" in task["task_id"] and task["state"] == "success":
            key = (task["dag_id"], task["dag_run_id"], task["task_id"])
            row = airflow.client.xcom(*key, "step")
            emulated = datetime.fromisoformat(row["ended_at"]).timestamp()
            ended = now - (emulated_now - emulated) / SPEED
            late.append(datetime.fromisoformat(task["end_date"]).timestamp() - ended)
    return late


def _usage(airflow: PrivateAirflow) -> tuple[float, float]:
    cpu = memory = 0.0
    for pid in airflow.components[TRIGGERER].members():
        times = psutil.Process(pid).cpu_times()
        cpu += times.user + times.system
        memory += (
            int(
                Path(f"/proc/{pid}/status")
                .read_text()
                .partition("VmHWM:")[2]
                .split()[0]
            )
            / 1024
        )
    return cpu, memory
