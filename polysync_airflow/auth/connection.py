"""Owns a connection's content: checked field by field, and told in a person's words where it is wrong."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, Final

from pydantic import ValidationError

from polysync_airflow.auth.credentials import CREDENTIALS, DISCRIMINATORS, BaseCredentials
from polysync_airflow.exceptions import CredentialsError

# Where a person finds each field in the connection form.
_FORM_NAMES: Final = {
    "access_key_id": "access_key_id (login)",
    "secret_access_key": "secret_access_key (password)",
}


def parse_credentials(fields: Mapping[str, Any], *, connection_id: str) -> BaseCredentials:
    """
    Check a connection's fields.

    :param fields: the connection's content by field name; None and empty text count as not given, as the
        connection form sends them so.
    :param connection_id: for the error.
    :raises CredentialsError: naming every missing, unknown or illegal field; never quoting a secret.
    """
    given = {name: value for name, value in fields.items() if value not in (None, "")}
    try:
        credentials: BaseCredentials = CREDENTIALS.validate_python(given)
    except ValidationError as error:
        problems = "\n".join(f"- {problem}" for problem in _problems(error, given))
        raise CredentialsError(
            f"The connection {connection_id!r} (type polysync_sagemaker) is not usable:\n{problems}"
        ) from None
    return credentials


def _problems(error: ValidationError, given: Mapping[str, Any]) -> Iterable[str]:
    for problem in error.errors(include_url=False, include_input=False):
        kind = problem["type"]
        if kind in ("union_tag_invalid", "union_tag_not_found"):
            name = str(problem["ctx"]["discriminator"]).strip("'")
            tags = ", ".join(choices_of(name))
            yield f"{name}: give one of {tags}."
            continue
        name = str(problem["loc"][-1])
        shown = _FORM_NAMES.get(name, name)
        if kind == "missing":
            yield f"{shown}: Field required; fill it in."
        elif kind == "extra_forbidden":
            cure = _nearest(name, problem["loc"][:-1], given)
            yield f"{shown}: this way to sign in has no such field; {cure}."
        else:
            yield f"{shown}: {problem['msg']}; correct it."


def _nearest(name: str, way: tuple[int | str, ...], given: Mapping[str, Any]) -> str:
    free = [field for field in _fields_of(way) if field not in given]
    near = difflib.get_close_matches(name, free, n=1, cutoff=0.75)
    return f"did you mean {near[0]}" if near else "remove it, or correct auth_method"


def _fields_of(way: tuple[int | str, ...]) -> Iterable[str]:
    """Return the fields of the way that pydantic's location names by its discriminators' values."""
    for kind in ways():
        tags = [
            field.annotation.__args__[0]
            for name, field in kind.model_fields.items()
            if name in DISCRIMINATORS
        ]
        if tags == list(way):
            return list(kind.model_fields)
    return ()


def choices_of(discriminator: str) -> list[str]:
    """
    Return the values that a discriminating field can have.

    :param discriminator: ``auth_method``, ``identity_source`` or ``entra_credential``.
    """
    found = [
        field.annotation.__args__[0]
        for kind in ways()
        for name, field in kind.model_fields.items()
        if name == discriminator
    ]
    return list(dict.fromkeys(found))


def ways(kind: Any = BaseCredentials) -> list[Any]:
    """Return the classes of all ways to sign in, in the order in which they are written."""
    children = kind.__subclasses__()
    return [way for child in children for way in ways(child)] if children else [kind]
