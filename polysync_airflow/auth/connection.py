"""
Checks the fields of a ``polysync_sagemaker`` connection and parses them into the model of its sign-in method.

The models are in ``credentials``. This module words the validation errors for the user who edits the
connection.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from itertools import islice
from typing import Any, Final

from pydantic import ValidationError

from polysync_airflow.auth.credentials import CREDENTIALS_ADAPTER, DISCRIMINATORS, BaseCredentials
from polysync_airflow.exceptions import CredentialsError
from polysync_airflow.execution.texts import MAX_PROBLEMS, clean_line

_MAX_NAME: Final = 64
# Fields that have another name in the connection form.
_FORM_LABELS: Final = {
    "access_key_id": "access_key_id (login)",
    "secret_access_key": "secret_access_key (password)",
}


def parse_credentials(fields: Mapping[str, Any], *, connection_id: str) -> BaseCredentials:
    """
    Check and parse the fields of a connection.

    :param fields: the fields of the connection by name. None and empty strings count as missing, because the
        connection form sends empty strings for empty fields.
    :raises CredentialsError: if a field is missing, unknown or malformed. The message names every such field
        and never contains a secret.
    """
    given = {name: value for name, value in fields.items() if value not in (None, "")}
    try:
        return CREDENTIALS_ADAPTER.validate_python(given)
    except ValidationError as error:
        problems = "\n".join(f"- {problem}" for problem in islice(_problems(error, given), MAX_PROBLEMS))
        if error.error_count() > MAX_PROBLEMS:
            problems += f"\n- and {error.error_count() - MAX_PROBLEMS:,} more"
        raise CredentialsError(
            f"The connection {connection_id!r} (type polysync_sagemaker) is not usable:\n{problems}"
        ) from None


def _problems(error: ValidationError, given: Mapping[str, Any]) -> Iterable[str]:
    for problem in error.errors(include_url=False, include_input=False):
        error_type = problem["type"]
        if error_type in ("union_tag_invalid", "union_tag_not_found"):
            name = str(problem["ctx"]["discriminator"]).strip("'")
            yield f"{name}: give one of {', '.join(choices_of(name))}."
            continue
        # Whoever edits the connection chooses the names of unknown fields.
        name = clean_line(str(problem["loc"][-1]), _MAX_NAME)
        label = _FORM_LABELS.get(name, name)
        if error_type == "missing":
            yield f"{label}: Field required; fill it in."
        elif error_type == "extra_forbidden":
            cure = _suggestion(name, problem["loc"][:-1], given)
            yield f"{label}: this sign-in method has no such field; {cure}."
        else:
            yield f"{label}: {problem['msg']}; correct it."


def _suggestion(name: str, tags: tuple[int | str, ...], given: Mapping[str, Any]) -> str:
    # Only for this message. A triggerer keeps what it imports, for the garbage collector to go through.
    import difflib

    # In pydantic's location of a problem, the values of the discriminators name the sign-in method.
    fields = next((each.model_fields for each in credentials_classes() if _tags_of(each) == tags), ())
    unused = [field for field in fields if field not in given]
    matches = difflib.get_close_matches(name, unused, n=1, cutoff=0.75)
    return f"did you mean {matches[0]}" if matches else "remove it, or correct auth_method"


def _tags_of(credentials_class: Any, names: Collection[str] = DISCRIMINATORS) -> tuple[str, ...]:
    fields = credentials_class.model_fields
    return tuple(fields[name].annotation.__args__[0] for name in names if name in fields)


def choices_of(discriminator: str) -> list[str]:
    """
    Return the allowed values of a discriminator field.

    :param discriminator: ``auth_method``, ``identity_source`` or ``entra_credential``.
    """
    values = (value for each in credentials_classes() for value in _tags_of(each, (discriminator,)))
    return list(dict.fromkeys(values))


def credentials_classes(base: Any = BaseCredentials) -> list[Any]:
    """
    Return the credentials classes of all sign-in methods, in the order of their definition.

    :param base: the class whose leaf subclasses are returned.
    """
    subclasses = base.__subclasses__()
    return (
        [leaf for subclass in subclasses for leaf in credentials_classes(subclass)] if subclasses else [base]
    )
