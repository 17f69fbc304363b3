"""
The DAGs that show what the provider is for, in the order in which to look at them, and
what their pipelines do on the emulator.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sagemaker_emulator.builders import ROLE, definition, step
from tests.browser.arranged import LOG_LINES, REASON
from tests.system.airflow.client import AirflowClient
from tests.system.emulator_process import EmulatorProcess

# An execution takes 19 s instead of 38 minutes, so that the trigger polls twice. By
# the scenarios, not by the clock: the cost of a job that runs, and how long it has run,
# follow from AWS's times and those of this machine.
SPEED: Final = 120.0
USUAL: Final = {"speed": SPEED}
RUN: Final = "demo"
_OUT_OF_MEMORY: Final = "AlgorithmError: ExecuteUserScriptError: ExitCode 137, OOM"
_CAPACITY: Final = "CapacityError: Unable to provision requested ML compute capacity."


@dataclass(frozen=True)
class Shown:
    """
    A DAG that the demo starts.

    :param dag_id: its id.
    :param page: where to look, after the address of its run.
    :param text: what there is to see.
    :param end: the state in which its run ends.
    :param end_text: what has happened then.
    """

    dag_id: str
    page: str
    text: str
    end: str
    end_text: str

    def url(self, airflow: str) -> str:
        """
        Return the address of what there is to see.

        :param airflow: the address of Airflow.
        """
        return f"{airflow}/dags/{self.dag_id}/runs/{RUN}{self.page}"


def _tab(task: str) -> str:
    return f"/tasks/{task}/plugin/sagemaker"


ALL: Final = (
    Shown(
        "demo_failure",
        _tab("retrain"),
        "a step fails: why, the last lines of its log, and a button that resumes it",
        "failed",
        "has failed, as it is meant to",
    ),
    Shown(
        "demo_resume",
        _tab("retrain"),
        "a step fails, and a minute later the retry resumes the execution",
        "success",
        "was resumed by its retry, and has succeeded",
    ),
    Shown(
        "demo_capacity",
        _tab("score"),
        "AWS has no instances: the task asks again, without a worker",
        "success",
        "has got its instances, and has succeeded",
    ),
    Shown(
        "demo_limit",
        _tab("train"),
        "max_cost = 0.20 USD is spent in a minute: the execution is stopped",
        "failed",
        "has spent its max_cost, and was stopped, as it is meant to",
    ),
    Shown(
        "steps_as_tasks",
        "",
        "each step is a task of Airflow; a later task needs one of them only",
        "success",
        "has succeeded",
    ),
)

# Each pipeline has the name of its DAG, with a hyphen: its steps, and its scenario.
_PIPELINES: Final[Mapping[str, tuple[str, Mapping[str, Any]]]] = {
    # As in the picture at the top of the README.
    "demo-failure": (
        definition(
            step("Preprocess"),
            step("CheckData", "QualityCheck", "Preprocess"),
            step("Tune", "Tuning", "CheckData"),
            step("TrainBest", "Training", "Tune"),
            step(
                "CheckQuality",
                "Condition",
                "TrainBest",
                Arguments={
                    "Conditions": [
                        {"Type": "LessThan", "LeftValue": 1, "RightValue": 2}
                    ],
                    "IfSteps": [step("Register", "Model")],
                    "ElseSteps": [],
                },
            ),
        ),
        {"TrainBest": {"fail": {"reason": REASON, "log_lines": LOG_LINES, "times": 1}}},
    ),
    "demo-resume": (
        definition(
            step("Preprocess"),
            step("Train", "Training", "Preprocess"),
            step("Evaluate", "Processing", "Train"),
        ),
        {"Train": {"fail": {"reason": _OUT_OF_MEMORY, "times": 1}}},
    ),
    "demo-capacity": (
        definition(
            step("Extract"),
            step("Score", "Transform", "Extract"),
            step("Publish", "Processing", "Score"),
        ),
        {"Score": {"fail": {"reason": _CAPACITY, "times": 2}}},
    ),
    # The training never ends by itself.
    "demo-limit": (
        definition(step("Preprocess"), step("Train", "Training", "Preprocess")),
        {"Train": {"duration": None}},
    ),
}


def prepare(emulator: EmulatorProcess) -> None:
    """Create the pipelines of these DAGs."""
    for name, (text, steps) in _PIPELINES.items():
        emulator.control.put_scenario({**USUAL, "steps": steps}, pipeline=name)
        emulator.client().create_pipeline(
            PipelineName=name, PipelineDefinition=text, RoleArn=ROLE
        )


def start(client: AirflowClient) -> None:
    """Start one run of each."""
    for each in ALL:
        client.wait_for_dag(each.dag_id)
        client.trigger(each.dag_id, run_id=RUN)
        client.unpause(each.dag_id)
