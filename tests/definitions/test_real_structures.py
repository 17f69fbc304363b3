"""
Definitions with the structure of real pipelines: each loads, is imported, has a form,
runs, and ends as it must.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from airflow.providers.common.compat.sdk import Param

from polysync_airflow import exceptions
from polysync_airflow.dags import job_form
from polysync_airflow.execution.pipelines import JobStep, declared_steps, job_steps
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.jobs.catalogue import (
    catalogue_jobs,
    read_catalogue,
    steps_of,
    write_catalogue,
)
from polysync_airflow.jobs.importer import import_jobs
from polysync_airflow.operators import (
    PolysyncListImportOperator,
    PolysyncStartPipelineOperator,
)
from sagemaker_emulator import EmulatorServer
from sagemaker_emulator.engine.definition import parse, references
from tests.definitions.builders import Structure, read_rows, read_structures
from tests.fakes.airflow_encoding import check_dag
from tests.tasks import EmulatedTime, run_task
from tests.unit.dags.catalogues import job, parameter
from tests.unit.dags.catalogues import parse as parse_file
from tests.unit.jobs.catalogue.builders import job as catalogue_job
from tests.unit.jobs.catalogue.builders import put_pipelines

STRUCTURES = read_structures()
BEFORE = {
    "Version": "2020-12-01",
    "Steps": [{"Name": "Before", "Type": "Fail", "Arguments": {}}],
}
# What makes a comparison true or false, if it is added to the right side.
OFFSETS = {
    "GreaterThan": (1, 0),
    "GreaterThanOrEqualTo": (0, -1),
    "LessThan": (-1, 0),
    "LessThanOrEqualTo": (0, 1),
}
FIELDS = {
    "String": "string",
    "Integer": "integer",
    "Float": "number",
    "Boolean": "boolean",
}


def test_pipelines_of_many_repositories() -> None:
    """
    At least 60 of at least 20 repositories, no two alike, and each repository is one
    that was read.
    """
    rows = read_rows()
    shapes = {
        json.dumps([row.get("parameters"), row["steps"]]) for row in rows["pipelines"]
    }

    assert len(STRUCTURES) == len(rows["pipelines"]) == len(shapes) >= 60
    assert {row["repository"] for row in rows["pipelines"]} == rows[
        "repositories"
    ].keys()
    assert len(rows["repositories"]) >= 20


def test_definitions_have_what_the_rows_say() -> None:
    """Types, branches, dependencies and references, as the emulator reads them."""
    for structure in STRUCTURES.values():
        definition = parse(structure.definition())

        assert definition.steps.keys() == structure.steps.keys(), structure
        assert definition.parameters.keys() == structure.parameters.keys(), structure
        for name, step in definition.steps.items():
            row = structure.steps[name]
            branch = None if step.condition is None else (step.condition, step.branch)
            assert (step.type, branch) == (row["type"], structure.branch_of(name)), (
                structure
            )
            assert step.depends_on == structure.needs(name), structure
            assert step.property_files == tuple(row.get("files", ())), structure
            assert set(structure.references(name)) <= set(references(step.body)), (
                structure
            )


def test_all_are_imported_and_have_a_form(
    emulator: EmulatorServer, tmp_path: Path
) -> None:
    """
    Pipelines are created and updated, imported by a task, and as DAGs from a catalogue.
    """
    put_pipelines(emulator, dict.fromkeys(STRUCTURES, BEFORE))
    definitions = {
        name: json.loads(each.definition()) for name, each in STRUCTURES.items()
    }
    put_pipelines(emulator, definitions, update=True)

    imported = run_task(
        PolysyncListImportOperator(task_id="import", pipeline_names=[*STRUCTURES])
    ).result
    entries = catalogue_jobs(
        import_jobs(PolysyncSageMakerHook(), names=[*STRUCTURES]), None
    )
    parsed = parse_file(tmp_path, "polysync_dags('jobs.yaml')", *entries)

    for each in imported:
        declared = STRUCTURES[each["name"]].parameters.items()
        assert each["parameters_error"] is None
        assert each["parameters"] == [
            {
                "name": name,
                "default": None,
                "enum_values": None,
                "description": None,
                **members,
            }
            for name, members in declared
        ]
    assert parsed.errors == {}
    assert (
        parsed.dags.keys() == {each["name"] for each in imported} == STRUCTURES.keys()
    )
    for name, dag in parsed.dags.items():
        check_dag(dag)
        fields = {each: dag.params.get_param(each) for each in dag.params}
        assert {each: as_seen(field) for each, field in fields.items()} == {
            each: expected_field(declared)
            for each, declared in STRUCTURES[name].parameters.items()
        }


def as_seen(field: Param) -> tuple[Any, bool, Any]:
    """Return the type of a form's field, whether it must be filled, and its value."""
    is_required = not field.has_value and "null" not in field.schema["type"]
    return field.schema["type"], is_required, None if is_required else field.value


def expected_field(parameter: Mapping[str, Any]) -> tuple[Any, bool, Any]:
    """Return the same for a parameter."""
    kind, default = FIELDS[parameter["type"]], parameter.get("default")
    # AWS refuses an empty text in a start, and takes it as a default: so the field may
    # be empty.
    return (
        (["null", kind], False, None)
        if default == ""
        else (kind, default is None, default)
    )


class Choice(NamedTuple):
    """
    An outcome of all conditions of a pipeline.

    :param is_true: whether the steps in ``if`` run.
    :param deferrable: the mode of the task. Few are deferred, which takes twice the
        time: what is done with an execution that has ended is done by a worker in both
        modes.
    """

    structure: Structure
    is_true: bool
    deferrable: bool

    def __str__(self) -> str:
        """Return the id of the test."""
        return f"{self.structure.name}-{'if' if self.is_true else 'else'}"

    def values(self) -> dict[str, Any]:
        """
        Return the parameters of the start that have no default, or that a condition
        compares.
        """
        parameters = self.structure.parameters.items()
        values = {name: "any" for name, each in parameters if "default" not in each}
        for kind, left, right in self._comparisons():
            if isinstance(left, str):
                assert kind == "Equals"
                values[left.removeprefix("Parameters.")] = (
                    right if self.is_true else "other"
                )
        return values

    def scenario(self) -> dict[str, Any]:
        """
        Return the scenario: callback steps are answered, and what conditions compare
        makes them true or false.
        """
        steps: dict[str, Any] = {
            name: _answers(each) for name, each in self.structure.steps.items()
        }
        for kind, left, right in self._comparisons():
            if isinstance(left, dict):
                value, other = self._sides(kind, right)
                _write(steps, left, value)
                _write(steps, right, other)
        return {"steps": steps}

    def _sides(self, kind: str, right: Any) -> tuple[Any, Any]:
        """
        Return the value of the left side, and that of the right side if it is in a
        property file, too.
        """
        if isinstance(right, dict):
            right = 1.0
        elif isinstance(right, str) and right.startswith("Parameters."):
            right = self.structure.parameters[right.removeprefix("Parameters.")][
                "default"
            ]
        if kind == "Equals":
            return (right if self.is_true else "other"), right
        return right + OFFSETS[kind][0 if self.is_true else 1], right

    def _comparisons(self) -> Iterator[tuple[str, Any, Any]]:
        for name in self.structure.conditions:
            yield from self.structure.steps[name]["conditions"]

    def expected(self) -> set[str]:
        """Return the names of the steps that run."""
        ran: set[str] = set()
        steps = self.structure.steps
        for _ in steps:
            for name in steps:
                branch = self.structure.branch_of(name)
                is_taken = branch is None or (
                    branch[0] in ran and branch[1] is self.is_true
                )
                if is_taken and self.structure.needs(name) <= ran:
                    ran.add(name)
        return ran


def _answers(step: Mapping[str, Any]) -> dict[str, Any]:
    if step["type"] != "Callback":
        return {}
    return {
        "duration": 60,
        "outputs": {f"out{n}": "done" for n in range(1, step.get("outputs", 0) + 1)},
    }


def _write(steps: dict[str, Any], operand: Any, value: Any) -> None:
    """
    Write the value of an operand into its property file, or into what a function
    returns.
    """
    if not isinstance(operand, dict):
        return
    if "result" in operand:
        steps[operand["step"]]["result"] = {operand["result"]: value}
        return
    content = (
        steps[operand["step"]]
        .setdefault("property_files", {})
        .setdefault(operand["file"], {})
    )
    *path, last = operand["path"].split(".")
    for part in path:
        content = content.setdefault(part, {})
    content[last] = value


def choices() -> Iterator[Choice]:
    """Yield each pipeline, once for each outcome of its conditions."""
    outcomes = [
        (structure, is_true)
        for structure in STRUCTURES.values()
        for is_true in (True, False)
        if is_true or structure.conditions
    ]
    for number, (structure, is_true) in enumerate(outcomes):
        yield Choice(structure, is_true, deferrable=number % 30 == 0)


# All of them in `make nightly`.
@pytest.mark.parametrize(
    "choice",
    [
        pytest.param(
            choice, id=str(choice), marks=[pytest.mark.nightly] if number % 10 else []
        )
        for number, choice in enumerate(choices())
    ],
)
def test_execution_ends_as_its_structure_says(
    choice: Choice, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """
    Started with the values of the form; ``steps`` and ``outputs`` name all steps that
    have run.
    """
    name, steps = choice.structure.name, choice.structure.steps
    put_pipelines(emulator, {name: json.loads(choice.structure.definition())})
    parameters = [
        parameter(each, **declared)
        for each, declared in choice.structure.parameters.items()
    ]
    form = job_form(job(name, *parameters), {})
    given = {
        each: param.value
        for each, param in form.params.items()
        if each not in form.required
    }
    emulator.control.put_scenario(choice.scenario())

    run = run_task(
        PolysyncStartPipelineOperator(
            task_id="run",
            pipeline_name=name,
            pipeline_parameters=form.values(
                {"params": {**given, **choice.values()}}, None
            ),
            deferrable=choice.deferrable,
            poll_interval=3600,
        )
    )

    (call,) = emulator.control.calls("StartPipelineExecution")
    sent = {each["Name"] for each in call["request"].get("PipelineParameters", ())}
    assert sent == {
        each for each, field in form.params.items() if field.value is not None
    }
    ran = choice.expected()
    failed = {each for each in ran if steps[each]["type"] == "Fail"}
    states = dict.fromkeys(steps, "NotStarted")
    states |= {each: "Failed" if each in failed else "Success" for each in ran}
    assert type(run.error) is (
        exceptions.PipelineExecutionFailedError if failed else type(None)
    )
    assert run.xcoms["run"]["state"] == ("Failed" if failed else "Success")
    assert {row["name"]: (row["type"], row["state"]) for row in run.xcoms["steps"]} == {
        each: (steps[each]["type"], state) for each, state in states.items()
    }
    assert run.xcoms["outputs"].keys() == ran


def test_steps_are_read_as_they_were_declared(tmp_path: Path) -> None:
    """Each structure has a file whose steps are those of its definition."""
    path = tmp_path / "jobs.yaml"
    declared = {
        name: declared_steps(structure.definition())
        for name, structure in STRUCTURES.items()
    }
    jobs = [
        catalogue_job(name, steps=job_steps(steps)[0])
        for name, steps in declared.items()
    ]

    write_catalogue(path, catalogue_jobs(jobs, None))

    members = ("name", "type", "condition", "branch")
    assert {each.name: steps_of(each) for each in read_catalogue(path).jobs} == {
        name: [
            JobStep(
                **{member: getattr(step, member) for member in members},
                needs=sorted(step.needs),
            )
            for step in steps
        ]
        for name, steps in declared.items()
    }
