"""
The arguments of operators, validated before AWS is called.

What a DAG author sets on an operator for all tries of a task is a class of options.
Each module of the core declares the options that it uses. An operator has one class,
which inherits from those of the modules, and passes its value on whole. Defaults are in
the operator's signature only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Self, get_args

from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from polysync_airflow.exceptions import ParametersError
from polysync_airflow.execution import clock, models, texts

Flag = Annotated[bool, Field(strict=True, description="give True or False")]

# A number of seconds, which a DAG author may also give as a timedelta.
Seconds = Annotated[float, BeforeValidator(clock.as_seconds)]


def seconds(minimum: float, maximum: float) -> Any:
    """Return the field of ``Seconds`` from ``minimum`` to ``maximum``."""
    cure = (
        f"give a number of seconds from {minimum:g} to {maximum:,.0f}, or a timedelta"
    )
    return Field(ge=minimum, le=maximum, strict=True, description=cure)


class Options(models.StrictModel):
    """
    Base class. The ``description`` of a field says which values are valid, unless it is
    a ``Literal``.
    """

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> Self:
        """
        Return the options among the arguments of an operator.

        :param arguments: the arguments by name; others are ignored.
        :raises ParametersError: an argument is not valid. The error names it, its
            value, and what is valid.
        """
        try:
            return cls.model_validate(
                {name: arguments[name] for name in cls.model_fields}
            )
        except ValidationError as error:
            name = str(error.errors(include_url=False)[0]["loc"][0])
            field = cls.model_fields[name]
            cure = (
                field.description
                or f"give one of {', '.join(get_args(field.annotation))}"
            )
            raise texts.invalid_argument(name, arguments[name], cure) from None


# The arguments of an operator that become the start request.
REQUEST_ARGUMENTS: Final = tuple(
    name for name in models.StartRequest.model_fields if name != "client_request_token"
)
_NOT_STARTED: Final = "Nothing was started, because these arguments are not valid:"
# Pydantic builds the validators on first use, which is on a worker, so the parse of a
# DAG file does not pay for them.
DEFER_BUILD: Final = ConfigDict(defer_build=True)
_PIPELINES: TypeAdapter[list[str]] = TypeAdapter(
    list[models.Pipeline], config=DEFER_BUILD
)
EXECUTION_ARN: TypeAdapter[str] = TypeAdapter(models.ExecutionArn, config=DEFER_BUILD)


def make_start_request(
    arguments: Mapping[str, Any], token: str, own_name: str, page: str
) -> models.StartRequest:
    """
    Return the request for a new execution.

    The description of the DAG author's is kept. What says whose execution it is follows
    in it, as far as there is room.

    :param token: the client request token, which follows from the task.
    :param own_name: the name that says which start of the task it is: the default
        display name. Beside a name of the DAG author's, the description ends with it.
    :param page: the page of the task instance in Airflow, for the description.
    :raises ParametersError: lists each invalid argument with its value and what is
        valid.
    """
    parameters = arguments["pipeline_parameters"]
    if parameters is None:
        parameters = {}
    name = arguments["execution_display_name"]
    values = {
        **arguments,
        "pipeline_parameters": parameters,
        "execution_display_name": name or own_name,
        "execution_description": arguments["execution_description"] or None,
        "client_request_token": token,
    }
    request = build_start_request(**values)
    origins = [f"Airflow: {page}"]
    if name:
        origins = [f"Airflow: {page} {own_name}", f"Airflow: {own_name}"]
    for origin in origins:
        description = f"{request.execution_description or ''} {origin}".lstrip()
        if len(description) <= texts.MAX_EXECUTION_DESCRIPTION:
            return request.model_copy(update={"execution_description": description})
    return request


def with_role(request: models.StartRequest, default: str | None) -> models.StartRequest:
    """
    Return a start request with the role that a pipeline managed by AWS needs, and that
    no other one accepts.

    :param default: the role of the connection, for a request that names none.
    :raises ParametersError: a managed pipeline has no role.
    """
    if request.execution_role_arn or not models.is_managed(request.pipeline_name):
        return request
    if default is None:
        raise ParametersError(
            f"{_NOT_STARTED}\n- execution_role_arn = None: AWS manages"
            f" {request.pipeline_name}. Give the role of its executions,"
            " arn:aws:iam::<12-digit account>:role/<name>, here or in the connection."
        )
    return request.model_copy(update={"execution_role_arn": default})


def build_start_request(**arguments: Any) -> models.StartRequest:
    """
    Validate a start request as far as possible without AWS.

    :raises ParametersError: lists each invalid field with its value and what is valid.
    """
    parameters = arguments.get("pipeline_parameters")
    if isinstance(parameters, Mapping) and len(parameters) > models.MAX_PARAMETERS:
        # Checked first: each of them could have a problem of its own.
        cure = models.StartRequest.model_fields["pipeline_parameters"].description
        shown = texts.shorten(parameters)
        raise ParametersError(
            f"{_NOT_STARTED}\n- pipeline_parameters = {shown}. {cure}"
        )
    try:
        return models.StartRequest(**arguments)
    except ValidationError as error:
        problems = texts.describe_arguments(models.StartRequest, error)
        raise ParametersError(f"{_NOT_STARTED}\n{problems}") from None


def storable_parameters(argument: str, values: Any) -> Any:
    """
    Return the values of parameters so that Airflow can send and store them before the
    task runs.

    A number that is too large becomes its text, which AWS gets in any case.

    :param argument: the argument of the operator that has the values.
    :param values: the values by name; anything but a dict, such as the output of a
        task, is returned as it is.
    :raises ParametersError: Airflow can store neither a value nor its text.
    """
    if not isinstance(values, dict):
        return values
    storable = {}
    for name, value in values.items():
        if not _is_storable(value):
            raise ParametersError(
                f"{argument}[{texts.shorten(name)}] = {texts.shorten(value)} is not"
                " valid: give a text without NUL and half surrogate pairs, or a number"
                " of at most 1,024 digits."
            )
        storable[name] = texts.storable_number(value)
    # Airflow does not render what a mapped task has got from an XCom, and knows it by
    # its identity.
    return values if storable == values else storable


def _is_storable(value: Any) -> bool:
    """Return whether Airflow can store a value, or the text of a number."""
    try:
        stored = texts.storable_number(value)
    except ValueError:
        return False
    return not isinstance(stored, str) or texts.is_storable_text(stored)


def check_pipeline_names(names: object) -> list[str]:
    """
    Validate a list of names or ARNs of pipelines before AWS is called.

    :return: the same in the same order, without duplicates.
    :raises ParametersError: the value is not a list of valid names.
    """
    try:
        return list(dict.fromkeys(_PIPELINES.validate_python(names)))
    except ValidationError as error:
        invalid = error.errors(include_url=False)[0]["input"]
        raise ParametersError(
            f"{texts.shorten(invalid)} is not valid as pipeline names: give a list of"
            " names or ARNs. A name has 1 to 256 letters, digits and hyphens, and"
            " begins and ends with a letter or digit."
        ) from None


def is_valid(adapter: TypeAdapter[Any], value: object) -> bool:
    """Return whether a value is valid."""
    try:
        adapter.validate_python(value)
    except ValidationError:
        return False
    return True


def check_execution_arn(execution_arn: object) -> str:
    """
    Validate the ARN of an execution before AWS is called.

    :raises ParametersError: the value is not the ARN of an execution.
    """
    if not is_valid(EXECUTION_ARN, execution_arn):
        raise ParametersError(
            f"execution_arn = {texts.shorten(execution_arn)} is not the ARN of an"
            " execution: give"
            " arn:aws:sagemaker:<region>:<account>:pipeline/<name>/execution/<id>,"
            " such as the XCom 'execution_arn' of the task that started it."
        )
    return str(execution_arn)
