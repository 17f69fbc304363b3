"""
The texts with which AWS refuses definitions and parameters.

Each function names those who have published the text of AWS: ``sdk#N`` is an issue or a
pull request of https://github.com/aws/sagemaker-python-sdk. Where there is no public
text, it says so, and the words are those of the emulator.

AWS names neither the step nor the path of a member. The emulator writes them to its log
and to the log of its calls.
"""

from __future__ import annotations

from collections.abc import Sized
from typing import Any

# A definition can have a million characters. An error message does not repeat all of
# them.
_MAX_VALUE_LENGTH = 4096


def unable_to_parse(text: str) -> str:
    """Return the error of CreatePipeline and UpdatePipeline (all issues below)."""
    return f"Unable to parse pipeline definition. {text}"


def validation_failed(text: str) -> str:
    """Return that a rule is violated, which is not one of the form (sdk#5099)."""
    return f"Model Validation failed: {text}"


def unknown_argument(name: str) -> str:
    """
    Return that the request of a job cannot have a member (sdk#4994, of 2025; sdk#3472,
    of 2022, ends with a full stop).
    """
    return f"Unknown Argument member '{name}'"


def unknown_property(name: str) -> str:
    """Return that an object of Pipelines itself cannot have a member (sdk#2746)."""
    return f"Cannot parse object, unknown property '{name}'."


def wrong_type(type_name: str) -> str:
    """
    Return that a value has not the type it must have (list: sdk#2345; object: sdk#3908;
    no public text of the others).

    :param type_name: the type, as botocore calls it.
    """
    if type_name == "list":
        return "Expecting start of Json Array."
    if type_name in ("structure", "map"):
        return "Expecting start of Json Object."
    return validation_failed(f"the value is no {type_name}")


def out_of_bounds(
    value: Any, least: float | None, most: float | None, shape: str
) -> str | None:
    """
    Return that a value is too long or too short, or a number too large or too small;
    None if it is not. (A long text: sdk#5099, sdk#314; a short list: sdk#6156. No
    public text of the others: only a paraphrase of a map,
    https://github.com/getindata/kedro-sagemaker/issues/14.)

    :param value: the value.
    :param least: the smallest length or number; None if there is none.
    :param most: the greatest length or number; None if there is none.
    :param shape: the name of the shape.
    """
    size = value
    subject = f"number '{value}'"
    if isinstance(value, Sized):
        size = len(value)
        subject = f"Length of container {shape}={size}"
    if isinstance(value, str):
        subject = f"string '{shown(value)}' with length={size}"
    if most is not None and size > most:
        rule = "cannot be greater than max"
        bound = most
    elif least is not None and size < least:
        rule = "cannot be less than min"
        bound = least
    else:
        return None
    if isinstance(value, list | dict):
        return validation_failed(f"{subject} {rule}={bound}.")
    return validation_failed(f"{subject} {rule}={float(bound)} defined for {shape}.")


def not_satisfied(value: Any, rule: str, shape: str) -> str:
    """
    Return that a text is no enum value, or does not match a pattern. (People quote AWS
    so for the enums ProcessingS3InputMode and ProcessingInstanceType; no public text of
    a pattern.)

    :param value: the text.
    :param rule: the rule, such as ``enum value set: [Pipe, File]``.
    :param shape: the name of the shape.
    """
    text = f"Value '{shown(value)}' for '{shape}' failed to satisfy {rule}"
    return validation_failed(text)


def wrong_reference(reference: Any, expected: str) -> str:
    """
    Return that a reference leads to a value of another type. (People quote AWS so; what
    is between the brackets is not known.)

    :param reference: the reference.
    :param expected: the type of the argument.
    """
    return validation_failed(
        f"Cannot assign property reference [{shown(reference)}] to argument of type"
        f" {expected.capitalize()}"
    )


def empty_value() -> str:
    """
    Return that the value of a parameter is empty (sdk#4016). It does not say which.
    """
    return '[string "" is too short (length: 0, required minimum: 1)]'


def shown(value: Any) -> str:
    """Return a value for an error message."""
    text = str(value)
    if len(text) > _MAX_VALUE_LENGTH:
        return f"{text[:_MAX_VALUE_LENGTH]}..."
    return text
