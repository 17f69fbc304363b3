"""
The task group of a pipeline's steps: ids, edges, what is refused, and what Airflow
stores of it.
"""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import (
    DAG,
    Asset,
    BaseOperator,
    TaskGroup,
    task_group,
)

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.exceptions import CatalogueError, ParametersError
from polysync_airflow.operators.step_tasks import PolysyncPipelineStepOperator
from polysync_airflow.task_groups import PolysyncPipelineTaskGroup
from sagemaker_emulator import EmulatorServer
from sagemaker_emulator.builders import definition, step
from tests.fakes.airflow_encoding import check_dag
from tests.fakes.simulated_dag_run import SimulatedDagRun
from tests.tasks import EmulatedTime
from tests.unit.dags.catalogues import PIPELINES, job, parse
from tests.unit.jobs.catalogue.builders import put_pipelines

DEPLOY = [step("Register", "RegisterModel"), step("Deploy", "Lambda", "Register")]
STOP = [step("Stop", "Fail")]
BRANCHES = {"Conditions": [], "IfSteps": DEPLOY, "ElseSteps": STOP}
CHECK = step("Check", "Condition", "Evaluate", Arguments=BRANCHES)
TEXT = definition(
    step("Prepare"),
    step("Train", "Training", "Prepare"),
    step("Evaluate", "Processing", "Train"),
    CHECK,
)
EDGES = {
    "begin": set(),
    "Prepare": {"begin"},
    "Train": {"Prepare"},
    "Evaluate": {"Train"},
    "Check": {"Evaluate"},
    "Register": {"Check"},
    "Deploy": {"Check", "Register"},
    "Stop": {"Check"},
    "execution": {"begin", "Deploy", "Stop"},
}


@pytest.fixture(autouse=True)
def _no_network(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """A parse calls nobody."""
    if "emulator" not in request.fixturenames:
        monkeypatch.setattr(
            socket.socket,
            "connect",
            lambda *_: pytest.fail("a parse has opened a socket"),
        )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file with the definition of a pipeline."""
    path = tmp_path / "churn.json"
    path.write_text(TEXT)
    return path


def make(
    path: Path, group_id: str = "g", **arguments: Any
) -> tuple[Any, PolysyncPipelineTaskGroup]:
    """Return a DAG with a group, and the group."""
    with DAG("retraining", schedule=None) as dag:
        own: dict[str, Any] = {"pipeline_name": "churn", "definition": path}
        group = PolysyncPipelineTaskGroup(group_id, **{**own, **arguments})
    return dag, group


def edges_of(dag: Any, prefix: str = "") -> dict[str, set[str]]:
    """Return the ids of the tasks above each task, without the prefix."""
    return {
        task.task_id.removeprefix(prefix): {
            above.removeprefix(prefix) for above in task.upstream_task_ids
        }
        for task in dag.tasks
    }


def write(path: Path, *names: str) -> Path:
    """Write a definition with steps of these names."""
    path.write_text(definition(*map(step, names)))
    return path


# ---- ids and edges


def test_each_step_is_below_what_it_needs(file: Path) -> None:
    """
    And below its condition; the execution task is below all leaves, so that a clear
    reaches it.
    """
    dag, group = make(file)

    assert edges_of(dag, "g.") == EDGES
    assert dag.get_task("g.execution").trigger_rule == "one_success"
    assert {
        dag.get_task(f"g.{name}").trigger_rule for name in EDGES if name != "execution"
    } == {"all_success"}
    assert group["Train"] is dag.get_task("g.Train")
    check_dag(dag)


def test_tasks_before_and_after_the_group_are_tied_to_its_ends(file: Path) -> None:
    """They are tied to its first and its last task; one may follow a single step."""
    with DAG("retraining", schedule=None) as dag:
        before, after, compare = (
            BaseOperator(task_id=name) for name in ("before", "after", "compare")
        )
        group = PolysyncPipelineTaskGroup("g", pipeline_name="churn", definition=file)
        before >> group >> after
        group["Train"] >> compare

    assert dag.get_task("g.begin").upstream_task_ids == {"before"}
    assert after.upstream_task_ids == {"g.execution"}
    assert compare.upstream_task_ids == {"g.Train"}
    check_dag(dag)


def test_names_that_airflow_does_not_allow_become_ids(tmp_path: Path) -> None:
    """
    The id is made of the name, and differs from all others; the task shows the name.
    """
    names = ["begin", "execution", "a b", "a_b", "a.b", "ü", "{{ 1 / 0 }}"]
    names += ["x" * 256, "x" * 255, "Train"]
    dag, group = make(write(tmp_path / "names.json", *names))

    ids = [group[name].task_id.removeprefix("g.") for name in names]
    assert len(set(ids)) == len(names)
    assert {"begin", "execution"}.isdisjoint(ids)
    assert [
        name for name, task_id in zip(names, ids, strict=True) if name == task_id
    ] == ["a_b", "Train"]
    assert all(len(task_id) <= 130 for task_id in ids)
    assert [group[name].task_display_name for name in names] == names
    assert [group[name].step_name for name in names] == names
    check_dag(dag)


def test_ids_are_the_same_at_each_parse_and_whatever_follows(tmp_path: Path) -> None:
    """
    A step that is added changes no id of others: Airflow knows tasks by their ids.
    """
    _, before = make(write(tmp_path / "a.json", "a b", "Train"))
    _, after = make(write(tmp_path / "b.json", "New", "a b", "Train", "begin"))

    assert before.step_task_ids.keys() == {"a b", "Train"}
    assert before.step_task_ids.items() <= after.step_task_ids.items()


def test_tasks_of_a_nested_group_know_their_full_ids(file: Path) -> None:
    """The tasks find each other by their full ids."""
    with DAG("retraining", schedule=None) as dag, TaskGroup("outer"):
        group = PolysyncPipelineTaskGroup("g", pipeline_name="churn", definition=file)

    assert edges_of(dag, "outer.g.") == EDGES
    assert_found(dag, group, "outer.g.")


def test_group_without_a_prefix_has_the_ids_of_its_steps(file: Path) -> None:
    """Its tasks have the ids of their steps."""
    dag, group = make(file, prefix_group_id=False)

    assert edges_of(dag) == EDGES
    assert_found(dag, group, "")


def test_second_group_of_one_name_has_a_suffix(file: Path) -> None:
    """With Airflow's suffix."""
    with DAG("retraining", schedule=None) as dag:
        arguments: Any = {"pipeline_name": "churn", "definition": file}
        arguments["add_suffix_on_collision"] = True
        first, second = (PolysyncPipelineTaskGroup("g", **arguments) for _ in range(2))

    assert len(dag.tasks) == 2 * len(EDGES)
    assert_found(dag, first, "g.")
    assert_found(dag, second, f"{second.group_id}.")


def assert_found(dag: Any, group: PolysyncPipelineTaskGroup, prefix: str) -> None:
    """Assert that the tasks of a group know the ids of the others."""
    execution = dag.get_task(f"{prefix}execution")
    names = EDGES.keys() - {"begin", "execution"}
    assert execution.first_task_id == f"{prefix}begin"
    assert execution.step_task_ids == {
        name: f"{prefix}{name}" for name in sorted(names, key=list(EDGES).index)
    }
    assert {group[name].execution_task_id for name in names} == {execution.task_id}
    assert {group[name].task_id for name in names} == set(
        execution.step_task_ids.values()
    )
    check_dag(dag)


def test_mapped_group_has_the_same_edges(file: Path) -> None:
    """An execution for each value."""
    with DAG("retraining", schedule=None) as dag:

        @task_group
        def retrain(shards: int) -> None:
            PolysyncPipelineTaskGroup(
                "g",
                pipeline_name="churn",
                definition=file,
                pipeline_parameters={"Shards": shards},
            )

        retrain.expand(shards=[1, 2])

    assert edges_of(dag, "retrain.g.") == EDGES
    check_dag(dag)


def test_arguments_reach_their_tasks(file: Path) -> None:
    """Those of the Start task, those that all tasks share, and those of the group."""
    dag, group = make(
        file,
        tooltip="Churn",
        trigger_rule="none_failed",
        pool="aws",
        retries=2,
        polysync_conn_id="aws",
        region_name="eu-west-1",
        poll_interval=7,
        property_files=["Eval"],
        max_parallel_steps=3,
        selected_steps=["Train"],
        source_execution="latest",
        default_args={"owner": "ada"},
    )

    begin, execution, train = (
        dag.get_task(f"g.{name}") for name in ("begin", "execution", "Train")
    )
    assert group.tooltip == "Churn"
    assert begin.trigger_rule == "none_failed"
    assert execution.trigger_rule == "one_success"
    assert train.trigger_rule == "all_success"
    assert {task.pool for task in dag.tasks} == {"aws"}
    assert {task.owner for task in dag.tasks} == {"ada"}
    for name, value in {
        "polysync_conn_id": "aws",
        "region_name": "eu-west-1",
        "poll_interval": 7,
        "property_files": ["Eval"],
        "retries": 2,
    }.items():
        assert getattr(execution, name) == value
        assert getattr(train, name) == value
    assert execution.max_parallel_steps == 3
    assert execution.selected_steps == ["Train"]
    assert execution.deferrable is True
    assert execution.retry_mode == "resume"
    assert execution.on_clear == "new"


def test_steps_start_in_the_triggerer_if_airflow_can(file: Path) -> None:
    """The first task runs nowhere, and the execution task begins on a worker."""
    dag, _ = make(file)

    starts = {task.task_id for task in dag.tasks if task.start_from_trigger}
    steps = {f"g.{name}" for name in EDGES.keys() - {"begin", "execution"}}
    assert starts == (steps if CAPABILITIES.start_from_trigger else set())


# ---- names are not templates


def test_no_name_is_rendered(
    emulator: EmulatorServer, emulated_time: EmulatedTime, tmp_path: Path
) -> None:
    """
    Neither on a worker nor in the triggerer: what a name says is what the texts say.
    """
    name = "{{ 1 / 0 }}"
    text = definition(step("Train"), step(name))
    put_pipelines(emulator, {"churn": json.loads(definition(step("Train")))})
    (tmp_path / "names.json").write_text(text)
    dag, group = make(tmp_path / "names.json", pipeline_name="churn")
    task = group[name]
    assert not {"step_name", "execution_task_id", "task_display_name", "retries"} & set(
        task.template_fields
    )
    run = SimulatedDagRun(dag, in_triggerer=CAPABILITIES.start_from_trigger)
    run.run()
    assert run.states[task.task_id] == "skipped"
    # As Airflow itself renders a task.
    ti = run.runs[task.task_id].ti
    for in_triggerer in {False, CAPABILITIES.start_from_trigger}:
        assert name in _rendered(task, ti, in_triggerer=in_triggerer)


def _rendered(
    task: PolysyncPipelineStepOperator, ti: Any, *, in_triggerer: bool
) -> str:
    if in_triggerer:
        from tests.unit.sensors.triggerer import Started

        return str(Started(task, ti, dag=task.dag).trigger.step_name)
    task.render_template_fields(ti.context(task))
    return task.step_name


# ---- what is refused


SHOW_STEPS = "its tasks show the steps while the execution runs"
FROM_TASKS = "what a clear does follows from the tasks that are cleared"


@pytest.mark.parametrize(
    ("argument", "value", "text"),
    [
        ("deferrable", False, "its tasks always wait in the triggerer"),
        ("wait_for_completion", False, SHOW_STEPS),
        ("retry_mode", "new", "a retry resumes the execution"),
        ("on_clear", "resume", FROM_TASKS),
        ("outlets", [Asset("s3://b/model")], "give them to a task after the group"),
    ],
)
def test_arguments_that_the_group_sets_are_refused(
    argument: str, value: Any, text: str, file: Path
) -> None:
    """The error names the argument and its value, and says why."""
    with pytest.raises(ParametersError) as caught:
        make(file, **{argument: value})

    assert str(caught.value).startswith(f"{argument} = ")
    assert str(caught.value).endswith(f": leave it out, since {text}.")


ONLY_JOB = {"definition": None, "job": "churn"}
CANNOT_BE_READ = "the file cannot be read: "
NO_STEPS = "it has no steps. Give the JSON of"


def of_job(name: str, catalogue: str = "jobs.yaml") -> dict[str, Any]:
    """Return the arguments for a job of a catalogue."""
    return {"definition": None, "job": name, "catalogue": catalogue}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"definition": None}, "definition and job are both missing: give one of"),
        ({"job": "churn"}, "definition and job are both given: give one of them."),
        (ONLY_JOB, "give the file of the job, too, in the argument catalogue."),
        ({"definition": "missing.json"}, f"= 'missing.json': {CANNOT_BE_READ}"),
        ({"definition": "folder"}, f"definition = 'folder': {CANNOT_BE_READ}"),
        ({"definition": "bytes.json"}, f"= 'bytes.json': {CANNOT_BE_READ}"),
        ({"definition": "text.json"}, f"definition = 'text.json': {NO_STEPS}"),
        ({"definition": "empty.json"}, f"definition = 'empty.json': {NO_STEPS}"),
        ({"definition": "twice.json"}, "'twice.json': steps: Train is there twice."),
        (
            {"definition": "circle.json"},
            "they depend on each other in a circle: A, B, A.",
        ),
        (of_job("chur"), "did you mean 'churn'?"),
        (of_job("x" * 9), "jobs.yaml has no job 'xxxxxxxxx'."),
        (of_job("broken"), "jobs.yaml: broken: "),
        (of_job("old"), "The catalogue has no steps of the job old: "),
        (of_job("churn", "missing.yaml"), "missing.yaml cannot be read: "),
        ({"poll_interval": 0}, "poll_interval = 0"),
        (
            {"pipeline_name": None},
            "is missing: the file of a definition does not name it.",
        ),
    ],
    ids=str,
)
def test_definition_that_is_missing_or_invalid_is_named(
    arguments: dict[str, Any], text: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broken import names the argument and the file, and says what to give."""
    folder = file.parent
    (folder / "folder").mkdir()
    (folder / "bytes.json").write_bytes(b"\xff\xfe{")
    (folder / "text.json").write_text("not JSON")
    (folder / "empty.json").write_text(definition())
    write(folder / "twice.json", "Train", "Train")
    (folder / "circle.json").write_text(
        definition(step("A", "Processing", "B"), step("B", "Processing", "A"))
    )
    own = {"name": "churn", "arn": f"{PIPELINES}/churn", "region": "us-east-1"}
    jobs = [
        {**own, "steps": [{"name": "Train", "type": "Training"}]},
        {**own, "name": "old"},
        {**own, "name": "broken", "steps": [{"name": "Train", "needs": "nothing"}]},
    ]
    (folder / "jobs.yaml").write_text(json.dumps({"version": 1, "jobs": jobs}))
    # A relative path begins at the folder of the DAG file, which is this one here.
    monkeypatch.setitem(globals(), "__file__", str(folder / "dag.py"))

    with pytest.raises((ParametersError, CatalogueError)) as caught:
        make(file, **arguments)

    assert text in str(caught.value)


def test_unknown_step_is_an_error_that_names_the_meant_one(file: Path) -> None:
    """The error names the step that was meant, or those that there are."""
    _, group = make(file)

    with pytest.raises(KeyError, match="g has no step 'Trian': did you mean 'Train'"):
        group["Trian"]
    problem = "g has no step 'zzz': it has Prepare, Train, Evaluate, Check"
    with pytest.raises(KeyError, match=problem):
        group["zzz"]


# ---- files


def test_relative_paths_begin_at_the_dag_file(tmp_path: Path) -> None:
    """
    Of a definition, and of a catalogue; the job has the name and the region of its
    pipeline.
    """
    (tmp_path / "churn.json").write_text(TEXT)
    code = """
    with DAG("d", schedule=None):
        PolysyncPipelineTaskGroup("file", pipeline_name="churn", definition="churn.json")
        PolysyncPipelineTaskGroup("job", job="imported", catalogue="jobs.yaml")
    """
    steps = [
        {"name": "Train", "type": "Training"},
        {"name": "Test", "type": "Processing", "needs": ["Train"]},
    ]
    parsed = parse(tmp_path, code, job("imported", steps=steps))

    assert parsed.errors == {}
    dag = parsed.dags["d"]
    of_job = {task.task_id for task in dag.tasks if task.task_id.startswith("job.")}
    assert of_job == {"job.begin", "job.Train", "job.Test", "job.execution"}
    assert dag.get_task("file.Train").upstream_task_ids == {"file.Prepare"}
    assert dag.get_task("job.execution").pipeline_name == "imported"
