"""
Definitions that AWS refuses: each is sent to CreatePipeline, and never runs.

``refusals.toml`` has them.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any, Final

from sagemaker_emulator.builders import ROLE, step
from sagemaker_emulator.verify import definitions
from sagemaker_emulator.verify.account import Account
from sagemaker_emulator.verify.models import Observations

JOBS: Final = ("Training", "Processing", "Transform", "Tuning")


def _sound_definition() -> Any:
    """Return a definition with steps of many types."""
    retry = {"ExceptionType": ["Step.THROTTLING"], "MaxAttempts": 3}
    text = definitions.definition(
        step("Prepare"),
        step(
            "Train",
            "Training",
            "Prepare",
            CacheConfig={"Enabled": True, "ExpireAfter": "P1D"},
            RetryPolicies=[retry],
        ),
        step("Notify", "Lambda", OutputParameters=[{"OutputName": "ticket"}]),
        step("Register", "RegisterModel", Arguments={"ModelPackageGroupName": "g"}),
        step("Cluster", "EMR"),
        definitions.condition(
            "Decide", then=[step("If")], otherwise=[step("Else", "Lambda")]
        ),
        step("Model", "Model"),
        parameters=[definitions.parameter("Count", "Integer", 1)],
    )
    return json.loads(text)


def _referring_definition() -> Any:
    """Return a definition in which texts and numbers of jobs are references."""
    container = {"Image": "image", "ModelDataUrl": "s3://b/m", "Mode": "SingleModel"}
    steps = [step(kind, kind) for kind in JOBS]
    steps.append(step("Model", "Model", Arguments={"PrimaryContainer": container}))
    referring = json.loads(json.dumps(steps), object_hook=_with_references)
    declared = map(definitions.parameter, ("str", "int"), ("String", "Integer"))
    return json.loads(definitions.definition(*referring, parameters=list(declared)))


def _with_references(members: dict[str, Any]) -> dict[str, Any]:
    """Return a step as it is, and a part of arguments with references as its values."""
    replaced = {
        name: {"Get": f"Parameters.{type(value).__name__}"}
        for name, value in members.items()
        if isinstance(value, str | int)
    }
    return members if "Arguments" in members else members | replaced


def _changed(path: str, value: str | None = None) -> Any:
    """
    Return the sound definition with another value of a member.

    :param path: the path of the member.
    :param value: the value as JSON; None to remove the member.
    """
    definition = _sound_definition()
    *parents, last = [int(key) if key.isdigit() else key for key in path.split(".")]
    place = definition
    for key in parents:
        place = place[key]
    if value is None:
        del place[last]
    elif isinstance(place, list):
        place.append(json.loads(value))
    else:
        place[last] = json.loads(value)
    return definition


def refusals(account: Account) -> Observations:
    """Send the sound definition, and those that differ from it in one member."""
    faulty = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))
    sent = {"sound": _sound_definition(), "references": _referring_definition()}
    sent |= {name: _changed(**change) for name, change in faulty.items()}
    for name, definition in sent.items():
        text = json.dumps(definition).replace(ROLE, account.role_arn)
        yield {name: account.answer_to(account.create, f"definition-{name}", text)}
