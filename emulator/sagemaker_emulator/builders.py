"""
Small pipelines for tests and experiments that need no SDK: the text of a definition,
and its steps.

::

    text = definition(step("Prepare"), step("Train", "Training", "Prepare"))
    client.create_pipeline(PipelineName="demo", PipelineDefinition=text, RoleArn=ROLE)
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from sagemaker_emulator.sagemaker.store import ACCOUNT, DEFAULT_ROLE, DEFAULT_SESSION

#: The role that the emulator has from the start.
ROLE: Final = f"arn:aws:iam::{ACCOUNT}:role/{DEFAULT_ROLE}"
#: Who calls with an access key that nobody has.
CALLER: Final = f"arn:aws:sts::{ACCOUNT}:assumed-role/{DEFAULT_ROLE}/{DEFAULT_SESSION}"


def definition(
    *steps: Mapping[str, Any], parameters: tuple[Mapping[str, Any], ...] = ()
) -> str:
    """
    Return the text of a pipeline definition.

    :param steps: the steps, as ``step`` returns them.
    :param parameters: the parameters of the pipeline, such as ``{"Name": "Score",
        "Type": "Float"}``.
    """
    return json.dumps(
        {"Version": "2020-12-01", "Parameters": parameters, "Steps": steps}
    )


def step(
    name: str, kind: str = "Processing", *after: str, **members: Any
) -> dict[str, Any]:
    """
    Return a step.

    :param name: its name.
    :param kind: its type, such as ``Training``.
    :param after: the names of the steps that it depends on.
    :param members: its other members in the definition, such as ``Arguments``.
    """
    return {
        "Name": name,
        "Type": kind,
        "Arguments": {},
        "DependsOn": list(after),
        **members,
    }
