"""
The property files of processing steps in the XCom ``outputs``, in both modes, and all
that can be wrong.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.fakes.fake_sagemaker import Body
from tests.unit.operators.outcome.ended_account import (
    KINDS,
    PROCESSED,
    Account,
    error,
    start,
)


@pytest.fixture
def evaluation(aws: Account) -> Account:
    """An account in which the step Evaluate has written a report."""
    files = [
        {
            "PropertyFileName": "Eval",
            "OutputName": "report",
            "FilePath": "evaluation.json",
        },
        {
            "PropertyFileName": "Bias",
            "OutputName": "report",
            "FilePath": "bias/bias.json",
        },
    ]
    aws.definition = {
        "Steps": [{"Name": "Evaluate", "Type": "Processing", "PropertyFiles": files}]
    }
    aws.objects = {
        "s3://ml-bucket/eval/evaluation.json": b'{"auc": {"value": 0.91}, "by": ["a\\u0000"]}',
        "s3://ml-bucket/eval/bias/bias.json": b"[0.5]",
    }
    aws.add("ProcessingJob", "Evaluate")
    return aws


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (
            True,
            {
                "Eval": {"auc": {"value": 0.91}, "by": ["a\N{REPLACEMENT CHARACTER}"]},
                "Bias": [0.5],
            },
        ),
        (["Bias"], {"Bias": [0.5]}),
        (False, {}),
    ],
    ids=["all", "named", "none"],
)
def test_property_files_are_outputs(
    deferrable: bool,
    wanted: bool | list[str],
    expected: dict[str, Any],
    evaluation: Account,
) -> None:
    """A DAG can branch on a report without a condition step."""
    run = start(deferrable, property_files=wanted)

    arn = {"processing_job_arn": KINDS["ProcessingJob"][0]}
    assert run.xcoms["outputs"]["Evaluate"] == {**arn, **PROCESSED, **expected}
    assert run.xcoms["run"]["steps_note"] is None
    assert len(evaluation.asked) == 1 + len(expected)


@pytest.mark.parametrize(
    ("content", "note"),
    [
        (
            None,
            "Property file Eval of step Evaluate could not be read: GetObject failed: NoSuchKey",
        ),
        (
            error("AccessDenied", 403, xml=True),
            "Allow s3:GetObject on arn:aws:s3:::ml-bucket/eval/evaluation",
        ),
        (
            b"{'a': 1}",
            "(s3://ml-bucket/eval/evaluation.json) is left out: it is not JSON: ",
        ),
        (b'"' + b"x" * 262_144 + b'"', "is left out: it has more than 262,144 bytes."),
    ],
    ids=["missing", "denied", "not JSON", "too large"],
)
def test_property_file_that_cannot_be_used_is_noted(
    deferrable: bool, content: bytes | Body | None, note: str, evaluation: Account
) -> None:
    """The task does not fail, and other files are read."""
    if content is None:
        del evaluation.objects["s3://ml-bucket/eval/evaluation.json"]
    else:
        evaluation.objects["s3://ml-bucket/eval/evaluation.json"] = content

    run = start(deferrable, property_files=True)

    assert run.error is None
    assert "Eval" not in run.xcoms["outputs"]["Evaluate"]
    assert run.xcoms["outputs"]["Evaluate"]["Bias"] == [0.5]
    assert note in run.xcoms["run"]["steps_note"]


def test_files_of_failed_steps_are_not_read(evaluation: Account) -> None:
    """What lies there may be of an earlier execution."""
    evaluation.steps[0]["StepStatus"] = "Failed"

    run = start(False, property_files=True)

    assert evaluation.asked == ["prepare"]
    assert run.xcoms["outputs"]["Evaluate"]["seconds"] == 90.5
