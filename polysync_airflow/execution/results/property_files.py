"""
The JSON files that processing steps have written to S3, such as the report of an evaluation.

A pipeline's definition names them, and says in which output of the job each is:
https://docs.aws.amazon.com/sagemaker/latest/dg/build-and-manage-propertyfile.html. Any user whose code runs
in the job writes them.

Everything here is pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from typing import Any, Final

from polysync_airflow.execution.pipelines.definition import DeclaredStep, PropertyFile
from polysync_airflow.execution.texts import clean_value

MAX_BYTES: Final = 256 * 1024
# Databases limit how deeply JSON may be nested: MySQL to 100.
MAX_DEPTH: Final = 32
# The iterations of a ForEach step repeat the names of its steps.
_ITERATION: Final = re.compile(r"\[\d+\]$")

_TOO_DEEP: Final = "it is nested too deeply"

PropertyFiles = bool | Sequence[str]


def files_to_read(declared: Iterable[DeclaredStep], wanted: PropertyFiles) -> dict[str, list[PropertyFile]]:
    """
    Return the property files to read, by the name of the step.

    :param wanted: True for all that the definition declares, or the names of some.
    """
    found = {
        step.name: [file for file in step.property_files if wanted is True or file.name in _names(wanted)]
        for step in declared
    }
    return {name: files for name, files in found.items() if files}


def missing_names(files: Mapping[str, Sequence[PropertyFile]], wanted: PropertyFiles) -> list[str]:
    """Return the wanted names that the definition does not declare."""
    declared = {file.name for each in files.values() for file in each}
    return [name for name in _names(wanted) if name not in declared]


def _names(wanted: PropertyFiles) -> Sequence[str]:
    return () if isinstance(wanted, bool) else wanted


def declared_name(step_name: str) -> str:
    """Return the name that the definition has for a step, which may be an iteration of a ForEach step."""
    return _ITERATION.sub("", step_name)


def uri_of(file: PropertyFile, output_uris: Mapping[str, str | None]) -> str | None:
    """
    Return the S3 URI of a property file; None if the job has no such output.

    :param output_uris: the outputs of the job by name.
    """
    folder = output_uris.get(file.output)
    return folder and f"{folder.rstrip('/')}/{file.path.lstrip('/')}"


def parse(content: bytes) -> Any:
    """
    Return the value of a property file, with clean texts.

    :param content: the file, or what was read of a longer one.
    :raises ValueError: it has more than ``MAX_BYTES``, or is not JSON that every database stores.
    """
    if len(content) > MAX_BYTES:
        raise ValueError(f"it has more than {MAX_BYTES:,} bytes")
    try:
        value = json.loads(content, parse_constant=_refuse)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    except ValueError as error:
        raise ValueError(f"it is not JSON: {error}") from None
    return _clean(value)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number of JSON")


def _clean(value: Any, depth: int = 0) -> Any:
    if depth > MAX_DEPTH:
        raise ValueError(_TOO_DEEP)
    if isinstance(value, dict):
        return {clean_value(name, MAX_BYTES): _clean(each, depth + 1) for name, each in value.items()}
    if isinstance(value, list):
        return [_clean(each, depth + 1) for each in value]
    if isinstance(value, float) and not isfinite(value):
        raise ValueError("it has a number that is too large")
    return clean_value(value, MAX_BYTES) if isinstance(value, str) else value
