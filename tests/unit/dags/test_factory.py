"""
DAGs of imported jobs: what Airflow finds in the file, and what a broken job breaks.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from airflow.serialization.helpers import serialize_template_field

from polysync_airflow.jobs.catalogue import CatalogueJob
from tests.fakes.airflow_encoding import check_dag
from tests.managed_pipelines import MANAGED, ROLE
from tests.unit.dags.catalogues import PIPELINES, Parsed, job, parameter, parse

PLAIN = job("churn", parameter("Shards", "Integer", default=4))
REQUIRED = job("scoring", parameter("Model"))


def parse_dags(folder: Path, arguments: str, *jobs: CatalogueJob) -> Parsed:
    """Let Airflow parse a file that makes a DAG of each job, with these arguments."""
    return parse(folder, f"polysync_dags('jobs.yaml', {arguments})", *jobs)


def test_each_job_is_a_dag(tmp_path: Path) -> None:
    """The file needs one call; the path begins at the folder of the file."""
    arguments = "dag_id_prefix='ml-', tags=['x']"
    parsed = parse_dags(tmp_path, arguments, PLAIN, REQUIRED)

    assert parsed.errors == {}
    assert sorted(parsed.dags) == ["ml-churn", "ml-scoring"]
    dag = parsed.dags["ml-churn"]
    (task,) = dag.tasks
    assert task.task_id == "run"
    assert task.pipeline_name == "churn"
    assert task.region_name == "us-east-1"
    assert dag.catchup is False
    assert set(dag.tags) == {"x"}
    assert Path(dag.fileloc).name == "dag_file.py"


def test_job_of_a_pipeline_that_aws_manages_starts_by_its_arn(tmp_path: Path) -> None:
    """
    Its name alone is that of a pipeline of the account. The DAG has the name of the
    job.
    """
    arguments = f"operator_args={{'execution_role_arn': '{ROLE}'}}"
    parsed = parse_dags(tmp_path, arguments, job("model-eval", arn=MANAGED))

    (task,) = parsed.dags["model-eval"].tasks
    assert task.pipeline_name == MANAGED
    assert task.execution_role_arn == ROLE


def test_broken_job_is_one_import_error(tmp_path: Path) -> None:
    """It names the job and the cause. The DAGs of the others are there."""
    churn = {"name": "churn", "arn": f"{PIPELINES}/churn", "region": "us-east-1"}
    jobs = [churn, {**churn, "name": "{{ x }}", "arn": "nonsense"}, "just text", churn]
    text = json.dumps({"version": 1, "jobs": jobs})
    parsed = parse(tmp_path, "polysync_dags('jobs.yaml')", text=text)

    assert list(parsed.dags) == ["churn"]
    (error,) = parsed.errors.values()
    assert "jobs.yaml: these jobs cannot be DAGs" in error
    again = "churn: the file has another job of this name before"
    for problem in ("{{ x }}: name:", "jobs[2]: ", again):
        assert f"- {problem}" in error


def test_numbers_that_airflow_cannot_store_break_no_dag(tmp_path: Path) -> None:
    """
    The field of such a default stays empty, so that AWS uses it; values of the author
    break their job only.
    """
    large = job(
        "large",
        parameter("Seed", "Integer", default=10**30, description="S."),
        parameter("Rate", "Float", default="1e+30", enum_values=["1e30", "0.5"]),
        parameter("Size", "Integer", default=2**31),
    )
    arguments = "schedule='@daily', parameters={'given': {'Rate': 10**30}}"
    given = job("given", parameter("Rate", "Float", default=1))
    parsed = parse_dags(tmp_path, arguments, large, PLAIN, given)

    assert sorted(parsed.dags) == ["churn", "large"]
    (error,) = parsed.errors.values()
    assert "- given: " in error
    dag = parsed.dags["large"]
    check_dag(dag)
    assert dag.params.dump() == {"Seed": None, "Rate": None, "Size": None}
    assert dag.params.get_param("Seed").description == f"S. Empty: {10**30}"
    assert dag.params.get_param("Rate").schema["enum"] == [None, 0.5]
    params = {"Seed": None, "Rate": 0.5, "Size": 7}
    values = dag.tasks[0].pipeline_parameters({"params": params}, None)
    assert values == {"Rate": 0.5, "Size": 7}


def test_errors_of_two_catalogues_are_shown_together(tmp_path: Path) -> None:
    """Airflow keeps one import error for a file."""
    code = """
    polysync_dags("jobs.yaml", jobs=["churn", "gone"])
    polysync_dags("jobs.yaml", jobs=["scoring", "lost"])
    """
    parsed = parse(tmp_path, code, PLAIN, REQUIRED)

    assert sorted(parsed.dags) == ["churn", "scoring"]
    (error,) = parsed.errors.values()
    assert "- gone: " in error
    assert "- lost: " in error


NO_JOB = "names it, but the catalogue has no such job"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("schedule='@daily'", "- scoring: it has a schedule, and no value for Model"),
        ("parameters={'churn': {'Shards': 'abc'}}", "= 'abc' must be a whole number"),
        ("schedule={'chrun': '@daily'}", f"- chrun: schedule {NO_JOB}"),
        ("parameters={'old': {}}", f"- old: parameters {NO_JOB}"),
        ("jobs=['churn', 'gone']", f"- gone: jobs {NO_JOB}"),
        ("job_args={'churn': {'on_clear': 'x'}}", "on_clear = 'x' is not valid"),
        ("job_args={'churn': {'tiemout': 5}}", "tiemout"),
        (
            "schedule={'churn': '@daily'}, parameters={'churn': {'Shards': None}}",
            "- churn: it has a schedule, and no value for Shards",
        ),
    ],
)
def test_mistake_breaks_only_its_job(
    tmp_path: Path, arguments: str, message: str
) -> None:
    """For example, an import has removed a job for which the code has a schedule."""
    parsed = parse_dags(tmp_path, arguments, PLAIN, REQUIRED)

    (error,) = parsed.errors.values()
    assert message in error
    assert parsed.dags
    assert not any(f"- {dag_id}:" in error for dag_id in parsed.dags)


def test_file_that_is_no_catalogue_is_an_import_error(tmp_path: Path) -> None:
    """There are no jobs to show."""
    parsed = parse(tmp_path, "polysync_dags('jobs.yaml')", text="jobs: [")

    assert parsed.dags == {}
    assert "is not YAML" in parsed.errors["dag_file.py"]


def test_schedule_of_one_job_leaves_the_others_without(tmp_path: Path) -> None:
    """The others are started by hand."""
    arguments = "schedule={'churn': '@daily'}"

    dags = parse_dags(tmp_path, arguments, PLAIN, REQUIRED).dags

    assert dags["churn"].timetable.can_be_scheduled
    assert not dags["scoring"].timetable.can_be_scheduled


def test_arguments_are_set_for_all_jobs_or_for_one(tmp_path: Path) -> None:
    """Everything of the Start operator can be set, for all jobs or for one."""
    code = """
    polysync_dags(
        "jobs.yaml",
        operator_args={"deferrable": True, "retries": 3},
        job_args={"scoring": {"max_parallel_steps": 2, "retries": 0}},
        default_args={"owner": "ml", "retries": 9},
    )
    """
    dags = parse(tmp_path, code, PLAIN, REQUIRED).dags

    churn = dags["churn"].tasks[0]
    scoring = dags["scoring"].tasks[0]
    assert churn.deferrable is True
    assert churn.retries == 3
    assert churn.max_parallel_steps is None
    assert churn.owner == "ml"
    assert scoring.deferrable is True
    assert scoring.retries == 0
    assert scoring.max_parallel_steps == 2


def test_executions_have_the_display_name_of_the_catalogue(tmp_path: Path) -> None:
    """
    Executions have the display name of the catalogue, unless the DAG's author gives
    another one.
    """
    named = job("named", execution_display_name="nightly")
    arguments = "job_args={'other': {'execution_display_name': 'mine'}}"
    other = job("other", execution_display_name="theirs")

    dags = parse_dags(tmp_path, arguments, job("plain"), named, other).dags

    tasks = {dag_id: dag.tasks[0] for dag_id, dag in dags.items()}
    names = {dag_id: task.execution_display_name for dag_id, task in tasks.items()}
    assert names == {"plain": None, "named": "nightly", "other": "mine"}


def test_jobs_may_be_selected_by_a_function(tmp_path: Path) -> None:
    """It gets the job of the catalogue."""
    arguments = "jobs=lambda job: not job.parameters[0].default"

    assert list(parse_dags(tmp_path, arguments, PLAIN, REQUIRED).dags) == ["scoring"]


def test_what_airflow_stores_is_the_same_at_each_parse(tmp_path: Path) -> None:
    """Otherwise each parse would make a new version of the DAG."""
    for _ in range(2):
        (task,) = parse_dags(tmp_path, "", PLAIN).dags["churn"].tasks
        value = task.pipeline_parameters
        stored = serialize_template_field(value, "pipeline_parameters")
        assert stored == "the values of the run for Shards"


IF_TRUE = {"condition": "{{ x }}", "branch": "True"}
STEPS = [
    {"name": "Train", "type": "Training"},
    {"name": "{{ x }}", "type": "Condition", "needs": ["Train"]},
    {"name": "Register", "type": "RegisterModel", **IF_TRUE},
]


def test_dag_may_have_a_task_for_each_step(tmp_path: Path) -> None:
    """
    The DAG has a task for each step, in their order, and one that gets the values of
    the form.
    """
    arguments = "steps_as_tasks=True, operator_args={'max_parallel_steps': 3}"
    shards = parameter("Shards", "Integer", default=4)
    parsed = parse_dags(tmp_path, arguments, job("churn", shards, steps=STEPS))

    dag = parsed.dags["churn"]
    above = {task.task_id: sorted(task.upstream_task_ids) for task in dag.tasks}
    condition = next(name for name in above if name.startswith("run.___x____"))
    assert above == {
        "run.begin": [],
        "run.Train": ["run.begin"],
        condition: ["run.Train"],
        "run.Register": [condition],
        "run.execution": ["run.Register", "run.begin"],
    }
    execution = dag.get_task("run.execution")
    assert execution.pipeline_name == "churn"
    assert execution.region_name == "us-east-1"
    assert execution.max_parallel_steps == 3
    assert list(dag.params) == ["Shards"]
    values = execution.pipeline_parameters({"params": {"Shards": 5}}, None)
    assert values == {"Shards": 5}
    check_dag(dag)


def test_task_group_has_a_task_for_each_job(tmp_path: Path) -> None:
    """One task for each job, with values of the author, and of other tasks."""
    code = """
    with DAG("nightly", schedule=None):

        @task
        def latest() -> str:
            return "model-7"

        polysync_task_group(
            "jobs.yaml",
            group_id="jobs",
            parameters={"scoring": {"Model": latest()}, "churn": {"Shards": 8}},
        )
    """
    parsed = parse(tmp_path, code, PLAIN, REQUIRED)

    assert parsed.errors == {}
    dag = parsed.dags["nightly"]
    assert sorted(dag.task_ids) == ["jobs.churn", "jobs.scoring", "latest"]
    assert dag.get_task("jobs.scoring").upstream_task_ids == {"latest"}
    assert dag.get_task("jobs.churn").upstream_task_ids == set()


def test_task_group_renders_only_what_the_author_has_given(tmp_path: Path) -> None:
    """A default could read a password, and everybody with a pipeline writes some."""
    code = """
    with DAG("nightly", schedule=None):
        polysync_task_group("jobs.yaml", parameters={"churn": {"Day": "{{ ds }}"}})
    """
    churn = job("churn", parameter("Day"), parameter("Mode", default="{{ 1 / 0 }}"))
    parsed = parse(tmp_path, code, churn)

    (task,) = parsed.dags["nightly"].tasks
    rendered = task.render_template(task.pipeline_parameters, {"ds": "2026-01-31"})
    assert rendered == {"Day": "2026-01-31", "Mode": "{{ 1 / 0 }}"}


@pytest.mark.parametrize(
    ("parameters", "problem"),
    [
        ("{}", "scoring: no value for Model: give one in parameters['scoring']"),
        # AWS would refuse it, after the task that it is the output of.
        ("{'scoring': {'Modle': latest()}}", "it has no parameter 'Modle'"),
    ],
)
def test_task_group_needs_the_values_of_its_jobs(
    parameters: str, problem: str, tmp_path: Path
) -> None:
    """
    A DAG without one of its tasks would be a wrong DAG, so this is an error of the
    file.
    """
    code = f"""
    with DAG("nightly", schedule=None):

        @task
        def latest() -> str:
            return "model-7"

        polysync_task_group("jobs.yaml", parameters={parameters})
    """
    parsed = parse(tmp_path, code, PLAIN, REQUIRED)

    assert problem in parsed.errors["dag_file.py"]
