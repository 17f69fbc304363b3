"""Reads the parameters that a pipeline's definition declares. Any user of the account may have written it."""

from __future__ import annotations

import json

from pydantic import TypeAdapter, ValidationError

from polysync_airflow.exceptions import ParametersError
from polysync_airflow.execution.pipeline_models import DeclaredParameter
from polysync_airflow.execution.texts import clean_text

_DECLARED_PARAMETERS = TypeAdapter(list[DeclaredParameter])


def declared_parameters(definition: str | None) -> list[DeclaredParameter]:
    """
    Return the parameters that a pipeline definition declares.

    :param definition: the definition, as JSON text.
    :raises ParametersError: the text is not a definition with valid ``Parameters``.
    """
    try:
        parsed = json.loads(definition or "")
        if not isinstance(parsed, dict):
            raise ParametersError(f"the definition is a JSON {type(parsed).__name__}, not an object")
        return _DECLARED_PARAMETERS.validate_python(parsed.get("Parameters") or [])
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        path = ".".join(str(part) for part in first["loc"])
        raise ParametersError(clean_text(f"the definition's Parameters.{path}: {first['msg']}")) from None
    except ValueError as error:
        # Not only JSONDecodeError: Python refuses numbers with more than 4,300 digits.
        raise ParametersError(clean_text(f"the definition is not JSON: {error}")) from None
    except RecursionError:
        raise ParametersError("the definition is nested too deeply to be read") from None
