"""
The steps of a catalogue's jobs: what an import writes, what is read, and what is
refused.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from polysync_airflow.aws import rate_limiter
from polysync_airflow.exceptions import CatalogueError
from polysync_airflow.execution.pipelines import declared_steps, job_steps
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.jobs.catalogue import (
    catalogue_jobs,
    catalogue_text,
    read_catalogue,
    steps_of,
    write_catalogue,
)
from polysync_airflow.jobs.importer import import_jobs
from sagemaker_emulator import EmulatorServer, builders
from tests.fakes.log_capture import capture_logs
from tests.unit.jobs.catalogue.builders import ARN_TEXT, job, put_pipelines

GET = {"Get": "Steps.Train.ModelArtifacts.S3ModelArtifacts"}
REPORT = {"PropertyFileName": "Report", "OutputName": "out", "FilePath": "report.json"}


ENVIRONMENT = {"Environment": {"MODEL": GET}}
SPECIFICATION = {
    "InferenceSpecification": {"Containers": [{"Image": "image", "ModelDataUrl": GET}]}
}


def step(
    name: str, type_: str = "Processing", *depends_on: str, **members: Any
) -> dict[str, Any]:
    """Return a step as a definition has it."""
    body = builders.step(name, type_, *depends_on, **members)
    if not depends_on:
        del body["DependsOn"]
    return body


PROPERTY_FILE = {"Get": "Steps.Evaluate.PropertyFiles.Report"}
SCORE = {"Std:JsonGet": {"PropertyFile": PROPERTY_FILE, "Path": "score"}}
CONDITION = {
    "Conditions": [{"Type": "GreaterThan", "LeftValue": SCORE, "RightValue": 0.5}],
    "IfSteps": [step("Register", "RegisterModel", Arguments=SPECIFICATION)],
    "ElseSteps": [step("Stop", "Fail", Arguments={"ErrorMessage": "low"})],
}
LOOP = {
    "IterableItems": ["a"],
    "MaxConcurrency": 1,
    "ForEachBody": [step("Each", "Processing", Arguments=ENVIRONMENT)],
}
EVALUATE = step("Evaluate", Arguments=ENVIRONMENT, PropertyFiles=[REPORT])
DEFINITION = {
    "Version": "2020-12-01",
    "Steps": [
        step("Train", "Training"),
        EVALUATE,
        step("Check", "Condition", "Train", Arguments=CONDITION),
        step("Loop", "ForEach", "Check", Arguments=LOOP),
    ],
}
UNDER_CHECK = {"condition": "Check", "branch": "True"}
IN_FILE: list[dict[str, Any]] = [
    {"name": "Train", "type": "Training"},
    {"name": "Evaluate", "type": "Processing", "needs": ["Train"]},
    {"name": "Check", "type": "Condition", "needs": ["Evaluate", "Train"]},
    {"name": "Register", "type": "RegisterModel", "needs": ["Train"], **UNDER_CHECK},
    {"name": "Stop", "type": "Fail", "condition": "Check", "branch": "False"},
    {"name": "Loop", "type": "ForEach", "needs": ["Check", "Train"]},
]


@pytest.fixture(autouse=True)
def new_rate_limiters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test a new rate limiter."""
    monkeypatch.setattr(rate_limiter, "_RATE_LIMITERS", {})


def describe_as(hook: PolysyncSageMakerHook, **definitions: str) -> None:
    """
    Change the definitions that AWS returns, since the emulator validates those of
    pipelines.
    """
    client: Any = hook.conn

    def change(parsed: dict[str, Any], **_: Any) -> None:
        if parsed["PipelineName"] in definitions:
            parsed["PipelineDefinition"] = definitions[parsed["PipelineName"]]

    client.meta.events.register("after-call.sagemaker.DescribePipeline", change)


def read_steps(folder: Path, *steps: Any) -> Any:
    """
    Read a file with a good job, and a job with these steps; return the second one, or
    its problem.
    """
    good = {"name": "good", "arn": ARN_TEXT, "region": "us-east-1"}
    churn = {**good, "name": "churn", "steps": list(steps)}
    content = {"version": 1, "jobs": [churn, good]}
    (folder / "jobs.yaml").write_text(yaml.safe_dump(content))
    found = read_catalogue(folder / "jobs.yaml")
    assert [each.name for each in found.jobs][-1] == "good"
    return found.broken[0].problem if found.broken else found.jobs[0]


def test_import_writes_the_steps(emulator: EmulatorServer, path: Path) -> None:
    """
    The file has the steps of all branches, with what they depend on, and none of those
    that a loop runs.
    """
    put_pipelines(emulator, {"churn": DEFINITION})

    jobs = import_jobs(PolysyncSageMakerHook(), names=["churn"])
    write_catalogue(path, catalogue_jobs(jobs, None))

    (written,) = yaml.safe_load(path.read_text())["jobs"]
    assert written["steps"] == IN_FILE
    (read,) = read_catalogue(path).jobs
    assert [
        each.model_dump(mode="json", exclude_defaults=True) for each in steps_of(read)
    ] == IN_FILE


def test_the_same_steps_are_the_same_text() -> None:
    """The order in which a definition names dependencies changes nothing."""
    texts = set()
    for depends_on in (["B", "A", "Gone"], ["A", "B"]):
        steps = [{"Name": "A"}, {"Name": "B"}, {"Name": "C", "DependsOn": depends_on}]
        found, problem = job_steps(declared_steps(json.dumps({"Steps": steps})))
        assert problem is None
        texts.add(catalogue_text(catalogue_jobs([job("churn", steps=found)], None)))

    (text,) = texts
    assert text.endswith("  - name: C\n    needs:\n    - A\n    - B\n")


def named(name: str, **members: Any) -> dict[str, Any]:
    """Return a step as the file has it."""
    return {"name": name, **members}


CIRCLE = "steps: they depend on each other in a circle: "
BRANCH = "steps: B must have a branch and a condition"
UNDER_A = named("B", condition="A", branch="True")
IN_CIRCLE = [named("A", needs=["C"]), named("B", needs=["A"]), named("C", needs=["B"])]
MANY = [named(f"A{number}") for number in range(501)]


@pytest.mark.parametrize(
    ("steps", "problem"),
    [
        ([named("A"), named("B"), named("B")], "steps: B is there twice"),
        ([named("A", needs=["A"])], f"{CIRCLE}A, A"),
        (IN_CIRCLE, CIRCLE),
        ([named("A", needs=["B"]), UNDER_A], CIRCLE),
        (
            [named("A", branch="True")],
            "steps: A must have a branch and a condition that is a step, or",
        ),
        ([named("A"), named("B", condition="A")], BRANCH),
        ([UNDER_A], BRANCH),
        ([named("A"), {**UNDER_A, "branch": "Yes"}], "steps.1.branch: "),
        ([named("")], "steps.0.name: "),
        ([named("A" * 257)], "steps.0.name: "),
        ([named("A\nB")], "steps.0.name: "),
        ([named("A", type="T\x1b")], "steps.0.type: "),
        ([named("A", need=[])], "steps.0.need: Extra inputs"),
        ([named("A", needs=["A"] * 501)], "steps.0.needs: "),
        (["A"], "steps.0: "),
        (MANY, "steps: List should have at most 500 items"),
    ],
)
def test_broken_steps_are_of_a_job(
    steps: list[Any], problem: str, tmp_path: Path
) -> None:
    """
    The entry is broken with a text that names the step, and the other job can be used.
    """
    found = read_steps(tmp_path, *steps)

    assert isinstance(found, str)
    assert found.startswith(problem)


def test_dependencies_on_other_steps_are_dropped(tmp_path: Path) -> None:
    """A step that the job does not have cannot be waited for."""
    last = named("C", needs=["B", "{{ x }}", "A"])
    found = read_steps(tmp_path, named("A"), named("B"), last)

    assert [step.needs for step in found.steps] == [(), (), ("A", "B")]


def test_steps_that_no_file_can_have_are_left_out_with_a_warning(
    emulator: EmulatorServer, path: Path
) -> None:
    """
    A warning names the pipeline and the step; it is imported without steps, and the
    others with theirs.
    """
    hook = PolysyncSageMakerHook()
    circle = [{"Name": "A", "DependsOn": ["B"]}, {"Name": "B", "DependsOn": ["A"]}]
    describe_as(hook, abalone=json.dumps({"Steps": circle}), fanout="{")

    with capture_logs() as logs:
        jobs = import_jobs(hook)

    lines = [line["event"] % line.get("positional_args", ()) for line in logs]
    warning = (
        "Pipeline abalone: a catalogue cannot have its steps: "
        "they depend on each other in a circle: "
    )
    assert [line.startswith(warning) for line in lines].count(True) == 1
    write_catalogue(path, catalogue_jobs(jobs, None))
    read = {each.name: each for each in read_catalogue(path).jobs}
    without = [name for name, each in read.items() if not each.steps]
    assert without == ["abalone", "fanout"]
    assert len(read) == 5
    for name in ("abalone", "fanout"):
        problem = f"of the job {name}: the definition could not be read"
        with pytest.raises(CatalogueError, match=problem):
            steps_of(read[name])
