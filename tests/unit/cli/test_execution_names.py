"""The names of executions that ``polysync executions`` takes: those that it lists."""

from __future__ import annotations

import json

import pytest

from tests.managed_pipelines import MANAGED, MODEL, NEEDS_ROLE, ROLE
from tests.unit.cli.conftest import Executions
from tests.unit.cli.test_executions import ACCOUNT, NO_PIPELINE
from tests.unit.jobs.catalogue.builders import put_pipelines
from tests.unit.sensors.sessions import start_execution
from tests.world import DESCRIBE, LIST

pytestmark = pytest.mark.usefixtures("emulated_waits")

NOT_THERE = f"arn:aws:sagemaker:us-east-1:{ACCOUNT}:pipeline/fanout/execution/{0:012}"


def test_name_is_checked_first(executions: Executions) -> None:
    """
    What is no name of an execution, and another region than the one in its ARN, are
    errors of one line.
    """
    words = (["show"], ["resume"], ["stop"], ["watch"], ["logs", "Shard0"])
    wrong = [executions(word, "fanout", *more) for word, *more in words]
    region = executions("show", NOT_THERE, "--region", "eu-west-1")

    for done in wrong:
        problem = "'fanout' names no execution: give PIPELINE/ID, as `polysync "
        assert problem in done.refusal
    assert "eu-west-1: the execution is in us-east-1, so leave it out" in region.refusal
    assert executions.control.calls() == []


def listed_names(executions: Executions) -> list[str]:
    """Return the cells of the table that other commands take."""
    head, *lines = executions("list").out.splitlines()
    start = head.index("EXECUTION")
    return [line[start:].split()[0] for line in lines]


def test_name_of_the_table_can_be_pasted(executions: Executions) -> None:
    """
    Into each command. AWS has the name of the pipeline in lower case in ARNs, and in
    its case in lists, and takes both.
    """
    definition = executions.sagemaker.describe_pipeline(PipelineName="fanout")
    text = definition["PipelineDefinition"]
    put_pipelines(executions.emulator, {"FanOut2": json.loads(text)})
    arn = executions.start("FanOut2")
    executions.control.advance(4)
    (name,) = listed_names(executions)
    executions.control.clear_calls()

    shown = executions("show", name, "--output", "json")
    calls = executions.control.calls(LIST)
    stopped = executions("stop", name.lower(), "--yes")

    assert name == f"FanOut2/{arn.rpartition('/')[2]}"
    assert shown.document["execution_arn"] == arn
    assert len(calls) == 1
    assert stopped.out.endswith(f"{arn}\n")
    executions.control.advance(3600)
    assert executions("watch", name).code == 1
    assert executions("logs", name, "Shard0").code == 0


def test_pipeline_of_another_account_has_no_short_names(executions: Executions) -> None:
    """
    Who gives its ARN gets those of its executions. They are not cut, whatever else is.
    """
    page = f"dags/{50 * 'd'}/runs/{50 * 'r'}/tasks/train"
    arn = executions.start(PipelineExecutionDescription=f"Airflow: {page}")
    pipeline = arn.partition("/execution/")[0]

    done = executions("list", "--pipeline", pipeline)

    cells = done.out.splitlines()[1].split()
    assert arn in cells
    assert len([cell for cell in cells if "\N{HORIZONTAL ELLIPSIS}" in cell]) == 2


@NEEDS_ROLE
def test_pipeline_that_aws_manages_has_no_short_names(executions: Executions) -> None:
    """Its name is that of a pipeline of the account."""
    arn = start_execution(MANAGED, role=ROLE, ModelPackageArn=MODEL)

    assert arn in executions("list", "--managed-by", "AWS").out


def test_old_execution_is_found(
    executions: Executions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if it is not on the first page of the list."""
    monkeypatch.setattr("polysync_airflow.cli.execution_facts.PAGE_SIZE", 1)
    arn = executions.start()
    executions.control.advance(60)
    executions.start()

    done = executions("show", f"fanout/{arn.rpartition('/')[2]}")

    assert done.code == 0
    assert arn in done.out


def test_name_of_nothing_is_an_error_with_what_is_there(executions: Executions) -> None:
    """Of one line."""
    none = executions("show", "fanout/000000000000")
    executions.start()
    (name,) = listed_names(executions)
    misspelt = executions("watch", name[:-1])
    no_pipeline = executions("stop", name.replace("fanout", "fanuot"))

    missing = "the pipeline has no such execution in region us-east-1."
    assert f"fanout/000000000000: {missing} The newest: none." in none.refusal
    assert f"{missing} The newest: {name.partition('/')[2]}." in misspelt.refusal
    assert f"execution 'fanuot': {NO_PIPELINE} Did you mean fanout?" in (
        no_pipeline.refusal
    )


@pytest.mark.parametrize("word", ["show", "stop", "watch", "logs"])
def test_missing_execution_is_an_error_of_one_line(
    word: str, executions: Executions
) -> None:
    """It is an error of one line, also for a watch."""
    done = executions(word, NOT_THERE, *["Shard0"] * (word == "logs"))

    assert "There is no execution" in done.refusal


def test_region_is_of_the_arn(executions: Executions) -> None:
    """The region of the connection does not count."""
    done = executions("show", NOT_THERE.replace("us-east-1", "eu-west-1"))

    assert done.code == 2
    assert [call["region"] for call in executions.control.calls(DESCRIBE)] == [
        "eu-west-1"
    ]
