"""The method of the hook that creates or updates a pipeline, at the wire."""

from __future__ import annotations

from typing import Any

import pytest

from polysync_airflow.exceptions import SageMakerApiError
from polysync_airflow.execution.definitions import PipelineDraft, to_text
from polysync_airflow.hooks import PolysyncSageMakerHook
from tests.world import World

UPDATE, CREATE = "UpdatePipeline", "CreatePipeline"


def draft(reason: str) -> PipelineDraft:
    """Return a pipeline whose only step fails for a reason."""
    step = {"Name": "Fail", "Type": "Fail", "Arguments": {"ErrorMessage": reason}}
    return PipelineDraft(
        pipeline_name="made",
        definition=to_text({"Version": "2020-12-01", "Steps": [step]}),
        role_arn="arn:aws:iam::123456789012:role/Pipelines",
        pipeline_tags={"team": "ml"},
    )


def test_put_returns_the_version_of_its_definition(world: World) -> None:
    """
    The first put creates the pipeline with its tags, the same one makes no new version,
    another one does.
    """
    hook = PolysyncSageMakerHook()

    puts = [hook.put_pipeline(draft(reason)) for reason in "aaba"]

    assert [put.version_id for put in puts] == [1, 1, 2, 3]
    assert [put.was_created for put in puts] == [True, False, False, False]
    (region,) = world.emulator.sagemaker.regions.values()
    assert region.pipelines["made"].tags == {"team": "ml"}
    assert puts[0].arn == region.pipelines["made"].arn


def test_put_beside_a_create_of_another_process(world: World) -> None:
    """A pipeline that is created between the two calls is updated."""
    hook = PolysyncSageMakerHook()

    def create(_: Any) -> None:
        PolysyncSageMakerHook().put_pipeline(draft("theirs"))

    world.requests.before(CREATE, create)

    put = hook.put_pipeline(draft("ours"))

    assert (put.version_id, put.was_created) == (2, False)
    assert world.calls(UPDATE, CREATE) == [UPDATE, UPDATE, CREATE, CREATE, UPDATE]


@pytest.mark.parametrize(
    ("words", "is_repeated"),
    [
        ("Pipeline with name made already exists.", True),
        ("Pipeline names must be unique within an AWS account and region.", True),
        ("The definition is not valid.", False),
    ],
)
def test_created_pipeline_is_not_found_yet(
    words: str, is_repeated: bool, world: World
) -> None:
    """Who repeats the call finds it then. What is not valid is an error at once."""
    missing = {"code": "ResourceNotFound", "message": "There is none."}
    world.control.add_fault("error", UPDATE, count=2, **missing)
    taken = {"code": "ValidationException", "message": words}
    world.control.add_fault("error", CREATE, **taken)

    with pytest.raises(SageMakerApiError, match=words) as raised:
        PolysyncSageMakerHook().put_pipeline(draft("a"))

    assert (raised.value.transient, raised.value.permanent) == (
        is_repeated,
        not is_repeated,
    )
    assert world.calls(UPDATE, CREATE) == [UPDATE, CREATE, UPDATE]
