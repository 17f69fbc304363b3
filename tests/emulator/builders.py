"""Short ways to write pipeline definitions in tests."""

from __future__ import annotations

import json
from typing import Any

ROLE = "arn:aws:iam::123456789012:role/SageMakerRole"


def definition(*steps: dict[str, Any], parameters: tuple[dict[str, Any], ...] = ()) -> str:
    """Return the text of a pipeline definition."""
    return json.dumps({"Version": "2020-12-01", "Parameters": parameters, "Steps": steps})


def step(name: str, kind: str = "Processing", *after: str, **more: Any) -> dict[str, Any]:
    """Return a step that waits for the steps ``after``."""
    return {"Name": name, "Type": kind, "Arguments": {}, "DependsOn": list(after), **more}


def chain(*names: str) -> str:
    """Return the definition of steps that run one after the other."""
    before: list[tuple[str, ...]] = [(), *((name,) for name in names)]
    return definition(*(step(name, "Processing", *after) for name, after in zip(names, before, strict=False)))


def condition(name: str, conditions: list[Any], if_steps: list[Any], else_steps: list[Any]) -> dict[str, Any]:
    """Return a condition step."""
    arguments = {"Conditions": conditions, "IfSteps": if_steps, "ElseSteps": else_steps}
    return {"Name": name, "Type": "Condition", "Arguments": arguments}


def fail(name: str, message: Any) -> dict[str, Any]:
    """Return a fail step."""
    return {"Name": name, "Type": "Fail", "Arguments": {"ErrorMessage": message}}
