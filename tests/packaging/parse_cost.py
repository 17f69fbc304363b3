"""
Measures what a DAG file costs each time Airflow parses it: with a DAG for each imported
job, or a task for each step.

``make parse-cost`` runs it.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from polysync_airflow.jobs.catalogue import CatalogueJob, write_catalogue

JOBS: Final = (1, 100, 500)
RUNS: Final = 5
# CPU seconds for the largest file.
LIMIT: Final = 2.0
# The steps of a group, of which a third are in branches, and the CPU seconds for most
# of them.
STEP_COUNTS: Final = (10, 100, 500)
GROUP_LIMIT: Final = 1.5
DAG_FILE: Final = (
    'from polysync_airflow.dags import polysync_dags\npolysync_dags("jobs.yaml")\n'
)
GROUP_FILE: Final = """
from airflow.providers.common.compat.sdk import DAG
from polysync_airflow.task_groups import PolysyncPipelineTaskGroup
with DAG("steps", schedule=None):
    PolysyncPipelineTaskGroup("pipeline", pipeline_name="pipeline", definition="pipeline.json")
"""
PARAMETERS: Final = [
    {
        "name": "InputData",
        "type": "String",
        "default": "s3://ml-bucket/churn/raw",
        "description": "The data",
    },
    {
        "name": "InstanceType",
        "type": "String",
        "enum_values": ["ml.m5.xlarge", "ml.m5.2xlarge"],
    },
    {"name": "MaxJobs", "type": "Integer", "default": 4},
    {"name": "LearningRate", "type": "Float", "default": 0.1},
    {"name": "DryRun", "type": "Boolean", "default": False},
]
STEPS: Final = [
    {"name": "Prepare", "type": "Processing"},
    {"name": "Train", "type": "Training", "needs": ["Prepare"]},
    {"name": "Evaluate", "type": "Processing", "needs": ["Prepare", "Train"]},
    {"name": "Check", "type": "Condition", "needs": ["Evaluate"]},
    {
        "name": "Register",
        "type": "RegisterModel",
        "needs": ["Train"],
        "condition": "Check",
        "branch": "True",
    },
    {"name": "Stop", "type": "Fail", "condition": "Check", "branch": "False"},
]
# Airflow parses a file in a process that has imported what all DAG files import.
_PROGRAM: Final = """
import logging, sys, time
import airflow.providers.common.compat.sdk
try:
    from airflow.dag_processing.dagbag import DagBag
except ImportError:
    from airflow.models.dagbag import DagBag
logging.disable(logging.CRITICAL)
start = time.process_time()
bag = DagBag(sys.argv[1])
seconds = time.process_time() - start
assert not bag.import_errors, bag.import_errors
print(seconds, len(bag.dags))
"""


def measure(folder: Path, jobs: int) -> float:
    """
    Return the CPU seconds of one parse, the median of several new interpreters.

    :param folder: an empty folder.
    :param jobs: how many jobs the catalogue has.
    """
    prefix = "arn:aws:sagemaker:us-east-1:123456789012:pipeline/"
    made = [
        {
            "name": f"job-{number}",
            "arn": f"{prefix}job-{number}",
            "region": "us-east-1",
            "parameters": PARAMETERS,
            "steps": STEPS,
        }
        for number in range(jobs)
    ]
    write_catalogue(
        folder / "jobs.yaml", [CatalogueJob.model_validate(job) for job in made]
    )
    (folder / "all_jobs.py").write_text(DAG_FILE)
    return statistics.median(
        _parse_once(folder / "all_jobs.py", jobs) for _ in range(RUNS)
    )


def measure_group(folder: Path, steps: int) -> float:
    """
    Return the same for a file with a group of steps.

    :param folder: an empty folder.
    :param steps: how many steps the pipeline has.
    """
    (folder / "pipeline.json").write_text(
        json.dumps({"Version": "2020-12-01", "Steps": _steps(steps)})
    )
    (folder / "steps.py").write_text(GROUP_FILE)
    return statistics.median(_parse_once(folder / "steps.py", 1) for _ in range(RUNS))


def _steps(count: int) -> list[dict[str, Any]]:
    """
    Return steps, each third of which is in the branch of a condition, and which need
    two earlier ones.
    """
    top: list[dict[str, Any]] = []
    for number in range(count):
        needs = sorted({number // 2, number // 3} - {number})
        step: dict[str, Any] = {
            "Name": f"Step{number}",
            "Type": "Processing",
            "Arguments": {},
        }
        if number % 3 == 2:
            branches = {"Conditions": [], "IfSteps": [step], "ElseSteps": []}
            top[-1] |= {"Type": "Condition", "Arguments": branches}
        else:
            step["DependsOn"] = [f"Step{each}" for each in needs]
            top.append(step)
    return top


def _parse_once(file: Path, jobs: int) -> float:
    with tempfile.TemporaryDirectory() as home:
        process = subprocess.run(
            [sys.executable, "-c", _PROGRAM, str(file)],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "AIRFLOW_HOME": home},
        )
    seconds, count = process.stdout.split()[-2:]
    assert int(count) == jobs
    return float(seconds)


def main() -> int:
    """
    Print the costs.

    :return: the exit status: 1 if one of the largest files costs more than its limit.
    """
    print(
        f"CPU of one parse of a file with a DAG for each job, median of {RUNS} new interpreters:\n"
    )
    print("jobs  CPU seconds")
    seconds = 0.0
    for jobs in JOBS:
        with tempfile.TemporaryDirectory() as folder:
            seconds = measure(Path(folder), jobs)
        print(f"{jobs:4}  {seconds:11.2f}")
    print("\nThe same with a task for each step of one pipeline:\n\nsteps  CPU seconds")
    group_seconds = 0.0
    for steps in STEP_COUNTS:
        with tempfile.TemporaryDirectory() as folder:
            group_seconds = measure_group(Path(folder), steps)
        print(f"{steps:5}  {group_seconds:11.2f}")
    return 1 if seconds > LIMIT or group_seconds > GROUP_LIMIT else 0


if __name__ == "__main__":
    sys.exit(main())
