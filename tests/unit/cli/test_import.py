"""``polysync jobs import``: what the catalogue has, what is kept, and errors."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from polysync_airflow.execution.steps.descriptions import STEP_TYPES
from polysync_airflow.jobs.catalogue import read_catalogue
from sagemaker_emulator import EmulatorServer
from tests.managed_pipelines import MANAGED, NEEDS_ROLE
from tests.unit.cli.conftest import Polysync
from tests.unit.jobs.catalogue.builders import (
    ARN_TEXT,
    STEPS,
    delete_pipelines,
    put_pipelines,
)
from tests.world import deny

PLAIN = {"Version": "2020-12-01", "Steps": STEPS}
NEWER = {"Name": "Query", "Type": "Athena", "Arguments": {}}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a catalogue, which does not exist yet."""
    return tmp_path / "jobs.yaml"


def test_catalogue_on_stdout_is_all_that_stdout_has(jobs: Polysync) -> None:
    """Without a file the catalogue is on stdout, and everything else on stderr."""
    result = jobs("import")

    assert result.code == 0
    assert [job["name"] for job in yaml.safe_load(result.out)["jobs"]] == [
        "abalone",
        "callback-lambda",
        "churn-tuning",
        "fanout",
        "scoring-required-params",
    ]
    assert result.out.startswith("# SageMaker pipelines as jobs")
    assert "abalone needs a value for: InputDataUrl" in result.err
    assert result.error == "stdout: 5 jobs (5 added, 0 changed, 0 removed, 0 unchanged)"


def test_pipelines_that_tasks_make_are_jobs_on_request_only(
    emulator: EmulatorServer, jobs: Polysync, path: Path
) -> None:
    """Their entries stay as they are otherwise, and are no drift."""
    of_task = "airflow-nightly-train-0123abcd"
    put_pipelines(emulator, {of_task: PLAIN, "airflow-by-hand": PLAIN})

    assert jobs("import", "--prefix", "airflow-", path).code == 0
    assert {job.name for job in read_catalogue(path).jobs} == {
        of_task,
        "airflow-by-hand",
    }
    delete_pipelines(emulator, of_task)
    put_pipelines(emulator, {of_task.replace("0123", "4567"): PLAIN})
    result = jobs("import", path)

    names = [job.name for job in read_catalogue(path).jobs]
    assert [name for name in names if "-nightly-" in name] == [of_task]
    assert "1 pipelines that Airflow tasks make are no jobs: left out" in result.err
    assert jobs("diff", path).code == 0


@NEEDS_ROLE
def test_pipelines_that_aws_manages_have_a_file_of_their_own(
    jobs: Polysync, tmp_path: Path
) -> None:
    """They are imported and compared on request, and replace no jobs of the account."""
    own = tmp_path / "jobs.yaml"
    managed = tmp_path / "managed.yaml"
    jobs("import", own)

    result = jobs("import", "--managed-by", "AWS", managed)
    diff = jobs("diff", managed, "--managed-by", "AWS")
    mixed = jobs("import", "--managed-by", "AWS", "--prefix", "model-", own)

    counts = "1 added, 0 changed, 0 removed, 0 unchanged"
    assert result.error == f"{managed}: 1 jobs ({counts})"
    (job,) = read_catalogue(managed).jobs
    assert job.arn == MANAGED
    assert job.role_arn is None
    assert diff.code == 0
    assert diff.error == f"{managed}: no drift; 1 pipelines compared"
    assert mixed.code == 2
    places = "of account aws, region us-east-1, and the jobs of the file are of account"
    assert f"is {places} 123456789012" in mixed.error
    assert "--managed-by" in mixed.error


def test_descriptions_and_unknown_types_of_a_definition(
    jobs: Polysync,
    path: Path,
    emulator: EmulatorServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    The file has the description of a parameter; stderr names the step whose type this
    version does not know.
    """
    parameters = [{"Name": "Rows", "Type": "Integer", "Description": "How many: all"}]
    put_pipelines(
        emulator, {"own": {**PLAIN, "Parameters": parameters, "Steps": [*STEPS, NEWER]}}
    )
    monkeypatch.delitem(STEP_TYPES, "Athena")

    result = jobs("import", path)

    described = [
        (p.name, p.description)
        for job in read_catalogue(path).jobs
        for p in job.parameters
    ]
    assert [pair for pair in described if pair[1]] == [("Rows", "How many: all")]
    assert result.err.count("newer than this version") == 1
    assert (
        "own: it has steps of a type that AWS does not have, or that is" in result.err
    )
    assert ": Query (Athena)" in result.err


def test_broken_entry_out_of_scope_is_an_error(jobs: Polysync, path: Path) -> None:
    """An entry that the import would lose is an error; one in its scope is replaced."""
    fanout = f"{{name: fanout, arn: '{ARN_TEXT}', region: us-east-1, typo: x}}"
    text = f"version: 1\njobs:\n- {fanout}\n"
    path.write_text(text)

    refused = jobs("import", path, "--prefix", "churn-")
    unchanged = path.read_text()
    replaced = jobs("import", path)

    assert refused.code == 2
    assert unchanged == text
    assert "fanout: typo: Extra inputs are not permitted" in refused.error
    assert replaced.code == 0
    assert "the entry fanout, whose descriptions are lost: typo:" in replaced.err
    assert read_catalogue(path).broken == []


def test_a_target_that_is_no_catalogue_is_refused_first(
    jobs: Polysync, tmp_path: Path, emulator: EmulatorServer
) -> None:
    """
    A missing folder, or a file that is no catalogue, is an error of one line before AWS
    is called.
    """
    other = tmp_path / "other.txt"
    other.write_text("hello")

    missing = jobs("import", tmp_path / "missing" / "jobs.yaml")
    result = jobs("import", other)

    assert missing.refusal.endswith(
        "jobs.yaml cannot be written: its folder does not exist. Create it."
    )
    assert result.refusal == (
        f"error: {other} is not a catalogue: "
        "it must have the keys 'version' and 'jobs'."
    )
    assert emulator.control.calls() == []
    assert other.read_text() == "hello"


def test_refusal_of_aws_is_an_error(
    jobs: Polysync, path: Path, tmp_path: Path, emulator: EmulatorServer
) -> None:
    """If AWS refuses a call, no file is written."""
    deny(emulator, "ListPipelines")

    result = jobs("import", path)

    assert result.code == 2
    assert "Allow sagemaker:ListPipelines" in result.error
    assert list(tmp_path.iterdir()) == []


def test_denied_pipelines_keep_their_entries(
    jobs: Polysync, path: Path, emulator: EmulatorServer
) -> None:
    """The others are imported; the exit code and the JSON say what is left out."""
    jobs("import", path)
    text = path.read_text()
    deny(emulator, "DescribePipeline", count=2)

    result = jobs("import", path, "--output", "json")
    deny(emulator, "DescribePipeline", count=1)
    diff = jobs("diff", path, "--output", "json")

    assert result.code == 1
    assert path.read_text() == text
    document = result.document
    assert [each["reason"] for each in document["not_imported"]] == 2 * ["denied"]
    assert len(document["unchanged"]) == 3
    assert document["removed"] == []
    for each in document["not_imported"]:
        assert f"Pipeline {each['name']} is not imported (denied): " in result.err
    assert result.error.startswith("Not imported: 2 (2 denied). Entries ")
    assert diff.code == 2
    assert diff.document["changes"] == []
    assert len(diff.document["not_compared"]) == 1
    assert diff.error.endswith("4 pipelines compared; not compared: 1 (1 denied)")


def test_import_that_would_remove_all_jobs_writes_nothing(
    jobs: Polysync, path: Path
) -> None:
    """
    A wrong region loses no descriptions: the file stays as it is, unless --force is
    given.
    """
    jobs("import", path)
    text = path.read_text()
    command = ("import", path, "--region", "eu-central-1", "--prefix", "a")

    refused = jobs(*command)
    unchanged = path.read_text()
    forced = jobs(*command, "--force")

    assert refused.code == 2
    assert unchanged == text
    assert refused.error.startswith(
        f"error: {path} was not written: the import of region eu-central-1 "
        "would remove all jobs of the file (--prefix 'a'),"
    )
    assert "--force" in refused.error
    assert forced.code == 0
    assert "abalone" not in {job.name for job in read_catalogue(path).jobs}


def test_prefix_that_finds_nothing_is_an_error(
    jobs: Polysync, path: Path, emulator: EmulatorServer
) -> None:
    """
    A prefix that matches nothing is an error, which names what is near; an empty region
    is a warning.
    """
    jobs("import", path)
    text = path.read_text()

    prefix = jobs("import", path, "--prefix", "chrun-")
    region = jobs("import", "--region", "eu-central-1")

    assert prefix.code == 2
    assert prefix.out == ""
    assert path.read_text() == text
    assert prefix.error == (
        "error: --prefix 'chrun-': there is no such pipeline in region us-east-1. "
        "Did you mean churn-tuning?"
    )
    assert region.code == 0
    assert yaml.safe_load(region.out) == {"version": 1, "jobs": []}
    no_pipelines = "there are no pipelines in region eu-central-1 (--prefix '')"
    assert f"warning: {no_pipelines}\n" in region.err
    delete_pipelines(emulator, "churn-tuning")
    removed = jobs("import", path, "--prefix", "churn-", "--force")
    assert removed.code == 0
    assert "Removed: churn-tuning" in removed.err
    requests = [call["request"] for call in emulator.control.calls("ListPipelines")]
    assert requests[-1]["PipelineNamePrefix"] == "churn"


def test_import_prints_jobs_and_changes_as_json(jobs: Polysync, path: Path) -> None:
    """stdout has the jobs, and what an import into the file has changed."""
    jobs("import", path, "--prefix", "churn-")

    done = jobs("import", path, "--output", "json")

    document = done.document
    assert [job["name"] for job in document["jobs"]] == [
        job.name for job in read_catalogue(path).jobs
    ]
    assert document["version"] == 1
    added = "abalone callback-lambda fanout scoring-required-params"
    assert document["added"] == added.split()
    assert document["unchanged"] == ["churn-tuning"]
