"""
The settings of botocore in a connection of type ``aws`` (``config_kwargs``): their
types and values are checked, and the time and the attempts that they give a call are
bounded as those of the provider's own clients are.

The amazon provider passes them on to botocore, which checks few of them: a text in
place of a number fails somewhere inside of botocore, and fifty attempts of an hour hold
a worker for two days.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Literal

from botocore.config import Config
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from polysync_airflow.auth.connection import not_usable
from polysync_airflow.execution import texts

FIELD: Final = "config_kwargs"
# For clients whose calls botocore repeats. AWS responds within seconds.
MAX_ATTEMPTS: Final = 3
CONNECT_TIMEOUT_SECONDS: Final = 10
READ_TIMEOUT_SECONDS: Final = 20
# urllib3 makes a place for each of them at once.
_MAX_CONNECTIONS: Final = 1000
# A proxy's URL may have a password.
_UNQUOTED: Final = ("proxies", "proxies_config")
# The settings that are objects, whose members are named.
_OBJECTS: Final = ("proxies", "retries")

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Retries(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    mode: Literal["legacy", "standard", "adaptive"] | None = None
    max_attempts: Annotated[int, Field(ge=0)] | None = None
    total_max_attempts: Annotated[int, Field(ge=1)] | None = None


class _ConfigKwargs(BaseModel):
    """
    The types of what botocore's ``Config`` takes.

    https://botocore.amazonaws.com/v1/documentation/api/latest/reference/config.html

    The allow list checks the region, the hosts and the files. A setting that is newer
    than this class is left to botocore.
    """

    model_config = ConfigDict(strict=True, extra="allow")

    # botocore's other signers fail at the requests of SageMaker and STS.
    signature_version: Literal["v4", "v4a", "s3v4", "unsigned"] | None = None
    user_agent: str | None = None
    user_agent_extra: str | None = None
    user_agent_appid: str | None = None
    connect_timeout: Seconds | None = None
    read_timeout: Seconds | None = None
    parameter_validation: bool | None = None
    max_pool_connections: Annotated[int, Field(ge=1, le=_MAX_CONNECTIONS)] | None = None
    proxies: dict[str, str] | None = None
    proxies_config: dict[str, Any] | None = None
    s3: dict[str, Any] | None = None
    s3_disable_express_session_auth: bool | None = None
    retries: _Retries | None = None
    client_cert: str | list[str] | None = None
    inject_host_prefix: bool | None = None
    endpoint_discovery_enabled: bool | str | None = None
    use_dualstack_endpoint: bool | None = None
    use_fips_endpoint: bool | None = None
    ignore_configured_endpoint_urls: bool | None = None
    defaults_mode: str | None = None
    tcp_keepalive: bool | None = None
    request_min_compression_size_bytes: int | None = None
    disable_request_compression: bool | None = None
    client_context_params: dict[str, Any] | None = None
    sigv4a_signing_region_set: str | None = None
    request_checksum_calculation: str | None = None
    response_checksum_validation: str | None = None
    account_id_endpoint_mode: str | None = None
    auth_scheme_preference: str | None = None


def aws_external_id(extra: Mapping[str, Any]) -> Any:
    """Return the external id of an ``aws`` connection; None if it has none."""
    arguments = extra.get("assume_role_kwargs")
    if not isinstance(arguments, Mapping):
        return None
    return arguments.get("ExternalId")


def check_aws_settings(extra: Mapping[str, Any], *, connection_id: str) -> None:
    """
    Check the settings of botocore in the extra of an ``aws`` connection, and what
    botocore would quote in an error otherwise.

    :raises CredentialsError: one of them is not known, or has another type or value
        than botocore takes. The message names the fields, their values and the cure.
    """
    problems = []
    external_id = aws_external_id(extra)
    if external_id is not None and not isinstance(external_id, str):
        # Without the value, which an account may keep secret.
        problems.append(
            f"assume_role_kwargs.ExternalId is a {type(external_id).__name__}: give a"
            " text, in quotation marks."
        )
    settings = extra.get(FIELD)
    if settings and not isinstance(settings, Mapping):
        problems.append(
            f"{FIELD} is a {type(settings).__name__}: give a JSON object, such as"
            ' {"read_timeout": 15}.'
        )
    elif settings:
        problems.extend(_problems(settings))
    if problems:
        raise not_usable(connection_id, "aws", problems)


def _problems(settings: Mapping[str, Any]) -> Iterator[str]:
    known = Config.OPTION_DEFAULTS.keys()
    for name in settings.keys() - known:
        meant = texts.did_you_mean(name, known)
        yield (
            f"{FIELD}.{texts.clean_line(name, 64)}: the installed botocore has no such"
            f" setting; remove it, or correct it.{meant}"
        )
    try:
        _ConfigKwargs.model_validate(settings)
    except ValidationError as error:
        yield from _problems_of_values(error)


def _problems_of_values(error: ValidationError) -> Iterator[str]:
    # A member with several types has a problem for each of them.
    seen = set()
    for details in error.errors(include_url=False):
        name, *path = map(str, details["loc"])
        if name in seen:
            continue
        seen.add(name)
        field = f"{FIELD}.{name}"
        if path and name in _OBJECTS:
            field += f".{path[0]}"
        value = f" = {texts.shorten(details['input'])}"
        if name in _UNQUOTED:
            value = ""
        problem = details["msg"].removeprefix("Value error, ")
        yield texts.clean_line(
            f"{field}{value}: {problem}; correct it, or leave it out."
        )


def bounded(config: Config) -> Config:
    """
    Return settings of a connection with at most the time and the attempts that a call
    of the provider's own clients has.

    :param config: the settings, which are checked.
    """
    limits: dict[str, Any] = {
        name: min(getattr(config, name) or most, most)
        for name, most in (
            ("connect_timeout", CONNECT_TIMEOUT_SECONDS),
            ("read_timeout", READ_TIMEOUT_SECONDS),
        )
    }
    retries = getattr(config, "retries", None)
    if retries:
        limits["retries"] = _bounded_retries(retries)
    return config.merge(Config(**limits))


def _bounded_retries(retries: Mapping[str, Any]) -> dict[str, Any]:
    mode = retries.get("mode") or "standard"
    attempts = retries.get("total_max_attempts")
    if attempts is None and retries.get("max_attempts") is not None:
        # Without the first one.
        attempts = retries["max_attempts"] + 1
    if attempts is None and mode == "legacy":
        # botocore would make five.
        attempts = MAX_ATTEMPTS
    if attempts is None:
        return {"mode": mode}
    return {"mode": mode, "total_max_attempts": min(attempts, MAX_ATTEMPTS)}
