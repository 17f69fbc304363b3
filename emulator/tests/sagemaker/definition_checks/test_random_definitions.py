"""
Random definitions: whatever a client sends, the answer is no internal failure, and
other services answer.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from sagemaker_emulator import EmulatorServer
from sagemaker_emulator.builders import ROLE
from sagemaker_emulator.errors import ApiError
from tests.conftest import ClientOf
from tests.sagemaker.definition_checks.test_faulty_definitions import (
    MODEL,
    get,
    join,
    json_get,
    sound_definition,
)
from tests.sagemaker.definition_checks.test_lenient import services_answer

DEFINITIONS = 150
VALUES: list[Any] = [
    *(None, 0, -1, 1.5, 10**30, True, "", "x", "a" * 5000, "\0", "s3://", "q.fifo"),
    *([], {}, [1], [[]], {"a": 1}, {"": ""}, ["a"] * 60),
    *(get("Parameters.Count"), get(MODEL), get("Steps.Prepare"), get("Steps..x")),
    *(get("ForEach.CurrentItem"), get(""), join(get("Parameters.Rate"))),
    json_get("a[0]..b"),
]
NAMES = ["Other", "Get", "Type", "Name", ""]


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the paths of all members and entries of a JSON value."""
    entries: Any = ()
    if isinstance(value, dict):
        entries = value.items()
    elif isinstance(value, list):
        entries = enumerate(value)
    for key, item in entries:
        yield (*path, key)
        yield from paths(item, (*path, key))


def changed(random: Random) -> str:
    """Return a definition with some random changes."""
    document = deepcopy(sound_definition())
    for _ in range(random.choice([1, 1, 1, 2, 3, 6])):
        *parents, last = random.choice(list(paths(document)))
        place: Any = document
        for key in parents:
            place = place[key]
        value = deepcopy(random.choice(VALUES))
        if isinstance(place, dict) and random.random() < 0.2:
            del place[last]
        elif isinstance(place, dict) and random.random() < 0.2:
            place[random.choice(NAMES)] = value
        else:
            place[last] = value
    return json.dumps(document)


@pytest.mark.parametrize("is_lenient", [True, False])
def test_no_definition_is_an_internal_failure(
    server: EmulatorServer,
    client_of: ClientOf,
    monkeypatch: pytest.MonkeyPatch,
    is_lenient: bool,
) -> None:
    """
    Each definition is refused, or runs to an end and can be described. A failure of the
    emulator is no ApiError.
    """
    limits = replace(server.sagemaker.limits, lenient=is_lenient)
    monkeypatch.setattr(server.sagemaker, "limits", limits)

    def answer_to(operation: str, **request: Any) -> dict[str, Any]:
        try:
            return server.sagemaker.call(operation, "us-east-1", request)[0]
        except ApiError:
            return {}

    random = Random("definitions")
    executions: list[str] = []
    for number in range(DEFINITIONS):
        token = f"{number:032}"
        answer_to(
            "CreatePipeline",
            PipelineName=f"Demo{number}",
            PipelineDefinition=changed(random),
            RoleArn=ROLE,
            ClientRequestToken=token,
        )
        started = answer_to(
            "StartPipelineExecution",
            PipelineName=f"Demo{number}",
            ClientRequestToken=token,
        )
        executions += started.values()
    server.control.advance(8 * 24 * 3600)
    services_answer(client_of)
    for arn in executions:
        described = answer_to("DescribePipelineExecution", PipelineExecutionArn=arn)
        assert described["PipelineExecutionStatus"] in ("Succeeded", "Failed")
        answer_to("ListPipelineExecutionSteps", PipelineExecutionArn=arn)
        answer_to("ListPipelineParametersForExecution", PipelineExecutionArn=arn)
    answer_to("Search", Resource="PipelineExecution")
    assert executions
