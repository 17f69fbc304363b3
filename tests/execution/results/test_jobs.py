"""What is read from the description of a job, whatever it has in place of what AWS documents."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import AliasChoices, AliasPath

from polysync_airflow.execution.results.jobs import JOB_KINDS, JobDescription, TuningJob, sum_by_instance_type

DESCRIPTIONS = sorted({kind.description for kind in JOB_KINDS.values()}, key=lambda each: each.__name__)
INVALID: tuple[Any, ...] = (
    *(None, True, "x", "\x00", -1, 10**40, float("nan")),
    *([], [1], [None], [{"MetricName": []}], {}, {"a": "x"}, {"a": None}, {"a": [1]}, {"a": {"b": 1}}),
)


def paths(description: type[JobDescription]) -> list[tuple[str, ...]]:
    """Return the members of a response that are read, each with the members around it."""
    found: set[tuple[str, ...]] = set()
    for field in description.model_fields.values():
        alias = field.validation_alias
        for choice in alias.choices if isinstance(alias, AliasChoices) else [alias]:
            members = choice.path if isinstance(choice, AliasPath) else [choice]
            found |= {tuple(map(str, members[: depth + 1])) for depth in range(len(members))}
    return sorted(found)


@pytest.mark.parametrize("description", DESCRIPTIONS)
def test_invalid_member_is_left_out(description: type[JobDescription]) -> None:
    """It raises no error, and what is read is JSON."""
    for path in paths(description):
        for value in INVALID:
            response = value
            for member in reversed(path):
                response = {member: response}
            job = description.model_validate(response)
            json.dumps(job.outputs, allow_nan=False)
            json.dumps(sum_by_instance_type([job]), allow_nan=False)


def test_training_jobs_are_counted_over_all_statuses() -> None:
    """A count that is none is left out."""
    counters = {"Completed": 3, "Stopped": 1, "Odd": "x"}

    assert TuningJob.model_validate({"TrainingJobStatusCounters": counters}).training_jobs == 4
