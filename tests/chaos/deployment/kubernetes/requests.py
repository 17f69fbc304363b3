"""
What the API accepts: the fields that Airflow's executor sends, with their bounds.
Everything else is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

# The bounds of Kubernetes, except for those of numbers of items, and Linux's bound of
# an argument.
MAX_BODY_BYTES: Final = 1 << 20
MAX_ARGUMENT_CHARACTERS: Final = (128 << 10) - 1
DEFAULT_GRACE_PERIOD: Final = 30
NAMESPACE: Final = "default"

PodName = Annotated[
    str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)
]
Key = Annotated[
    str,
    Field(
        pattern=r"^([-a-z0-9.]{1,253}/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"
    ),
]
LabelValue = Annotated[
    str, Field(pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$", max_length=63)
]
AnnotationValue = Annotated[str, Field(max_length=4096)]
Argument = Annotated[
    str, Field(max_length=MAX_ARGUMENT_CHARACTERS, pattern=r"^[^\x00]*$")
]
Arguments = Annotated[list[Argument], Field(max_length=20)]
GracePeriod = Annotated[int, Field(ge=0, le=300)]

_REQUIREMENT: Final = re.compile(
    r"(?P<key>[^\s!=(),]+)"
    r"(?:(?P<equality>!=|==?)(?P<value>[^\s!=(),]*)|\s+(?P<set>in|notin)\s*\((?P<values>[^()]*)\))?"
)
_COMMA_OUTSIDE_OF_A_SET: Final = re.compile(r",(?![^()]*\))")


class Part(BaseModel):
    """The base of all parts of requests."""

    model_config = ConfigDict(
        alias_generator=to_camel, extra="forbid", frozen=True, strict=True
    )


class Metadata(Part):
    """The metadata of a new pod."""

    name: PodName
    namespace: Literal["default"] = NAMESPACE
    labels: dict[Key, LabelValue] = Field(default={}, max_length=50)
    annotations: dict[Key, AnnotationValue] = Field(default={}, max_length=50)


class EnvironmentVariable(Part):
    """A variable of a container."""

    name: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=200)
    value: Argument = ""


class Container(Part):
    """
    The only container of a pod. It has no image: the programs of this machine run in
    it.
    """

    name: PodName
    command: Arguments = []
    args: Arguments = Field(default=[], max_length=20)
    env: list[EnvironmentVariable] = Field(default=[], max_length=100)


class Spec(Part):
    """What runs in a new pod."""

    containers: list[Container] = Field(min_length=1, max_length=1)
    restart_policy: Literal["Never"]
    termination_grace_period_seconds: GracePeriod = DEFAULT_GRACE_PERIOD


class NewPod(Part):
    """A request to create a pod."""

    api_version: Literal["v1"] = "v1"
    kind: Literal["Pod"] = "Pod"
    metadata: Metadata
    spec: Spec


class MetadataPatch(Part):
    """Labels and annotations to set, or to remove."""

    labels: dict[Key, LabelValue | None] = Field(default={}, max_length=50)
    annotations: dict[Key, AnnotationValue | None] = Field(default={}, max_length=50)


class PodPatch(Part):
    """A request to change a pod."""

    metadata: MetadataPatch


class DeleteOptions(Part):
    """A request to end and delete a pod."""

    grace_period_seconds: GracePeriod | None = None


class ListOptions(BaseModel):
    """The query of a request for a list of pods, or for their changes."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", frozen=True)

    label_selector: str = Field(default="", max_length=4096)
    field_selector: str = Field(default="", max_length=4096)
    resource_version: int = Field(default=0, ge=0)
    timeout_seconds: int = Field(default=3600, ge=1, le=3600)
    watch: bool = False


class Selector:
    """
    A selector of labels or of fields, in the syntax of Kubernetes.

    :param text: the selector.
    :raises ValueError: if it is not in this syntax.
    """

    def __init__(self, text: str) -> None:
        parts = (part.strip() for part in _COMMA_OUTSIDE_OF_A_SET.split(text))
        self._requirements = [_parsed(part) for part in parts if part]

    def matches(self, values: Mapping[str, str]) -> bool:
        """Return whether labels or fields meet all requirements."""
        return all(
            (values.get(key) in allowed) == wanted
            for key, allowed, wanted in self._requirements
        )

    def keys(self) -> set[str]:
        """Return the names of the labels or fields."""
        return {key for key, _, _ in self._requirements}


def _parsed(requirement: str) -> tuple[str, Any, bool]:
    """
    Return the key, the values, and whether the key's value must be one of them, or must
    not.
    """
    absent = requirement.startswith("!")
    match = _REQUIREMENT.fullmatch(requirement.removeprefix("!"))
    if not match or (absent and match["key"] != requirement[1:]):
        raise ValueError(
            f"the selector has the requirement {requirement[:100]!r}, which is not one of Kubernetes"
        )
    if match["equality"]:
        return match["key"], {match["value"]}, match["equality"] != "!="
    if match["set"]:
        return (
            match["key"],
            {value.strip() for value in match["values"].split(",")},
            match["set"] == "in",
        )
    return match["key"], {None}, absent
