"""What a watcher wants, and which arguments are refused when the DAG file is parsed."""

from __future__ import annotations

import re
from typing import Any

import pytest

from polysync_airflow.exceptions import ParametersError
from polysync_airflow.execution.events import (
    check_watcher,
    read_message,
    region_of_queue,
)
from tests.unit.execution.events.samples import execution, model_package, of_step

URL = "https://sqs.us-east-1.amazonaws.com/123456789012/changes"
REQUIRED = {"queue_url": URL, "polysync_conn_id": "polysync_default"}


ALL_MODELS = {"model_package_groups": ["*"]}
WITHOUT_GROUP = model_package(ModelPackageGroupName=None)
NO_STATE = "which is none of Success, Failed, Cancelled, Running"
TOGETHER = "model_package_groups is given together with pipelines or steps"


@pytest.mark.parametrize(
    ("arguments", "body", "wanted"),
    [
        ({}, execution("Succeeded"), True),
        ({}, execution("Stopped"), True),
        ({}, execution("Executing"), False),
        ({}, of_step(), False),
        ({"states": ["Running"]}, execution("Executing"), True),
        ({"pipelines": ["myPipeline-123"]}, execution(), True),
        ({"pipelines": ["MYPIPELINE-*", "x"]}, execution(), True),
        ({"pipelines": ["myPipeline"]}, execution(), False),
        ({"steps": ["*"]}, execution(), False),
        ({"steps": ["myprocessingstep?"]}, of_step(), True),
        ({"steps": ["MyProcessingStep1"]}, of_step(), False),
        ({"steps": ["*"]}, of_step("Starting"), False),
        ({"steps": ["*"], "states": ["Running"]}, of_step("Starting"), True),
        ({"steps": ["*"], "pipelines": ["other"]}, of_step(), False),
        ({"model_package_groups": ["versionedmp-*"]}, model_package(), True),
        ({**ALL_MODELS, "states": ["Approved"]}, model_package("Rejected"), False),
        ({"model_package_groups": ["other"]}, model_package(), False),
        (ALL_MODELS, model_package(ModelPackageGroupName=None), True),
        ({"model_package_groups": ["?*"]}, WITHOUT_GROUP, False),
        (ALL_MODELS, execution(), False),
    ],
)
def test_watcher_wants_changes_of_its_names_and_states(
    arguments: dict[str, Any], body: str, wanted: bool
) -> None:
    """
    A watcher wants changes of one kind, by names and states; pipelines also in another
    case.
    """
    assert check_watcher({**REQUIRED, **arguments}).wants(read_message(body)) is wanted


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"queue_url": "changes"}, "= 'changes'.*Give the URL of a standard queue"),
        ({"queue_url": f"{URL}.fifo"}, "queue_url = .*not .fifo"),
        ({"polysync_conn_id": ""}, "polysync_conn_id = ''.*Give the id of"),
        ({"region_name": "Frankfurt"}, "= 'Frankfurt'.*Give the AWS region"),
        (
            {"region_name": "eu-west-1"},
            "region_name = 'eu-west-1' is not the region of the queue, 'us-east-1'",
        ),
        ({"pipelines": []}, "pipelines = a list of 0.*Give a list of 1 to 200 names"),
        ({"pipelines": ["a", "a b"]}, r"pipelines\[1\] = 'a b'"),
        ({"pipelines": ["x"] * 201}, "pipelines = a list of 201"),
        ({"steps": [1]}, r"steps\[0\] = 1"),
        ({"states": ["Done"]}, f"states has 'Done', {NO_STATE}"),
        ({**ALL_MODELS, "states": ["Success"]}, "Approved, Rejected, PendingManual"),
        ({**ALL_MODELS, "steps": ["s"]}, f"{TOGETHER}: use a watcher for each"),
        ({"other": 1}, "other = 1: Extra inputs are not permitted."),
        ({"a\nb": 1}, "a b = 1"),
    ],
)
def test_wrong_argument_is_refused_with_its_value_and_the_cure(
    arguments: dict[str, Any], problem: str
) -> None:
    """The error names the argument, its value and the cure."""
    with pytest.raises(ParametersError) as caught:
        check_watcher({**REQUIRED, **arguments})

    first, *lines = str(caught.value).split("\n")
    assert first == "Nothing is watched, because these arguments are not valid:"
    assert re.search(f"^- .*{problem}", lines[0])


def test_problem_of_a_name_is_one_line_with_the_cure() -> None:
    """It is one line, also beside others."""
    with pytest.raises(ParametersError) as caught:
        check_watcher({**REQUIRED, "steps": ["a", ["b"]], "other": 1})

    assert str(caught.value).split("\n")[1:] == [
        (
            "- steps[1] = a list of 1: Input should be a valid string. Give a list of"
            " 1 to 200 names, in which * and ? stand for any characters, or leave it"
            " out to watch executions."
        ),
        "- other = 1: Extra inputs are not permitted.",
    ]


@pytest.mark.parametrize(
    ("url", "region"),
    [
        (URL, "us-east-1"),
        ("https://sqs.cn-north-1.amazonaws.com.cn/123456789012/changes", "cn-north-1"),
        (
            "https://sqs.eusc-de-east-1.amazonaws.eu/123456789012/changes",
            "eusc-de-east-1",
        ),
        (
            "https://sqs-fips.us-gov-west-1.amazonaws.com/123456789012/changes",
            "us-gov-west-1",
        ),
        ("http://127.0.0.1:4599/123456789012/changes", None),
    ],
)
def test_region_of_the_queue_is_in_its_url(url: str, region: str | None) -> None:
    """The URL of a queue of AWS has its region."""
    assert check_watcher({**REQUIRED, "queue_url": url}).region == region
    assert region_of_queue("changes") is None
