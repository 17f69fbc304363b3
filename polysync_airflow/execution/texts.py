"""
Cleans texts and numbers that others have written, before they get into logs, errors,
XComs and databases.

Every user who may create a pipeline writes texts that the provider shows: names,
definitions, reasons of failures. PostgreSQL stores neither NUL nor half a surrogate
pair, and control characters change what a terminal shows of a log. A line break could
begin a line that looks like one of Airflow's.

Data, such as a default value or a reason in an XCom, keeps its line breaks
(``clean_value``). In logs and errors, no text of others begins a line (``clean_text``,
``clean_line``).

Airflow 3 sends XComs, rendered arguments and DAGs as msgpack, whose integers have 64
bits, and then as JSON, which has no NaN. PostgreSQL reads a large float of an XCom back
as an integer, and stores neither NUL nor half a surrogate pair in it. Airflow refuses
some names in an XCom, or makes a Python object of their values:
https://airflow.apache.org/docs/apache-airflow/stable/authoring-and-scheduling/serializers.html

Everything here is pure.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Final

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    ValidationError,
    WrapValidator,
)

from polysync_airflow.exceptions import ParametersError

# How much of a foreign text a message quotes.
MAX_QUOTED: Final = 500
_MAX_VALUE_CHARACTERS: Final = 60
_MAX_COMPARED_CHARACTERS: Final = 256
# How many problems a message lists.
MAX_PROBLEMS: Final = 20
# All control characters except tab and newline; surrogates; line and paragraph
# separators; characters that change the direction of a text, or that nobody sees.
_UNSAFE: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u180e\u200b-\u200f"
    "\u2028-\u202e\u2060-\u206f\u3164\ud800-\udfff\ufeff\uffa0\ufff9-\ufffb"
    "\U000e0000-\U000e0fff]"
)
_REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"
# No line of Airflow's logs begins like this.
CONTINUATION: Final = "  | "
_LINE_BREAK: Final = re.compile(rf"\n(?!{re.escape(CONTINUATION)})")
# Airflow's log pane folds the lines after such a marker, or leaves the marker's line
# out: ::group::, ::endgroup::, and in Airflow 2 also ##[group].
_GROUP: Final = re.compile(r"(:|#)(:|#\[)(?=(?:end)?group(?:::|\]))")


def clean_value(text: str, max_length: int) -> str:
    """
    Return a text that every log and database accepts, with at most ``max_length``
    characters.

    :param text: the text. Unsafe characters are replaced by U+FFFD; line breaks stay.
    :param max_length: where to cut it. A text that was cut ends with an ellipsis.
    """
    return _UNSAFE.sub(_REPLACEMENT, _cut(text.replace("\r\n", "\n"), max_length))


def clean_text(text: str, max_length: int = MAX_QUOTED) -> str:
    """
    Return a text as ``clean_value`` does, for a log or an error. All lines but the
    first begin with ``  | ``.

    :param text: the text. Markers by which Airflow folds lines get a space.
    :param max_length: where to cut it.
    """
    text = _GROUP.sub(r"\1 \2", clean_value(text, max_length))
    return _cut(_LINE_BREAK.sub(f"\n{CONTINUATION}", text), max_length)


def _cut(text: str, max_length: int) -> str:
    if len(text) <= max_length:
        return text
    return text[: max_length - 3] + "..."


def nearest_name(name: str, names: Iterable[str]) -> str | None:
    """
    Return the name that a misspelled one probably means; None if no name is similar.

    :param name: the misspelled name.
    :param names: the names that exist. Each is compared, so limit their number.
    """
    name_by_folded = {existing.casefold(): existing for existing in names}
    matches = difflib.get_close_matches(
        name.casefold()[:_MAX_COMPARED_CHARACTERS], name_by_folded
    )
    if not matches:
        return None
    return name_by_folded[matches[0]]


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """
    Return a question, after a space, for the text of an error about a misspelled name;
    empty if no name is similar.
    """
    nearest = nearest_name(name, names)
    if nearest is None:
        return ""
    return f" Did you mean {nearest}?"


def clean_line(text: str, max_length: int = MAX_QUOTED) -> str:
    """
    Return a text as ``clean_text`` does, in one line.

    :param text: the text. A line break becomes a space.
    :param max_length: where to cut it.
    """
    return clean_text(clean_value(text, max_length).replace("\n", " "), max_length)


def shorten(value: Any) -> str:
    """Return a value as messages show it."""
    # An invalid string can have a megabyte, and a collection can hold anything, so only
    # its size is shown.
    if isinstance(value, str) and len(value) > _MAX_VALUE_CHARACTERS:
        return f"{value[:_MAX_VALUE_CHARACTERS]!r}... ({len(value):,} characters)"
    if isinstance(value, (Mapping, list, tuple, set)):
        return f"a {type(value).__name__} of {len(value):,}"
    try:
        return repr(value)[: 2 * _MAX_VALUE_CHARACTERS]
    except ValueError:
        # Python refuses to write integers of more than 4,300 digits.
        return f"a very large {type(value).__name__}"


def invalid_argument(name: str, value: Any, cure: str) -> ParametersError:
    """Return the error that an argument of a DAG author's is not valid."""
    return ParametersError(f"{name} = {shorten(value)} is not valid: {cure}.")


def first_problems(problems: Sequence[str], limit: int = MAX_PROBLEMS) -> list[str]:
    """
    Return at most ``limit`` problems, and a last line that says how many more there
    are.
    """
    lines = list(problems[:limit])
    if len(problems) > limit:
        lines.append(f"and {len(problems) - limit} more")
    return lines


def describe_validation_error(error: ValidationError) -> str:
    """
    Return the problems that pydantic found as one line: the name of each field and what
    is wrong with it.

    The values are left out, since they may be secret or long.
    """
    problems = []
    for details in error.errors():
        path = ".".join(map(str, details["loc"])) or "the whole value"
        problems.append(f"{path}: {_problem(details['msg'])}")
    return "; ".join(map(clean_line, first_problems(problems)))


def _problem(message: str) -> str:
    """Return a problem without the words with which pydantic begins it."""
    return message.removeprefix("Value error, ")


def describe_arguments(
    model: type[BaseModel],
    error: ValidationError,
    given: Mapping[str, Any] | None = None,
    show: Callable[[str], str] = shorten,
) -> str:
    """
    Return a line for each argument in which pydantic found a problem: its value, the
    problem, and the cure.

    :param model: the model of the arguments. A field's ``description`` says which
        values are valid.
    :param given: the arguments as they were given, if the model has changed them
        before.
    :param show: returns the text of a key or an index of an argument.
    """
    lines = []
    for details in error.errors():
        if not details["loc"]:
            lines.append(f"{_problem(details['msg'])}.")
            continue
        argument, *path = details["loc"]
        name = clean_line(str(argument))
        for part in path:
            if part != "[key]":
                name += f"[{show(str(part))}]"
        value = details["input"]
        if not path and given is not None:
            value = given.get(str(argument))
        line = f"{name} = {shorten(value)}: {details['msg']}."
        field = model.model_fields.get(str(argument))
        if field and field.description:
            line += f" {field.description}"
        lines.append(line)
    return "\n".join(f"- {line}" for line in first_problems(lines))


def _cleaned(clean: Callable[[str, int], str], max_length: int) -> BeforeValidator:
    def clean_if_text(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        return clean(value, max_length)

    return BeforeValidator(clean_if_text)


# Types of fields for texts from AWS. Limits:
# https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribePipelineExecution.html,
# API_PipelineExecutionStep.html and API_DescribePipeline.html. The description of a
# parameter may be the longest text:
# https://aws-sagemaker-mlops.github.io/sagemaker-model-building-pipeline-definition-JSON-schema/
MAX_REASON_LENGTH: Final = 1300
NameText = Annotated[str, _cleaned(clean_line, 256)]
ReasonText = Annotated[str, _cleaned(clean_value, MAX_REASON_LENGTH)]
LineText = Annotated[str, _cleaned(clean_line, MAX_REASON_LENGTH)]
MAX_EXECUTION_DESCRIPTION: Final = 3072
ExecutionDescriptionText = Annotated[
    str, _cleaned(clean_line, MAX_EXECUTION_DESCRIPTION)
]
DescriptionText = Annotated[str, _cleaned(clean_value, 4096)]
MAX_ARN_LENGTH: Final = 2048
ArnText = Annotated[str, _cleaned(clean_line, MAX_ARN_LENGTH)]
# https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_Parameter.html
MAX_VALUE_LENGTH: Final = 1024
ValueText = Annotated[str, _cleaned(clean_value, MAX_VALUE_LENGTH)]


_UNITS: Final = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def format_seconds(seconds: float) -> str:
    """
    Return a duration with at most two units, such as ``45 s``, ``38 min 6 s`` or ``2 h
    5 min``.
    """
    if seconds <= 0:
        return "0 s"
    if seconds < 1:
        return "< 1 s"
    rest = int(seconds + 0.5)
    numbers: list[tuple[int, str]] = []
    for size, unit in _UNITS:
        number, rest = divmod(rest, size)
        if number or numbers:
            numbers.append((number, unit))
    return " ".join(f"{number} {unit}" for number, unit in numbers[:2] if number)


MIN_NUMBER: Final = -(2**63)
MAX_NUMBER: Final = 2**64 - 1
# Without "__var", Airflow does not look at "__type".
RESERVED_NAMES: Final = frozenset({"__classname__", "__id__", "__var"})
_UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]")


def storable_number(value: Any) -> Any:
    """
    Return the text of a number that Airflow cannot store. A start sends AWS the same
    text.

    :param value: a number; anything else is returned as it is.
    :raises ValueError: an integer has more than 4,300 digits, of which Python makes no
        text.
    """
    if not isinstance(value, (int, float)) or MIN_NUMBER <= value <= MAX_NUMBER:
        return value
    return str(value)


def is_storable_text(text: str) -> bool:
    """
    Return whether Airflow can store a text as it is, apart from reserved names.
    """
    return not _UNSTORABLE.search(text)


def storable(value: Any, changes: list[str], place: str = "") -> Any:
    """
    Return JSON that Airflow can store.

    A number becomes its text, a name that Airflow reserves is left out with its value,
    and U+FFFD replaces a character.

    :param value: JSON that Python has read, so that no number has more than 4,300
        digits.
    :param changes: gets a sentence about each number and name.
    :param place: the names that lead to the value, with dots between them.
    """
    if isinstance(value, Mapping):
        stored = {}
        for name, member in value.items():
            if name in RESERVED_NAMES:
                where = clean_line(place) or "It"
                changes.append(
                    f"{where} lacks {name}, because Airflow reserves this name."
                )
                continue
            inner_place = f"{place}.{name}".removeprefix(".")
            stored[_with_replacements(name)] = storable(member, changes, inner_place)
        return stored
    if isinstance(value, (list, tuple)):
        return [
            storable(item, changes, f"{place}[{index}]")
            for index, item in enumerate(value)
        ]
    if isinstance(value, str):
        return _with_replacements(value)
    number = storable_number(value)
    if number is not value:
        changes.append(
            f"{clean_line(place)} = {shorten(value)} is a text, because the number is"
            " too large."
        )
    return number


def storable_xcom(key: str, value: Any, warn: Callable[[str], object]) -> Any:
    """
    Return an XCom that Airflow can store.

    :param warn: called with a message about what differs from the given value.
    """
    changes: list[str] = []
    stored = storable(value, changes)
    if changes:
        lines = "\n".join(f"- {line}" for line in first_problems(changes))
        warn(f"Airflow cannot store the XCom {key} as it is:\n{lines}")
    return stored


def _with_replacements(text: str) -> str:
    return _UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", text)


def _none_if_invalid(value: Any, validate: Callable[[Any], Any]) -> Any:
    try:
        return validate(value)
    except ValidationError:
        return None


def _not_reserved(name: str) -> str:
    if name in RESERVED_NAMES:
        raise ValueError("is a name that Airflow reserves")
    return name


# A member of a response that is missing, or is not as AWS documents it, is None, and
# hides no others.
LENIENT: Final = WrapValidator(_none_if_invalid)
Count = Annotated[Annotated[int, Field(ge=0, le=MAX_NUMBER)] | None, LENIENT]
NotReserved: Final = AfterValidator(_not_reserved)
