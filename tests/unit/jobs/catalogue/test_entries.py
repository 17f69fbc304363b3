"""Entries of a catalogue: what an import writes, and what it keeps."""

from __future__ import annotations

from typing import Any

import pytest

from polysync_airflow.exceptions import CatalogueError
from polysync_airflow.execution.pipelines import Job
from polysync_airflow.jobs.catalogue import (
    BrokenJob,
    Catalogue,
    CatalogueJob,
    Scope,
    as_entry,
    catalogue_jobs,
    loss_by_import,
    update_catalogue,
)
from tests.unit.jobs.catalogue.builders import ROLE, arn, entry, job, parameter


def described(name: str, text: str | None, **parameters: str) -> CatalogueJob:
    """Return an entry whose descriptions people have written."""
    plain = [
        {"name": each, "type": "String", "description": wanted}
        for each, wanted in parameters.items()
    ]
    return entry(name, description=text).model_validate(
        {**entry(name, description=text).model_dump(), "parameters": plain}
    )


def test_entry_has_the_properties_of_the_job() -> None:
    """
    An entry has the job's name, ARN, region, role, digest and parameters, and no empty
    members.
    """
    declared = parameter("P", type="Integer", default=0)
    (made,) = catalogue_jobs([job("churn", declared, role_arn=ROLE)], None)

    assert as_entry(made) == {
        "name": "churn",
        "arn": arn("churn"),
        "region": "us-east-1",
        "role_arn": ROLE,
        "definition_digest": f"sha256:{'0' * 64}",
        "parameters": [{"name": "P", "type": "Integer", "default": 0}],
    }


@pytest.mark.parametrize(
    ("in_file", "in_aws", "kept"),
    [
        ("mine", "theirs", "mine"),
        ("mine", None, "mine"),
        ("", "theirs", ""),
        (None, "theirs", "theirs"),
        (None, None, None),
    ],
)
def test_descriptions_of_people_are_kept(
    in_file: str | None, in_aws: str | None, kept: str | None
) -> None:
    """
    The file's description of a job or parameter is kept by their names, also an empty
    one; AWS's is used only if the file has none.
    """
    of_file = {} if in_file is None else {"A": in_file}
    own = described("churn", in_file, B="about B", **of_file)
    before = Catalogue([described("other", "text", A="text", New="text"), own], [])
    declared = [parameter("New"), parameter("B", type="Float")]
    declared.append(parameter("A", description=in_aws))
    imported = [job("churn", *declared, description=in_aws)]

    (made,) = catalogue_jobs(imported, before)
    (new,) = catalogue_jobs(imported, None)

    of_parameters = [each.description for each in made.parameters]
    assert (made.description, of_parameters) == (kept, [None, "about B", kept])
    assert (new.description, new.parameters[-1].description) == (in_aws, in_aws)


def test_display_name_of_people_is_kept() -> None:
    """
    The role is the one that AWS has; the display name of executions stays with the job.
    """
    named = entry("churn", execution_display_name="nightly", role_arn=ROLE)
    before = Catalogue([named], [])

    churn = job("churn", role_arn=f"{ROLE}2", display_name="Churn")
    kept, new = catalogue_jobs([churn, job("new")], before)

    assert kept.role_arn == f"{ROLE}2"
    assert kept.execution_display_name == "nightly"
    assert new.execution_display_name is None


def test_a_job_with_too_many_parameters_says_so() -> None:
    """It does not keep the other jobs from being imported."""
    many = [parameter(f"P{number}") for number in range(1001)]
    (made,) = catalogue_jobs([job("churn", *many)], None)

    assert made.parameters == []
    problem = "the definition has 1,001 parameters; the limit is 1,000"
    assert made.parameters_error == problem


def test_a_job_that_no_file_can_have_is_an_error() -> None:
    """An ARN that is not one of SageMaker is refused with the name of the pipeline."""
    problem = "The pipeline churn cannot be in a catalogue: arn: "
    with pytest.raises(CatalogueError, match=problem):
        catalogue_jobs([job("churn", arn="arn:aws:s3:::x")], None)


def test_import_of_everything_replaces_the_file() -> None:
    """
    Pipelines that do not exist any more are removed, and broken entries are replaced.
    """
    broken = BrokenJob("churn-typo", "x")
    before = Catalogue([entry("same"), entry("changed"), entry("gone")], [broken])

    jobs = [job("same"), job("changed", parameter("P")), job("new"), job("churn-typo")]
    update = update_catalogue(before, jobs, Scope())

    names = ["changed", "churn-typo", "new", "same"]
    assert sorted(each.name for each in update.jobs) == names
    added = ["churn-typo", "new"]
    assert update[1:] == (added, ["changed"], ["gone"], ["same"], [broken])


def test_import_with_a_prefix_keeps_the_others() -> None:
    """Only the jobs with the prefix are replaced or removed."""
    before = Catalogue([entry("churn-gone"), entry("other"), entry("churn-same")], [])

    jobs = [job("churn-same"), job("churn-new")]
    update = update_catalogue(before, jobs, Scope("churn-"))

    names = ["churn-new", "churn-same", "other"]
    assert sorted(each.name for each in update.jobs) == names
    assert update[1:] == (["churn-new"], [], ["churn-gone"], ["churn-same"], [])


EU: dict[str, Any] = {"region": "eu-central-1"}
OTHER_ACCOUNT: Any = {"arn": arn("same").replace("123456789012", "9" * 12)}
BROKEN = Catalogue([], [BrokenJob("jobs[0]", "x")])


def having(*jobs: CatalogueJob) -> Catalogue:
    """Return a catalogue of these jobs."""
    return Catalogue(list(jobs), [])


REMOVES_ALL = "would remove all jobs of the file (--prefix '{}')"
OF_EU = "region eu-central-1, and the jobs of the"
SAME = having(entry("same"))
SAME_AND_GONE = having(entry("same"), entry("gone"))
MIXED = having(entry("a-x", **EU), entry("b"))


@pytest.mark.parametrize(
    ("before", "jobs", "prefix", "loss"),
    [
        (None, [], "", ""),
        (having(), [], "", ""),
        (SAME_AND_GONE, [job("same")], "", ""),
        (SAME_AND_GONE, [job("new")], "", f"{REMOVES_ALL.format('')},"),
        (having(entry("a-gone"), entry("b")), [], "a-", REMOVES_ALL.format("a-")),
        (having(entry("b")), [], "a-", ""),
        (BROKEN, [job("same")], "", ""),
        (BROKEN, [], "", "remove all jobs of the file"),
        (SAME, [job("same", **EU)], "", OF_EU),
        (SAME, [job("same", **OTHER_ACCOUNT)], "", "is of account 999999999999, "),
        (having(entry("b")), [job("a-new", **EU)], "a-", OF_EU),
        (MIXED, [job("a-x", **EU)], "a-", ""),
        (MIXED, [job("b")], "", "region eu-central-1 and account"),
    ],
)
def test_import_of_the_wrong_place_says_what_it_would_lose(
    before: Catalogue | None, jobs: list[Job], prefix: str, loss: str
) -> None:
    """
    It removes all jobs that it could replace, or is of another region or account than
    those.
    """
    found = loss_by_import(before, jobs, Scope(prefix), "eu-central-1")

    assert loss in (found or "")
    assert bool(found) == bool(loss)


@pytest.mark.parametrize("name", ["other", "jobs[3]"])
def test_broken_entries_that_stay_are_an_error(name: str) -> None:
    """
    An import with a prefix cannot keep a broken entry without it, and names it with its
    problem.
    """
    broken = [BrokenJob(name, "no region"), BrokenJob("churn-x", "y")]
    before = Catalogue([], broken)

    with pytest.raises(CatalogueError) as caught:
        update_catalogue(before, [], Scope("churn-"))

    assert f"{name}: no region. Correct or remove them" in str(caught.value)
    assert "churn-x" not in str(caught.value)
