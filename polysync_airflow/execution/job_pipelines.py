"""
Pipelines that a task makes: what their definitions have.

https://docs.aws.amazon.com/sagemaker/latest/dg/build-and-manage-steps-types.html
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from polysync_airflow.exceptions import ParametersError


@dataclass(frozen=True, kw_only=True)
class PipelineDraft:
    """
    What a pipeline is to have, beside its name.

    :param definition: JSON text. AWS compares it with the one that it has, so the same
        definition must be the same text: see ``to_text``.
    :param role_arn: the role that runs the steps.
    :param tags: of a pipeline that is created.
    :param description: None for the one that the pipeline has.
    :param max_parallel_steps: None for the limit that the pipeline has.
    """

    definition: str
    role_arn: str
    tags: Mapping[str, str] = field(default_factory=dict)
    description: str | None = None
    max_parallel_steps: int | None = None


def to_text(definition: object) -> str:
    """
    Return a definition as JSON that is the same text for the same value.

    :raises ParametersError: it has a value that JSON does not have.
    """
    try:
        return json.dumps(
            definition, sort_keys=True, separators=(",", ":"), allow_nan=False
        )
    except (TypeError, ValueError, RecursionError) as error:
        raise ParametersError(
            f"The definition is not valid: {error}. Give texts, numbers, booleans,"
            " lists and dicts. Nothing was started."
        ) from None


def tags_to_aws(tags: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return tags as the member of a request."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]
